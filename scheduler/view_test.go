package scheduler

import (
	"cmp"
	"slices"

	"github.com/syscollective/saltpeter"
)

// view reads the model as it is.
type view struct{ m *model }

func (v view) Settings() *saltpeter.Settings {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	set := v.m.settings
	return &set
}

func (j *modelJob) status() saltpeter.JobStatus {
	return saltpeter.JobStatus{Job: j.job, Digest: j.digest, Mark: j.mark}
}

func (v view) Job(name string) (saltpeter.JobStatus, bool) {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	j := v.m.jobs[name]
	if j == nil {
		return saltpeter.JobStatus{}, false
	}
	return j.status(), true
}

func (v view) Jobs(after string, yield func(saltpeter.JobStatus) bool) {
	v.m.mu.Lock()
	all := make([]saltpeter.JobStatus, 0, len(v.m.jobs))
	for _, j := range v.m.jobs {
		if j.job.Name > after {
			all = append(all, j.status())
		}
	}
	v.m.mu.Unlock()
	slices.SortFunc(all, func(a, b saltpeter.JobStatus) int { return cmp.Compare(a.Job.Name, b.Job.Name) })
	for _, st := range all {
		if !yield(st) {
			return
		}
	}
}

func (v view) Definition(d saltpeter.Digest) (*saltpeter.Job, bool) {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	j, ok := v.m.defs[d]
	return j, ok
}

func (v view) Run(num uint64) (*saltpeter.Run, bool) {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	r := v.m.runs[num]
	if r == nil {
		return nil, false
	}
	c := r.Run
	return &c, true
}

func (v view) Unfinished(yield func(*saltpeter.Run) bool) {
	v.m.mu.Lock()
	var all []*saltpeter.Run
	for _, num := range v.m.order {
		if r := v.m.runs[num]; !r.State.Final() {
			c := r.Run
			all = append(all, &c)
		}
	}
	v.m.mu.Unlock()
	for _, r := range all {
		if !yield(r) {
			return
		}
	}
}

func (v view) Backs(yield func(*saltpeter.Run) bool) {
	v.m.mu.Lock()
	var all []*saltpeter.Run
	for _, num := range v.m.order {
		if r := v.m.runs[num]; r.Backs > 0 {
			c := r.Run
			all = append(all, &c)
		}
	}
	v.m.mu.Unlock()
	for _, r := range all {
		if !yield(r) {
			return
		}
	}
}

func (v view) Target(ref saltpeter.TargetRef) (saltpeter.Target, bool) {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	r := v.m.runs[ref.Run]
	if r == nil || int(ref.Target) >= len(r.targets) {
		return saltpeter.Target{}, false
	}
	return r.targets[ref.Target], true
}

func (v view) TargetsOf(run uint64, from uint32, yield func(saltpeter.Target) bool) {
	v.m.mu.Lock()
	var all []saltpeter.Target
	if r := v.m.runs[run]; r != nil && int(from) < len(r.targets) {
		all = slices.Clone(r.targets[from:])
	}
	v.m.mu.Unlock()
	for _, t := range all {
		if !yield(t) {
			return
		}
	}
}
