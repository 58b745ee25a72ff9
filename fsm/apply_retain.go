package fsm

// What retention keeps whatever the limits by age and number say, in ms: nothing younger than an hour, and nothing with a
// presumed outcome younger than a day. Only the totals win over these.
const (
	keepAlways   = 3600 * 1000
	keepPresumed = 24 * 3600 * 1000
	keepKeys     = 24 * 3600 * 1000
)

// retainTargets bounds what one Retain drops, so that its apply stays short (some ms).
const retainTargets = 2000

func (c *Retain) apply(a *applier) any {
	s := a.s
	s.pruneWindows(a.env.Millis)
	s.pruneKeys(a.env.Millis)
	var out Retained
	drop := func(r *run) bool {
		out.Runs++
		out.Targets += int(r.size())
		a.dropRun(r)
		return out.Targets < retainTargets && out.Runs < retainTargets
	}
	out.More = a.retainTotals(drop) || a.retainJobs(drop) || a.retainAge(drop)
	if out.Runs > 0 {
		a.changed.Plan = true
	}
	return out
}

// retainTotals keeps the hard limits: first what nothing protects, oldest finished first, then what something does.
func (a *applier) retainTotals(drop func(*run) bool) (more bool) {
	s := a.s
	over := func() bool {
		set := &s.revision.Settings
		return s.targets > set.HistoryTargets || int64(s.output) > set.OutputTotal
	}
	for _, protected := range []bool{false, true} {
		if !over() {
			return false
		}
		for _, num := range a.oldest(retainTargets, protected) {
			if !over() {
				return false
			}
			if !drop(s.mutRun(num)) {
				return true
			}
		}
	}
	return false
}

// retainJobs keeps history_runs per job.
func (a *applier) retainJobs(drop func(*run) bool) (more bool) {
	s := a.s
	var names []string
	s.overfull.Scan(func(name string, _ struct{}) bool {
		names = append(names, name)
		return len(names) < retainTargets
	})
	for _, name := range names {
		j, ok := s.jobs.Get(name)
		if !ok {
			s.overfull.Delete(name)
			continue
		}
		excess := len(j.runs) - s.revision.Settings.HistoryRuns
		if excess <= 0 {
			s.overfull.Delete(name)
			continue
		}
		for _, num := range j.runs {
			r, ok := s.runs.Get(num)
			if excess <= 0 {
				break
			}
			if !ok || !a.mayGo(r) {
				continue
			}
			excess--
			if !drop(s.mutRun(num)) {
				return true
			}
		}
	}
	return false
}

// retainAge drops what is older than history_age. Runs lie in the order of their ends: the first younger one ends the
// search.
func (a *applier) retainAge(drop func(*run) bool) (more bool) {
	limit := a.env.Millis - a.s.revision.Settings.HistoryAge.Milliseconds()
	var nums []uint64
	a.s.finished.Scan(func(_, num uint64) bool {
		r, ok := a.s.runs.Get(num)
		if ok && r.EndedMillis >= limit {
			return false
		}
		if ok && a.mayGo(r) {
			nums = append(nums, num)
		}
		return len(nums) < retainTargets
	})
	for _, num := range nums {
		if !drop(a.s.mutRun(num)) {
			return true
		}
	}
	return false
}

// oldest gives up to n finished runs, oldest finished first; protected ones only when asked for.
func (a *applier) oldest(n int, protected bool) []uint64 {
	var nums []uint64
	a.s.finished.Scan(func(_, num uint64) bool {
		if r, ok := a.s.runs.Get(num); ok && (protected || !a.protects(r)) {
			nums = append(nums, num)
		}
		return len(nums) < n
	})
	return nums
}

// mayGo reports whether the limits by age and number may drop a run.
func (a *applier) mayGo(r *run) bool {
	age := a.env.Millis - r.EndedMillis
	return r.State.Final() && r.Backs == 0 && age >= keepAlways && (r.presumed == 0 || age >= keepPresumed) && !a.protects(r)
}

// protects reports whether a run is its job's newest success or failure: those go last.
func (a *applier) protects(r *run) bool {
	j, ok := a.s.jobs.Get(r.Job)
	return ok && (j.lastOK == r.Num || j.lastFail == r.Num) || r.Backs > 0
}

// dropRun forgets a finished run and its output.
func (a *applier) dropRun(r *run) {
	s := a.s
	s.runs.Delete(r.Num)
	s.runIDs.Delete(r.ID)
	s.finished.Delete(r.endOrder)
	for _, b := range r.Batches {
		s.launches.Delete(int64(b.Launch))
	}
	s.targets -= int(r.size())
	for i := range r.size() {
		s.output -= r.at(i).stored
	}
	s.ref(r.Digest, -1)
	a.out.dropOutput(r.Num)
	j := s.mutJob(r.Job)
	if j == nil {
		return
	}
	if r.Backs > 0 {
		j.active--
	}
	j.dropRun(r.Num)
	a.forgetJob(j)
}

// dropRun takes a run out of the job's list, which views may share.
func (j *job) dropRun(num uint64) {
	if len(j.runs) > 0 && j.runs[0] == num {
		j.runs = j.runs[1:]
	} else {
		kept := make([]uint64, 0, len(j.runs))
		for _, n := range j.runs {
			if n != num {
				kept = append(kept, n)
			}
		}
		j.runs = kept
	}
	if j.lastOK == num {
		j.lastOK = 0
	}
	if j.lastFail == num {
		j.lastFail = 0
	}
	if j.lastEnd == num {
		j.lastEnd = 0
	}
}

// pruneKeys forgets idempotency keys after a day.
func (s *state) pruneKeys(millis int64) {
	var gone []string
	s.keys.Scan(func(key string, k startKey) bool {
		if k.millis < millis-keepKeys {
			gone = append(gone, key)
		}
		return len(gone) < retainTargets
	})
	for _, key := range gone {
		s.keys.Delete(key)
	}
}

func (c *CompactOutput) apply(a *applier) any {
	a.out.compact(c.From, c.To)
	return Done{}
}
