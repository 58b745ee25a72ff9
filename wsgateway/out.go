package wsgateway

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/syscollective/saltpeter/internal/wire"
)

// writers starts a writer for every session that has something to write. Writers are goroutines of their own, because a
// peer that does not read blocks its writer until the deadline, and must not block anybody else's.
type writers struct {
	wake chan struct{} // 1 deep

	mu  sync.Mutex
	due []*session
}

func (w *writers) add(s *session) {
	w.mu.Lock()
	w.due = append(w.due, s)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run ends when ctx does, after the last writer has. All sessions have ended by then, so nothing is added any more.
func (w *writers) run(ctx context.Context) {
	quiet := context.WithoutCancel(ctx)
	var under sync.WaitGroup
	defer under.Wait()
	var spare []*session
	for {
		w.mu.Lock()
		due := w.due
		w.due = spare[:0]
		w.mu.Unlock()
		for i, s := range due {
			due[i] = nil
			under.Go(func() { s.write(quiet) })
		}
		spare = due
		if len(due) > 0 {
			continue
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return
		}
	}
}

// send encodes m and puts it behind what is to be written.
func (s *session) send(m *wire.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sendLocked(m)
}

func (s *session) sendLocked(m *wire.Message) error {
	b, err := wire.Encode(m)
	if err != nil || len(b) > wire.MaxToWrapper {
		s.g.log.Error("message can't be sent", "type", string(m.Type), "bytes", len(b), "err", err)
		return violation("an answer can't be sent")
	}
	if s.closing() {
		return nil // too late; the reader ends by itself
	}
	if len(s.out) >= s.g.lim.Outbox {
		return tooSlow
	}
	s.out = append(s.out, b)
	s.wantWrite()
	return nil
}

// closing is called with mu held.
func (s *session) closing() bool { return s.ending != nil }

// wantWrite is called with mu held.
func (s *session) wantWrite() {
	if !s.writing {
		s.writing = true
		s.g.writers.add(s)
	}
}

// shut closes the session, once: what is to be written goes out first, then e. The first reason stands.
func (s *session) shut(e *ending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shutLocked(e)
}

// shutLocked is called with mu held.
func (s *session) shutLocked(e *ending) {
	if s.ending != nil {
		return
	}
	s.ending = e
	close(s.done)
	s.wantWrite()
}

// endOn shuts the session for what sendLocked says. Called with mu held.
func (s *session) endOn(err error) {
	if end, ok := errors.AsType[*ending](err); ok {
		s.shutLocked(end)
	}
}

// write empties the outbox; it ends when there is nothing more, or with the session.
func (s *session) write(quiet context.Context) {
	for {
		s.mu.Lock()
		out, end := s.takeOut()
		if len(out) == 0 && end == nil {
			s.writing = false
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		if err := s.writeAll(quiet, out, end); err != nil {
			end = tooSlow
			s.shut(end) // before the reader sees the closed connection, so that the reason is ours
		}
		if end != nil {
			s.sayGoodbye(end)
			return
		}
	}
}

func (s *session) writeAll(quiet context.Context, out [][]byte, end *ending) error {
	if len(out) == 0 || end != nil && end.broken {
		return nil
	}
	if err := s.nc.SetWriteDeadline(time.Now().Add(s.g.lim.Write)); err != nil {
		return err
	}
	for _, b := range out {
		if err := s.ws.Write(quiet, websocket.MessageText, b); err != nil {
			return err
		}
	}
	return nil
}

// takeOut gives what is to be written: messages in their order, then for each run the newest expect and ack, then the
// answer to the newest beat. Acks are cumulative, so that one write per commit, or fewer, tells all. Called with mu held.
func (s *session) takeOut() ([][]byte, *ending) {
	out := s.out
	s.out = nil
	if s.ending == nil || !s.ending.broken {
		for _, l := range s.lanes {
			if l == nil {
				continue
			}
			if l.expectDue {
				l.expectDue = false
				out = append(out, appendNext(nil, wire.TypeExpect, l.run, l.next, false, false))
			}
			if l.ackDue {
				l.ackDue = false
				out = append(out, appendNext(nil, wire.TypeAck, l.run, l.acked, l.started, l.ended))
			}
		}
		if s.beatDue {
			s.beatDue = false
			if b, err := wire.Encode(&wire.Message{Type: wire.TypeBeat, N: s.beat, LeaderAge: s.g.leaderAge()}); err == nil {
				out = append(out, b)
			}
		}
	}
	return out, s.ending
}

// appendNext appends an ack or expect as wire.Encode would; they are most of what a gateway writes.
func appendNext(dst []byte, kind wire.Type, run int, next uint64, started, ended bool) []byte {
	dst = append(dst, `{"type":"`...)
	dst = append(dst, kind...)
	dst = append(dst, '"')
	if run != 0 {
		dst = append(dst, `,"run":`...)
		dst = strconv.AppendInt(dst, int64(run), 10)
	}
	if next != 0 {
		dst = append(dst, `,"next":`...)
		dst = strconv.AppendUint(dst, next, 10)
	}
	if started {
		dst = append(dst, `,"started":true`...)
	}
	if ended {
		dst = append(dst, `,"ended":true`...)
	}
	return append(dst, '}')
}

// sayGoodbye closes the connection with a reason, if there still is one to tell it to.
func (s *session) sayGoodbye(end *ending) {
	if !end.broken && s.nc.SetDeadline(time.Now().Add(s.g.lim.Close)) == nil {
		_ = s.ws.Close(end.code, end.reason) // a peer that does not answer is closed all the same
	}
	s.g.stats.closedBy(end.code)
	s.hangUp()
}

// hangUp drops the connection and counts the session out.
func (s *session) hangUp() {
	_ = s.ws.CloseNow()
	s.g.open.Add(-1)
	s.g.stats.sessions.Dec()
}
