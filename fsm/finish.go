package fsm

import (
	"cmp"

	"github.com/syscollective/saltpeter"
)

// ending is an outcome that is about to be written.
type ending struct {
	state    saltpeter.TargetState
	code     int // of the command, with Failed
	signal   int
	text     string
	presumed bool
	done     bool // the winner's final word
}

// move changes a target's state and the counts. The table of states decides what may follow; callers have checked.
func (a *applier) move(r *run, i uint32, to saltpeter.TargetState) *target {
	t := r.mutAt(i)
	r.Counts[t.state]--
	r.Counts[to]++
	t.state = to
	a.touch(r.Num)
	return t
}

// end writes a target's outcome. It doesn't finish the run: the caller does, once for all the targets that it ends.
func (a *applier) end(r *run, i uint32, e ending) {
	from := r.at(i).state
	if !from.CanBecome(e.state) {
		return
	}
	t := a.move(r, i, e.state)
	t.ended = a.env.Millis
	if e.text != "" { // else a remark stays
		t.text = e.text
	}
	a.setCode(r, t, e)
	a.outcomeEvents(r, i)
}

func (a *applier) setCode(r *run, t *target, e ending) {
	t.code = int32(e.state.Code())
	if e.state == saltpeter.Failed {
		t.code = int32(e.code)
	}
	t.signal = uint8(e.signal)
	t.flags &^= flagPresumed
	if e.presumed { // a kill stays flagged: the winner may come back
		t.flags |= flagPresumed
		r.presumed++
	} else {
		t.flags &^= flagKilling
	}
	if e.done {
		t.flags |= flagDone
		t.nonce = nil
	}
}

// replace puts the winner's late word in the place of a presumed outcome: the run's outcome is computed anew, its end
// stays, and a second result is told.
func (a *applier) replace(r *run, i uint32, e ending) {
	t := a.move(r, i, e.state)
	r.presumed--
	t.text = e.text
	a.setCode(r, t, e)
	t.flags |= flagReplaced
	a.setBack(r, t, false)
	a.resultEvent(r, i, true)
	if r.State.Final() {
		a.rename(r, r.outcome())
	}
}

// setBack notes that a lost winner's command still runs, or not any more: its word came, or it is silent again. While one
// does, the run counts for overlap.
func (a *applier) setBack(r *run, t *target, back bool) {
	if t.has(flagBack) == back {
		return
	}
	t.flags ^= flagBack
	j := a.s.mutJob(r.Job)
	was := r.counts()
	if back {
		r.Backs++
		a.s.backs.Set(r.Num, struct{}{})
	} else if r.Backs--; r.Backs == 0 {
		a.s.backs.Delete(r.Num)
	}
	if j != nil {
		j.active += btoi(r.counts()) - btoi(was)
	}
	a.touch(r.Num)
}

// counts reports whether the run counts for overlap.
func (r *run) counts() bool { return !r.State.Final() || r.Backs > 0 }

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// finishIfDone finishes a run whose last target has an outcome.
func (a *applier) finishIfDone(r *run) {
	if r.State == saltpeter.RunRunning && r.Counts.Unfinished() == 0 {
		a.finish(r, r.outcome())
	}
}

// outcome gives the state that a run with all outcomes has.
func (r *run) outcome() saltpeter.RunState {
	switch c := &r.Counts; {
	case r.KilledBy != "" && (c[saltpeter.Killed] > 0 || r.size() == 0):
		return saltpeter.RunKilled
	case c.Counted() == 0:
		return saltpeter.RunNoTargets
	case c.Counted() == int(c[saltpeter.OK]):
		return saltpeter.RunOK
	default:
		return saltpeter.RunFailed
	}
}

func (a *applier) finish(r *run, state saltpeter.RunState) {
	s := a.s
	// Machines of a finished run are looked for rarely, and a million of them would need 31 MiB of maps (bench record).
	r.State, r.draft, r.byMachine = state, nil, nil
	r.EndedMillis = a.env.Millis
	s.ends++
	r.endOrder = s.ends
	s.unfinished.Delete(r.Num)
	s.finished.Set(r.endOrder, r.Num)
	if r.size() == 0 {
		s.empty++
	}
	if j := s.mutJob(r.Job); j != nil {
		if !r.counts() {
			j.active--
		}
		j.lastEnd = r.Num
		j.noteOutcome(r)
	}
	if state == saltpeter.RunNoTargets {
		r.Text = cmp.Or(r.Text, noTargetsText(r))
		a.runEvent(r, saltpeter.Event{Type: saltpeter.EventNoTargets, Text: r.Text})
	}
	a.touch(r.Num)
	a.runEvent(r, saltpeter.Event{Type: saltpeter.EventRunFinished, State: state.String(), Text: r.Text,
		Code: btoi(state != saltpeter.RunOK), OK: int(r.Counts[saltpeter.OK]), Counted: r.Counts.Counted()})
}

func noTargetsText(r *run) string {
	if r.size() == 0 {
		return "no machine matched"
	}
	return "every machine that matched is under maintenance"
}

// rename changes the outcome of a finished run after a late word.
func (a *applier) rename(r *run, state saltpeter.RunState) {
	r.State = state
	if j := a.s.mutJob(r.Job); j != nil {
		j.noteOutcome(r)
	}
}

// noteOutcome remembers the job's newest success and failure, which retention keeps longest.
func (j *job) noteOutcome(r *run) {
	switch {
	case r.State == saltpeter.RunOK:
		j.lastOK = max(j.lastOK, r.Num)
		if j.lastFail == r.Num {
			j.lastFail = 0
		}
	default:
		j.lastFail = max(j.lastFail, r.Num)
		if j.lastOK == r.Num {
			j.lastOK = 0
		}
	}
}
