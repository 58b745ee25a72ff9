package cluster

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"sync"
	"time"
)

// answerer is what the accepting side of a link asks to answer a request.
type answerer func(ctx context.Context, f *frame) ([]byte, error)

// session is the accepting side of one link. serve owns its goroutines: one reads, one writes, and each open request has
// one, so that no request waits for another; how many there are is bounded by the windows.
type session struct {
	conn   net.Conn
	out    *outbox
	answer answerer
	silent time.Duration // after which the connection is given up

	mu   sync.Mutex // guards open and count
	open map[uint64]context.CancelFunc
	busy [priorities]int
}

// serveLink answers requests from conn until it breaks or ctx ends, and waits for its handlers.
func serveLink(ctx context.Context, conn net.Conn, silent time.Duration, answer answerer) error {
	s := &session{conn: conn, out: newOutbox(), answer: answer, silent: silent, open: map[uint64]context.CancelFunc{}}
	ctx, cancel := context.WithCancel(ctx)
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() { defer cancel(); s.write(ctx) })
	return s.read(ctx, &group)
}

func (s *session) read(ctx context.Context, group *sync.WaitGroup) error {
	r := bufio.NewReaderSize(s.conn, readBuffer)
	for {
		if err := s.conn.SetReadDeadline(time.Now().Add(s.silent)); err != nil {
			return err
		}
		f, err := readFrame(r)
		if err != nil {
			return err
		}
		switch f.typ {
		case frameCancel:
			s.cancel(f.id)
		case framePing:
			s.out.put(&frame{typ: framePing, prio: High})
		case frameRequest, frameBarrier, framePeer, frameAsk, frameApply:
			reqCtx, err := s.begin(ctx, f)
			if err != nil {
				return err
			}
			group.Go(func() { s.handle(reqCtx, f) })
		default:
			return fmt.Errorf("%w: type %d from the dialing side", errFrame, f.typ)
		}
	}
}

// begin counts a request against its window. A node that keeps no window is cut off: its next request would be one too
// many for the memory that was reckoned with.
func (s *session) begin(ctx context.Context, f *frame) (context.Context, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, double := s.open[f.id]; double || s.busy[f.prio] >= window[f.prio] {
		return nil, fmt.Errorf("%w: %d requests of priority %d are open, id %d", errFrame, s.busy[f.prio], f.prio, f.id)
	}
	ctx, cancel := context.WithCancel(ctx)
	s.open[f.id] = cancel
	s.busy[f.prio]++
	return ctx, nil
}

func (s *session) cancel(id uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel, ok := s.open[id]; ok {
		cancel()
	}
}

func (s *session) handle(ctx context.Context, f *frame) {
	answer, err := s.answer(ctx, f)
	s.mu.Lock()
	s.open[f.id]()
	delete(s.open, f.id)
	s.busy[f.prio]--
	s.mu.Unlock()
	s.out.put(&frame{typ: frameAnswer, prio: f.prio, id: f.id, payload: encodeAnswer(answer, err)})
}

func (s *session) write(ctx context.Context) {
	buf := make([]byte, 0, writeChunk)
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.out.wake:
		}
		for buf = s.out.gather(buf[:0]); len(buf) > 0; buf = s.out.gather(buf[:0]) {
			if _, err := s.conn.Write(buf); err != nil {
				return
			}
		}
	}
}
