package fsm

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/syscollective/saltpeter"
)

// TestWindowsCountFromTheirCommit: a clock that lags behind the one that set the window changes nothing (G5).
func TestWindowsCountFromTheirCommit(t *testing.T) {
	w := newWorld(t)
	j := testJob("j")
	j.AllowOverlap = true
	w.config(saltpeter.DefaultSettings(), j)
	w.now = (t0 + 20) * 1000
	_, l := w.running("j", t0+1, "m")
	w.do(&SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeMachine, Name: "m"}})
	w.do(&SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeAll}})
	w.now -= 10_000
	if res := w.claim("j", t0+10); res.Skip != saltpeter.SkipMaintenance {
		t.Fatalf("claimed under maintenance: %+v", res)
	}
	if w.ask(l, 0, 1).Granted {
		t.Fatal("granted under maintenance")
	}
	mustRefuse(t, w.do(&StartRun{Request: saltpeter.StartRequest{Job: "j", Key: "k"}}), saltpeter.CodeConflict)
	if got := w.do(&LiftWindow{Scope: saltpeter.ScopeAll}).(Lifted); got.Count != 1 {
		t.Fatalf("lifted %+v", got)
	}
	mustDone(t, w.do(&StartRun{Request: saltpeter.StartRequest{Job: "j", Key: "k"}}))
	if res := w.claim("j", t0+10); res.Skip != saltpeter.SkipMaintenance {
		t.Fatalf("%+v", res) // decided before
	}
}

func TestTicksInsideAWindowAreSkippedWheneverTheyAreDecided(t *testing.T) {
	tests := map[string]struct {
		until int64 // ms after the window began, 0 = lifted after 10 s
		tick  int64 // s after the window began
		skip  bool
	}{
		"before one that was lifted":    {0, -5, true}, // lifting decides what it covered up to its commit
		"inside one that was lifted":    {0, 5, true},
		"when it was lifted":            {0, 10, false},
		"before one that ended":         {10_000, -5, false},
		"at the beginning of one":       {10_000, 0, true},
		"inside one that ended":         {10_000, 9, true},
		"when it ended":                 {10_000, 10, false},
		"after one that ended":          {10_000, 11, false},
		"a second of one that ended in": {10_500, 10, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.config(saltpeter.DefaultSettings(), testJob("j"))
			w.now = (t0 + 10) * 1000
			win := saltpeter.Window{Scope: saltpeter.ScopeGroup, Name: "g"}
			if test.until != 0 {
				win.UntilMillis = w.now + test.until
			}
			mustDone(t, w.do(&SetWindow{Window: win}))
			w.now += 10_000
			if test.until == 0 {
				w.do(&LiftWindow{Scope: saltpeter.ScopeGroup, Name: "g"})
			}
			w.now += 10_000
			if got := w.claim("j", t0+10+test.tick); (got.Skip == saltpeter.SkipMaintenance) != test.skip {
				t.Fatalf("%+v", got)
			}
		})
	}
}

// TestAWrongClocksLiftDecidesNothingAhead: what was lifted in a future that never was doesn't skip ticks until then.
func TestAWrongClocksLiftDecidesNothingAhead(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	w.now = (t0 + 3600) * 1000
	w.do(&SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeAll}})
	w.now += 1000
	w.do(&LiftWindow{Scope: saltpeter.ScopeAll})
	w.now = (t0 + 10) * 1000
	if got := w.claim("j", t0+10); got.Outcome != saltpeter.ClaimRun {
		t.Fatalf("%+v", got)
	}
}

func TestWindowsThatMakeNoSense(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	tests := map[string]struct {
		win  saltpeter.Window
		want saltpeter.ErrorCode
	}{
		"no scope":             {saltpeter.Window{}, saltpeter.CodeInvalid},
		"unknown scope":        {saltpeter.Window{Scope: 9, Name: "x"}, saltpeter.CodeInvalid},
		"all with a name":      {saltpeter.Window{Scope: saltpeter.ScopeAll, Name: "x"}, saltpeter.CodeInvalid},
		"a group without":      {saltpeter.Window{Scope: saltpeter.ScopeGroup}, saltpeter.CodeInvalid},
		"a paused machine":     {saltpeter.Window{Scope: saltpeter.ScopeMachine, Name: "m", Pause: true}, saltpeter.CodeInvalid},
		"an unknown paused":    {saltpeter.Window{Scope: saltpeter.ScopeJob, Name: "x", Pause: true}, saltpeter.CodeNotFound},
		"over before it began": {saltpeter.Window{Scope: saltpeter.ScopeAll, UntilMillis: w.now}, saltpeter.CodeInvalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			mustRefuse(t, w.do(&SetWindow{Window: test.win}), test.want)
		})
	}
}

