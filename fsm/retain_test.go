package fsm

import (
	"slices"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
)

// limits gives settings in which nothing is limited but what change sets.
func limits(change func(*saltpeter.Settings)) saltpeter.Settings {
	set := saltpeter.DefaultSettings()
	set.HistoryRuns, set.HistoryTargets, set.OutputTotal, set.HistoryAge = 1<<30, 1<<30, 1<<40, 1000*24*time.Hour
	change(&set)
	return set
}

// ended makes a run of a job that ends at once with a code, and gives its number.
func (w *world) ended(name string, code int) uint64 {
	w.t.Helper()
	w.now += 1000
	r, l := w.running(name, w.now/1000, "m")
	w.ask(l, 0, 1)
	w.say(refOf(l, 0), 1, saltpeter.Word{Kind: saltpeter.WordOutput, Seq: 1, Data: []byte("0123456789")}, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 2, Code: code})
	return r.Num
}

// kept lists the runs, oldest first.
func (w *world) kept() []uint64 { return w.m.state.runs.Keys() }

func (w *world) wantKept(want ...uint64) {
	w.t.Helper()
	if got := w.kept(); !slices.Equal(got, want) {
		w.t.Fatalf("kept are %v, want %v", got, want)
	}
	checkConsistent(w.t, w.m.state)
}

const hour = 3600 * 1000

func TestRunsPerJob(t *testing.T) {
	w := newWorld(t)
	w.config(limits(func(s *saltpeter.Settings) { s.HistoryRuns = 3 }), testJob("a"), testJob("b"))
	ok, fail := w.ended("a", 0), w.ended("a", 1)
	nums := []uint64{ok, fail}
	for range 4 {
		nums = append(nums, w.ended("a", 1))
	}
	other := w.ended("b", 0)
	w.now += hour - 2000
	if got := w.do(&Retain{}).(Retained); got.Runs != 3 {
		t.Fatalf("%+v: all that ended an hour ago may go, but the newest success", got)
	}
	w.wantKept(ok, nums[4], nums[5], other)
	w.now += 10 * hour
	if got := w.do(&Retain{}).(Retained); got != (Retained{}) {
		t.Fatalf("%+v", got)
	}
	for range 3 {
		w.ended("a", 0)
	}
	w.now += hour
	w.do(&Retain{})
	w.wantKept(6, 7, 9, 10) // the newest failure, b's run, and with it three of a
}

func TestAge(t *testing.T) {
	w := newWorld(t)
	w.config(limits(func(s *saltpeter.Settings) { s.HistoryAge = 2 * time.Hour }), testJob("a"))
	first, second, last := w.ended("a", 0), w.ended("a", 0), w.ended("a", 0)
	w.now = w.run(first).EndedMillis + 2*hour
	w.do(&Retain{})
	w.wantKept(first, second, last)
	w.now++
	w.do(&Retain{})
	w.wantKept(second, last)
	w.now += 100 * hour
	w.do(&Retain{})
	w.wantKept(last) // a job's newest success stays
}

func TestPresumedOutcomesStayForADay(t *testing.T) {
	w := newWorld(t)
	w.config(limits(func(s *saltpeter.Settings) { s.HistoryAge = 0 }), testJob("a"))
	w.now += 1000
	r, l := w.running("a", w.now/1000, "m")
	w.ask(l, 0, 1)
	w.lose(refOf(l, 0))
	fail := w.ended("a", 1)
	w.now = w.run(r.Num).EndedMillis + 24*hour - 1
	w.do(&Retain{})
	w.wantKept(r.Num, fail)
	w.now += 2
	w.do(&Retain{})
	w.wantKept(fail)
}

func TestTotalsAreHard(t *testing.T) {
	tests := map[string]struct {
		limit func(*saltpeter.Settings)
		kept  []uint64
	}{
		"targets": {func(s *saltpeter.Settings) { s.HistoryTargets = 3 }, []uint64{1, 4, 5}},
		"output":  {func(s *saltpeter.Settings) { s.OutputTotal = 20 }, []uint64{1, 5}},
		"almost":  {func(s *saltpeter.Settings) { s.HistoryTargets = 1 }, []uint64{5}},
		"nothing": {func(s *saltpeter.Settings) { s.HistoryTargets = 0 }, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.config(limits(test.limit), testJob("a"))
			w.ended("a", 0) // the newest success: goes last but for the newest failure
			for range 4 {
				w.ended("a", 1)
			}
			res := w.do(&Retain{}).(Retained)
			if res.Runs != 5-len(test.kept) || res.Early != res.Runs || w.m.View().DroppedEarly() != uint64(res.Early) {
				t.Fatalf("%+v, %d early", res, w.m.View().DroppedEarly())
			}
			w.wantKept(test.kept...)
			if st, ok := w.m.Output().Stat(outKey(saltpeter.TargetRef{Run: 2})); ok {
				t.Fatalf("the output of a run that was dropped is there: %+v", st)
			}
		})
	}
}

// TestWhatLivesStays: no limit takes a run that is not finished, whose machine came back, or whose tick would be claimed again.
func TestWhatLivesStays(t *testing.T) {
	w := newWorld(t)
	j := testJob("a")
	j.AllowOverlap = true
	w.config(limits(func(s *saltpeter.Settings) { s.HistoryTargets, s.HistoryAge, s.HistoryRuns = 0, 0, 0 }), j)
	claimed := w.claim("a", t0)
	if claimed.Outcome == saltpeter.ClaimRun {
		t.Fatal("claimed the tick of the job's own commit")
	}
	w.now += 1000
	running, _ := w.running("a", w.now/1000, "m")
	w.now += 1000
	back, l := w.running("a", w.now/1000, "m")
	w.ask(l, 0, 1)
	w.lose(refOf(l, 0))
	w.say(refOf(l, 0), 1, saltpeter.Word{Kind: saltpeter.WordStarted})
	ahead := w.ended("a", 0)
	w.plan(&PullMarks{To: w.now/1000 - 1})
	gone := w.do(&StartRun{Request: saltpeter.StartRequest{Job: "a", Key: "k"}}).(RunStarted)
	w.do(&Kill{Run: gone.Run})
	w.now += 48 * hour
	w.do(&Retain{})
	w.wantKept(running.Num, back.Num, ahead)
}

