package wrapper

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

// phase is how far a target has come on this machine.
type phase int

const (
	phaseNew     phase = iota // told by a gateway
	phaseLock                 // waits for the job's lock
	phaseAsk                  // asks to start
	phaseLocked               // the lock can't be had: that is to be said
	phaseGranted              // may start, and will in this turn
	phasePrepare              // its child is being made
	phaseRun                  // the command runs
	phaseFinal                // it ended or was declined: that is to be in the record
	phaseGone                 // nothing is left to do
)

// target is one run of the launch on this machine. It is owned by the session's loop.
type target struct {
	entry  wire.RunEntry
	phase  phase
	window time.Duration

	asks    []time.Duration // CLOCK_BOOTTIME of ask number i+1
	askOpen bool            // the newest ask is not answered
	askedAt time.Time
	askAt   time.Time // not before
	over    bool      // the window is: no more asks
	overAt  time.Time // since when
	granted bool      // a grant was seen, whatever became of it
	doubted bool      // it was refused, and then asked by the secret whether it had won
	release func()    // of the lock

	spec     *saltpeter.Spec
	deadline time.Duration // CLOCK_BOOTTIME
	work     *execution
	log      *jobLog
	began    time.Time
	pid      int
	out      *output
	soft     bool
	remark   string

	startedAcked bool
	final        *wire.Message // result or declined
	finalAt      time.Time
	lockedUntil  time.Time // what phaseLocked waits for at most
	// own says that the record doesn't know the run: its output goes to the wrapper's own log.
	own bool
}

// leave ends a target that has nothing more to say.
func (t *target) leave() {
	t.free()
	t.phase = phaseGone
}

func (t *target) free() {
	t.unlock()
	if t.out != nil {
		t.out.close()
	}
}

func (t *target) unlock() {
	if t.release != nil {
		t.release()
		t.release = nil
	}
}

// at gives the milliseconds since the command's start.
func (t *target) at(now time.Time) uint64 { return uint64(max(0, now.Sub(t.began).Milliseconds())) }

// learn takes up a run that a gateway listed.
func (s *Session) learn(e wire.RunEntry) *target {
	for _, t := range s.targets {
		if t.entry.RunNum == e.RunNum && t.entry.Target == e.Target {
			return t
		}
	}
	t := &target{entry: e, window: time.Duration(e.StartWindowMS) * time.Millisecond}
	if t.window <= 0 {
		t.window = s.opts.Window
	}
	if beat := time.Duration(e.HeartbeatMS) * time.Millisecond; beat > 0 {
		s.beat = max(beat, minRetry)
	}
	s.targets = append(s.targets, t)
	return t
}

// takeLock waits for the job's lock beside the loop, where overlap is off.
func (s *Session) takeLock(ctx context.Context, t *target) {
	if t.entry.AllowOverlap {
		t.phase, t.askAt = phaseAsk, s.now
		return
	}
	t.phase = phaseLock
	req := LockRequest{Path: t.entry.Lockfile, Job: t.entry.Job, Run: t.entry.Run, Machine: s.opts.Machine}
	s.wg.Go(func() {
		release, err := s.lock(ctx, req)
		select {
		case s.news <- news{kind: newsLock, t: t, err: err, release: release}:
		case <-ctx.Done():
			if err == nil {
				release()
			}
		}
	})
}

// lock takes a job's lock, unless a command of that job outlived its wrapper.
func (s *Session) lock(ctx context.Context, req LockRequest) (func(), error) {
	orphans, err := s.parts.Journal.Orphans()
	if err != nil {
		return nil, err
	}
	for _, e := range orphans {
		if e.Job == req.Job {
			return nil, &HeldError{Job: req.Job, PID: e.PID}
		}
	}
	return s.parts.Locker.Acquire(ctx, req)
}

func (s *Session) onLock(t *target, n news) {
	switch {
	case t.phase != phaseLock:
		if n.release != nil {
			n.release()
		}
	case n.err == nil:
		t.release = n.release
		t.phase, t.askAt = phaseAsk, s.now
	case errors.Is(n.err, ErrSameRun):
		s.log.Info("not started: another wrapper of the same run is at it", "run", t.entry.Run)
		t.leave()
	default:
		s.log.Info("not started", "run", t.entry.Run, "err", n.err)
		t.phase = phaseLocked
		t.final = &wire.Message{Type: wire.TypeLocked, Text: clip(n.err.Error())}
		t.lockedUntil = s.now.Add(t.window + lockedWait)
	}
}

// tendTarget does what is due for one target.
func (s *Session) tendTarget(t *target) {
	switch t.phase {
	case phaseAsk:
		s.tendAsk(t)
	case phaseLocked:
		if !s.now.Before(t.lockedUntil) {
			t.leave()
			return
		}
		s.wakeBy(t.lockedUntil)
	case phaseRun:
		if again, ok := t.out.cut(t.at(s.now)); ok {
			s.wakeBy(t.began.Add(time.Duration(again) * time.Millisecond))
		}
		if t.own {
			s.toOwnLog(t)
		}
	case phaseFinal:
		end := t.finalAt.Add(keepResult)
		if s.now.Before(end) {
			s.wakeBy(end)
			return
		}
		s.disown(t, "no node took its result for 30 days")
	}
}

