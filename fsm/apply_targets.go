package fsm

import (
	"cmp"
	"slices"
	"unique"

	"github.com/syscollective/saltpeter"
)

var noSight = unique.Make(sight{})

func (c *SetTargets) apply(a *applier) any {
	if r := a.stale(); r != nil {
		return r
	}
	r := a.s.mutRun(c.Run)
	if r == nil {
		return refuseRun(c.Run)
	}
	if r.State != saltpeter.RunClaimed {
		return Done{} // a complete list was first, or the run was ended
	}
	draft := targetDraft{attempt: c.Attempt}
	if c.Part != 0 {
		if r.draft == nil || r.draft.attempt != c.Attempt || c.Part < 0 || r.draft.next < c.Part {
			return refuse(saltpeter.CodeConflict, "part %d of the targets of %s without the parts before it", c.Part, r.ID)
		}
		draft = *r.draft
	}
	if draft.next == c.Part {
		down := make([]bool, len(c.Machines))
		for _, i := range c.Down {
			if i >= 0 && i < len(down) {
				down[i] = true
			}
		}
		draft.machines = slices.Concat(draft.machines, c.Machines)
		draft.down = slices.Concat(draft.down, down)
		draft.next++
	}
	r.draft = &draft
	if c.Last {
		a.takeTargets(r)
	}
	return Done{}
}

// takeTargets decides who of the complete list is a target: who is under maintenance or not up is recorded with that
// outcome; of the others the first number_of_targets are taken. There is no redraw later.
func (a *applier) takeTargets(r *run) {
	draft := r.draft
	def := a.s.definition(r.Digest).job
	r.draft = nil
	r.State = saltpeter.RunRunning
	seen := make(map[string]bool, len(draft.machines))
	list := make([]target, 0, len(draft.machines))
	r.allTaken = true
	for i, name := range draft.machines {
		if seen[name] {
			continue
		}
		seen[name] = true
		t := a.newTarget(name, draft.down[i])
		switch {
		case t.state.Final():
			r.allTaken = false
			r.presumed += btoi(t.has(flagPresumed))
		case def.NumberOfTargets > 0 && r.taken >= def.NumberOfTargets:
			r.allTaken = false
			continue
		default:
			r.taken++
		}
		list = append(list, t)
	}
	r.setTargets(list)
	a.s.targets += len(list)
	for i := range r.size() {
		a.outcomeEvents(r, i)
	}
	r.batchSize = def.Batch.Of(r.taken)
	a.touch(r.Num)
	a.finishIfDone(r)
}

// newTarget makes a target of a machine that matched: waiting, or with the outcome that it has by that already.
func (a *applier) newTarget(name string, down bool) target {
	t := target{machine: unique.Make(name), sight: noSight, batch: -1, nextSeq: 1}
	if w := a.s.windows.activeForMachine(name, a.env.Millis); w != nil {
		t.state, t.ended, t.text = saltpeter.InMaintenance, a.env.Millis, describeWindow(w)
	} else if down {
		t.state, t.code, t.ended = saltpeter.Unreachable, int32(saltpeter.Unreachable.Code()), a.env.Millis
		t.flags, t.text = flagPresumed, "did not answer the ping before the launch"
	}
	return t
}

// outcomeEvents tells of a target that ended before it was launched.
func (a *applier) outcomeEvents(r *run, i uint32) {
	t := r.at(i)
	switch {
	case t.state == saltpeter.InMaintenance:
		a.targetEvent(r, i, saltpeter.Event{Type: saltpeter.EventMachineMaintenance, Text: t.text})
	case t.state.Final():
		a.resultEvent(r, i, false)
	}
}

// resultEvent tells a target's outcome, again if it took the place of a presumed one.
func (a *applier) resultEvent(r *run, i uint32, again bool) {
	t := r.at(i)
	a.targetEvent(r, i, saltpeter.Event{Type: saltpeter.EventMachineResult, Code: int(t.code), State: t.state.String(), Text: t.text,
		Again: again, Stored: t.stored, LeftOut: t.leftOut})
}