func TestWindowsAreReplacedAndToldOnce(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	set := &SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeMachine, Name: "m", Reason: "RAM"}}
	first := w.do(set).(WindowTaken)
	w.now += 5000
	if again := w.do(set); again != first {
		t.Fatalf("%+v, first %+v", again, first)
	}
	set.Window.UntilMillis = w.now + 1000
	longer := w.do(set).(WindowTaken).Window
	if longer.FromMillis != first.Window.FromMillis || len(w.m.View().Windows()) != 1 || longer.Actor != "tester" {
		t.Fatalf("%+v", w.m.View().Windows())
	}
	lift := &LiftWindow{Scope: saltpeter.ScopeMachine, Name: "m"}
	if got := w.do(lift); got != (Lifted{Count: 1}) {
		t.Fatalf("%+v", got)
	}
	if got := w.do(lift); got != (Lifted{Count: 1}) {
		t.Fatalf("the same command again: %+v", got)
	}
	w.now++
	if got := w.do(lift); got != (Lifted{}) {
		t.Fatalf("a later one: %+v", got)
	}
	count := make(map[saltpeter.EventType]int)
	for _, e := range w.events() {
		count[e.Type]++
	}
	if count[saltpeter.EventWindowSet] != 2 || count[saltpeter.EventWindowLifted] != 1 {
		t.Fatalf("%v", count)
	}
}

func TestWindowsOfTheFiles(t *testing.T) {
	w := newWorld(t)
	files := func(fm saltpeter.FileMaintenance) {
		t.Helper()
		c := &ApplyConfig{ID: fmt.Sprint(w.index), Last: true, Settings: []byte("{}"), Maintenance: fm}
		mustDone(t, w.plan(c))
	}
	on := func() (names []string) {
		for _, win := range w.m.state.windows.list {
			if inForce(win, w.now) {
				names = append(names, fmt.Sprint(win.Scope, win.Name, win.File))
			}
		}
		return names
	}
	files(saltpeter.FileMaintenance{Global: true, Machines: []string{"a", "b", "b"}})
	if got := w.do(&LiftWindow{Scope: saltpeter.ScopeAll}); got != (Lifted{File: true}) {
		t.Fatalf("a window of the files was lifted: %+v", got)
	}
	w.do(&SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeMachine, Name: "a"}})
	w.now -= 60_000 // the next revision comes from a node whose clock lags behind
	files(saltpeter.FileMaintenance{Machines: []string{"b", "c"}})
	w.now += 120_000
	if got, want := on(), []string{"machinebtrue", "machineafalse", "machinectrue"}; !reflect.DeepEqual(got, want) {
		t.Fatalf("on are %v, want %v", got, want)
	}
	files(saltpeter.FileMaintenance{})
	if got, want := on(), []string{"machineafalse"}; !reflect.DeepEqual(got, want) {
		t.Fatalf("on are %v, want %v", got, want)
	}
}

func TestEndedWindowsAreForgotten(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	w.do(&SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeAll, UntilMillis: w.now + 1000}})
	w.do(&SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeMachine, Name: "m"}})
	w.now += 1000 + keepWindow
	w.do(&Retain{})
	if n := len(w.m.View().Windows()); n != 2 {
		t.Fatalf("%d windows, want 2", n)
	}
	w.now++
	w.do(&Retain{})
	if list := w.m.View().Windows(); len(list) != 1 || list[0].Name != "m" {
		t.Fatalf("%+v", list)
	}
	list := make([]*saltpeter.Window, maxWindows+10)
	for i := range list {
		list[i] = &saltpeter.Window{Scope: saltpeter.ScopeMachine, Name: fmt.Sprint(i), FromMillis: w.now, OffMillis: w.now - int64(btoi(i >= 5))}
	}
	list[0].OffMillis = 0
	w.m.state.windows = indexWindows(list)
	w.do(&Retain{})
	if got := w.m.state.windows.list; len(got) != maxWindows || got[0] != list[0] || got[1] != list[11] {
		t.Fatalf("%d windows are kept", len(got))
	}
}

