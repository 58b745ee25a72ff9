package wrapper

import (
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

// stateUnknown is resumed's word for a run that the record does not have.
const stateUnknown = "unknown"

// receive takes what came in on a connection; what comes from one that was given up is ignored.
func (s *Session) receive(in inbound) {
	l := in.l
	if l != s.cur && l != s.cand {
		return
	}
	if in.err != nil {
		s.drop(l, in.err.Error())
		return
	}
	l.waiting = time.Time{}
	m := in.msg
	switch m.Type {
	case wire.TypeBeat:
		l.age = leaderAge(m)
	case wire.TypeRuns:
		s.onRuns(l, m)
	case wire.TypeRefused:
		s.onRefused(l, m)
	case wire.TypeRetry:
		s.onRetry(l, m)
	default:
		if m.Run < len(l.seats) {
			s.onWord(l, l.seats[m.Run], m)
		}
	}
}

// onWord takes a message about one target.
func (s *Session) onWord(l *link, seat *seat, m *wire.Message) {
	t := seat.t
	if t.phase == phaseGone || t.own {
		return
	}
	switch m.Type {
	case wire.TypeGrant: // to a winner, who may ask again even where hello was refused
		seat.open, seat.mayAsk, seat.resumed = true, true, false
		seat.pos = max(seat.pos, 1)
		s.onGrant(t, m)
	case wire.TypeResumed:
		seat.resumed = false
		s.accept(l)
		s.onResumed(l, seat, m)
	case wire.TypeAck:
		s.onAck(seat, m)
	case wire.TypeExpect:
		s.onExpect(l, seat, m)
	case wire.TypeKill:
		seat.open = true // only winners are killed
		s.onKill(t, time.Duration(m.GraceMS)*time.Millisecond)
	}
}

// onRuns takes hello's answer: what is listed may be asked for; what is past that, or not listed, is resumed.
func (s *Session) onRuns(l *link, m *wire.Message) {
	if !l.hello {
		return
	}
	l.hello, s.told = false, true
	s.accept(l)
	for _, e := range m.Runs {
		seat := &seat{t: s.learn(e), mayAsk: true}
		if t := seat.t; t.phase >= phaseGranted && t.phase != phaseGone && !t.own {
			seat.resume = s.now
		} else if t.phase == phaseAsk {
			t.askOpen, t.askAt = false, s.now
		}
		l.seats = append(l.seats, seat)
	}
	for _, t := range s.targets {
		if _, listed := l.seatOf(t); listed == nil {
			s.seatFor(l, t)
		}
	}
}

// onRefused takes a refusal: of hello before its answer, else of one target.
func (s *Session) onRefused(l *link, m *wire.Message) {
	if l.hello {
		s.onHelloRefused(l, m)
		return
	}
	if m.Run >= len(l.seats) {
		return
	}
	t := l.seats[m.Run].t
	switch {
	case t.phase == phaseGone || t.own:
	case t.phase == phaseLocked:
		t.leave()
	case t.phase >= phaseGranted:
		s.disown(t, m.Text)
	case !m.Final:
		t.askOpen, t.askAt = false, s.now.Add(retryAfter(m))
	case t.granted: // and never executed: that is worth more than the silence that the record may rest on
		l.seats[m.Run].open = true
		s.decline(t, "refused when asked again: "+m.Text, codeNotStart, "")
	case len(t.asks) > 1 && !t.doubted: // an ask before may have won without an answer: the secret will tell
		t.doubted, t.askOpen = true, false
		l.seats[m.Run].mayAsk, l.seats[m.Run].resume = false, s.now
	default:
		s.log.Info("refused", "run", t.entry.Run, "why", m.Text)
		t.leave()
	}
}

// onHelloRefused ends the session, unless an ask of before a break may have been granted: that is then resumed.
func (s *Session) onHelloRefused(l *link, m *wire.Message) {
	s.log.Warn("hello refused", "url", l.url, "why", m.Text, "final", m.Final)
	if !m.Final {
		s.sentAway[l.url]++
		s.drop(l, "refused: "+m.Text)
		return
	}
	l.hello, s.helloRefused = false, true
	live := false
	for _, t := range s.targets {
		if len(t.asks) == 0 {
			t.leave()
			continue
		}
		live = true
		s.seatFor(l, t)
	}
	s.told = true
	if live {
		s.accept(l)
	}
}

// onRetry asks the same again later.
func (s *Session) onRetry(l *link, m *wire.Message) {
	at := s.now.Add(retryAfter(m))
	if l.hello {
		l.retryAt = at
		return
	}
	if m.Run >= len(l.seats) {
		return
	}
	seat := l.seats[m.Run]
	switch t := seat.t; {
	case t.phase == phaseGone || t.own:
	case seat.resumed:
		seat.resumed, seat.resume = false, at
	case t.phase == phaseAsk:
		t.askOpen, t.askAt = false, at
	case t.phase == phaseLocked:
		seat.finalSent = false
	}
}

// onResumed takes the leader's word on a run that this wrapper may have won.
func (s *Session) onResumed(l *link, seat *seat, m *wire.Message) {
	t := seat.t
	state, known := saltpeter.ParseTargetState(m.State)
	switch {
	case t.phase < phaseGranted:
		s.onResumedUnstarted(seat, m, state, known)
	case m.State == stateUnknown:
		s.disown(t, "unknown run")
	case m.Done && t.phase == phaseFinal:
		t.leave()
	default:
		seat.open = true
		seat.pos, seat.low = max(m.Next, 1), m.Next
		l.next = nil
		if t.out != nil {
			t.out.ack(m.Next)
		}
		if m.Kill {
			s.onKill(t, time.Duration(m.GraceMS)*time.Millisecond)
		}
	}
}

// onResumedUnstarted takes it for a run that has not started here.
func (s *Session) onResumedUnstarted(seat *seat, m *wire.Message, state saltpeter.TargetState, known bool) {
	t := seat.t
	switch {
	case !known || m.Done:
		t.leave()
	case state.Final() && (t.granted || m.Next > 0): // only a winner is told a number
		seat.open = true
		s.decline(t, "the run was over before it started", codeNotStart, "")
	case state.Final():
		t.leave()
	case m.Kill:
		seat.open = true
		s.decline(t, "killed before it started", codeKilled, causeKill)
	case state == saltpeter.Granted: // its grant follows; should it not, an ask brings it
		seat.mayAsk, seat.open = true, true
		t.askOpen, t.askAt = false, s.now.Add(time.Second)
	case s.helloRefused: // never granted, and there is no asking without hello
		t.leave()
	default:
		seat.mayAsk = true
		t.askOpen, t.askAt = false, s.now
	}
}

// onAck forgets what is in the record.
func (s *Session) onAck(seat *seat, m *wire.Message) {
	t := seat.t
	if t.out != nil && m.Next > 0 {
		t.out.ack(m.Next)
		seat.low = max(seat.low, min(m.Next, t.out.store.next))
		seat.pos = max(seat.pos, seat.low)
	}
	t.startedAcked = t.startedAcked || m.Started
	if t.phase == phaseLocked || (m.Ended && t.phase == phaseFinal) {
		t.leave()
	}
}

// onExpect goes back to the number that the gateway wants, unless that was overtaken by its own ack.
func (s *Session) onExpect(l *link, seat *seat, m *wire.Message) {
	if seat.t.out == nil || m.Next == 0 || m.Next < seat.low || m.Next > seat.t.out.store.next {
		return
	}
	seat.pos, seat.finalSent = m.Next, false
	if l.next != nil && l.next.msg == nil {
		l.next = nil
	}
}

// onKill ends a command, or keeps it from starting.
func (s *Session) onKill(t *target, grace time.Duration) {
	switch t.phase {
	case phaseNew, phaseLock, phaseLocked:
		t.leave()
	case phaseAsk, phaseGranted:
		s.decline(t, "killed before it started", codeKilled, causeKill)
	case phasePrepare, phaseRun:
		t.work.kill(grace)
	}
}

// retryAfter reads after which pause to ask again.
func retryAfter(m *wire.Message) time.Duration {
	if m.AfterMS <= 0 {
		return defaultRetry
	}
	return min(max(time.Duration(m.AfterMS)*time.Millisecond, minRetry), maxRetry)
}
