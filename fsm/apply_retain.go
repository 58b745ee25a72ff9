package fsm

import (
	"fmt"
	"math"
	"slices"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/outlog"
)

// What retention keeps whatever the limits by age and number say, in ms: nothing younger than an hour, and nothing with a
// presumed outcome younger than a day. Only the totals win over these.
const (
	keepAlways   = 3600 * 1000
	keepPresumed = 24 * 3600 * 1000
	keepKeys     = 24 * 3600 * 1000
	keepGone     = 25 * 3600 // s; a clock that goes back by less repeats no tick of a job that is removed and added again
)

// retainTargets and retainLook bound what one Retain drops and looks at, so that its apply stays short (some ms,
// BenchmarkRetain).
const (
	retainTargets = 2000
	retainLook    = 50_000
)

func (c *Retain) apply(a *applier) any {
	s := a.s
	if c.Round != 0 && c.Round == s.retained.round {
		return s.retained.answer
	}
	if c.Round != 0 && c.Round != s.retained.round+1 {
		return Retained{} // from a plan that others have overtaken
	}
	s.pruneWindows(a.env.Millis)
	s.pruneKeys(a.env.Millis)
	s.pruneGone(a.env.Tick())
	d := retention{a: a, s: s, set: &s.revision.Settings}
	d.out.More = d.totals() || d.jobs() || d.age()
	if d.out.Runs > 0 {
		a.changed.Plan = true
	}
	if c.Round != 0 {
		s.retained = lastRetain{round: c.Round, answer: d.out}
	}
	return d.out
}

// retention is the work of one Retain.
type retention struct {
	a   *applier
	s   *state
	set *saltpeter.Settings
	out Retained
}

// drop drops a run and says whether another may follow.
func (d *retention) drop(num uint64) bool {
	r := d.s.mutRun(num)
	d.out.Runs++
	d.out.Targets += int(r.size())
	if !d.mayGo(r) {
		d.out.Early++
		d.s.early++
	}
	d.a.dropRun(r)
	return d.out.Targets < retainTargets && d.out.Runs < retainTargets
}

// mayGo reports whether the limits by age and number may drop a run.
func (d *retention) mayGo(r *run) bool {
	age := d.a.env.Millis - r.EndedMillis
	return age >= keepAlways && (r.presumed == 0 || age >= keepPresumed) && !d.newest(r) && !d.lives(r)
}

// newest reports whether a run is its job's newest success or failure: those go last.
func (d *retention) newest(r *run) bool {
	j, ok := d.s.jobs.Get(r.Job)
	return ok && (j.lastOK == r.Num || j.lastFail == r.Num)
}

// lives reports whether a run must stay whatever any limit says: it is not finished, the command of a machine that came
// back still runs, or its tick would be claimed again, because a wrong clock's marks were pulled back below it.
func (d *retention) lives(r *run) bool {
	j, ok := d.s.jobs.Get(r.Job)
	return !r.State.Final() || r.Backs > 0 || ok && r.Tick > j.mark
}

func (d *retention) overTotals() bool {
	return d.s.targets+d.s.empty > d.set.HistoryTargets || int64(d.s.output) > d.set.OutputTotal
}

// totals keeps the hard limits, oldest finished first: what may go; then what is too young; then all that doesn't live.
func (d *retention) totals() (more bool) {
	passes := [...]func(*run) bool{
		d.mayGo,
		func(r *run) bool { return !d.newest(r) && !d.lives(r) },
		func(r *run) bool { return !d.lives(r) },
	}
	until := d.a.env.Millis - keepAlways
	for _, may := range passes {
		if !d.overTotals() {
			return false
		}
		for _, num := range d.oldest(may, until) {
			if !d.overTotals() {
				return false
			}
			if !d.drop(num) {
				return true
			}
		}
		until = math.MaxInt64
	}
	return false
}

// oldest gives finished runs that may go, oldest finished first. They lie in the order of their ends: the first one that
// ended after until ends the search.
func (d *retention) oldest(may func(*run) bool, until int64) []uint64 {
	var nums []uint64
	looked := 0
	d.s.finished.Scan(func(_, num uint64) bool {
		r, ok := d.s.runs.Get(num)
		if ok && r.EndedMillis > until {
			return false
		}
		if ok && may(r) {
			nums = append(nums, num)
		}
		looked++
		return looked < retainLook && len(nums) < retainTargets
	})
	return nums
}