func (c *LaunchBatch) apply(a *applier) any {
	if ref := a.stale(); ref != nil {
		return ref
	}
	s := a.s
	r := s.mutRun(c.Run)
	switch {
	case r == nil:
		return refuseRun(c.Run)
	case c.Batch >= 0 && c.Batch < len(r.Batches): // again
		return BatchLaunched{Launch: launchOf(r, c.Batch)}
	case r.State != saltpeter.RunRunning:
		return BatchLaunched{}
	case c.Batch != len(r.Batches) || r.Counts[saltpeter.Launched]+r.Counts[saltpeter.Granted]+r.Counts[saltpeter.Started] > 0:
		return refuse(saltpeter.CodeConflict, "batch %d of %s is not next", c.Batch, r.ID)
	}
	picked := a.pickBatch(r)
	if len(picked) == 0 {
		a.finishIfDone(r)
		return BatchLaunched{}
	}
	s.lastLaunch = max(s.lastLaunch+1, saltpeter.LaunchID(a.env.Millis*1000))
	s.launches.Set(int64(s.lastLaunch), launchRef{run: r.Num, batch: len(r.Batches)})
	// Views share the slice: a new element lies beyond their length.
	r.Batches = append(r.Batches, saltpeter.RunBatch{Launch: s.lastLaunch, Millis: a.env.Millis, Targets: picked})
	for _, i := range picked {
		a.move(r, i, saltpeter.Launched).batch = int32(len(r.Batches) - 1)
		a.targetEvent(r, i, saltpeter.Event{Type: saltpeter.EventMachineStarted})
	}
	if r.StartedMillis == 0 {
		r.StartedMillis = a.env.Millis
	}
	return BatchLaunched{Launch: launchOf(r, c.Batch)}
}

// pickBatch gives the next waiting targets; those that are under maintenance by now end so.
func (a *applier) pickBatch(r *run) []uint32 {
	picked := make([]uint32, 0, max(0, min(r.batchSize, int(r.size()-r.cursor))))
	for ; r.cursor < r.size() && len(picked) < r.batchSize; r.cursor++ {
		i := r.cursor
		t := r.at(i)
		if t.state != saltpeter.Waiting {
			continue
		}
		if w := a.s.windows.activeForMachine(t.machine.Value(), a.env.Millis); w != nil {
			r.allTaken = false
			a.end(r, i, ending{state: saltpeter.InMaintenance, text: describeWindow(w)})
			continue
		}
		picked = append(picked, i)
	}
	return picked
}

func launchOf(r *run, batch int) *saltpeter.Launch {
	b := r.Batches[batch]
	l := &saltpeter.Launch{ID: b.Launch, Run: r.Num, RunID: r.ID, Job: r.Job, Targets: b.Targets,
		AllMatched: r.allTaken && len(r.Machines) == 0 && len(b.Targets) == int(r.size())}
	for _, i := range b.Targets {
		l.Machines = append(l.Machines, r.at(i).machine.Value())
	}
	return l
}

func (c *EndTargets) apply(a *applier) any {
	if ref := a.stale(); ref != nil {
		return ref
	}
	r := a.s.mutRun(c.Run)
	if r == nil {
		return refuseRun(c.Run)
	}
	for _, e := range c.Ends {
		switch {
		case e.Target >= r.size() || r.at(e.Target).state != e.From:
		case maySilence(e.From, e.State):
			a.end(r, e.Target, ending{state: e.State, text: e.Text, presumed: true})
		case e.From == e.State && r.at(e.Target).has(flagBack): // its winner came back and is silent again
			a.setBack(r, r.mutAt(e.Target), false)
		}
	}
	a.finishIfDone(r)
	return Done{}
}

// maySilence says which outcomes may rest on silence: 254 or 255 before the grant, always 253 after it.
func maySilence(from, to saltpeter.TargetState) bool {
	switch from {
	case saltpeter.Waiting, saltpeter.Launched:
		return to == saltpeter.NotStarted || to == saltpeter.Unreachable
	case saltpeter.Granted, saltpeter.Started:
		return to == saltpeter.Lost
	default:
		return false
	}
}

