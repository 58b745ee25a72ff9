package fsm

import (
	"fmt"
	"slices"
	"testing"

	"github.com/syscollective/saltpeter"
)

func TestTargetsInParts(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	w.now += 1000
	num := w.claim("j", t0+1).Run
	part := func(attempt string, n int, last bool, down []int, machines ...string) any {
		return w.plan(&SetTargets{Run: num, Attempt: attempt, Part: n, Last: last, Down: down, Machines: machines})
	}
	mustRefuse(t, part("1", 1, true, nil, "x"), saltpeter.CodeConflict)
	mustRefuse(t, part("1", -1, true, nil, "x"), saltpeter.CodeConflict)
	mustDone(t, part("1", 0, false, nil, "a", "b"))
	mustRefuse(t, part("1", 2, true, nil, "x"), saltpeter.CodeConflict)
	mustRefuse(t, part("2", 1, true, nil, "x"), saltpeter.CodeConflict)
	mustDone(t, part("2", 0, false, []int{1, -1, 9}, "c", "d"))
	mustDone(t, part("2", 1, false, []int{0}, "e", "c"))
	mustDone(t, part("2", 1, false, []int{0}, "e", "c")) // again
	mustDone(t, part("2", 2, true, nil, "f"))
	var got []string
	w.m.View().TargetsOf(num, 0, func(tg saltpeter.Target) bool {
		got = append(got, fmt.Sprint(tg.Machine, " ", tg.State))
		return true
	})
	if want := []string{"c waiting", "d unreachable", "e unreachable", "f waiting"}; !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
	mustDone(t, part("2", 2, true, nil, "f"))
	mustDone(t, part("3", 0, true, nil, "z"))
	if w.run(num).Counts.Total() != 4 {
		t.Fatal("a second list was taken")
	}
	mustRefuse(t, w.plan(&SetTargets{Run: 99, Last: true}), saltpeter.CodeNotFound)
}

func TestNumberOfTargets(t *testing.T) {
	w := newWorld(t)
	j := testJob("j")
	j.NumberOfTargets = 2
	w.config(saltpeter.DefaultSettings(), j)
	w.do(&SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeMachine, Name: "a"}})
	w.now += 1000
	num := w.claim("j", t0+1).Run
	w.plan(&SetTargets{Run: num, Attempt: "1", Last: true, Machines: []string{"a", "b", "c", "d", "e"}, Down: []int{1}})
	l := w.plan(&LaunchBatch{Run: num}).(BatchLaunched).Launch
	if !slices.Equal(l.Machines, []string{"c", "d"}) || l.AllMatched || w.run(num).Counts.Total() != 4 {
		t.Fatalf("%+v, %+v", l, w.run(num))
	}
}

func TestLaunches(t *testing.T) {
	w := newWorld(t)
	j := testJob("j")
	j.AllowOverlap, j.Batch = true, saltpeter.Batch{Size: 2}
	w.config(saltpeter.DefaultSettings(), j)
	r, first := w.running("j", t0+1, "a", "b", "c")
	if again := w.plan(&LaunchBatch{Run: r.Num}).(BatchLaunched).Launch; again.ID != first.ID || !slices.Equal(again.Machines, []string{"a", "b"}) {
		t.Fatalf("%+v, first %+v", again, first)
	}
	mustRefuse(t, w.plan(&LaunchBatch{Run: r.Num, Batch: 1}), saltpeter.CodeConflict) // the first has not ended
	w.ask(first, 0, 1)
	w.say(refOf(first, 0), 1, saltpeter.Word{Kind: saltpeter.WordStarted})
	w.plan(&EndTargets{Run: r.Num, Ends: []saltpeter.TargetEnd{{Target: 1, From: saltpeter.Launched, State: saltpeter.NotStarted}}})
	mustRefuse(t, w.plan(&LaunchBatch{Run: r.Num, Batch: 1}), saltpeter.CodeConflict) // started still counts
	w.say(refOf(first, 0), 1, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 1})
	mustRefuse(t, w.plan(&LaunchBatch{Run: r.Num, Batch: 2}), saltpeter.CodeConflict)
	mustRefuse(t, w.plan(&LaunchBatch{Run: r.Num, Batch: -1}), saltpeter.CodeConflict)
	w.now -= 10_000 // ids rise whatever the clock says
	second := w.plan(&LaunchBatch{Run: r.Num, Batch: 1}).(BatchLaunched).Launch
	if second.ID != first.ID+1 || !slices.Equal(second.Targets, []uint32{2}) || second.AllMatched || second.RunID != r.ID {
		t.Fatalf("%+v", second)
	}
	if got := w.m.View().LaunchedOn(second.ID, "c"); len(got) != 1 || w.m.View().LaunchedOn(second.ID, "a") != nil || w.m.View().LaunchedOn(first.ID, "c") != nil {
		t.Fatalf("%+v", got)
	}
	mustRefuse(t, w.plan(&LaunchBatch{Run: 99}), saltpeter.CodeNotFound)
}

