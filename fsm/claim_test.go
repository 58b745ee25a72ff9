package fsm

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
)

// claims makes one ClaimRuns and gives its answers.
func (w *world) claims(list ...saltpeter.Claim) []saltpeter.ClaimResult {
	w.t.Helper()
	return w.plan(&ClaimRuns{Claims: list}).(Claimed).Results
}

func (w *world) job(name string) saltpeter.JobStatus {
	w.t.Helper()
	st, ok := w.m.View().Job(name)
	if !ok {
		w.t.Fatalf("job %s is not in force", name)
	}
	return st
}

func TestClaimsThatMakeNoSense(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	w.now = (t0 + 100) * 1000
	d := w.job("j").Digest
	mark := w.job("j").Mark
	tests := map[string]struct {
		claim saltpeter.Claim
		want  saltpeter.ClaimResult
	}{
		"another definition":    {saltpeter.Claim{Job: "j", Tick: t0 + 1}, saltpeter.ClaimResult{Outcome: saltpeter.ClaimStale}},
		"unknown job":           {saltpeter.Claim{Job: "x", Digest: d, Tick: t0 + 1}, saltpeter.ClaimResult{Outcome: saltpeter.ClaimStale}},
		"a manual run's tick":   {saltpeter.Claim{Job: "j", Digest: d}, saltpeter.ClaimResult{Outcome: saltpeter.ClaimDecided}},
		"before 1970":           {saltpeter.Claim{Job: "j", Digest: d, Tick: -1}, saltpeter.ClaimResult{Outcome: saltpeter.ClaimDecided}},
		"the end of time":       {saltpeter.Claim{Job: "j", Digest: d, Tick: math.MaxInt64}, saltpeter.ClaimResult{Outcome: saltpeter.ClaimEarly}},
		"a skip beyond now":     {saltpeter.Claim{Job: "j", Digest: d, Tick: t0 + 1, Last: t0 + 101, Skip: saltpeter.SkipMissed}, saltpeter.ClaimResult{Outcome: saltpeter.ClaimEarly}},
		"a skip without an end": {saltpeter.Claim{Job: "j", Digest: d, Tick: t0 + 1, Last: math.MaxInt64, Skip: saltpeter.SkipMissed}, saltpeter.ClaimResult{Outcome: saltpeter.ClaimEarly}},
	}
	w.do(&StartRun{Request: saltpeter.StartRequest{Job: "j", Key: "k"}})
	for name, test := range tests {
		if got := w.claims(test.claim)[0]; got != test.want {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
	if w.job("j").Mark != mark {
		t.Errorf("the mark moved to %d", w.job("j").Mark)
	}
}

// TestOnlyTheReasonsOfThePlannerAreTaken: a claim can't say by itself that there was maintenance, and a run never stands for
// more than its own tick.
func TestOnlyTheReasonsOfThePlannerAreTaken(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	w.now = (t0 + 100) * 1000
	d := w.job("j").Digest
	res := w.claims(saltpeter.Claim{Job: "j", Digest: d, Tick: t0 + 1, Last: t0 + 50, Count: 50, Skip: saltpeter.SkipMaintenance})[0]
	if res.Outcome != saltpeter.ClaimRun || w.job("j").Mark != t0+1 {
		t.Fatalf("%+v, mark %d", res, w.job("j").Mark)
	}
	res = w.claims(saltpeter.Claim{Job: "j", Digest: d, Tick: t0 + 10, Last: t0 + 19, Count: 1000, Skip: saltpeter.SkipNoLauncher})[0]
	if res.Skip != saltpeter.SkipNoLauncher || w.job("j").Mark != t0+19 {
		t.Fatalf("%+v, mark %d", res, w.job("j").Mark)
	}
	if sk := w.m.View().Skips("j"); len(sk) != 1 || sk[0].Count != 10 || w.job("j").Skipped != 10 {
		t.Fatalf("%+v", sk)
	}
}

func TestSeriesOfSkips(t *testing.T) {
	w := newWorld(t)
	j := testJob("j")
	w.config(saltpeter.DefaultSettings(), j)
	w.now = (t0 + 1000) * 1000
	d := w.job("j").Digest
	first := w.claim("j", t0+1)
	w.claim("j", t0+2)
	before := w.m.View().Skips("j")
	w.claim("j", t0+3)
	if before[0].Count != 1 || before[0].Last != t0+2 {
		t.Fatalf("a view changed: %+v", before)
	}
	want := saltpeter.Skip{Reason: saltpeter.SkipOverlap, First: t0 + 2, Last: t0 + 3, Count: 2, Detail: first.RunID}
	if got := w.m.View().Skips("j"); len(got) != 1 || got[0] != want {
		t.Fatalf("%+v", got)
	}
	// A run between two skips with one reason makes two series of them.
	w.do(&Kill{Run: first.Run})
	second := w.claim("j", t0+4)
	w.claim("j", t0+5)
	if got := w.m.View().Skips("j"); second.Outcome != saltpeter.ClaimRun || len(got) != 2 || got[1].First != t0+5 {
		t.Fatalf("%+v", got)
	}
	// So do marks that were pulled back, for its ticks come again.
	w.plan(&PullMarks{To: t0 + 4})
	w.claim("j", t0+5)
	if got := w.m.View().Skips("j"); len(got) != 3 || got[2].First != t0+5 || got[2].Last != t0+5 {
		t.Fatalf("%+v", got)
	}
	for i := range int64(2 * keepSkips) {
		reason := saltpeter.SkipMissed + saltpeter.SkipReason(i%2)
		w.claims(saltpeter.Claim{Job: "j", Digest: d, Tick: t0 + 10 + i, Skip: reason})
	}
	got := w.m.View().Skips("j")
	if len(got) != keepSkips || got[keepSkips-1].Last != t0+10+2*keepSkips-1 {
		t.Fatalf("%d series are kept, the last is %+v", len(got), got[len(got)-1])
	}
}

// TestSkipsAreTold: each overlap is an event, as the Python program logged it; of another series only its first tick.
func TestSkipsAreTold(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	w.now = (t0 + 100) * 1000
	d := w.job("j").Digest
	for i := range int64(3) {
		w.claims(saltpeter.Claim{Job: "j", Digest: d, Tick: t0 + 1 + i, Skip: saltpeter.SkipNoLauncher})
	}
	run := w.claim("j", t0+10)
	w.claim("j", t0+11)
	w.claim("j", t0+12)
	count := make(map[string]int)
	for _, e := range w.events() {
		count[fmt.Sprint(e.Type, " ", e.Text)]++
	}
	if count["skipped "] != 1 || count["overlap "+run.RunID] != 2 {
		t.Fatalf("%v", count)
	}
}

func TestPausedJobsAreSkippedButStartByHand(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	w.now = (t0 + 10) * 1000
	pause := &SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeJob, Name: "j", Pause: true}}
	mustDone(t, w.do(pause))
	if res := w.claim("j", t0+10); res.Skip != saltpeter.SkipPaused || w.job("j").Paused == nil {
		t.Fatalf("%+v", res)
	}
	mustDone(t, w.do(&StartRun{Request: saltpeter.StartRequest{Job: "j", Key: "k"}}))
	w.do(&SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeAll}})
	if res := w.claim("j", t0+9); res.Outcome != saltpeter.ClaimDecided {
		t.Fatalf("%+v", res)
	}
	w.now += 1000
	if res := w.claim("j", t0+11); res.Skip != saltpeter.SkipMaintenance {
		t.Fatalf("maintenance goes before a pause: %+v", res)
	}
}

