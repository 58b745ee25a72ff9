package fsm

import (
	"testing"

	"github.com/syscollective/saltpeter"
)

func TestRunFromClaimToResult(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	r, l := w.running("j", t0+1, "a", "b")
	if r.ID != "j_1795392001" || r.State != saltpeter.RunRunning {
		t.Fatalf("run %+v", r)
	}
	for i, n := range []byte{1, 2} {
		if ans := w.ask(l, i, n); !ans.Granted {
			t.Fatalf("machine %d: %+v", i, ans)
		}
	}
	a, b := refOf(l, 0), refOf(l, 1)
	ans := w.say(a, 1, saltpeter.Word{Kind: saltpeter.WordStarted}, saltpeter.Word{Kind: saltpeter.WordOutput, Seq: 1, Data: []byte("hello")},
		saltpeter.Word{Kind: saltpeter.WordResult, Seq: 2})
	if !ans.Done || ans.Next != 3 {
		t.Fatalf("answer %+v", ans)
	}
	if w.run(r.Num).State != saltpeter.RunRunning {
		t.Fatal("finished before its last target")
	}
	w.say(b, 2, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 1, Code: 3})
	if got := w.run(r.Num); got.State != saltpeter.RunFailed || got.Counts[saltpeter.OK] != 1 || got.Counts[saltpeter.Failed] != 1 {
		t.Fatalf("run %+v", got)
	}
	out := make([]byte, 10)
	n, _ := w.m.Output().ReadAt(outKey(a), out, 0)
	if string(out[:n]) != "hello" {
		t.Fatalf("output %q", out[:n])
	}
	st, _ := w.m.View().Job("j")
	if st.Active != 0 || st.LastEnd.Num != r.Num {
		t.Fatalf("job %+v", st)
	}
}

func TestSecondNonceIsRefused(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	_, l := w.running("j", t0+1, "a")
	for range 2 {
		if !w.ask(l, 0, 1).Granted {
			t.Fatal("the winner was refused")
		}
	}
	if w.ask(l, 0, 2).Granted {
		t.Fatal("a second nonce was granted")
	}
	if w.target(refOf(l, 0)).TwoHosts {
		t.Fatal("one boot id was taken for two")
	}
	if ans := w.say(refOf(l, 0), 2, saltpeter.Word{Kind: saltpeter.WordStarted}); ans.Refused == "" {
		t.Fatal("a stranger's word was taken")
	}
	other := askOf(l, 0, 3)
	other.Sight.BootID = "another"
	w.do(&StartTarget{Ask: other})
	if !w.target(refOf(l, 0)).TwoHosts {
		t.Fatal("two boot ids for one machine were not marked")
	}
	w.say(refOf(l, 0), 1, saltpeter.Word{Kind: saltpeter.WordStarted})
	if w.ask(l, 0, 1).Granted {
		t.Fatal("granted again after it was started")
	}
}

func TestGapInNumbersIsNotTaken(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	_, l := w.running("j", t0+1, "a")
	w.ask(l, 0, 1)
	ref := refOf(l, 0)
	word := func(seq uint64, s string) saltpeter.Word {
		return saltpeter.Word{Kind: saltpeter.WordOutput, Seq: seq, Data: []byte(s)}
	}
	if ans := w.say(ref, 1, word(1, "a"), word(3, "c"), saltpeter.Word{Kind: saltpeter.WordResult, Seq: 4}); ans.Next != 2 || ans.Done {
		t.Fatalf("answer %+v, want next 2", ans)
	}
	if ans := w.say(ref, 1, word(1, "a"), word(2, "b"), word(3, "c")); ans.Next != 4 {
		t.Fatalf("answer %+v, want next 4", ans)
	}
	skip := saltpeter.Word{Kind: saltpeter.WordSkip, Seq: 4, Covers: 3, Skipped: 100}
	if ans := w.say(ref, 1, skip, word(7, "d")); ans.Next != 8 {
		t.Fatalf("answer %+v, want next 8", ans)
	}
	got := w.target(ref)
	if got.Stored != 4 || got.LeftOut != 100 {
		t.Fatalf("stored %d, left out %d", got.Stored, got.LeftOut)
	}
}

func TestTickIsClaimedOnce(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	w.now = (t0 + 10) * 1000
	first := w.claim("j", t0+5)
	if first.Outcome != saltpeter.ClaimRun {
		t.Fatalf("%+v", first)
	}
	if again := w.claim("j", t0+5); again != first {
		t.Fatalf("again %+v, first %+v", again, first)
	}
	if late := w.claim("j", t0+4); late.Outcome != saltpeter.ClaimDecided {
		t.Fatalf("a tick below the mark: %+v", late)
	}
	if early := w.claim("j", t0+11); early.Outcome != saltpeter.ClaimEarly {
		t.Fatalf("a tick of the future: %+v", early)
	}
	if over := w.claim("j", t0+6); over.Skip != saltpeter.SkipOverlap {
		t.Fatalf("overlap: %+v", over)
	}
	w.plan(&PullMarks{To: t0})
	if again := w.claim("j", t0+5); again != first {
		t.Fatalf("after marks were pulled back: %+v", again)
	}
}