func TestNewEpoch(t *testing.T) {
	w := liveWorld(t)
	w.now = (t0 + 50) * 1000
	granted, launched := saltpeter.TargetRef{Run: 1}, saltpeter.TargetRef{Run: 1, Target: 3}
	ended := w.run(4).EndedMillis
	mustDone(t, w.do(&BeginEpoch{Epoch: 2, Reason: "restored"}))
	v := w.m.View()
	if v.Epoch() != 2 || v.UnfinishedCount() != 0 || w.job("a").Mark != t0+50 || w.job("b").Mark != t0+50 {
		t.Fatalf("epoch %d, %d unfinished, marks %d %d", v.Epoch(), v.UnfinishedCount(), w.job("a").Mark, w.job("b").Mark)
	}
	for _, ref := range []saltpeter.TargetRef{granted, launched, {Run: 2}, {Run: 2, Target: 1}} {
		if got := w.target(ref); got.State != saltpeter.Lost || !got.Presumed || got.Text != "restored" {
			t.Fatalf("%+v", got)
		}
	}
	if r := w.run(3); r.State != saltpeter.RunLaunchFailed || r.Text != "restored" || w.run(4).EndedMillis != ended {
		t.Fatalf("%+v", r)
	}
	mustRefuse(t, w.do(&StartRun{Request: saltpeter.StartRequest{Job: "a", Key: "k"}}), saltpeter.CodeConflict) // maintenance is on
	if ans := w.say(granted, 1, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 1}); !ans.Done {
		t.Fatalf("a known winner doesn't resume: %+v", ans)
	}
	w.do(&LiftWindow{Scope: saltpeter.ScopeAll})
	w.now += 1000
	events := w.m.View().FeedNext()
	w.do(&BeginEpoch{Epoch: 2})
	w.do(&BeginEpoch{Epoch: 1})
	if w.m.View().Epoch() != 2 || w.m.View().FeedNext() != events {
		t.Fatal("an epoch began again")
	}
	// The lost record may have given numbers that wrappers still name.
	if got := w.do(&StartRun{Request: saltpeter.StartRequest{Job: "a", Key: "k"}}).(RunStarted); got.Run <= epochGap {
		t.Fatalf("run %d", got.Run)
	}
}

func TestPulledMarks(t *testing.T) {
	w := newWorld(t)
	a, b := testJob("a"), testJob("b")
	a.AllowOverlap = true
	w.config(saltpeter.DefaultSettings(), a, b)
	w.now = (t0 + 1000) * 1000
	ahead := w.claim("a", t0+1000)
	w.now = (t0 + 10) * 1000
	w.plan(&PullMarks{To: t0 + 10})
	if w.job("a").Mark != t0+10 || w.job("b").Mark != t0 {
		t.Fatalf("marks %d, %d", w.job("a").Mark, w.job("b").Mark)
	}
	w.now += 1000
	if got := w.claim("a", t0+11); got.Outcome != saltpeter.ClaimRun || got.Run == ahead.Run {
		t.Fatalf("%+v", got)
	}
	w.now = (t0 + 1000) * 1000
	if got := w.claim("a", t0+1000); got != ahead {
		t.Fatalf("the tick got another run: %+v", got)
	}
	if w.job("a").Mark != t0+1000 {
		t.Fatalf("the mark stays at %d", w.job("a").Mark)
	}
}

// A series of skips whose first tick has a run already, from a clock that was ahead, decides that tick alone.
func TestPulledMarksUnderASeries(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	w.now = (t0 + 100) * 1000
	ahead := w.claim("j", t0+100)
	w.now = (t0 + 10) * 1000
	w.plan(&PullMarks{To: t0 + 10})
	w.now = (t0 + 200) * 1000
	missed := func(tick int64, count uint64) saltpeter.ClaimResult {
		c := saltpeter.Claim{Job: "j", Digest: w.job("j").Digest, Tick: tick, Skip: saltpeter.SkipMissed, Last: t0 + 130, Count: count}
		return w.plan(&ClaimRuns{Claims: []saltpeter.Claim{c}}).(Claimed).Results[0]
	}
	if got := missed(t0+100, 3); got != ahead || w.job("j").Mark != t0+100 {
		t.Fatalf("%+v, the mark is %d", got, w.job("j").Mark)
	}
	if got := missed(t0+110, 2); got.Outcome != saltpeter.ClaimSkipped || w.job("j").Mark != t0+130 {
		t.Fatalf("%+v, the mark is %d", got, w.job("j").Mark)
	}
}

// TestAWindowEndsAtItsEnd: [from, until).
func TestAWindowEndsAtItsEnd(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	_, l := w.running("j", t0+1, "a", "b")
	w.do(&SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeMachine, Name: "a", UntilMillis: w.now + 1000}})
	w.do(&SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeMachine, Name: "b", UntilMillis: w.now + 1001}})
	w.now += 1000
	if !w.ask(l, 0, 1).Granted || w.ask(l, 1, 1).Granted {
		t.Fatal("a is under maintenance, or b is not")
	}
}
