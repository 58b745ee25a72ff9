package fsm

import (
	"fmt"
	"testing"

	"github.com/syscollective/saltpeter"
)

// won gives a world with one target that nonce 1 has won.
func won(t *testing.T) (*world, saltpeter.TargetRef) {
	w := newWorld(t)
	j := testJob("j")
	j.OutputLimit = 10
	w.config(saltpeter.DefaultSettings(), j)
	_, l := w.running("j", t0+1, "m")
	w.ask(l, 0, 1)
	return w, refOf(l, 0)
}

func (w *world) lose(ref saltpeter.TargetRef) {
	w.t.Helper()
	w.plan(&EndTargets{Run: ref.Run, Ends: []saltpeter.TargetEnd{{Target: ref.Target, From: w.target(ref).State, State: saltpeter.Lost, Text: "silent"}}})
	if got := w.target(ref); got.State != saltpeter.Lost || !got.Presumed {
		w.t.Fatalf("%+v", got)
	}
}

func TestDeclined(t *testing.T) {
	declined := saltpeter.Word{Kind: saltpeter.WordDeclined, Text: "too late"}
	kill := saltpeter.Word{Kind: saltpeter.WordDeclined, Cause: saltpeter.EndKill}
	tests := map[string]struct {
		before func(w *world, ref saltpeter.TargetRef)
		word   saltpeter.Word
		want   saltpeter.TargetState
	}{
		"after the grant":   {func(*world, saltpeter.TargetRef) {}, declined, saltpeter.NotStarted},
		"because of a kill": {func(*world, saltpeter.TargetRef) {}, kill, saltpeter.Killed},
		"after silence":     {func(w *world, ref saltpeter.TargetRef) { w.lose(ref) }, declined, saltpeter.NotStarted},
		"killed in silence": {func(w *world, ref saltpeter.TargetRef) { w.lose(ref) }, kill, saltpeter.Killed},
		"after it started":  {func(w *world, ref saltpeter.TargetRef) { w.say(ref, 1, saltpeter.Word{Kind: saltpeter.WordStarted}) }, declined, saltpeter.Started},
		"after output": {func(w *world, ref saltpeter.TargetRef) {
			w.say(ref, 1, saltpeter.Word{Kind: saltpeter.WordOutput, Seq: 1})
		}, declined, saltpeter.Started},
		"after it came back": {func(w *world, ref saltpeter.TargetRef) {
			w.lose(ref)
			w.say(ref, 1, saltpeter.Word{Kind: saltpeter.WordStarted})
		}, declined, saltpeter.Lost},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w, ref := won(t)
			test.before(w, ref)
			ans := w.say(ref, 1, test.word)
			got := w.target(ref)
			if got.State != test.want || ans.Done != got.Done || got.Done != (test.want == saltpeter.NotStarted || test.want == saltpeter.Killed) {
				t.Fatalf("%+v, answer %+v", got, ans)
			}
			if got.Done && (got.Code != test.want.Code() || got.Presumed || got.Won) {
				t.Fatalf("%+v", got)
			}
		})
	}
}

func TestOutputBeyondThreeLimitsIsCounted(t *testing.T) {
	w, ref := won(t)
	for seq := range uint64(5) {
		w.say(ref, 1, saltpeter.Word{Kind: saltpeter.WordOutput, Seq: seq + 1, Data: []byte("0123456789")})
	}
	if got := w.target(ref); got.Stored != 30 || got.LeftOut != 20 || got.NextSeq != 6 || w.m.state.output != 30 {
		t.Fatalf("%+v", got)
	}
}

func TestRepeatedReportsTakeNothingTwice(t *testing.T) {
	w, ref := won(t)
	out := func(seq uint64) saltpeter.Report {
		return saltpeter.Report{Ref: ref, Nonce: saltpeter.Nonce{1}, Words: []saltpeter.Word{{Kind: saltpeter.WordOutput, Seq: seq, Data: []byte{byte('0' + seq)}}}}
	}
	c := &Report{Reports: []saltpeter.Report{out(2), out(1)}} // nothing is taken after a gap, or the repeat would take it
	for range 2 {
		if ans := w.do(c).(Reported).Answers; ans[0].Next != 1 || ans[1].Next != 1 {
			t.Fatalf("%+v", ans)
		}
	}
	for range 2 { // every answer tells of the state after all reports
		if ans := w.do(&Report{Reports: []saltpeter.Report{out(1), out(2)}}).(Reported).Answers; ans[0].Next != 3 || ans[1].Next != 3 {
			t.Fatalf("%+v", ans)
		}
	}
	soft, remark := saltpeter.Word{Kind: saltpeter.WordSoftTimeout, Text: "slow"}, saltpeter.Word{Kind: saltpeter.WordRemark, Text: "look"}
	w.say(ref, 1, soft, remark)
	w.say(ref, 1, soft, remark)
	told := 0
	for _, e := range w.events() {
		told += btoi(e.Type == saltpeter.EventSoftTimeout)
	}
	w.say(ref, 1, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 3})
	if got := w.target(ref); told != 1 || got.Text != "look" || got.Stored != 2 {
		t.Fatalf("told %d times, %+v", told, got)
	}
}

