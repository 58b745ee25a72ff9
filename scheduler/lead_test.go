package scheduler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter"
)

// TestClaimNeverBeforeTick: with a wall clock that lags behind the timers, and one that runs ahead of them, no claim
// comes before its tick, and none is much late.
func TestClaimNeverBeforeTick(t *testing.T) {
	for _, rate := range []float64{0.93, 0.999, 1, 1.001, 1.07} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				defer s.depose()
				start := time.Now()
				s.sched.options.Wall = func() time.Time {
					return start.Add(time.Duration(float64(time.Since(start)) * rate))
				}
				s.m.wall = s.sched.options.Wall
				s.none.Store(true)
				j := testJob("j")
				j.Schedule.Sec = "*"
				s.m.put(j, start.Unix())
				s.lead()
				time.Sleep(100500 * time.Millisecond)
				s.m.mu.Lock()
				defer s.m.mu.Unlock()
				want := int(100.5 * rate)
				if n := len(s.m.jobs["j"].skips); n != want {
					t.Errorf("%d claims, want %d", n, want)
				}
				for _, line := range s.m.ledger {
					if strings.Contains(line, "early") || strings.Contains(line, "missed") {
						t.Fatal(line)
					}
				}
			})
		})
	}
}

// TestEarlyAnswerIsPlannedAgain: a claim that the record refuses as early comes again, without a busy loop, and a
// configuration waits for it.
func TestEarlyAnswerIsPlannedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		defer s.depose()
		s.none.Store(true)
		s.m.wall = func() time.Time { return s.wall().Add(-300 * time.Millisecond) } // the commands' time
		s.m.put(testJob("j"), time.Now().Unix())
		s.lead()
		time.Sleep(60*time.Second + 100*time.Millisecond)
		if err := s.config(nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		var early, claimed, config int
		s.m.mu.Lock()
		defer s.m.mu.Unlock()
		for i, line := range s.m.ledger {
			switch {
			case strings.Contains(line, "early"):
				early++
			case strings.Contains(line, "skip"):
				claimed = i
			case strings.Contains(line, "config"):
				config = i
			}
		}
		if early == 0 || early > 40 || claimed == 0 || config < claimed {
			t.Errorf("%d early answers, claimed at line %d, configured at line %d", early, claimed, config)
		}
	})
}

// TestClaimErrorEndsLeadership: who can't commit a claim must not lead.
func TestClaimErrorEndsLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		broken := errors.New("store is broken")
		s.m.put(testJob("j"), time.Now().Unix())
		s.m.term = 3
		s.m.fail = func(what string) error { return broken }
		err := s.sched.Lead(t.Context(), 3)
		if !errors.Is(err, broken) || !strings.Contains(err.Error(), "lead term 3: claim 1 ticks") {
			t.Errorf("Lead: %v", err)
		}
		if st := s.sched.Status(); st.Leading {
			t.Errorf("status after it: %+v", st)
		}
		if err := s.sched.Apply(t.Context(), candidate{at: time.Now()}); !errors.Is(err, ErrNotLeading) {
			t.Errorf("Apply after it: %v", err)
		}
		s.sched.Changed([]uint64{1}, true) // nobody leads: no harm
		s.sched.Heard(saltpeter.TargetRef{Run: 1})
		s.sched.HeardLaunch(1, "a")
	})
}

// TestOneRunsTroubleIsItsOwn: a run whose proposals are refused is tried again, ever less often; others go on.
func TestOneRunsTroubleIsItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		defer s.depose()
		s.m.put(testJob("j"), time.Now().Unix())
		refused := 0
		s.m.fail = func(what string) error {
			if what == "targets" && refused < 10 {
				refused++
				return errors.New("refused")
			}
			return nil
		}
		s.lead()
		time.Sleep(121 * time.Second)
		s.m.mu.Lock()
		first, second := s.m.runs[1].State, s.m.runs[2].State
		s.m.mu.Unlock()
		if refused < 8 || first != saltpeter.RunClaimed || second == saltpeter.RunClaimed && refused < 10 {
			t.Errorf("refused %d times; first run %s, second %s", refused, first, second)
		}
		time.Sleep(120 * time.Second)
		s.m.mu.Lock()
		defer s.m.mu.Unlock()
		if s.m.runs[1].State == saltpeter.RunClaimed || s.m.runs[2].State == saltpeter.RunClaimed {
			t.Error("a run was given up")
		}
	})
}