func TestMissedTicksAreRecorded(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	st, _ := w.m.View().Job("j")
	w.now = (t0 + 100) * 1000
	res := w.plan(&ClaimRuns{Claims: []saltpeter.Claim{{Job: "j", Digest: st.Digest, Tick: t0 + 1, Last: t0 + 40, Count: 40, Skip: saltpeter.SkipMissed}}}).(Claimed).Results[0]
	if res.Skip != saltpeter.SkipMissed {
		t.Fatalf("%+v", res)
	}
	skips := w.m.View().Skips("j")
	if len(skips) != 1 || skips[0].Count != 40 || skips[0].First != t0+1 || skips[0].Last != t0+40 {
		t.Fatalf("%+v", skips)
	}
}

func TestStalePlanIsRefused(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	env := w.env()
	env.Term = w.term
	w.term++
	st, _ := w.m.View().Job("j")
	w.now += 5000
	mustRefuse(t, w.doAs(env, &ClaimRuns{Claims: []saltpeter.Claim{{Job: "j", Digest: st.Digest, Tick: t0 + 1}}}), saltpeter.CodeNoLeader)
}

func TestMaintenanceKeepsEverythingFromStarting(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	w.now = (t0 + 10) * 1000
	mustDone(t, w.do(&SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeGroup, Name: "g", Reason: "SAN"}}))
	// The tick lies before the window began, but is decided inside it.
	if res := w.claim("j", t0+9); res.Skip != saltpeter.SkipMaintenance {
		t.Fatalf("%+v", res)
	}
	mustRefuse(t, w.do(&StartRun{Request: saltpeter.StartRequest{Job: "j", Key: "k"}}), saltpeter.CodeConflict)
	w.now = (t0 + 20) * 1000
	if got := w.do(&LiftWindow{Scope: saltpeter.ScopeGroup, Name: "g"}).(Lifted); got.Count != 1 {
		t.Fatalf("lifted %+v", got)
	}
	// The tick lies inside the window, but is decided after it.
	if res := w.claim("j", t0+15); res.Skip != saltpeter.SkipMaintenance {
		t.Fatalf("%+v", res)
	}
	if res := w.claim("j", t0+20); res.Outcome != saltpeter.ClaimRun {
		t.Fatalf("%+v", res)
	}
}

func TestMachineMaintenanceAtEveryStep(t *testing.T) {
	w := newWorld(t)
	j := testJob("j")
	j.Batch = saltpeter.Batch{Size: 1}
	w.config(saltpeter.DefaultSettings(), j)
	on := func(m string) {
		mustDone(t, w.do(&SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeMachine, Name: m}}))
	}
	on("a")
	r, l := w.running("j", t0+1, "a", "b", "c", "d") // a ends at SetTargets, b is launched
	on("c")
	if w.target(saltpeter.TargetRef{Run: r.Num}).State != saltpeter.InMaintenance {
		t.Fatal("SetTargets took a machine under maintenance")
	}
	w.ask(l, 0, 1)
	w.say(refOf(l, 0), 1, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 1})
	l2 := w.plan(&LaunchBatch{Run: r.Num, Batch: 1}).(BatchLaunched).Launch
	if len(l2.Machines) != 1 || l2.Machines[0] != "d" {
		t.Fatalf("LaunchBatch launched %v", l2.Machines)
	}
	on("d")
	if ans := w.ask(l2, 0, 2); ans.Granted {
		t.Fatal("StartTarget granted under maintenance")
	}
	if got := w.run(r.Num); got.State != saltpeter.RunOK || got.Counts[saltpeter.InMaintenance] != 3 {
		t.Fatalf("%+v", got)
	}
}