// TestALaunchOfAnotherTermIsRefused: what a deposed leader decided to publish is not launched, and its successor's launch is
// no second one.
func TestALaunchOfAnotherTermIsRefused(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	w.now += 1000
	run := w.claim("j", t0+1).Run
	old := w.env()
	old.Term = w.term
	w.plan(&SetTargets{Run: run, Attempt: "a", Last: true, Machines: []string{"m"}})
	w.term++
	mustRefuse(t, w.doAs(old, &LaunchBatch{Run: run}), saltpeter.CodeNoLeader)
	if got := w.run(run); len(got.Batches) != 0 || got.Counts[saltpeter.Launched] != 0 {
		t.Fatalf("%+v", got)
	}
	first := w.plan(&LaunchBatch{Run: run}).(BatchLaunched).Launch
	if first == nil || len(w.run(run).Batches) != 1 {
		t.Fatalf("%+v", first)
	}
	mustRefuse(t, w.doAs(old, &LaunchBatch{Run: run}), saltpeter.CodeNoLeader)
	mustRefuse(t, w.doAs(old, &EndTargets{Run: run, Ends: []saltpeter.TargetEnd{{From: saltpeter.Launched, State: saltpeter.NotStarted}}}), saltpeter.CodeNoLeader)
}

// TestAllMatched: a launcher may publish to the job's expression only where the batch is all that it matched.
func TestAllMatched(t *testing.T) {
	tests := map[string]struct {
		subset, machines []string
		down             []int
		want             bool
	}{
		"all":       {nil, []string{"a", "b"}, nil, true},
		"one down":  {nil, []string{"a", "b"}, []int{0}, false},
		"one maint": {nil, []string{"a", "m"}, nil, false},
		"a subset":  {[]string{"a"}, []string{"a"}, nil, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.config(saltpeter.DefaultSettings(), testJob("j"))
			w.do(&SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeMachine, Name: "m"}})
			r := w.do(&StartRun{Request: saltpeter.StartRequest{Job: "j", Key: "k", Machines: test.subset}}).(RunStarted)
			w.plan(&SetTargets{Run: r.Run, Attempt: "1", Last: true, Machines: test.machines, Down: test.down})
			if l := w.plan(&LaunchBatch{Run: r.Run}).(BatchLaunched).Launch; l.AllMatched != test.want {
				t.Fatalf("%+v", l)
			}
		})
	}
}

func TestSilenceIsHeldToTheTable(t *testing.T) {
	states := []saltpeter.TargetState{saltpeter.Waiting, saltpeter.Launched, saltpeter.Granted, saltpeter.Started}
	for _, is := range states {
		for _, from := range states {
			for _, to := range saltpeter.TargetStates() {
				w := newWorld(t)
				j := testJob("j")
				j.Batch = saltpeter.Batch{Size: 1}
				w.config(saltpeter.DefaultSettings(), j)
				_, l := w.running("j", t0+1, "a", "b")
				ref := saltpeter.TargetRef{Run: l.Run, Target: uint32(btoi(is == saltpeter.Waiting))}
				if is >= saltpeter.Granted {
					w.ask(l, 0, 1)
				}
				if is == saltpeter.Started {
					w.say(ref, 1, saltpeter.Word{Kind: saltpeter.WordStarted})
				}
				end := saltpeter.TargetEnd{Target: ref.Target, From: from, State: to, Text: "silent"}
				mustDone(t, w.plan(&EndTargets{Run: ref.Run, Ends: []saltpeter.TargetEnd{end, {Target: 9, From: from, State: to}}}))
				early := is == saltpeter.Waiting || is == saltpeter.Launched
				may := is == from && (early && (to == saltpeter.NotStarted || to == saltpeter.Unreachable) || !early && to == saltpeter.Lost)
				if got := w.target(ref); (got.State != is) != may || may && (got.State != to || !got.Presumed || got.Code != to.Code()) {
					t.Fatalf("in %s, silence as %s from %s: %+v", is, to, from, got)
				}
			}
		}
	}
}

