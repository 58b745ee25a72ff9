package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Pauses between tries to reach a leader while none is known or it does not answer.
const (
	firstPause = 10 * time.Millisecond
	longPause  = 200 * time.Millisecond
)

// Call has the leader's Handler answer a request: directly if this node leads, else over the link, one hop. It waits,
// and tries again, as long as the request has certainly reached no handler: while no leader is known, or it does not
// lead any more. So give ctx a deadline. An error that wraps ErrUnknown means that the request may have been handled.
func (n *Node) Call(ctx context.Context, prio Priority, kind byte, payload []byte) ([]byte, error) {
	if prio >= priorities {
		return nil, fmt.Errorf("call: unknown priority %d", prio)
	}
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("%w: payload of %d bytes (allowed: %d)", ErrTooLarge, len(payload), MaxPayload)
	}
	var answer []byte
	err := n.untilHandled(ctx, func(ctx context.Context) (err error) {
		answer, err = n.callLeader(ctx, &frame{typ: frameRequest, prio: prio, kind: kind, payload: payload})
		return err
	})
	n.metrics.calls.WithLabelValues(outcomeLabel(err)).Inc()
	return answer, err
}

// Ask has one node's PeerHandler answer, whether it leads or not. It makes one try: who asks has others to turn to.
func (n *Node) Ask(ctx context.Context, id string, prio Priority, kind byte, payload []byte) ([]byte, error) {
	if prio >= priorities {
		return nil, fmt.Errorf("ask: unknown priority %d", prio)
	}
	if len(payload) > MaxPayload {
		return nil, fmt.Errorf("%w: payload of %d bytes (allowed: %d)", ErrTooLarge, len(payload), MaxPayload)
	}
	for _, m := range n.Members() {
		if m.ID != id {
			continue
		}
		if m.Self {
			return n.answer(ctx, &frame{typ: frameAsk, prio: prio, kind: kind, payload: payload})
		}
		l, err := n.links.to(m)
		if err != nil {
			return nil, err
		}
		return l.do(ctx, frameAsk, prio, kind, payload)
	}
	return nil, fmt.Errorf("ask %s: no member has this id", id)
}

// untilHandled repeats try until its outcome is something else than "certainly not handled".
func (n *Node) untilHandled(ctx context.Context, try func(context.Context) error) error {
	for pause := firstPause; ; pause = min(pause*2, longPause) {
		changed := n.leaderWatch.changed()
		err := try(ctx)
		if !errors.Is(err, ErrNotLeader) && !errors.Is(err, errUnsent) && !errors.Is(err, ErrClosed) || errors.Is(err, ErrUnknown) {
			return err
		}
		select {
		case <-n.closing:
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("%w, gave up: %w", notHandled(err), ctx.Err())
		case <-changed:
		case <-time.After(pause):
		}
	}
}

// notHandled is what a caller sees of an error that says that nothing was handled.
func notHandled(err error) error {
	if errors.Is(err, ErrNotLeader) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrNotLeader, err)
}

// callLeader makes one try.
func (n *Node) callLeader(ctx context.Context, f *frame) ([]byte, error) {
	addr, id := n.raft.LeaderWithID()
	switch {
	case id == raft.ServerID(n.cfg.ID):
		return n.answer(ctx, f)
	case id == "":
		return nil, &NotLeaderError{}
	}
	l, err := n.links.to(Member{ID: string(id), Addr: string(addr)})
	if err != nil {
		return nil, err
	}
	return l.do(ctx, f.typ, f.prio, f.kind, f.payload)
}

// answer is what this node says to a request, its own or another node's.
func (n *Node) answer(ctx context.Context, f *frame) ([]byte, error) {
	switch f.typ {
	case frameBarrier:
		out, err := n.proposeBarrier(ctx)
		return binary.BigEndian.AppendUint64(nil, out.index), err
	case framePeer:
		return n.peerState().encode(), nil
	case frameAsk:
		if n.cfg.PeerHandler == nil {
			return nil, &HandlerError{Text: fmt.Sprintf("no handler for questions of kind %d", f.kind)}
		}
		return n.cfg.PeerHandler(ctx, f.kind, f.payload)
	case frameApply:
		return n.answerApplication(ctx, f.payload)
	default:
		return n.handle(ctx, f.kind, f.payload)
	}
}