func TestPresumedOutcomeIsReplacedOnce(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	r, l := w.running("j", t0+1, "a")
	ref := refOf(l, 0)
	w.ask(l, 0, 1)
	w.say(ref, 1, saltpeter.Word{Kind: saltpeter.WordStarted})
	w.plan(&EndTargets{Run: r.Num, Ends: []saltpeter.TargetEnd{{From: saltpeter.Started, State: saltpeter.Lost, Text: "silent"}}})
	ended := w.run(r.Num)
	if got := w.target(ref); got.Code != 253 || !got.Presumed || ended.State != saltpeter.RunFailed {
		t.Fatalf("%+v", got)
	}
	if w.claim("j", t0+1).Run != r.Num {
		t.Fatal("the tick got another run")
	}
	w.now += 60_000
	ans := w.say(ref, 1, saltpeter.Word{Kind: saltpeter.WordStarted}, saltpeter.Word{Kind: saltpeter.WordOutput, Seq: 1, Data: []byte("x")})
	if ans.Next != 2 || !w.target(ref).Back {
		t.Fatalf("the winner is not back: %+v", ans)
	}
	if res := w.claim("j", t0+30); res.Skip != saltpeter.SkipOverlap {
		t.Fatalf("overlap doesn't count the command that came back: %+v", res)
	}
	w.say(ref, 1, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 2})
	got, after := w.target(ref), w.run(r.Num)
	if got.State != saltpeter.OK || got.Presumed || !got.Replaced || got.Back || after.State != saltpeter.RunOK || after.EndedMillis != ended.EndedMillis {
		t.Fatalf("target %+v, run %+v", got, after)
	}
	w.say(ref, 1, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 3, Code: 9})
	if got := w.target(ref); got.State != saltpeter.OK {
		t.Fatalf("a witnessed outcome changed: %+v", got)
	}
	if res := w.claim("j", t0+40); res.Outcome != saltpeter.ClaimRun {
		t.Fatalf("still counted for overlap: %+v", res)
	}
}

func TestKill(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	r, l := w.running("j", t0+1, "a", "b", "c")
	w.ask(l, 0, 1)
	w.ask(l, 1, 2)
	w.say(refOf(l, 1), 2, saltpeter.Word{Kind: saltpeter.WordStarted})
	if got := w.do(&Kill{Run: r.Num}).(KillTaken); got != (KillTaken{Ended: 1, Pending: 2}) {
		t.Fatalf("%+v", got)
	}
	if w.ask(l, 2, 3).Granted {
		t.Fatal("granted after the kill")
	}
	if ans := w.ask(l, 0, 1); !ans.Granted || !ans.Kill {
		t.Fatalf("the grant doesn't carry the kill: %+v", ans)
	}
	w.say(refOf(l, 0), 1, saltpeter.Word{Kind: saltpeter.WordDeclined, Cause: saltpeter.EndKill})
	w.say(refOf(l, 1), 2, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 1, Code: 143, Cause: saltpeter.EndKill})
	if got := w.run(r.Num); got.State != saltpeter.RunKilled || got.Counts[saltpeter.Killed] != 3 {
		t.Fatalf("%+v", got)
	}
	w.now++ // in the same instant it would be the same command again
	mustRefuse(t, w.do(&Kill{Run: r.Num}), saltpeter.CodeConflict)
}

func TestStartByHandIsIdempotentByKey(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	req := saltpeter.StartRequest{Job: "j", Key: "k", Note: "n"}
	first := w.do(&StartRun{Request: req})
	if _, ok := first.(RunStarted); !ok {
		t.Fatalf("%+v", first)
	}
	if again := w.do(&StartRun{Request: req}); again != first {
		t.Fatalf("again %+v, first %+v", again, first)
	}
	req.Note = "another"
	mustRefuse(t, w.do(&StartRun{Request: req}), saltpeter.CodeMismatch)
	req.Key = "k2"
	mustRefuse(t, w.do(&StartRun{Request: req}), saltpeter.CodeConflict) // overlap
	mustRefuse(t, w.do(&StartRun{Request: saltpeter.StartRequest{Job: "x", Key: "k3"}}), saltpeter.CodeNotFound)
}

func TestRunNamesAreBumped(t *testing.T) {
	w := newWorld(t)
	j := testJob("j")
	j.AllowOverlap = true
	w.config(saltpeter.DefaultSettings(), j)
	w.now = (t0 + 5) * 1000
	by := w.do(&StartRun{Request: saltpeter.StartRequest{Job: "j", Key: "k"}}).(RunStarted)
	tick := w.claim("j", t0+5)
	if by.RunID != "j_1795392005" || tick.RunID != "j_1795392006" {
		t.Fatalf("%s, %s", by.RunID, tick.RunID)
	}
}

func TestConfigMarks(t *testing.T) {
	w := newWorld(t)
	set := saltpeter.DefaultSettings()
	a, b := testJob("a"), testJob("b")
	w.config(set, a, b)
	w.now += 10_000
	same := *a
	same.Command = "false"
	moved := *b
	moved.Schedule.Sec = "5"
	w.config(set, &same, &moved, testJob("c"))
	mark := func(name string) int64 {
		st, ok := w.m.View().Job(name)
		if !ok {
			t.Fatalf("no job %s", name)
		}
		return st.Mark - t0
	}
	if mark("a") != 0 || mark("b") != 10 || mark("c") != 10 {
		t.Fatalf("marks %d %d %d", mark("a"), mark("b"), mark("c"))
	}
	w.config(set, &same)
	if _, ok := w.m.View().Job("b"); ok {
		t.Fatal("a removed job is in force")
	}
	if n := w.m.state.defs.Len(); n != 1 {
		t.Fatalf("%d definitions are kept, want 1", n)
	}
}
