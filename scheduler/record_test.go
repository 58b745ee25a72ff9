package scheduler

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/syscollective/saltpeter"
)

// record is the model under one term.
type record struct {
	m    *model
	term uint64
}

func (r record) View() View {
	<-r.m.open()
	return view{r.m}
}

func (r record) Claim(_ context.Context, claims []saltpeter.Claim) (out []saltpeter.ClaimResult, err error) {
	err = r.m.apply(r.term, "claim", func() (runs []uint64, _ bool) {
		for i := range claims {
			res := r.m.claim(&claims[i])
			if res.Outcome == saltpeter.ClaimRun {
				runs = append(runs, res.Run)
			}
			out = append(out, res)
		}
		return runs, false
	})
	return out, err
}

func (m *model) claim(c *saltpeter.Claim) saltpeter.ClaimResult {
	at := time.Unix(c.Tick, 0).UTC().Format("15:04:05")
	j := m.jobs[c.Job]
	last := max(c.Tick, c.Last)
	switch {
	case j == nil || j.digest != c.Digest:
		m.note("claim %s %s: stale", c.Job, at)
		return saltpeter.ClaimResult{Outcome: saltpeter.ClaimStale}
	case j.ticks[c.Tick] != 0:
		return saltpeter.ClaimResult{Outcome: saltpeter.ClaimRun, Run: j.ticks[c.Tick]}
	case c.Tick <= j.mark:
		m.note("claim %s %s: decided", c.Job, at)
		return saltpeter.ClaimResult{Outcome: saltpeter.ClaimDecided}
	case time.Unix(last, 0).After(m.wall()):
		m.note("claim %s %s: early", c.Job, at)
		return saltpeter.ClaimResult{Outcome: saltpeter.ClaimEarly}
	}
	j.mark = last
	why := c.Skip
	if why == 0 && j.paused {
		why = saltpeter.SkipPaused
	}
	if why != 0 {
		j.skips = append(j.skips, saltpeter.Skip{Reason: why, First: c.Tick, Last: last, Count: max(c.Count, 1)})
		m.note("skip %s %s..%s %d %s", c.Job, at, time.Unix(last, 0).UTC().Format("15:04:05"), max(c.Count, 1), why)
		return saltpeter.ClaimResult{Outcome: saltpeter.ClaimSkipped, Skip: why}
	}
	num := m.begin(j, c.Tick, c.Cause)
	j.ticks[c.Tick] = num
	m.note("claim %s %s: run %d (%s)", c.Job, at, num, c.Cause)
	return saltpeter.ClaimResult{Outcome: saltpeter.ClaimRun, Run: num}
}

func (m *model) begin(j *modelJob, tick int64, cause string) uint64 {
	num := uint64(len(m.order) + 1)
	m.order = append(m.order, num)
	m.runs[num] = &modelRun{Run: saltpeter.Run{
		Num: num, ID: fmt.Sprintf("%s_%d", j.job.Name, tick), Job: j.job.Name, Digest: j.digest, Tick: tick, Cause: cause,
	}}
	return num
}

func (r record) ApplyConfig(_ context.Context, c Candidate) error {
	return r.m.apply(r.term, "config", func() ([]uint64, bool) {
		r.m.revision++
		r.m.note("config %d", r.m.revision)
		if f, ok := c.(candidate); ok && f.apply != nil {
			r.m.mu.Unlock()
			f.apply()
			r.m.mu.Lock()
		}
		return nil, true
	})
}

type candidate struct {
	at    time.Time
	apply func()
}

func (c candidate) At() time.Time { return c.at }

func (r record) SetTargets(_ context.Context, num uint64, found []saltpeter.Resolved) error {
	return r.m.apply(r.term, "targets", func() ([]uint64, bool) {
		run := r.m.runs[num]
		if run.State != saltpeter.RunClaimed {
			return nil, false
		}
		job, taken := r.m.defs[run.Digest], 0
		for _, f := range found {
			t := saltpeter.Target{Ref: saltpeter.TargetRef{Run: num, Target: uint32(len(run.targets))}, Machine: f.Machine}
			switch {
			case !f.Up:
				t.State = saltpeter.Unreachable
			case job.NumberOfTargets > 0 && taken == job.NumberOfTargets:
				continue
			default:
				taken++
			}
			run.targets = append(run.targets, t)
		}
		run.State = saltpeter.RunRunning
		run.count()
		r.m.note("targets of %d: %d, %d down", num, len(run.targets), run.Counts[saltpeter.Unreachable])
		return []uint64{num}, false
	})
}