func TestRunsWithoutTargetsCount(t *testing.T) {
	w := newWorld(t)
	w.config(limits(func(s *saltpeter.Settings) { s.HistoryTargets = 2 }), testJob("a"))
	for range 4 {
		w.now += 1000
		w.plan(&EndRun{Run: w.claim("a", w.now/1000).Run, State: saltpeter.RunNoTargets})
	}
	if got := w.do(&Retain{}).(Retained); got.Runs != 2 || got.Targets != 0 {
		t.Fatalf("%+v", got)
	}
	w.wantKept(3, 4)
}

func TestRoundsOfRetention(t *testing.T) {
	w := newWorld(t)
	w.config(limits(func(s *saltpeter.Settings) { s.HistoryTargets = 2 }), testJob("a"))
	for range 3 {
		w.ended("a", 1)
	}
	first := w.do(&Retain{Round: 1})
	w.ended("a", 1)
	if again := w.do(&Retain{Round: 1}); again != first || first != (Retained{Runs: 1, Targets: 1, Early: 1}) {
		t.Fatalf("%+v, first %+v", again, first)
	}
	for _, round := range []uint64{3, 99} {
		if got := w.do(&Retain{Round: round}); got != (Retained{}) {
			t.Fatalf("round %d: %+v", round, got)
		}
	}
	w.wantKept(2, 3, 4)
	if w.m.View().NextRetain() != 2 {
		t.Fatal("the next round is not the second")
	}
	w.do(&Retain{Round: 2})
	w.wantKept(3, 4)
}

// TestOneRoundIsShort: a round drops so much and no more, and says that there is more.
func TestOneRoundIsShort(t *testing.T) {
	w := newWorld(t)
	j := testJob("job-00000")
	w.config(limits(func(s *saltpeter.Settings) { s.HistoryTargets = 100 }), j)
	finishedRuns(w, 2*retainTargets, 2)
	view := w.m.View()
	for round, want := range []Retained{
		{Runs: retainTargets / 2, Targets: retainTargets, Early: 0, More: true},
		{Runs: retainTargets / 2, Targets: retainTargets, Early: 200, More: true},
	} {
		got := w.do(&Retain{}).(Retained)
		if got.Early = min(got.Early, want.Early); got != want {
			t.Fatalf("round %d: %+v, want %+v", round, got, want)
		}
		checkConsistent(t, w.m.state)
	}
	for w.do(&Retain{}).(Retained).More {
	}
	if w.m.state.targets != 100 || view.TargetCount() != 4*retainTargets {
		t.Fatalf("%d targets are kept; the view has %d", w.m.state.targets, view.TargetCount())
	}
	n := 0
	view.RunsOfJob(j.Name, 0, func(*saltpeter.Run) bool { n++; return true })
	if n != 2*retainTargets {
		t.Fatalf("the view shows %d runs of the job", n)
	}
}

// TestNoJobStarves: the look at jobs with too many runs goes on where the last one stopped.
func TestNoJobStarves(t *testing.T) {
	w := newWorld(t)
	w.config(limits(func(s *saltpeter.Settings) { s.HistoryRuns = 0 }), testJob("job-00000"))
	finishedRuns(w, 2, 1)
	s := w.m.state
	d := retention{a: &applier{s: s, env: &Envelope{Millis: w.now}, out: noEffects{}}, s: s, set: &s.revision.Settings}
	for i := range retainTargets {
		s.overfull.Set("job-1"+string(rune('a'+i%26))+string(rune('a'+i/26)), struct{}{})
	}
	s.overfull.Set("y", struct{}{})
	if d.jobs(); s.retainNext == "" {
		t.Fatal("the look did not stop")
	}
	if d.jobs(); s.retainNext != "" {
		t.Fatalf("the look goes on at %q", s.retainNext)
	}
	if _, ok := s.overfull.Get("y"); ok {
		t.Fatal("y starved")
	}
}

func TestALowerLimitIsSeen(t *testing.T) {
	w := newWorld(t)
	w.config(limits(func(*saltpeter.Settings) {}), testJob("a"))
	for range 5 {
		w.ended("a", 0)
	}
	w.config(limits(func(s *saltpeter.Settings) { s.HistoryRuns = 2 }), testJob("a"))
	w.now += 2 * hour
	w.do(&Retain{})
	w.wantKept(4, 5)
}

// TestViewsKeepWhatIsDropped: a view taken before still lists the runs, in order.
func TestViewsKeepWhatIsDropped(t *testing.T) {
	w := newWorld(t)
	w.config(limits(func(s *saltpeter.Settings) { s.HistoryTargets = 3 }), testJob("a"))
	w.ended("a", 0)
	for range 4 {
		w.ended("a", 1)
	}
	v := w.m.View()
	w.do(&Retain{})
	w.wantKept(1, 4, 5)
	var got []uint64
	v.RunsOfJob("a", 0, func(r *saltpeter.Run) bool {
		got = append(got, r.Num)
		return true
	})
	if !slices.Equal(got, []uint64{5, 4, 3, 2, 1}) {
		t.Fatalf("the view lists %v", got)
	}
}