// handle runs the Handler under the leadership that it serves.
func (n *Node) handle(ctx context.Context, kind byte, payload []byte) ([]byte, error) {
	lead := n.leading.Load()
	if lead == nil {
		return nil, n.notLeader()
	}
	if n.cfg.Handler == nil {
		return nil, &HandlerError{Text: fmt.Sprintf("no handler for requests of kind %d", kind)}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(lead.ctx, cancel)()
	answer, err := n.cfg.Handler(ctx, kind, payload)
	if err != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		err = unknown(err)
	}
	return answer, err
}

// Barrier returns once this node's state machine holds every entry whose commit was acknowledged anywhere before the
// call: a read of it after that is linearizable. It commits an entry of the leader's, shared with whatever else waits. It returns
// that entry's index, and waits for a leader as long as ctx lives.
func (n *Node) Barrier(ctx context.Context) (index uint64, err error) {
	err = n.untilHandled(ctx, func(ctx context.Context) error {
		if n.raft.State() == raft.Leader {
			var out outcome
			out, err = n.proposeBarrier(ctx)
			index = out.index
		} else {
			index, err = n.barriers.join(ctx)
		}
		if errors.Is(err, ErrUnknown) && ctx.Err() == nil { // a barrier may be repeated at will
			err = fmt.Errorf("%w: %s", ErrNotLeader, err.Error())
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("barrier: %w", err)
	}
	return index, n.machine.wait(ctx, index)
}

// barriers shares one request to the leader among all that ask for a barrier on a follower while the last one is under way.
type barriers struct {
	ask    func(ctx context.Context) (uint64, error)
	wake   chan struct{}
	closed <-chan struct{} // when nobody asks any more

	mu      sync.Mutex // guards waiting
	waiting *barrierRound
}

// barrierRound is the barrier that those who ask now will get.
type barrierRound struct {
	done  chan struct{}
	index uint64
	err   error
}

func newBarriers(ask func(ctx context.Context) (uint64, error), closed <-chan struct{}) *barriers {
	return &barriers{ask: ask, wake: make(chan struct{}, 1), closed: closed}
}

// join waits for a round that begins after this call.
func (b *barriers) join(ctx context.Context) (uint64, error) {
	b.mu.Lock()
	if b.waiting == nil {
		b.waiting = &barrierRound{done: make(chan struct{})}
	}
	round := b.waiting
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default:
	}
	select {
	case <-round.done:
		return round.index, round.err
	case <-b.closed:
		return 0, ErrClosed
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// run asks for one barrier after the other as long as somebody waits.
func (b *barriers) run(ctx context.Context, limit time.Duration) {
	for {
		select {
		case <-b.wake:
		case <-ctx.Done():
			return
		}
		b.round(func() (uint64, error) {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			return b.ask(ctx)
		})
	}
}

func (b *barriers) round(ask func() (uint64, error)) {
	b.mu.Lock()
	round := b.waiting
	b.waiting = nil
	b.mu.Unlock()
	if round == nil {
		return
	}
	round.index, round.err = ask()
	close(round.done)
}

// askBarrier has the leader commit a barrier and returns its index.
func (n *Node) askBarrier(ctx context.Context) (uint64, error) {
	answer, err := n.callLeader(ctx, &frame{typ: frameBarrier, prio: High})
	if err != nil {
		return 0, err
	}
	if len(answer) != 8 {
		return 0, unknown(fmt.Errorf("%w: barrier of %d bytes", errFrame, len(answer)))
	}
	return binary.BigEndian.Uint64(answer), nil
}

// links are this node's links to others, made when somebody calls.
type links struct {
	port  *port
	spawn func(func(context.Context)) bool // runs a function until Run ends; false if it has

	mu    sync.Mutex // guards links
	links map[string]*link
}

// to returns a link to the node, which may still be dialing.
func (s *links) to(peer Member) (*link, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.links[peer.ID]; l != nil && l.usable() && l.peer.Addr == peer.Addr {
		return l, nil
	}
	l := newLink(peer, s.port)
	if !s.spawn(l.run) {
		return nil, ErrClosed
	}
	s.links[peer.ID] = l
	return l, nil
}

// only retires the links to all nodes but one: what waits for a leader that was cut off must not wait for its return.
func (s *links) only(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for peer, l := range s.links {
		if peer != id {
			l.retire()
			delete(s.links, peer)
		}
	}
}