func (r record) LaunchBatch(_ context.Context, num uint64, n int) (launch *saltpeter.Launch, err error) {
	err = r.m.apply(r.term, "launch", func() ([]uint64, bool) {
		run := r.m.runs[num]
		if n < len(run.by) {
			launch = run.by[n]
			return nil, false
		}
		if run.State != saltpeter.RunRunning || n > len(run.by) {
			return nil, false
		}
		job := r.m.defs[run.Digest]
		r.m.launches++ // the id is of the run, so that ledgers don't depend on who comes first
		launch = &saltpeter.Launch{ID: saltpeter.LaunchID(10*int(num) + len(run.by)), Run: num, RunID: run.ID, Job: run.Job, AllMatched: job.Batch.Size == 0}
		for i := range run.targets {
			t := &run.targets[i]
			if t.State != saltpeter.Waiting || len(launch.Targets) == job.Batch.Of(len(run.targets)) {
				continue
			}
			if r.m.maintenance[t.Machine] {
				t.State = saltpeter.InMaintenance
				continue
			}
			t.State, t.Launch = saltpeter.Launched, launch.ID
			if job.Start == saltpeter.StartDirect {
				t.State = saltpeter.Granted
			}
			launch.Machines, launch.Targets = append(launch.Machines, t.Machine), append(launch.Targets, t.Ref.Target)
		}
		if len(launch.Targets) == 0 {
			launch = nil
			run.count()
			r.m.noteEnd(run)
			return []uint64{num}, false
		}
		run.by = append(run.by, launch)
		run.Batches = append(slices.Clone(run.Batches), saltpeter.RunBatch{Launch: launch.ID, Targets: launch.Targets})
		run.count()
		r.m.note("launch %d of run %d: %d machines", launch.ID, num, len(launch.Targets))
		return []uint64{num}, false
	})
	return launch, err
}

func (r record) EndTargets(_ context.Context, num uint64, ends []saltpeter.TargetEnd) error {
	return r.m.apply(r.term, "ends", func() ([]uint64, bool) {
		run := r.m.runs[num]
		for _, e := range ends {
			t := &run.targets[e.Target]
			if t.State == e.From && e.From == e.State && t.Back {
				t.Back = false
				r.m.note("back no more %d %s: %s", num, t.Machine, e.Text)
				continue
			}
			if t.State != e.From || !e.From.CanBecome(e.State) {
				r.m.note("end %d %s refused: is %s", num, t.Machine, t.State)
				continue
			}
			t.State, t.Code, t.Text, t.Presumed = e.State, e.State.Code(), e.Text, true
			r.m.note("end %d %s %d: %s", num, t.Machine, t.Code, e.Text)
		}
		run.count()
		r.m.noteEnd(run)
		return []uint64{num}, false
	})
}

func (r record) EndRun(_ context.Context, num uint64, state saltpeter.RunState, text string) error {
	return r.m.apply(r.term, "end run", func() ([]uint64, bool) {
		run := r.m.runs[num]
		if run.State != saltpeter.RunClaimed {
			return nil, false
		}
		run.State, run.Text = state, text
		r.m.note("run %d %s: %s", num, state, text)
		return []uint64{num}, false
	})
}

func (r record) PullMarks(_ context.Context, tick int64) error {
	return r.m.apply(r.term, "pull", func() ([]uint64, bool) {
		for _, j := range r.m.jobs {
			j.mark = min(j.mark, tick)
		}
		r.m.note("pull marks to %s", time.Unix(tick, 0).UTC().Format("15:04:05"))
		return nil, true
	})
}

// count counts the targets and finishes the run after its last.
func (r *modelRun) count() {
	r.Counts, r.Backs = saltpeter.Counts{}, 0
	for i := range r.targets {
		r.Counts[r.targets[i].State]++
		if r.targets[i].Back {
			r.Backs++
		}
	}
	if r.State != saltpeter.RunRunning || r.Counts.Unfinished() > 0 {
		return
	}
	r.State = saltpeter.RunOK
	if int(r.Counts[saltpeter.OK]) < r.Counts.Counted() {
		r.State = saltpeter.RunFailed
	}
}

func (m *model) noteEnd(r *modelRun) {
	if r.State.Final() {
		m.note("run %d %s", r.Num, r.State)
	}
}

// set moves one target, or with "*" all that can be, as a wrapper's word does.
func (m *model) set(num uint64, name string, state saltpeter.TargetState) (moved []saltpeter.TargetRef) {
	m.change(func() ([]uint64, bool) {
		run := m.runs[num]
		for i := range run.targets {
			if t := &run.targets[i]; (t.Machine == name || name == "*") && t.State.CanBecome(state) && t.State != saltpeter.Waiting {
				t.State = state
				moved = append(moved, t.Ref)
			}
		}
		run.count()
		m.noteEnd(run)
		return []uint64{num}, false
	})
	return moved
}

// back has lost winners come back.
func (m *model) back(num uint64, name string) (refs []saltpeter.TargetRef) {
	m.change(func() ([]uint64, bool) {
		run := m.runs[num]
		for i := range run.targets {
			if t := &run.targets[i]; t.Machine == name && t.State == saltpeter.Lost {
				t.Back = true
				refs = append(refs, t.Ref)
			}
		}
		run.count()
		return []uint64{num}, false
	})
	return refs
}

// result takes the late word of a winner that is back.
func (m *model) result(num uint64, name string) {
	m.change(func() ([]uint64, bool) {
		run := m.runs[num]
		for i := range run.targets {
			if t := &run.targets[i]; t.Machine == name && t.Back {
				t.Back, t.State, t.Presumed = false, saltpeter.OK, false
			}
		}
		run.count()
		return []uint64{num}, false
	})
}

func (m *model) kill(num uint64) {
	m.change(func() ([]uint64, bool) {
		run := m.runs[num]
		for i := range run.targets {
			if s := run.targets[i].State; s == saltpeter.Waiting || s == saltpeter.Launched {
				run.targets[i].State = saltpeter.Killed
			}
		}
		run.count()
		if run.State == saltpeter.RunClaimed || run.State == saltpeter.RunFailed {
			run.State = saltpeter.RunKilled
		}
		m.noteEnd(run)
		return []uint64{num}, false
	})
}