// TestForgottenRunIsNoError: a run that a restored record lacks, and whose proposal is refused for that, is let go in silence.
func TestForgottenRunIsNoError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		defer s.depose()
		var log bytes.Buffer
		s.sched.options.Logger = slog.New(slog.NewTextHandler(&log, nil))
		s.m.put(testJob("j"), time.Now().Unix())
		forgotten := 0
		s.m.fail = func(what string) error {
			if what != "targets" || forgotten > 0 {
				return nil
			}
			forgotten++
			delete(s.m.runs, 1)
			s.m.order = nil
			return saltpeter.Errorf(saltpeter.CodeNotFound, "run number 1 is not in the record")
		}
		s.lead()
		time.Sleep(121 * time.Second)
		if st := s.sched.Status(); forgotten != 1 || st.Driven != 1 { // that of the second tick
			t.Errorf("forgotten %d runs: %+v", forgotten, st)
		}
		if strings.Contains(log.String(), "drive run") {
			t.Errorf("logged: %s", log.String())
		}
	})
}

// TestUnknownDefinition: a run whose definition the record has lost is complained about and harms nobody.
func TestUnknownDefinition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		defer s.depose()
		s.m.put(testJob("j"), time.Now().Unix())
		s.m.order, s.m.runs[1] = []uint64{1}, &modelRun{Run: saltpeter.Run{Num: 1, ID: "lost_1"}}
		s.lead()
		time.Sleep(61 * time.Second)
		if st := s.sched.Status(); st.Driven != 2 || st.Watched != 2 {
			t.Errorf("%+v", st)
		}
	})
}

// TestApplyGivesUp: who waits for a configuration may stop waiting.
func TestApplyGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		defer s.depose()
		s.lead()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := s.sched.Apply(ctx, candidate{at: time.Now().Add(time.Hour)}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Apply: %v", err)
		}
		wrong := errors.New("wrong")
		s.m.mu.Lock()
		s.m.fail = func(string) error { return wrong }
		s.m.mu.Unlock()
		if err := s.sched.Apply(t.Context(), candidate{at: time.Now()}); !errors.Is(err, wrong) {
			t.Errorf("Apply of a refused configuration: %v", err)
		}
		if st := s.sched.Status(); !st.Leading {
			t.Error("a refused configuration ended the leadership")
		}
	})
}

// TestConfigurationIsPlannedAtOnce: a job that a configuration brings is due in the very next second.
func TestConfigurationIsPlannedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		defer s.depose()
		s.none.Store(true)
		s.m.told = func([]uint64, bool) {} // not even told of
		s.lead()
		time.Sleep(1500 * time.Millisecond)
		err := s.sched.Apply(t.Context(), candidate{at: s.wall(), apply: func() {
			j := testJob("new")
			j.Schedule.Sec = "*"
			s.m.put(j, s.wall().Unix())
		}})
		time.Sleep(time.Second)
		s.m.mu.Lock()
		defer s.m.mu.Unlock()
		if n := len(s.m.jobs["new"].skips); err != nil || n != 1 {
			t.Errorf("%d ticks, %v", n, err)
		}
	})
}

// TestSubset: a manual start's machines reach the launcher, and a machine that comes twice is a target once.
func TestSubset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		defer s.depose()
		s.f.machines = []string{"a", "b", "a", "c", "c"}
		s.m.put(testJob("j"), time.Now().Unix())
		s.lead()
		s.m.change(func() ([]uint64, bool) {
			num := s.m.begin(s.m.jobs["j"], 0, "manual")
			s.m.runs[num].Machines = []string{"a", "c"}
			return []uint64{num}, false
		})
		synctest.Wait()
		s.m.mu.Lock()
		got := fmt.Sprint(s.m.runs[1].by[0].Machines)
		s.m.mu.Unlock()
		if got != "[a c]" {
			t.Errorf("launched on %s", got)
		}
		s.m.change(func() ([]uint64, bool) {
			num := s.m.begin(s.m.jobs["j"], 0, "manual")
			s.m.runs[num].Machines = []string{"x"}
			return []uint64{num}, false
		})
		synctest.Wait()
		if r, _ := (view{s.m}).Run(2); r.State != saltpeter.RunNoTargets || r.Text != `no machine matches glob "*" among the 1 asked for` {
			t.Errorf("%s: %s", r.State, r.Text)
		}
	})
}

