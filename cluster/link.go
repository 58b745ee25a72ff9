package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// window is how many requests of each priority one node may have open at another. Who wants more waits on its own
// side, so that nothing on the link ever waits behind a slower priority.
var window = [priorities]int{High: 2048, Normal: 512, Low: 128}

const (
	readBuffer = 64 << 10
	// retireAfter is how long a link to a node that no longer leads waits for answers to what it was sent.
	retireAfter = 250 * time.Millisecond
)

// errUnsent is in the chain of what a call fails with that never left this node.
var errUnsent = errors.New("not sent")

// link is this node's side of one long-lived connection to another node, shared by all that call it: requests go out in
// batches, urgent ones first, and are answered in any order. run owns its goroutines.
type link struct {
	peer    Member
	port    *port
	out     *outbox
	slots   [priorities]chan struct{}
	dead    chan struct{} // closed when the link has ended
	retired chan struct{} // closed when no new calls come

	retireOnce sync.Once
	lastID     atomic.Uint64

	mu    sync.Mutex // guards calls and ended
	calls map[uint64]*call
	ended error
}

// call is a request that waits for its answer.
type call struct {
	prio   Priority
	state  atomic.Int32 // waiting, taken (handed to the connection), abandoned
	done   chan struct{}
	answer []byte
	err    error
}

func newLink(peer Member, p *port) *link {
	l := &link{peer: peer, port: p, out: newOutbox(), calls: map[uint64]*call{},
		dead: make(chan struct{}), retired: make(chan struct{})}
	for prio := range l.slots {
		l.slots[prio] = make(chan struct{}, window[prio])
	}
	return l
}

// retire lets the link end once it is idle, or soon.
func (l *link) retire() { l.retireOnce.Do(func() { close(l.retired) }) }

// usable says whether new calls may use the link.
func (l *link) usable() bool {
	select {
	case <-l.dead:
		return false
	case <-l.retired:
		return false
	default:
		return true
	}
}

// do sends one request and waits for its answer. An error that wraps errUnsent means that the other node never saw it.
func (l *link) do(ctx context.Context, typ frameType, prio Priority, kind byte, payload []byte) ([]byte, error) {
	select {
	case l.slots[prio] <- struct{}{}:
	case <-l.dead:
		return nil, fmt.Errorf("%w: link to %s: %w", errUnsent, l.peer.ID, l.endedErr())
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", errUnsent, ctx.Err())
	}
	c := &call{prio: prio, done: make(chan struct{})}
	id := l.lastID.Add(1)
	if err := l.register(id, c); err != nil {
		<-l.slots[prio]
		return nil, err
	}
	l.out.put(&frame{typ: typ, prio: prio, kind: kind, id: id, payload: payload, claim: &c.state})
	select {
	case <-c.done:
		return c.answer, c.err
	case <-ctx.Done():
		return l.abandon(ctx, id, c)
	}
}

// abandon gives a call up. The slot of one that was sent stays taken until its answer is there: the other side counts too.
func (l *link) abandon(ctx context.Context, id uint64, c *call) ([]byte, error) {
	if c.state.CompareAndSwap(waiting, abandoned) {
		if l.unregister(id) != nil {
			<-l.slots[c.prio]
		}
		return nil, fmt.Errorf("%w: %w", errUnsent, ctx.Err())
	}
	select {
	case <-c.done:
		return c.answer, c.err
	default:
	}
	l.out.put(&frame{typ: frameCancel, prio: High, id: id})
	return nil, unknown(ctx.Err())
}

func (l *link) register(id uint64, c *call) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended != nil {
		return fmt.Errorf("%w: link to %s: %w", errUnsent, l.peer.ID, l.ended)
	}
	l.calls[id] = c
	return nil
}

// unregister forgets a call and returns it, or nil if somebody else did.
func (l *link) unregister(id uint64) *call {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.calls[id]
	delete(l.calls, id)
	return c
}

func (l *link) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.calls) == 0
}

func (l *link) endedErr() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

// run dials, then writes and reads until the connection breaks, ctx ends or the link is retired; then every open call
// fails, with or without having been sent.
func (l *link) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err := l.talk(ctx, cancel)
	l.mu.Lock()
	l.ended = err
	calls := l.calls
	l.calls = map[uint64]*call{}
	l.mu.Unlock()
	close(l.dead)
	for _, c := range calls {
		if c.state.CompareAndSwap(waiting, abandoned) {
			c.err = fmt.Errorf("%w: link to %s: %w", errUnsent, l.peer.ID, err)
		} else {
			c.err = unknown(fmt.Errorf("link to %s: %w", l.peer.ID, err))
		}
		close(c.done)
	}
}

func (l *link) talk(ctx context.Context, cancel context.CancelFunc) error {
	conn, err := l.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() { defer cancel(); l.write(ctx, conn) })
	group.Go(func() { defer cancel(); l.waitRetired(ctx) })
	return l.read(conn)
}

// dial connects, unless the link is retired meanwhile: its calls have another node to go to.
func (l *link) dial(ctx context.Context) (net.Conn, error) {
	ctx, stop := context.WithTimeout(ctx, l.port.timings.RPC)
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	group.Go(func() {
		select {
		case <-l.retired:
			stop()
		case <-ctx.Done():
		}
	})
	return l.port.connect(ctx, speakLink, l.peer.ID, l.peer.Addr)
}

// write sends what is in the outbox, and a ping when there was nothing for a quarter of the time limit.
func (l *link) write(ctx context.Context, conn net.Conn) {
	idle := time.NewTicker(l.port.timings.RPC / 4)
	defer idle.Stop()
	buf := make([]byte, 0, writeChunk)
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.out.wake:
		case <-idle.C:
			l.out.put(&frame{typ: framePing, prio: High})
		}
		for buf = l.out.gather(buf[:0]); len(buf) > 0; buf = l.out.gather(buf[:0]) {
			if _, err := conn.Write(buf); err != nil {
				return
			}
		}
	}
}

// read hands out answers. A connection that is silent for the time limit, pings included, is given up.
func (l *link) read(conn net.Conn) error {
	r := bufio.NewReaderSize(conn, readBuffer)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(l.port.timings.RPC)); err != nil {
			return err
		}
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		if f.typ != frameAnswer {
			continue
		}
		if c := l.unregister(f.id); c != nil {
			<-l.slots[c.prio]
			c.answer, c.err = decodeAnswer(f.payload)
			close(c.done)
		}
	}
}

// waitRetired returns when the link is to end: after retirement, once nothing is open or the time is over.
func (l *link) waitRetired(ctx context.Context) {
	select {
	case <-l.retired:
	case <-ctx.Done():
		return
	}
	over := time.After(retireAfter)
	for !l.idle() {
		select {
		case <-time.After(retireAfter / 25):
		case <-over:
			return
		case <-ctx.Done():
			return
		}
	}
}
