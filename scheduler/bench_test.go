package scheduler

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
)

// jobsOf gives a model with n jobs.
func jobsOf(n int, change func(*saltpeter.Job)) *model {
	m := newModel(time.Now)
	m.mute = true
	for i := range n {
		j := testJob(fmt.Sprintf("job-%05d", i))
		change(j)
		m.put(j, 1_767_225_600)
	}
	return m
}

// BenchmarkPlan plans 10,000 jobs that are due in one second: the time between the tick and the proposal.
func BenchmarkPlan(b *testing.B) {
	m := jobsOf(10_000, func(*saltpeter.Job) {})
	p := newPlanner(newSchedules(compile))
	p.sync(view{m}, func(job string, err error) { b.Fatal(err) })
	now := at(1_767_225_600, 0)
	for b.Loop() {
		now = now.Add(time.Minute)
		if n := len(p.due(now, true)); n != 10_000 {
			b.Fatalf("%d claims", n)
		}
	}
}

// BenchmarkPlanIdle is one wake of a planner with 10,000 jobs none of which is due.
func BenchmarkPlanIdle(b *testing.B) {
	m := jobsOf(10_000, func(j *saltpeter.Job) { j.Schedule.Hour = "23" })
	p := newPlanner(newSchedules(compile))
	p.sync(view{m}, func(job string, err error) { b.Fatal(err) })
	now := at(1_767_225_600, 0)
	for b.Loop() {
		if len(p.due(now, true)) > 0 {
			b.Fatal("something is due")
		}
	}
}

// BenchmarkSync looks at 10,000 jobs of which one changed; the model's own share is in it.
func BenchmarkSync(b *testing.B) {
	m := jobsOf(10_000, func(*saltpeter.Job) {})
	p := newPlanner(newSchedules(compile))
	bad := func(job string, err error) { b.Fatal(err) }
	p.sync(view{m}, bad)
	for b.Loop() {
		m.jobs["job-05000"].mark++
		p.sync(view{m}, bad)
	}
}

// BenchmarkTakeover is the first look at 10,000 jobs with schedules of their own.
func BenchmarkTakeover(b *testing.B) {
	n := 0
	m := jobsOf(10_000, func(j *saltpeter.Job) {
		j.Schedule.Sec, j.Schedule.Min, j.Schedule.Hour = fmt.Sprint(n%60), fmt.Sprint(n/60%60), fmt.Sprint(n/3600)
		n++
	})
	for b.Loop() {
		newPlanner(newSchedules(compile)).sync(view{m}, func(job string, err error) { b.Fatal(err) })
	}
}

// BenchmarkMissed counts an hour of missed ticks of a job that is due each second.
func BenchmarkMissed(b *testing.B) {
	m := jobsOf(1, func(j *saltpeter.Job) { j.Schedule.Sec = "*" })
	for b.Loop() {
		p := newPlanner(newSchedules(compile))
		p.sync(view{m}, func(job string, err error) { b.Fatal(err) })
		if c := p.due(at(1_767_225_600+3660, 0), true); c[0].Count != 3600 {
			b.Fatalf("%d missed", c[0].Count)
		}
	}
}

// BenchmarkHeard is one sign of life among 20,000 watched targets.
func BenchmarkHeard(b *testing.B) {
	t, refs := tableOf(20_000)
	a := newAttention()
	i := 0
	for b.Loop() {
		t.heard(refs[i%len(refs)], a.now())
		i++
	}
}

// BenchmarkSweepIdle is one beat over 20,000 watched targets that are heard in time: a minute's beats look at each once.
func BenchmarkSweepIdle(b *testing.B) {
	t, refs := tableOf(20_000)
	m := newModel(time.Now)
	run := &modelRun{targets: make([]saltpeter.Target, len(refs))}
	for i := range run.targets {
		run.targets[i] = saltpeter.Target{Ref: refs[i], Machine: "m", State: saltpeter.Started}
	}
	m.runs[1] = run
	now := time.Duration(0)
	for b.Loop() {
		now += beat
		for i := range len(refs) / 20 { // every 5 s
			t.heard(refs[(i*20+int(now/beat))%len(refs)], now)
		}
		if f := t.sweep(view{m}, now); len(f.ends) > 0 {
			b.Fatal("somebody was lost")
		}
	}
}

func tableOf(n int) (*silence, []saltpeter.TargetRef) {
	t := newSilence()
	targets, refs := make([]uint32, n), make([]saltpeter.TargetRef, n)
	for i := range targets {
		targets[i], refs[i] = uint32(i), saltpeter.TargetRef{Run: 1, Target: uint32(i)}
	}
	b := &batch{launch: 1, published: 0}
	t.watch(b, 1, targets, names(n), 0)
	return t, refs
}

// BenchmarkDrive is 10,000 runs of one machine each, from the claim of one tick to their end, against the model.
func BenchmarkDrive(b *testing.B) {
	for b.Loop() {
		drive10000(b)
	}
}

func drive10000(b *testing.B) {
	m := jobsOf(10_000, func(j *saltpeter.Job) { j.Schedule.Year = "2026" })
	start := time.Now()
	m.wall = func() time.Time { return at(1_767_225_660, 0).Add(time.Since(start)) }
	m.term = 1
	f := &launcher{m: m, machines: []string{"a"}}
	var finished atomic.Int64
	s := New(Options{
		Record: func(term uint64) Record { return record{m, term} }, Launcher: func(*saltpeter.Settings) Launcher { return f },
		Clocks: alone{}, Wall: m.wall,
	})
	m.told = s.Changed
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	f.started = func(l *saltpeter.Launch) {
		s.HeardLaunch(l.ID, "a")
		for _, state := range []saltpeter.TargetState{saltpeter.Granted, saltpeter.Started, saltpeter.OK} {
			m.set(l.Run, "a", state)
		}
		if finished.Add(1) == 10_000 {
			cancel()
		}
	}
	if err := s.Lead(ctx, 1); err != nil {
		b.Fatal(err)
	}
}

type alone struct{}

func (alone) Agreed(context.Context) (time.Duration, bool, error) { return 0, true, nil }
