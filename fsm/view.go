package fsm

import (
	"slices"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/outlog"
)

// View is an immutable view of the record at one index. What it gives out is shared: it must not be changed.
type View struct{ s *state }

// Index gives the index of the last entry that the view holds.
func (v *View) Index() uint64 { return v.s.index }

// Epoch gives the cluster's epoch, from 1.
func (v *View) Epoch() uint64 { return v.s.epoch }

// ClusterID gives the cluster's UUID, empty before it is initialised.
func (v *View) ClusterID() string { return v.s.clusterID }

// Settings gives the settings in force.
func (v *View) Settings() *saltpeter.Settings { return &v.s.revision.Settings }

// Revision gives the configuration in force; number 0 says that there is none yet.
func (v *View) Revision() *saltpeter.Revision { return v.s.revision }

// KnowsFiles reports whether files with this digest have been in force before, or are.
func (v *View) KnowsFiles(digest string) bool { return slices.Contains(v.s.digests, digest) }

// JobCount gives the number of jobs in force.
func (v *View) JobCount() int { return len(v.s.revision.Jobs) }

// Job gives a job in force.
func (v *View) Job(name string) (saltpeter.JobStatus, bool) {
	j, ok := v.s.jobs.Get(name)
	if !ok || !j.inForce {
		return saltpeter.JobStatus{}, false
	}
	return v.status(j), true
}

func (v *View) status(j *job) saltpeter.JobStatus {
	st := saltpeter.JobStatus{
		Job: v.s.definition(j.digest).job, Digest: j.digest, Revision: j.revision, Mark: j.mark, Active: j.active, Skipped: j.skipped,
	}
	if len(j.runs) > 0 {
		st.LastRun, _ = v.Run(j.runs[len(j.runs)-1])
	}
	if j.lastEnd != 0 {
		st.LastEnd, _ = v.Run(j.lastEnd)
	}
	for _, w := range v.s.windows.jobs {
		if w.Pause && w.Name == j.name && w.OffMillis == 0 {
			st.Paused = w
		}
	}
	return st
}

// Jobs gives the jobs in force whose names lie after the given one, in the order of their names.
func (v *View) Jobs(after string, yield func(saltpeter.JobStatus) bool) {
	v.s.jobs.Ascend(after, func(name string, j *job) bool {
		if name == after || !j.inForce {
			return true
		}
		return yield(v.status(j))
	})
}

// Definition gives the definition that a digest names, also of runs whose job has changed since.
func (v *View) Definition(d saltpeter.Digest) (*saltpeter.Job, bool) {
	def := v.s.definition(d)
	if def == nil {
		return nil, false
	}
	return def.job, true
}

// Run gives a run by number.
func (v *View) Run(num uint64) (*saltpeter.Run, bool) {
	r, ok := v.s.runs.Get(num)
	if !ok {
		return nil, false
	}
	return &r.Run, true
}

// RunByID gives a run by name.
func (v *View) RunByID(id string) (*saltpeter.Run, bool) {
	num, ok := v.s.runIDs.Get(id)
	if !ok {
		return nil, false
	}
	return v.Run(num)
}

// Runs gives runs with numbers below before, newest first; 0 means from the newest.
func (v *View) Runs(before uint64, yield func(*saltpeter.Run) bool) {
	v.s.runs.Descend(beforeOrAll(before), func(_ uint64, r *run) bool { return yield(&r.Run) })
}

func beforeOrAll(before uint64) uint64 { return before - 1 } // 0 wraps to the highest number

// RunsOfJob is Runs for one job, in force or not.
func (v *View) RunsOfJob(name string, before uint64, yield func(*saltpeter.Run) bool) {
	j, ok := v.s.jobs.Get(name)
	if !ok {
		return
	}
	for i := len(j.runs) - 1; i >= 0; i-- {
		if before != 0 && j.runs[i] >= before {
			continue
		}
		if r, ok := v.Run(j.runs[i]); ok && !yield(r) {
			return
		}
	}
}

// Unfinished gives the runs that are not finished, oldest first.
func (v *View) Unfinished(yield func(*saltpeter.Run) bool) {
	v.s.unfinished.Scan(func(num uint64, _ struct{}) bool {
		r, ok := v.Run(num)
		return !ok || yield(r)
	})
}

// Backs gives the runs, finished or not, with machines whose winner came back after a presumed outcome, oldest first.
func (v *View) Backs(yield func(*saltpeter.Run) bool) {
	v.s.backs.Scan(func(num uint64, _ struct{}) bool {
		r, ok := v.Run(num)
		return !ok || yield(r)
	})
}

// UnfinishedCount gives the number of runs that are not finished.
func (v *View) UnfinishedCount() int { return v.s.unfinished.Len() }

// TargetCount gives the number of targets in all runs.
func (v *View) TargetCount() int { return v.s.targets }

// NextRetain gives the number of the next round of retention, for Retain.
func (v *View) NextRetain() uint64 { return v.s.retained.round + 1 }

// NextLoss gives the number of the next round of giving up segments, for LoseSegments.
func (v *View) NextLoss() uint64 { return v.s.losses + 1 }

// Used is the highest command code that was ever applied, at least BaseCode: every member must know it.
func (v *View) Used() Code { return max(v.s.used, BaseCode) }

