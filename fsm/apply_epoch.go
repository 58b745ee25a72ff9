package fsm

import (
	"slices"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/backup"
	"github.com/syscollective/saltpeter/internal/outlog"
	"github.com/tidwall/btree"
)

// epochGap keeps the numbers of runs that the lost record had given, and wrappers still name, from being given again.
const epochGap = 1 << 32

// restoredText is what a target says that was unfinished in a record of another time.
const restoredText = "restored"

func (c *BeginEpoch) apply(a *applier) any {
	s := a.s
	if c.Epoch <= s.epoch {
		return Done{}
	}
	s.epoch = c.Epoch
	a.beginEpoch(c.Reason)
	return Done{}
}

// beginEpoch does what a new epoch means: nobody knows what happened between this record and now.
func (a *applier) beginEpoch(reason string) (ended int) {
	s := a.s
	s.lastRun += epochGap
	var nums []uint64
	s.unfinished.Scan(func(num uint64, _ struct{}) bool {
		nums = append(nums, num)
		return true
	})
	for _, num := range nums {
		ended += a.endRestored(s.mutRun(num))
	}
	a.raiseMarks()
	s.setWindow(saltpeter.Window{Scope: saltpeter.ScopeAll, FromMillis: a.env.Millis, Actor: a.env.Actor, Reason: reason})
	a.changed.Plan, a.changed.Epoch = true, true
	a.event(saltpeter.Event{Type: saltpeter.EventEpochBegun, Actor: a.env.Actor, Text: reason})
	return ended
}

// endRestored ends what was unfinished in a record of another time.
func (a *applier) endRestored(r *run) (ended int) {
	for i := range r.size() {
		if !r.at(i).state.Final() {
			a.end(r, i, ending{state: saltpeter.Lost, text: restoredText, presumed: true})
			ended++
		}
	}
	if r.State == saltpeter.RunClaimed {
		r.Text = restoredText
		a.finish(r, saltpeter.RunLaunchFailed)
	}
	a.finishIfDone(r)
	return ended
}

// raiseMarks decides everything up to now: a restored record makes nothing up.
func (a *applier) raiseMarks() {
	var names []string
	a.s.jobs.Scan(func(name string, j *job) bool {
		if j.mark < a.env.Tick() {
			names = append(names, name)
		}
		return true
	})
	for _, name := range names {
		a.s.mutJob(name).startAt(a.env.Tick())
	}
}

// outputKeyBit makes keys of output that came with a backup unlike any number of a run.
const outputKeyBit = 1 << 63

func (c *RestorePart) apply(a *applier) any {
	s, d := a.s, a.s.restoring
	if c.ID == "" || c.Part < 0 {
		return refuse(saltpeter.CodeInvalid, "a part of no restore")
	}
	switch {
	case d != nil && d.id == c.ID && c.Part < d.next, c.ID == s.restored.id:
		return PartTaken{Next: c.Part + 1} // it is here, or in force
	case c.Part == 0 && c.Epoch != 0 && c.Epoch != s.epoch:
		return refuse(saltpeter.CodeConflict, "the record became another since this restore began").hint("look at what was restored, then begin again")
	case c.Part == 0:
		a.dropRestoring()
		d = &restoring{id: c.ID, keys: new(btree.Map[uint64, uint64])}
	case d == nil || d.id != c.ID || c.Part != d.next:
		return refuse(saltpeter.CodeConflict, "another restore began, or a part is missing").hint("begin again")
	}
	next := *d
	next.next++
	switch c.Kind {
	case backup.KindRecord:
		next.record = append(next.record, slices.Clone(c.Data))
	case backup.KindOutput:
		frames, err := backup.DecodeFrames(c.Data)
		if err != nil {
			return refuse(saltpeter.CodeInvalid, "part %d can't be read: %v", c.Part, err)
		}
		if !storable(frames) {
			return refuse(saltpeter.CodeInvalid, "part %d has frames that can't be stored", c.Part)
		}
		a.stage(&next, frames)
	default:
		return refuse(saltpeter.CodeInvalid, "a part of kind %d", c.Kind)
	}
	s.restoring = &next
	return PartTaken{Next: next.next}
}

// storable reports whether the store can hold frames.
func storable(frames []backup.Frame) bool {
	return !slices.ContainsFunc(frames, func(f backup.Frame) bool {
		return f.Seq == 0 || f.Seq >= maxSeq || f.Skipped > maxSkipped || len(f.Data) > outlog.MaxData
	})
}

// stage stores output of a record that is not in force, under keys that nobody reads yet.
func (a *applier) stage(d *restoring, frames []backup.Frame) {
	for i := range frames {
		f := &frames[i]
		key, ok := d.keys.Get(f.Run)
		if !ok {
			a.s.outputKeys++
			key = outputKeyBit | a.s.outputKeys
			d.keys.Set(f.Run, key)
		}
		out := outlog.Frame{Seq: f.Seq, Kind: outlog.Data, AtMillis: f.AtMillis, Data: f.Data}
		if f.Skip {
			out = outlog.Frame{Seq: f.Seq, Kind: outlog.Skip, AtMillis: f.AtMillis, Skipped: f.Skipped}
		}
		a.out.appendOutput(outlog.Key{Run: key, Target: f.Target}, out)
	}
}