// tendAsk asks to start, and again where no answer came.
func (s *Session) tendAsk(t *target) {
	ord, seat := s.cur.seatOf(t)
	if seat == nil || !seat.mayAsk || t.over {
		return
	}
	due := t.askAt
	if t.askOpen {
		due = t.askedAt.Add(askAgain)
	}
	if s.now.Before(due) {
		s.wakeBy(due)
		return
	}
	t.asks = append(t.asks, s.parts.Boot())
	t.askOpen, t.askedAt = true, s.now
	s.cur.queue(&wire.Message{Type: wire.TypeStart, Run: ord, Ask: uint32(len(t.asks))}, s.now)
	s.wakeBy(s.now.Add(askAgain))
}

// onGrant takes a grant if the ask that it answers is young enough to be followed; one that answers an older ask, or none
// that is known, only says that asking again will do.
func (s *Session) onGrant(t *target, m *wire.Message) {
	t.granted = true
	if t.phase != phaseAsk {
		return
	}
	if m.Kill {
		s.decline(t, "killed before it started", codeKilled, causeKill)
		return
	}
	n := int(m.Ask)
	switch {
	case m.Spec != nil && n >= 1 && n <= len(t.asks) && s.parts.Boot()-t.asks[n-1] <= limitOf(m.Spec):
		t.spec, t.deadline = m.Spec, t.asks[n-1]+limitOf(m.Spec)
		t.phase, t.askOpen = phaseGranted, false
	case n >= 1 && n < len(t.asks) && t.askOpen: // a younger ask is on its way
	case t.over:
		s.decline(t, ErrTooLate.Error(), codeNotStart, "")
	default:
		t.askOpen, t.askAt = false, t.askedAt.Add(askPause)
	}
}

// execute starts a granted target's execution beside the loop.
func (s *Session) execute(ctx context.Context, t *target) {
	t.phase = phasePrepare
	if t.spec.Heartbeat > 0 {
		s.beat = max(t.spec.Heartbeat, minRetry)
	}
	out, err := newOutput(t.spec.OutputLimit, s.parts.Temp)
	if err != nil {
		s.log.Warn("no room for output on disk", "run", t.entry.Run, "err", err)
	}
	t.out = out
	t.log = newJobLog(t.spec)
	t.work = &execution{
		t: t, spec: t.spec, deadline: t.deadline, journal: s.parts.Journal, executor: s.parts.Executor,
		news: s.news, chunks: s.chunks, kills: make(chan time.Duration, 1),
		entry: Entry{
			Run: t.entry.Run, RunNum: t.entry.RunNum, Target: t.entry.Target, Job: t.entry.Job,
			Launch: s.opts.Launch, BootID: s.about.BootID,
		},
	}
	s.wg.Go(func() { t.work.run(ctx) })
}

// decline says that the command was not and will not be executed.
func (s *Session) decline(t *target, text string, code int, cause string) {
	t.unlock()
	s.log.Info("declined", "run", t.entry.Run, "why", text)
	if t.own {
		t.leave()
		return
	}
	t.phase, t.finalAt = phaseFinal, s.now
	t.final = &wire.Message{Type: wire.TypeDeclined, Text: clip(text), Code: code, Cause: cause}
}

// onNews takes what a goroutine beside the loop tells.
func (s *Session) onNews(n news) {
	t := n.t
	switch n.kind {
	case newsLock:
		s.onLock(t, n)
	case newsDeclined:
		s.note(t, t.log.write("Job not started: "+n.text))
		s.decline(t, n.text, n.code, n.cause)
	case newsStarted:
		t.phase, t.began, t.pid = phaseRun, n.began, n.pid
		s.note(t, t.log.write("Starting job"))
	case newsSoft:
		t.soft = true
	case newsEnded:
		s.onEnded(t, n)
	}
}

// onEnded makes the command's end the target's last word. The lock goes first: who learns of the end may start the next.
func (s *Session) onEnded(t *target, n news) {
	if n.err != nil {
		s.log.Warn("journal keeps a command that ended", "run", t.entry.Run, "err", n.err)
	}
	t.unlock()
	t.out.finish(n.at)
	if t.own {
		s.closeOwn(t)
	}
	s.note(t, t.log.ended(n, t.spec.Timeout))
	t.phase, t.finalAt = phaseFinal, s.now
	t.final = &wire.Message{Type: wire.TypeResult, AtMillis: n.at, Code: n.code, Signal: n.signal, Cause: n.cause, Seq: t.out.store.next}
	if t.own {
		t.leave()
	}
}

// maxText keeps texts for people below what a gateway takes.
const maxText = 2000

func clip(text string) string {
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:maxText], "") + "…"
}

// note makes trouble with the job's log a remark, once: it must not hurt the job, but somebody should know.
func (s *Session) note(t *target, err error) {
	if err != nil && t.remark == "" {
		t.remark = clip(err.Error())
	}
}

func (s *Session) onChunk(c chunk) {
	c.t.out.write(c.data, c.at)
	c.back <- c.data[:cap(c.data)]
}

// disown lets a run go on that the record doesn't know: its output goes to the wrapper's own log from now on.
func (s *Session) disown(t *target, why string) {
	s.log.Warn("the record does not take this run's words", "run", t.entry.Run, "why", why)
	switch t.phase {
	case phasePrepare, phaseRun:
		if !t.own {
			t.own = true
			s.note(t, t.log.write("The cluster does not know this run: "+why))
		}
	case phaseFinal:
		t.own = true
		if t.out != nil {
			s.closeOwn(t)
		}
		t.leave()
	default:
		t.leave()
	}
}

// limitOf gives the time that may go by between an ask and the execution on its grant.
func limitOf(spec *saltpeter.Spec) time.Duration {
	if spec.ExecWithin > 0 {
		return min(spec.ExecWithin, grantLimit)
	}
	return grantLimit
}
