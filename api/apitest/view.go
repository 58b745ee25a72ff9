package apitest

import (
	"maps"
	"slices"

	"github.com/syscollective/saltpeter"
)

// snapshot implements api.View.
type snapshot struct{ record }

// view gives the record as it is now.
func (r *record) view() *snapshot {
	v := &snapshot{*r}
	v.jobs, v.skips = maps.Clone(r.jobs), maps.Clone(r.skips)
	v.targets = maps.Clone(r.targets)
	v.runs, v.windows = slices.Clone(r.runs), slices.Clone(r.windows)
	v.tokens = slices.Clone(r.tokens)
	return v
}

func (v *snapshot) Index() uint64                     { return v.index }
func (v *snapshot) ClusterID() string                 { return "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee" }
func (v *snapshot) Epoch() uint64                     { return v.epoch }
func (v *snapshot) Settings() *saltpeter.Settings     { return &v.settings }
func (v *snapshot) Revision() *saltpeter.Revision     { return &v.revision }
func (v *snapshot) DroppedEarly() uint64              { return v.droppedEarly }
func (v *snapshot) JobCount() int                     { return len(v.jobs) }
func (v *snapshot) Windows() []saltpeter.Window       { return v.windows }
func (v *snapshot) Skips(job string) []saltpeter.Skip { return v.skips[job] }
func (v *snapshot) Tokens() []saltpeter.Token         { return v.tokens }

func (v *snapshot) Token(hash saltpeter.Digest) (saltpeter.Token, bool) {
	for _, t := range v.tokens {
		if t.Hash == hash {
			return t, true
		}
	}
	return saltpeter.Token{}, false
}

func (v *snapshot) Job(name string) (saltpeter.JobStatus, bool) {
	j, ok := v.jobs[name]
	for _, r := range v.runs {
		if r.Job == name {
			j.LastRun = r
		}
		if r.Job == name && r.State.Final() {
			j.LastEnd = r
		}
	}
	return j, ok
}

func (v *snapshot) Jobs(after string, yield func(saltpeter.JobStatus) bool) {
	for _, name := range slices.Sorted(maps.Keys(v.jobs)) {
		if j, _ := v.Job(name); name > after && !yield(j) {
			return
		}
	}
}

func (v *snapshot) RunByID(id string) (*saltpeter.Run, bool) {
	for _, r := range v.runs {
		if r.ID == id {
			return r, true
		}
	}
	return nil, false
}

func (v *snapshot) Runs(before uint64, yield func(*saltpeter.Run) bool) {
	for _, r := range slices.Backward(v.runs) {
		if (before == 0 || r.Num < before) && !yield(r) {
			return
		}
	}
}

func (v *snapshot) RunsOfJob(job string, before uint64, yield func(*saltpeter.Run) bool) {
	v.Runs(before, func(r *saltpeter.Run) bool { return r.Job != job || yield(r) })
}

func (v *snapshot) Unfinished(yield func(*saltpeter.Run) bool) {
	for _, r := range v.runs {
		if !r.State.Final() && !yield(r) {
			return
		}
	}
}

func (v *snapshot) FindTarget(run uint64, machine string) (saltpeter.Target, bool) {
	for _, t := range v.targets[run] {
		if t.Machine == machine {
			return t, true
		}
	}
	return saltpeter.Target{}, false
}

func (v *snapshot) TargetsOf(run uint64, from uint32, yield func(saltpeter.Target) bool) {
	for i, t := range v.targets[run] {
		if i >= int(from) && !yield(t) {
			return
		}
	}
}