// dropRestoring forgets what an unfinished restore has brought.
func (a *applier) dropRestoring() {
	if a.s.restoring == nil {
		return
	}
	a.s.restoring.keys.Scan(func(_, key uint64) bool {
		a.out.dropOutput(key)
		return true
	})
	a.s.restoring = nil
}

func (c *Restore) apply(a *applier) any {
	s, d := a.s, a.s.restoring
	if c.ID != "" && c.ID == s.restored.id {
		return s.restored.answer
	}
	if d == nil || d.id != c.ID || d.next != c.Parts {
		return refuse(saltpeter.CodeConflict, "another restore began, or parts are missing").hint("begin again")
	}
	fresh, err := readChunks(d.record)
	if err != nil {
		a.dropRestoring()
		return refuse(saltpeter.CodeInvalid, "the backup can't be read: %v", err)
	}
	if fresh.clusterID != s.clusterID && !c.Foreign {
		a.dropRestoring()
		return refuse(saltpeter.CodeConflict, "the backup is of cluster %s, this is %s", fresh.clusterID, s.clusterID)
	}
	answer := Restored{Index: a.changed.Index, Epoch: max(s.epoch, fresh.epoch) + 1}
	answer.LeftOut = a.swap(fresh)
	s.epoch = answer.Epoch
	answer.Ended = a.beginEpoch("restored from a backup")
	s.restored = lastRestore{id: c.ID, answer: answer}
	return answer
}

// swap puts a restored record in the place of the present one. What belongs to this cluster and not to its jobs stays: its
// name, its nodes, the numbers of events and of what is given once. It tells how many bytes of output nobody has.
func (a *applier) swap(fresh *state) (leftOut uint64) {
	s := a.s
	old := *s
	used := make(map[uint64]bool) // keys of output that go on
	fresh.runs.Scan(func(num uint64, r *run) bool {
		key, staged := old.restoring.keys.Get(num)
		was, _ := old.runs.Get(num)
		switch {
		case staged:
			r.outputKey = key
		case fresh.clusterID == old.clusterID && sameOutput(r, was):
			r.outputKey = was.outputKey
		default:
			r.outputKey = 0
			leftOut += r.leaveOut(fresh)
			return true
		}
		used[r.storedAs()] = true
		return true
	})
	old.runs.Scan(func(_ uint64, r *run) bool {
		if !used[r.storedAs()] && r.hasOutput() {
			a.out.dropOutput(r.storedAs())
		}
		if !r.State.Final() {
			a.changed.Runs = append(a.changed.Runs, r.Num)
		}
		return true
	})
	old.restoring.keys.Scan(func(_, key uint64) bool {
		if !used[key] {
			a.out.dropOutput(key)
		}
		return true
	})
	fresh.keepMarks(&old)
	fresh.gen = old.gen + 1 // nothing of it is shared with a view, and nothing that was made has this generation
	fresh.index, fresh.clusterID, fresh.nodes, fresh.feedNext = old.index, old.clusterID, old.nodes, old.feedNext
	fresh.lastRun, fresh.lastLaunch = max(old.lastRun, fresh.lastRun), max(old.lastLaunch, fresh.lastLaunch)
	fresh.retained, fresh.retainNext, fresh.early, fresh.used = old.retained, "", old.early, max(old.used, fresh.used)
	fresh.tokens, fresh.launchKeys = old.tokens, old.launchKeys // a revoked token must not come back
	fresh.outputKeys, fresh.losses, fresh.restoring, fresh.configDraft = old.outputKeys, old.losses, nil, nil
	*s = *fresh
	return leftOut
}

// keepMarks keeps what was decided since the backup from being decided again, by a clock that went back or for a job that is
// added again. The state must not be shared.
func (s *state) keepMarks(old *state) {
	old.jobs.Scan(func(name string, was *job) bool {
		j, ok := s.jobs.Get(name)
		if !ok {
			j = &job{name: name, group: was.group, digest: was.digest}
			s.jobs.Set(name, j)
			s.noteGone(j)
		}
		j.mark, j.maxTick = max(j.mark, was.mark), max(j.maxTick, was.maxTick)
		return true
	})
}

// sameOutput reports whether the output of a finished run is what the store has for the present record's.
func sameOutput(r, now *run) bool {
	if now == nil || now.ID != r.ID || !r.State.Final() || r.Backs > 0 || now.size() != r.size() {
		return false
	}
	for i := range r.size() {
		t, u := r.at(i), now.at(i)
		if t.nextSeq != u.nextSeq || t.stored != u.stored || t.leftOut != u.leftOut {
			return false
		}
	}
	return true
}

func (r *run) hasOutput() bool {
	for i := range r.size() {
		if t := r.at(i); t.stored > 0 || t.leftOut > 0 {
			return true
		}
	}
	return false
}

// leaveOut says of a run's output that nobody has it. The run must not be shared.
func (r *run) leaveOut(s *state) (bytes uint64) {
	for _, p := range r.pages {
		for i := range p.targets {
			t := &p.targets[i]
			bytes += t.stored
			s.output -= t.stored
			t.leftOut += t.stored
			t.stored = 0
		}
	}
	return bytes
}
