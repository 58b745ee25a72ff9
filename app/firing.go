package app

import (
	"slices"
	"sync"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
)

// firingWindow is of how many claims a leader knows how late they were.
const firingWindow = 1000

// firing is how a leadership goes: since when, and how late its newest claims were.
type firing struct {
	mu    sync.Mutex // guards the following
	since time.Time  // zero = this node does not lead
	late  []int64    // ms; a ring once it is full
	next  int
}

func (f *firing) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.since, f.late, f.next = time.Now(), nil, 0
}

func (f *firing) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.since = time.Time{}
}

// note takes down how long after its tick each run was claimed. What was skipped does not count.
func (f *firing) note(millis int64, claims []saltpeter.Claim, results []saltpeter.ClaimResult) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range min(len(claims), len(results)) {
		if results[i].Run == 0 {
			continue
		}
		late := max(millis-claims[i].Tick*1000, 0)
		if len(f.late) < firingWindow {
			f.late = append(f.late, late)
			continue
		}
		f.late[f.next] = late
		f.next = (f.next + 1) % firingWindow
	}
}

// figures gives for how long this node leads, and its claims' 99th percentile; leads is false where it doesn't.
func (f *firing) figures() (led time.Duration, claims int, p99 int64, leads bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.since.IsZero() {
		return 0, 0, 0, false
	}
	if n := len(f.late); n > 0 {
		p99 = slices.Sorted(slices.Values(f.late))[(n*99-1)/100]
	}
	return time.Since(f.since), len(f.late), p99, true
}

// tellLeading says what only the leader knows; nil from who isn't.
func (a *App) tellLeading() *leading {
	led, claims, p99, leads := a.firing.figures()
	if !leads {
		return nil
	}
	st := a.scheduler.Status()
	return &leading{Millis: led.Milliseconds(), Next: st.NextTick, NextJob: st.NextJob, Claims: claims, Lag: p99}
}

// schedules says what the record tells of the jobs.
func (a *App) schedules() *api.Schedules {
	v := a.machine.View()
	out := &api.Schedules{Jobs: v.JobCount(), Running: v.UnfinishedCount()}
	from := a.wall().Unix() - 24*3600
	v.Jobs("", func(st saltpeter.JobStatus) bool {
		for _, s := range v.Skips(st.Job.Name) {
			if s.Reason == saltpeter.SkipMissed && s.Last >= from {
				out.Missed += s.Count
			}
		}
		return true
	})
	return out
}

// addLeading adds what the leader says.
func addLeading(out *api.Cluster, l *leading) {
	out.LedMillis = &l.Millis
	if l.Next != 0 {
		next := api.Time(l.Next * 1000)
		out.Schedules.Next, out.Schedules.NextJob = &next, l.NextJob
	}
	if l.Claims > 0 {
		out.Schedules.LagMillis = &l.Lag
	}
}

// addHealth adds what a member says of its host.
func addHealth(out *api.ClusterMember, r *healthReport) {
	out.Wrappers = &r.Wrappers
	if r.DiskAll > 0 {
		used := int(100 - 100*r.DiskFree/r.DiskAll)
		out.DiskUsed = &used
	}
}