// TestStartKeys: a key gives its run for a day, also when the run has ended.
func TestStartKeys(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	mustRefuse(t, w.do(&StartRun{Request: saltpeter.StartRequest{Job: "j"}}), saltpeter.CodeInvalid)
	first := w.do(&StartRun{Request: saltpeter.StartRequest{Job: "j", Key: "k", Parent: "p"}}).(RunStarted)
	if r := w.run(first.Run); r.Cause != "manual" || r.Parent != "p" || r.Actor != "tester" || r.Tick != 0 || r.Key != "k" {
		t.Fatalf("%+v", r)
	}
	w.do(&Kill{Run: first.Run})
	start := func() any {
		return w.do(&StartRun{Request: saltpeter.StartRequest{Job: "j", Key: "k", Parent: "p"}})
	}
	w.now += keepKeys
	w.do(&Retain{})
	if got := start(); got != first {
		t.Fatalf("within a day: %+v", got)
	}
	w.now++
	w.do(&Retain{})
	if got := start().(RunStarted); got.Run == first.Run {
		t.Fatal("a key older than a day gives its run")
	}
}

func TestHintsSayHowToLift(t *testing.T) {
	tests := map[string]saltpeter.Window{
		"spctl maintenance off --all":     {Scope: saltpeter.ScopeAll},
		"spctl maintenance off --group g": {Scope: saltpeter.ScopeGroup, Name: "g"},
		"spctl maintenance off --job j":   {Scope: saltpeter.ScopeJob, Name: "j", Reason: "SAN"},
		"saltpeter_maintenance":           {Scope: saltpeter.ScopeAll, File: true},
	}
	for want, win := range tests {
		if got := liftHint(&win); !strings.Contains(got, want) {
			t.Errorf("%+v: %q", win, got)
		}
	}
	w := saltpeter.Window{Scope: saltpeter.ScopeJob, Name: "j", Pause: true, Actor: "ann", Reason: "SAN"}
	if got := describeWindow(&w); got != `pause of job "j" by ann (SAN)` {
		t.Errorf("%q", got)
	}
}
