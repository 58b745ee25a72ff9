package wsgateway

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

// Bounds of numbers that a wrapper gives: no arithmetic on them can overflow, nor can a code that the record could not hold
// travel further.
const (
	maxSeq    = 1 << 62
	maxCovers = 1 << 32
	maxCode   = 255
	maxSignal = 127
)

// frame takes a binary frame: output, or a range of it that is left out.
func (s *session) frame(ctx context.Context, b []byte) error {
	f, err := wire.ParseFrame(b)
	if err != nil || f.Seq > maxSeq || f.Covers > maxCovers {
		return malformed("frame is not understood")
	}
	w := saltpeter.Word{Kind: saltpeter.WordOutput, Seq: f.Seq, AtMillis: f.AtMillis, Data: f.Data}
	if f.Kind == wire.FrameSkip {
		w = saltpeter.Word{Kind: saltpeter.WordSkip, Seq: f.Seq, AtMillis: f.AtMillis, Covers: f.Covers, Skipped: f.Skipped}
	}
	return s.word(ctx, f.Run, &w)
}

// control takes a word that comes as a control message.
func (s *session) control(ctx context.Context, m *wire.Message) error {
	if len(m.Text) > maxText || m.Seq > maxSeq || m.Code < 0 || m.Code > maxCode || m.Signal < 0 || m.Signal > maxSignal {
		return malformed("a number or text is out of its range")
	}
	w := saltpeter.Word{AtMillis: m.AtMillis, Text: m.Text}
	switch m.Type {
	case wire.TypeStarted:
		w.Kind = saltpeter.WordStarted
	case wire.TypeDeclined:
		cause, ok := causes[m.Cause]
		if !ok {
			return malformed("declined for an unknown cause")
		}
		w.Kind, w.Code, w.Cause = saltpeter.WordDeclined, m.Code, cause
	case wire.TypeRemark:
		w.Kind = saltpeter.WordRemark
	case wire.TypeSoft:
		w.Kind = saltpeter.WordSoftTimeout
	case wire.TypeResult:
		cause, ok := causes[m.Cause]
		if !ok || m.Seq == 0 {
			return malformed("result without number or cause")
		}
		w.Kind, w.Seq, w.Code, w.Signal, w.Cause = saltpeter.WordResult, m.Seq, m.Code, m.Signal, cause
	}
	return s.word(ctx, m.Run, &w)
}

var causes = map[string]saltpeter.EndCause{"": saltpeter.EndExit, "exit": saltpeter.EndExit, "timeout": saltpeter.EndTimeout, "kill": saltpeter.EndKill}

// word takes a word of the winner and queues it for the next Report. w.Data is the message's memory and is copied here.
func (s *session) word(ctx context.Context, run int, w *saltpeter.Word) error {
	l := s.lane(run)
	if l == nil {
		return violation("word of a run that was not won or resumed here")
	}
	weight := weigh(w)
	if err := s.reserve(ctx, weight); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.maySpeak(l, w) {
		s.g.budget.Release(weight)
		return violation("word of a run that was not won or resumed here")
	}
	if !l.offer(w) {
		s.g.budget.Release(weight)
		if l.ackDue || l.expectDue {
			s.wantWrite()
		}
		return nil
	}
	s.queue(l, w, weight)
	return nil
}

// maySpeak reports whether words are taken from this session. One that did not win may only decline: a wrapper that was
// granted before a break and is refused now turns a presumed 253 into a witnessed 254 that way; whether it was the winner is
// for the record to say, by the nonce that its machine signed. Called with mu held.
func (s *session) maySpeak(l *lane, w *saltpeter.Word) bool {
	if l.won || l.moved {
		return true
	}
	if w.Kind != saltpeter.WordDeclined || !s.told {
		return false
	}
	l.nonce = s.claimed.nonce
	return true
}

// queue takes a word for the next Report. Called with mu held.
func (s *session) queue(l *lane, w *saltpeter.Word, weight int64) {
	w.Data = bytes.Clone(w.Data)
	l.waiting = append(l.waiting, *w)
	l.waitBytes += weight
	s.heldWords++
	s.heldBytes += weight
	s.g.batch.came(weight)
	switch {
	case !l.queued:
		s.enqueue(l)
	case l.flying == nil:
		s.g.batch.ready(1, weight)
	}
}