func TestResults(t *testing.T) {
	tests := []struct {
		word saltpeter.Word
		want saltpeter.TargetState
		code int
	}{
		{saltpeter.Word{}, saltpeter.OK, 0},
		{saltpeter.Word{Code: 3}, saltpeter.Failed, 3},
		{saltpeter.Word{Code: 137, Signal: 9}, saltpeter.Failed, 137},
		{saltpeter.Word{Code: 137, Cause: saltpeter.EndTimeout}, saltpeter.TimedOut, 124},
		{saltpeter.Word{Code: 0, Cause: saltpeter.EndTimeout}, saltpeter.TimedOut, 124},
		{saltpeter.Word{Code: 0, Cause: saltpeter.EndKill}, saltpeter.Killed, 143},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%d cause %d", test.word.Code, test.word.Cause), func(t *testing.T) {
			w, ref := won(t)
			test.word.Kind, test.word.Seq, test.word.Text = saltpeter.WordResult, 1, "why"
			w.say(ref, 1, test.word)
			got := w.target(ref)
			if got.State != test.want || got.Code != test.code || got.Signal != test.word.Signal || got.Text != "why" || got.StartedMillis == 0 {
				t.Fatalf("%+v", got)
			}
		})
	}
}

func TestBackAndLateResults(t *testing.T) {
	w, ref := won(t)
	w.lose(ref)
	first := w.run(ref.Run)
	next := w.claim("j", t0+1)
	if next.Run != ref.Run || w.job("j").Active != 0 {
		t.Fatalf("%+v", next)
	}
	w.now += 10_000
	for range 2 {
		w.say(ref, 1, saltpeter.Word{Kind: saltpeter.WordStarted})
		if r := w.run(ref.Run); r.Backs != 1 || r.State != saltpeter.RunFailed || w.job("j").Active != 1 {
			t.Fatalf("%+v", r)
		}
	}
	if got := w.do(&Kill{Run: ref.Run}); got != (KillTaken{Pending: 1}) || !w.target(ref).Killing {
		t.Fatalf("a machine that is back can't be killed: %+v", got)
	}
	if ans := w.say(ref, 1); !ans.Kill {
		t.Fatalf("the winner is not told of the kill: %+v", ans)
	}
	ans := w.say(ref, 1, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 1, Cause: saltpeter.EndKill})
	got, r := w.target(ref), w.run(ref.Run)
	if ans.Kill || !got.Replaced || got.Killing || got.Text != "" || r.State != saltpeter.RunKilled || r.Backs != 0 || r.EndedMillis != first.EndedMillis || w.job("j").Active != 0 {
		t.Fatalf("%+v, %+v", got, r)
	}
	var results, again, ends int
	for _, e := range w.events() {
		results += btoi(e.Type == saltpeter.EventMachineResult)
		again += btoi(e.Type == saltpeter.EventMachineResult && e.Again)
		ends += btoi(e.Type == saltpeter.EventRunFinished)
	}
	if results != 2 || again != 1 || ends != 1 {
		t.Fatalf("%d results, %d of them again, %d ends", results, again, ends)
	}
	w.now++
	mustRefuse(t, w.do(&Kill{Run: ref.Run}), saltpeter.CodeConflict)
}

// TestNotStartedStaysNotStarted: whoever asks after silence was recorded is refused for ever (G4).
func TestNotStartedStaysNotStarted(t *testing.T) {
	for _, state := range []saltpeter.TargetState{saltpeter.NotStarted, saltpeter.Unreachable} {
		w := newWorld(t)
		w.config(saltpeter.DefaultSettings(), testJob("j"))
		r, l := w.running("j", t0+1, "m")
		w.plan(&EndTargets{Run: r.Num, Ends: []saltpeter.TargetEnd{{From: saltpeter.Launched, State: state}}})
		if w.ask(l, 0, 1).Granted || w.say(refOf(l, 0), 1, saltpeter.Word{Kind: saltpeter.WordStarted}).Refused == "" {
			t.Fatalf("started after %s", state)
		}
		mustRefuse(t, w.do(&Kill{Run: r.Num}), saltpeter.CodeConflict)
		if got := w.target(refOf(l, 0)); got.State != state || !got.Presumed || got.Code != state.Code() {
			t.Fatalf("%+v", got)
		}
	}
}

