package wrapper

import (
	"github.com/syscollective/saltpeter/internal/wire"
)

// nextWord gives the next message or frame of any target that may go out on the connection, nil if there is none. Targets take
// turns, so that a chatty one doesn't hold up another.
func (s *Session) nextWord(l *link) *outItem {
	for i := range l.seats {
		ord := (s.turn + i) % len(l.seats)
		if item := s.wordOf(ord, l.seats[ord]); item != nil {
			s.turn = ord + 1
			return item
		}
	}
	return nil
}

// wordOf gives a target's next word: started, remarks, output in the window, the last word.
func (s *Session) wordOf(ord int, seat *seat) *outItem {
	t := seat.t
	if t.phase == phaseLocked && seat.mayAsk && !seat.finalSent {
		seat.finalSent = true
		t.lockedUntil = s.now.Add(lockedWait)
		return control(ord, *t.final)
	}
	if !seat.open || t.own || (t.phase != phaseRun && t.phase != phaseFinal) {
		return nil
	}
	if t.pid != 0 {
		if item := s.aside(ord, seat); item != nil {
			return item
		}
		if item := s.frameOf(ord, seat); item != nil {
			return item
		}
	}
	done := t.out == nil || t.pid == 0 || seat.pos == t.out.store.next
	if t.phase == phaseFinal && !seat.finalSent && done {
		seat.finalSent = true
		return control(ord, *t.final)
	}
	return nil
}

// aside gives the words without a number, each once per connection.
func (s *Session) aside(ord int, seat *seat) *outItem {
	t := seat.t
	switch {
	case !t.startedAcked && !seat.startedSent:
		seat.startedSent = true
		return control(ord, wire.Message{Type: wire.TypeStarted, PID: t.pid})
	case t.remark != "" && !seat.remarkSent:
		seat.remarkSent = true
		return control(ord, wire.Message{Type: wire.TypeRemark, Text: t.remark})
	case t.soft && !seat.softSent:
		seat.softSent = true
		return control(ord, wire.Message{Type: wire.TypeSoft, AtMillis: uint64(t.spec.SoftTimeout.Milliseconds())})
	}
	return nil
}

// frameOf gives the next frame of output, nil while the window is full or nothing is there.
func (s *Session) frameOf(ord int, seat *seat) *outItem {
	out := seat.t.out
	seat.pos = max(seat.pos, 1)
	if seat.pos >= out.store.next || (seat.pos > out.acked && seat.pos-out.acked >= frameWindow) {
		return nil
	}
	f, after, err := out.frame(seat.pos)
	if err != nil {
		s.log.Warn("output is lost", "run", seat.t.entry.Run, "err", err)
	}
	f.Run = ord
	seat.pos = after
	return &outItem{frame: f}
}

func control(ord int, m wire.Message) *outItem {
	m.Run = ord
	return &outItem{msg: &m}
}