// DroppedEarly counts the runs that went before their time because the totals are hard.
func (v *View) DroppedEarly() uint64 { return v.s.early }

// Target gives one target.
func (v *View) Target(ref saltpeter.TargetRef) (saltpeter.Target, bool) {
	r, ok := v.s.runs.Get(ref.Run)
	if !ok || ref.Target >= r.size() {
		return saltpeter.Target{}, false
	}
	return r.target(ref.Target), true
}

// OutputKey names a target's output in the store. What the record does not know has none.
func (v *View) OutputKey(ref saltpeter.TargetRef) (outlog.Key, bool) {
	r, ok := v.s.runs.Get(ref.Run)
	if !ok {
		return outlog.Key{}, false
	}
	return outlog.Key{Run: r.storedAs(), Target: ref.Target}, true
}

// FindTarget gives the target that a machine is in a run.
func (v *View) FindTarget(num uint64, machine string) (saltpeter.Target, bool) {
	r, ok := v.s.runs.Get(num)
	if !ok {
		return saltpeter.Target{}, false
	}
	i, ok := r.find(machine)
	if !ok {
		return saltpeter.Target{}, false
	}
	return r.target(i), true
}

// TargetsOf gives a run's targets in drawn order, from a position on.
func (v *View) TargetsOf(num uint64, from uint32, yield func(saltpeter.Target) bool) {
	r, ok := v.s.runs.Get(num)
	if !ok {
		return
	}
	for i := from; i < r.size(); i++ {
		if !yield(r.target(i)) {
			return
		}
	}
}

// LaunchedOn gives the targets of a launch that are the machine's, with their runs.
func (v *View) LaunchedOn(id saltpeter.LaunchID, machine string) []saltpeter.Target {
	ref, ok := v.s.launches.Get(int64(id))
	if !ok {
		return nil
	}
	t, ok := v.FindTarget(ref.run, machine)
	if !ok || t.Launch != id {
		return nil
	}
	return []saltpeter.Target{t}
}

// Skips gives a job's series of skipped ticks, oldest first.
func (v *View) Skips(name string) []saltpeter.Skip {
	j, ok := v.s.jobs.Get(name)
	if !ok {
		return nil
	}
	return j.skips
}

// Windows gives maintenance and pauses, active and recently ended, in the order in which they were set.
func (v *View) Windows() []saltpeter.Window {
	out := make([]saltpeter.Window, len(v.s.windows.list))
	for i, w := range v.s.windows.list {
		out[i] = *w
	}
	return out
}

// Nodes gives what the nodes say of themselves, by id.
func (v *View) Nodes() []NodeRecord { return v.s.nodes.Values() }

// Token gives the token with a hash, also one that was revoked or has expired.
func (v *View) Token(hash saltpeter.Digest) (saltpeter.Token, bool) {
	return v.s.tokens.Get(string(hash[:]))
}

// Tokens gives all tokens, those included that were revoked not long ago, in no order that means anything.
func (v *View) Tokens() []saltpeter.Token { return v.s.tokens.Values() }

// LaunchKey gives the id of the key under which a launch was or is to be made, empty where none was named.
func (v *View) LaunchKey(id saltpeter.LaunchID) string {
	if i := v.s.launchKeyAt(id); i >= 0 {
		return v.s.launchKeys[i].Key
	}
	return ""
}

// KeysInUse gives by key the runs that were launched under it and are still going on, in no order; the empty key stands for
// launches from before any was named.
func (v *View) KeysInUse() map[string][]*saltpeter.Run {
	out := make(map[string][]*saltpeter.Run)
	v.s.scanLiving(func(r *run) {
		for _, b := range r.Batches {
			if key := v.LaunchKey(b.Launch); !slices.Contains(out[key], &r.Run) {
				out[key] = append(out[key], &r.Run)
			}
		}
	})
	return out
}

// NewestLaunchKey gives the id of the key under which launches are made now.
func (v *View) NewestLaunchKey() string { return newest(v.s.launchKeys) }

// FeedNext gives the number that the next event will have, from 1.
func (v *View) FeedNext() uint64 { return v.s.feedNext }

// target gives the readable form of target i.
func (r *run) target(i uint32) saltpeter.Target {
	t := r.at(i)
	out := saltpeter.Target{
		Ref: saltpeter.TargetRef{Run: r.Num, Target: i}, Machine: t.machine.Value(), State: t.state,
		Code: int(t.code), Signal: int(t.signal), Text: t.text,
		Presumed: t.has(flagPresumed), Replaced: t.has(flagReplaced), Back: t.has(flagBack), TwoHosts: t.has(flagTwoHosts),
		Killing: t.has(flagKilling), Done: t.has(flagDone),
		GrantedMillis: t.granted, StartedMillis: t.started, EndedMillis: t.ended,
		NextSeq: t.nextSeq, Stored: t.stored, LeftOut: t.leftOut,
	}
	s := t.sight.Value()
	out.BootID, out.Host, out.WrapperVersion = s.bootID, s.host, s.version
	if t.nonce != nil {
		out.Nonce, out.Won = *t.nonce, true
	}
	if t.batch >= 0 {
		b := r.Batches[t.batch]
		out.Launch, out.LaunchedMillis = b.Launch, b.Millis
	}
	return out
}