// jobs keeps history_runs per job. It goes on at the job where the last one stopped, so that no job starves.
func (d *retention) jobs() (more bool) {
	s := d.s
	var names []string
	s.overfull.Ascend(s.retainNext, func(name string, _ struct{}) bool {
		names = append(names, name)
		return len(names) <= retainTargets
	})
	looked := 0
	for _, name := range names {
		s.retainNext = name
		if looked >= retainLook {
			return false
		}
		nums, seen := d.excess(name)
		looked += seen
		for _, num := range nums {
			if !d.drop(num) {
				return true
			}
		}
	}
	if len(names) <= retainTargets {
		s.retainNext = "" // that was the last: from the first again
	}
	return false
}

// excess gives the runs that a job has too many, oldest claimed first, and how many it looked at. Runs that were claimed
// within the hour ended within it too, and so did all after them.
func (d *retention) excess(name string) (nums []uint64, looked int) {
	j, ok := d.s.jobs.Get(name)
	if !ok || len(j.runs) <= d.set.HistoryRuns {
		d.s.overfull.Delete(name)
		return nil, 1
	}
	n := len(j.runs) - d.set.HistoryRuns
	for _, num := range j.runs {
		r, ok := d.s.runs.Get(num)
		looked++
		if len(nums) == n || !ok || r.ClaimedMillis > d.a.env.Millis-keepAlways {
			break
		}
		if d.mayGo(r) {
			nums = append(nums, num)
		}
	}
	return nums, looked
}

// age drops what is older than history_age.
func (d *retention) age() (more bool) {
	for _, num := range d.oldest(d.mayGo, d.a.env.Millis-d.set.HistoryAge.Milliseconds()-1) {
		if !d.drop(num) {
			return true
		}
	}
	return false
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
	if r.size() == 0 {
		s.empty--
	}
	for i := range r.size() {
		s.output -= r.at(i).stored
	}
	s.ref(r.Digest, -1)
	a.out.dropOutput(r.storedAs())
	if j := s.mutJob(r.Job); j != nil {
		j.dropRun(r.Num, s.gen)
		s.noteGone(j)
	}
}

// dropRun takes a run out of the job's list, which views may share. It is near the list's beginning: what stands before it
// moves, not what follows.
func (j *job) dropRun(num, gen uint64) {
	if i := slices.Index(j.runs, num); i >= 0 {
		if i > 0 && j.runsGen != gen {
			j.runs, j.runsGen = slices.Clone(j.runs), gen
		}
		copy(j.runs[1:i+1], j.runs[:i])
		j.runs = j.runs[1:]
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

// pruneGone forgets jobs that are not in force and have no runs, a while after their last tick.
func (s *state) pruneGone(tick int64) {
	var names []string
	s.gone.Scan(func(name string, _ struct{}) bool {
		if j, ok := s.jobs.Get(name); !ok || j.mark < tick-keepGone {
			names = append(names, name)
		}
		return true
	})
	for _, name := range names {
		s.jobs.Delete(name)
		s.gone.Delete(name)
	}
}

func (c *LoseSegments) apply(a *applier) any {
	if r := a.stale(); r != nil { // only who leads asks the members
		return r
	}
	if len(c.Segments) == 0 || c.Round != a.s.losses+1 {
		return Done{}
	}
	a.s.losses = c.Round
	lost := make([]outlog.SegmentInfo, len(c.Segments))
	for i, g := range c.Segments {
		lost[i] = outlog.SegmentInfo{No: g.No, Last: g.Last, Gen: g.Gen}
	}
	what := "output"
	if c.Feed {
		what = "the change feed"
	}
	a.out.lose(c.Feed, lost)
	// The event is also the record that a feed needs after this.
	a.event(saltpeter.Event{Type: saltpeter.EventNodeChanged, Actor: a.env.Actor,
		Text: fmt.Sprintf("%d segments of %s are on no node any more", len(lost), what)})
	return Done{}
}

func (c *CompactOutput) apply(a *applier) any {
	a.out.compact(c.From, c.To)
	return Done{}
}