func TestRunsWithoutTargets(t *testing.T) {
	tests := map[string]struct {
		do    func(w *world, num uint64)
		state saltpeter.RunState
		text  string
	}{
		"nothing matched": {func(w *world, num uint64) { w.plan(&EndRun{Run: num, State: saltpeter.RunNoTargets}) }, saltpeter.RunNoTargets, "no machine matched"},
		"an empty list":   {func(w *world, num uint64) { w.plan(&SetTargets{Run: num, Last: true}) }, saltpeter.RunNoTargets, "no machine matched"},
		"an error":        {func(w *world, num uint64) { w.plan(&EndRun{Run: num, State: saltpeter.RunLaunchFailed, Text: "why"}) }, saltpeter.RunLaunchFailed, "why"},
		"maintenance":     {func(w *world, num uint64) { w.plan(&SetTargets{Run: num, Last: true, Machines: []string{"m"}}) }, saltpeter.RunNoTargets, "every machine that matched is under maintenance"},
		"a kill":          {func(w *world, num uint64) { w.do(&Kill{Run: num}) }, saltpeter.RunKilled, ""},
		"another state":   {func(w *world, num uint64) { w.plan(&EndRun{Run: num, State: saltpeter.RunOK}) }, saltpeter.RunClaimed, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.config(saltpeter.DefaultSettings(), testJob("j"))
			w.do(&SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeMachine, Name: "m"}})
			w.now += 1000
			num := w.claim("j", t0+1).Run
			w.plan(&SetTargets{Run: num, Attempt: "1", Machines: []string{"half"}})
			test.do(w, num)
			if r := w.run(num); r.State != test.state || r.Text != test.text {
				t.Fatalf("%+v", r)
			}
			if got := w.job("j").Active; got != btoi(test.state == saltpeter.RunClaimed) {
				t.Fatalf("%d active", got)
			}
			told := 0
			for _, e := range w.events() {
				told += btoi(e.Type == saltpeter.EventNoTargets && e.Text == test.text)
			}
			if told != btoi(test.state == saltpeter.RunNoTargets) {
				t.Fatalf("told %d times that there are no targets", told)
			}
			if test.state.Final() {
				w.plan(&EndRun{Run: num, State: saltpeter.RunLaunchFailed, Text: "later"})
				if r := w.run(num); r.State != test.state || w.m.state.mutRun(num).draft != nil {
					t.Fatalf("%+v", r)
				}
			}
		})
	}
}

func TestKillOfSomeMachines(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	r, l := w.running("j", t0+1, "a", "b", "c")
	w.ask(l, 0, 1)
	mustRefuse(t, w.do(&Kill{Run: r.Num, Machines: []string{"a", "x"}}), saltpeter.CodeNotFound)
	mustRefuse(t, w.do(&Kill{Run: 99}), saltpeter.CodeNotFound)
	kill := &Kill{Run: r.Num, Machines: []string{"a", "b"}}
	for range 2 {
		if got := w.do(kill); got != (KillTaken{Ended: 1, Pending: 1}) {
			t.Fatalf("%+v", got)
		}
	}
	if got := w.run(r.Num); got.KilledBy != "" || got.State != saltpeter.RunRunning || !w.ask(l, 2, 1).Granted {
		t.Fatalf("%+v", got)
	}
	w.say(refOf(l, 0), 1, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 1})
	w.say(refOf(l, 2), 1, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 1})
	if got := w.run(r.Num); got.State != saltpeter.RunFailed || got.Counts[saltpeter.OK] != 2 {
		t.Fatalf("%+v", got) // a run is killed only as a whole
	}
	w.now++
	mustRefuse(t, w.do(kill), saltpeter.CodeConflict)
	if w.run(r.Num).KilledBy != "" {
		t.Fatal("a finished run was killed")
	}
}

// TestKilledRunThatEndsWell: the command may end before the kill reaches it.
func TestKilledRunThatEndsWell(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	r, l := w.running("j", t0+1, "a")
	w.ask(l, 0, 1)
	w.doAs(Envelope{Millis: w.now}, &Kill{Run: r.Num})
	w.say(refOf(l, 0), 1, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 1})
	if got := w.run(r.Num); got.State != saltpeter.RunOK || got.KilledBy != "somebody" || got.KilledMillis != w.now {
		t.Fatalf("%+v", got)
	}
}

// TestNewestOutcomes: what retention keeps longest follows late words.
func TestNewestOutcomes(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	good := w.ended("j", 0)
	w.now += 1000
	lost, l := w.running("j", w.now/1000, "m")
	w.ask(l, 0, 1)
	w.lose(refOf(l, 0))
	newest := func() [3]uint64 {
		j := w.m.state.mutJob("j")
		return [3]uint64{j.lastOK, j.lastFail, j.lastEnd}
	}
	if got := newest(); got != [3]uint64{good, lost.Num, lost.Num} {
		t.Fatalf("%v", got)
	}
	later := w.ended("j", 0)
	w.say(refOf(l, 0), 1, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 1})
	if got := newest(); got != [3]uint64{later, 0, later} {
		t.Fatalf("%v", got)
	}
}