func (c *EndRun) apply(a *applier) any {
	if ref := a.stale(); ref != nil {
		return ref
	}
	r := a.s.mutRun(c.Run)
	if r == nil {
		return refuseRun(c.Run)
	}
	if r.State != saltpeter.RunClaimed || c.State != saltpeter.RunLaunchFailed && c.State != saltpeter.RunNoTargets {
		return Done{}
	}
	r.Text = c.Text
	if c.State == saltpeter.RunLaunchFailed {
		a.runEvent(r, saltpeter.Event{Type: saltpeter.EventLauncherError, Text: c.Text})
	}
	a.finish(r, c.State)
	return Done{}
}

func (c *Kill) apply(a *applier) any {
	r := a.s.mutRun(c.Run)
	if r == nil {
		return refuseRun(c.Run)
	}
	which, ref := r.selectTargets(c.Machines)
	if ref != nil {
		return ref
	}
	by := cmp.Or(a.env.Actor, "somebody")
	if r.State.Final() && !a.killable(r, which) && (r.KilledBy != by || r.KilledMillis != a.env.Millis) {
		return refuse(saltpeter.CodeConflict, "run %s is finished (%s)", r.ID, r.State)
	}
	if len(c.Machines) == 0 && r.KilledBy == "" {
		r.KilledBy, r.KilledMillis = by, a.env.Millis
		a.runEvent(r, saltpeter.Event{Type: saltpeter.EventRunKilled, Actor: by})
	}
	taken := a.kill(r, which, by)
	a.touch(r.Num)
	if r.State == saltpeter.RunClaimed {
		a.finish(r, saltpeter.RunKilled)
	}
	a.finishIfDone(r)
	if r.State.Final() && r.State != saltpeter.RunLaunchFailed { // a late kill counts as one that came in time
		a.rename(r, r.outcome())
	}
	return taken
}

// killable reports whether a kill of these targets of a finished run has anything to do: a winner that was lost may still
// run. A kill that comes again counts too: it is to give the same answer.
func (a *applier) killable(r *run, which []uint32) bool {
	return slices.ContainsFunc(which, func(i uint32) bool { return r.at(i).nonce != nil || a.killedNow(r.at(i)) })
}

// killedNow reports whether this command, now or when it came first, ended a target before its start.
func (a *applier) killedNow(t *target) bool {
	return t.state == saltpeter.Killed && t.granted == 0 && t.ended == a.env.Millis
}

// kill ends the targets that are not granted and flags the others.
func (a *applier) kill(r *run, which []uint32, by string) KillTaken {
	var taken KillTaken
	for _, i := range which {
		if t := r.at(i); t.state == saltpeter.Waiting || t.state == saltpeter.Launched {
			a.end(r, i, ending{state: saltpeter.Killed, text: "killed before it was started, by " + by})
		}
		switch t := r.at(i); {
		case a.killedNow(t):
			taken.Ended++
		case t.nonce != nil: // granted, started, or lost and perhaps still running
			r.mutAt(i).flags |= flagKilling
			a.changed.Kills = append(a.changed.Kills, saltpeter.TargetRef{Run: r.Num, Target: i})
			taken.Pending++
		}
	}
	return taken
}

// selectTargets gives the positions of the machines, of all for none.
func (r *run) selectTargets(machines []string) ([]uint32, *Refusal) {
	var which []uint32
	if len(machines) == 0 {
		for i := range r.size() {
			which = append(which, i)
		}
		return which, nil
	}
	for _, m := range machines {
		i, ok := r.find(m)
		if !ok {
			return nil, refuse(saltpeter.CodeNotFound, "machine %q is not a target of %s", m, r.ID)
		}
		which = append(which, i)
	}
	return which, nil
}

func refuseRun(num uint64) *Refusal {
	return refuse(saltpeter.CodeNotFound, "run number %d is not in the record", num)
}