func TestAsksThatDoNotBelongTogether(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	_, l := w.running("j", t0+1, "m", "n")
	tests := map[string]func(*saltpeter.StartAsk){
		"another machine": func(a *saltpeter.StartAsk) { a.Sight.Machine = "n" },
		"another launch":  func(a *saltpeter.StartAsk) { a.Sight.Launch++ },
		"another run":     func(a *saltpeter.StartAsk) { a.Ref.Run++ },
		"no such target":  func(a *saltpeter.StartAsk) { a.Ref.Target = 2 },
	}
	for name, spoil := range tests {
		a := askOf(l, 0, 1)
		spoil(&a)
		if got := w.do(&StartTarget{Ask: a}).(TargetAsked); got.Granted || got.Refusal == "" {
			t.Errorf("%s: %+v", name, got)
		}
		if got, ok := w.do(&RefuseLock{Refusal: saltpeter.LockRefusal{Sight: a.Sight, Ref: a.Ref}}).(TargetAsked); !ok || got.Refusal == "" {
			t.Errorf("%s: a lock's refusal was taken", name)
		}
	}
	lock := &RefuseLock{Refusal: saltpeter.LockRefusal{Sight: askOf(l, 1, 1).Sight, Ref: refOf(l, 1), Text: "held"}}
	w.do(lock)
	if got := w.target(refOf(l, 1)); got.State != saltpeter.NotStarted || got.Presumed || got.Text != "held" {
		t.Errorf("%+v", got)
	}
	w.ask(l, 0, 1)
	lock.Refusal.Ref, lock.Refusal.Sight.Machine, lock.Refusal.Sight.BootID = refOf(l, 0), "m", "another"
	w.do(lock)
	if got := w.target(refOf(l, 0)); got.State != saltpeter.Granted || !got.TwoHosts {
		t.Errorf("a lock's refusal ended a granted target, or a second boot id was not marked: %+v", got)
	}
}

// TestBackAndSilentAgain: a winner that came back and fell silent counts for overlap no more; it may come back again, and its
// result still replaces the presumed one once.
func TestBackAndSilentAgain(t *testing.T) {
	w, ref := won(t)
	w.say(ref, 1, saltpeter.Word{Kind: saltpeter.WordStarted})
	w.lose(ref)
	lost := w.target(ref)
	backs := func() (n int) {
		w.m.View().Backs(func(r *saltpeter.Run) bool { n += r.Backs; return true })
		return n
	}
	silent := &EndTargets{Run: ref.Run, Ends: []saltpeter.TargetEnd{{From: saltpeter.Lost, State: saltpeter.Lost, Text: "again"}}}
	w.plan(silent) // nobody is back: nothing to take away
	for range 2 {
		w.now += 1000
		w.say(ref, 1, saltpeter.Word{Kind: saltpeter.WordStarted})
		if got := w.target(ref); !got.Back || backs() != 1 || w.job("j").Active != 1 {
			t.Fatalf("not back: %+v, %d found, %d active", got, backs(), w.job("j").Active)
		}
		events := len(w.events())
		for _, from := range []saltpeter.TargetState{saltpeter.Started, saltpeter.OK} {
			w.plan(&EndTargets{Run: ref.Run, Ends: []saltpeter.TargetEnd{{From: from, State: from}}})
		}
		if !w.target(ref).Back {
			t.Fatal("another state's silence took it")
		}
		for range 2 {
			w.plan(silent)
			if got := w.target(ref); got != lost || backs() != 0 || w.job("j").Active != 0 || w.run(ref.Run).Backs != 0 {
				t.Fatalf("%+v, want %+v, %d found, %d active", got, lost, backs(), w.job("j").Active)
			}
		}
		if len(w.events()) != events {
			t.Fatal("something was told")
		}
	}
	w.say(ref, 1, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 1})
	if got := w.target(ref); got.State != saltpeter.OK || !got.Replaced || got.Back || w.run(ref.Run).State != saltpeter.RunOK {
		t.Fatalf("%+v", got)
	}
}

// TestARunThatEndsWhileAMachineIsBack counts for overlap until that machine's word.
func TestARunThatEndsWhileAMachineIsBack(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	r, l := w.running("j", t0+1, "a", "b")
	w.ask(l, 0, 1)
	w.ask(l, 1, 1)
	w.lose(refOf(l, 0))
	w.say(refOf(l, 0), 1, saltpeter.Word{Kind: saltpeter.WordStarted})
	w.say(refOf(l, 1), 1, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 1})
	if got := w.run(r.Num); got.State != saltpeter.RunFailed || got.Backs != 1 || w.job("j").Active != 1 {
		t.Fatalf("%+v, %d active", got, w.job("j").Active)
	}
	w.now += 2000
	if got := w.claim("j", t0+2); got.Skip != saltpeter.SkipOverlap || w.m.View().Skips("j")[0].Detail != r.ID {
		t.Fatalf("%+v", got)
	}
	w.say(refOf(l, 0), 1, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 1})
	if got := w.run(r.Num); got.State != saltpeter.RunOK || w.job("j").Active != 0 {
		t.Fatalf("%+v", got)
	}
}
