package rig

import (
	"slices"
	"testing"
	"time"
)

// restoredOnce gives flawless evidence of a backup that was saved at 14.5 and in force at 17: b_2 was unfinished in it, an
// execution and a start by hand of 15 are forgotten. Its maintenance ended at 22.
func restoredOnce() Evidence {
	e := flawless()
	e.history.epochs = []*Epoch{{
		from: *second(14.5), by: *second(14.6), sent: *second(16), got: *second(17), forgets: true,
		window: &Span{scope: "all", onSent: *second(16), onAcked: *second(17), offSent: *second(22), offAcked: *second(22)},
	}}
	e.history.spans = append(e.history.spans, e.history.epochs[0].window)
	e.Targets["b_2"][1] = Target{Machine: "m2", State: "ok", Code: number(0), Launch: "L4", LeftOut: 2, Back: true}
	e.output[Key{"b_2", "m2"}] = e.output[Key{"b_2", "m2"}][2:]
	e.Targets["b_2"][0] = Target{Machine: "m1", State: "lost", Code: number(253), Presumed: true, Text: restoredText, Launch: "L4"}
	e.Crashed = nil
	e.ledger[Key{"b_2", "m1"}][0].end = &line{Job: "b", nanos: second(18).UnixNano()}
	forget(&e, 15)
	e.history.Started["forgotten"], e.history.startedAt["forgotten"] = "b_9", *second(15)
	return e
}

// forget adds an execution that the record lacks.
func forget(e *Evidence, at float64) {
	end := &line{Job: "b", nanos: second(at + 0.1).UnixNano()}
	e.ledger[Key{"b_9", "m1"}] = []Execution{{Start: line{Job: "b", instance: "b_9", machine: "m1", nanos: second(at).UnixNano()}, end: end}}
}

func TestOracleFindsNothingInAFlawlessRestore(t *testing.T) {
	if found := Judge(restoredOnce()); len(found) > 0 {
		t.Fatalf("found %v", found)
	}
	e := restoredOnce()
	e.skips = nil
	e.history.epochs[0].got, e.history.epochs[0].window.onAcked = *second(21), *second(21)
	if found := Judge(e); len(found) > 0 {
		t.Fatalf("tick 20 may be forgotten: found %v", found)
	}
}

// A restore must not excuse more than it explains.
func TestOracleFindsAfterARestore(t *testing.T) {
	tests := []struct {
		name, promise string
		spoil         func(e *Evidence)
	}{
		{"an unknown execution before", "G4", func(e *Evidence) { forget(e, 14) }},
		{"an unknown execution after", "G4", func(e *Evidence) { forget(e, 25) }},
		{"an unknown execution where nothing is forgotten", "G4", func(e *Evidence) { e.history.epochs[0].forgets = false }},
		{"a second start of a forgotten run", "G1", func(e *Evidence) {
			k := Key{"b_9", "m1"}
			e.ledger[k] = append(e.ledger[k], e.ledger[k][0])
		}},
		{"a start in its maintenance", "G5", func(e *Evidence) { forget(e, 21) }},
		{"a claim in its maintenance", "G5", func(e *Evidence) { e.runs[3].Claimed = second(18) }},
		{"a tick without run or skip", "G2", func(e *Evidence) { e.skips = nil }},
		{"a forgotten tick that has a run again", "G2", func(e *Evidence) {
			e.history.epochs[0].before = []Run{{ID: "a_again", Job: "a", Scheduled: second(10), Claimed: second(15)}}
		}},
		{"an acknowledged start before", "G4", func(e *Evidence) { e.history.startedAt["forgotten"] = *second(14) }},
		{"an acknowledged start after", "G4", func(e *Evidence) { e.history.startedAt["forgotten"] = *second(23) }},
		{"lost by no restore", "G4", func(e *Evidence) { e.runs[3].Ended = second(14.2) }},
		{"lost by a restore before", "G4", func(e *Evidence) { e.runs[3].Claimed = second(15) }},
		{"too much left out", "G3", func(e *Evidence) { e.Targets["b_2"][1].LeftOut = 3 }},
		{"too little left out", "G3", func(e *Evidence) { e.Targets["b_2"][1].LeftOut = 1 }},
		{"a wrong byte beside what is left out", "G3", func(e *Evidence) { e.output[Key{"b_2", "m2"}][0] ^= 1 }},
		{"left out though it was over", "G3", func(e *Evidence) { e.runs[3].Ended = second(14.2) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := restoredOnce()
			tt.spoil(&e)
			if found := Judge(e); !slices.ContainsFunc(found, func(v Violation) bool { return v.Promise == tt.promise }) {
				t.Errorf("no broken %s among %v", tt.promise, found)
			}
		})
	}
}

func TestLockOfAForgottenRun(t *testing.T) {
	e := restoredOnce()
	o := &oracle{Evidence: e}
	late := &Run{ID: "b_3", Claimed: second(18), Ended: second(19)}
	if o.locked("b", "m1", late) {
		t.Error("the forgotten run was over")
	}
	e.ledger[Key{"b_9", "m1"}][0].end = &line{nanos: second(18).Add(time.Millisecond).UnixNano()}
	if !o.locked("b", "m1", late) || o.locked("b", "m2", late) || o.locked("a", "m2", late) {
		t.Error("the forgotten run held the lock of b on m1")
	}
}