// reserve takes a share of what all sessions together may hold. It waits when there is none: with the leader away, that is
// what keeps this node's memory bounded.
func (s *session) reserve(ctx context.Context, weight int64) error {
	if s.g.budget.TryAcquire(weight) {
		return nil
	}
	s.g.stats.heldBack.Inc()
	ctx, cancel := context.WithTimeout(ctx, s.g.lim.Idle)
	defer cancel()
	if err := s.g.budget.Acquire(ctx, weight); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			return heldLong
		}
		return goingAway
	}
	return nil
}

// enqueue hands a lane with waiting words to the batcher. Called with mu held.
func (s *session) enqueue(l *lane) {
	s.g.batch.ready(len(l.waiting), l.waitBytes)
	s.g.batch.add(l)
}

// failed takes back words whose Report may or may not have committed.
func (s *session) failed(l *lane) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.back()
	if l.gone || l.moved {
		// Their last chance: the wrapper has them as well.
		l.queued = false
		s.forget(l.dropWaiting())
		return
	}
	s.enqueue(l)
}

// answered takes the answer to a lane's words, which are committed.
func (s *session) answered(l *lane, a *saltpeter.ReportAnswer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget(l.flying)
	s.forget(l.settle(a))
	if a.Refused != "" {
		s.refused(l, a.Refused)
	} else if a.Kill && !l.killTold && !l.over {
		l.killed = true
		s.endOn(s.tellKill(l))
	}
	if len(l.waiting) > 0 {
		s.enqueue(l)
	} else {
		l.queued = false
	}
	if !l.gone && (l.ackDue || l.expectDue) {
		s.wantWrite()
	}
}

// refused tells that the record does not take this winner's words. It is not the leader's word after a barrier that the run
// is unknown: the wrapper learns that by presenting its secret. Called with mu held.
func (s *session) refused(l *lane, why string) {
	s.g.log.Warn("words refused", "run", l.ref.Run, "target", l.ref.Target, "err", why)
	l.moved = true // what is under way is not a violation
	s.endOn(s.sendLocked(&wire.Message{Type: wire.TypeRefused, Run: l.run, Text: why}))
}

// forget gives back what words held that are settled or dropped; the batcher does not count them as ready any more. Called
// with mu held.
func (s *session) forget(words []saltpeter.Word) {
	if len(words) == 0 {
		return
	}
	var weight int64
	for i := range words {
		weight += weigh(&words[i])
	}
	s.heldWords -= len(words)
	s.heldBytes -= weight
	s.g.batch.settled(len(words), weight)
	nudge(s.room)
}

// supersede ends a lane because the same winner has a newer session on this node; another wrapper's lane stays.
func (s *session) supersede(l *lane, nonce saltpeter.Nonce) {
	s.mu.Lock()
	if !l.won || l.nonce != nonce {
		s.mu.Unlock()
		return
	}
	l.won, l.moved = false, true
	alive := false
	for _, o := range s.lanes {
		alive = alive || o != nil && o.won
	}
	s.mu.Unlock()
	s.g.detach(l)
	if !alive {
		s.shut(replaced)
	}
}

// kill notes a committed kill and tells the wrapper if it has won; if its start claim is under way, the grant will.
func (s *session) kill(l *lane, grace time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.killed, l.grace = true, grace
	if l.won && !l.over {
		s.endOn(s.tellKill(l))
	}
}

// tellKill is called with mu held.
func (s *session) tellKill(l *lane) error {
	l.killTold = true
	return s.sendLocked(&wire.Message{Type: wire.TypeKill, Run: l.run, GraceMS: l.grace.Milliseconds()})
}

// heartbeat answers a beat with the age of the leader contact, and tells the leader that the winner is alive. Losers'
// beats are no sign of the winner.
func (s *session) heartbeat(m *wire.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.beat, s.beatDue = m.N, true
	for _, l := range s.lanes {
		if l == nil || !l.won || l.over {
			continue
		}
		s.g.heard.add(l.ref)
		l.expectDue = l.expectDue || l.gap
	}
	s.wantWrite()
	return nil
}