// TestTakeoverPublishesSameLaunch: what is published again has the same id. It goes to those without a wrapper, so no longer to all that
// matched; where publishing is executing a launch that is found is left alone.
func TestTakeoverPublishesSameLaunch(t *testing.T) {
	for _, start := range []string{saltpeter.StartClaim, saltpeter.StartDirect} {
		t.Run(start, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t)
				defer s.depose()
				var published []saltpeter.Launch
				s.f.started = func(l *saltpeter.Launch) { published = append(published, *l) }
				j := testJob("j")
				j.Start = start
				s.m.put(j, time.Now().Unix())
				s.lead()
				time.Sleep(61 * time.Second)
				s.m.change(func() ([]uint64, bool) { // as a state machine does that has no grant for it
					for i := range s.m.runs[1].targets {
						s.m.runs[1].targets[i].State = saltpeter.Launched
					}
					s.m.runs[1].count()
					return []uint64{1}, false
				})
				for _, granted := range []string{"none", "a"} {
					s.depose()
					s.m.set(1, granted, saltpeter.Granted)
					s.lead()
					synctest.Wait()
				}
				got := ""
				for _, l := range published {
					got += fmt.Sprintf("%d %v %v %v; ", l.ID, l.Machines, l.Targets, l.AllMatched)
				}
				want := "10 [a b] [0 1] true; "
				if start == saltpeter.StartClaim {
					want += want + "10 [b] [1] false; "
				}
				if got != want {
					t.Errorf("published %s, want %s", got, want)
				}
			})
		})
	}
}

// TestDrawIsShuffled: where only some machines are taken, or some at a time, it isn't always the same ones.
func TestDrawIsShuffled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		defer s.depose()
		s.f.machines = names(50)
		for name, number := range map[string]int{"some": 1, "all": 0} {
			j := testJob(name)
			j.Schedule.Sec, j.NumberOfTargets = "*", number
			s.m.put(j, time.Now().Unix())
		}
		s.lead()
		time.Sleep(20500 * time.Millisecond)
		drawn := map[string]map[string]bool{"some": {}, "all": {}}
		s.m.mu.Lock()
		defer s.m.mu.Unlock()
		for _, r := range s.m.runs {
			drawn[r.Job][r.targets[0].Machine] = true
		}
		if len(drawn["some"]) < 5 || len(drawn["all"]) != 1 {
			t.Errorf("first machines of 20 runs: %d different drawn, %d without a draw", len(drawn["some"]), len(drawn["all"]))
		}
	})
}

// TestManyRuns: a thousand runs that start in one instant all end, and nothing is kept of them.
func TestManyRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		defer s.depose()
		s.m.mute = true
		s.f.machines = names(3)
		for i := range 1000 {
			s.m.put(testJob(fmt.Sprint("j", i)), time.Now().Unix())
		}
		s.f.started = func(l *saltpeter.Launch) {
			for i, name := range l.Machines[:2] { // the third never comes
				s.m.set(l.Run, name, saltpeter.Granted)
				s.sched.Heard(saltpeter.TargetRef{Run: l.Run, Target: l.Targets[i]})
				s.m.set(l.Run, name, saltpeter.Started)
				s.m.set(l.Run, name, saltpeter.OK)
			}
		}
		s.lead()
		time.Sleep(60*time.Second + time.Millisecond)
		for i := range 1000 { // once is enough
			s.m.change(func() ([]uint64, bool) { s.m.jobs[fmt.Sprint("j", i)].paused = true; return nil, true })
		}
		synctest.Wait()
		if st := s.sched.Status(); st.Driven != 1000 || st.Watched > 3000 || st.Watched < 1000 {
			t.Errorf("at the start %+v", st)
		}
		time.Sleep(61 * time.Second)
		if st := s.sched.Status(); st.Driven != 0 || st.Watched != 0 {
			t.Errorf("at the end %+v", st)
		}
		l := s.sched.current.Load()
		if len(l.silence.machines)+len(l.silence.hellos)+len(l.silence.heap.items) > 0 {
			t.Error("something is kept of finished runs")
		}
		s.m.mu.Lock()
		defer s.m.mu.Unlock()
		for num, r := range s.m.runs {
			if r.State != saltpeter.RunFailed || r.targets[2].State != saltpeter.NotStarted {
				t.Fatalf("run %d: %s, %+v", num, r.State, r.targets)
			}
		}
	})
}
