package rig

import (
	"slices"
	"testing"
	"time"
)

// base is a whole minute, far from now.
var base = time.Unix(1_700_000_040, 0).UTC()

func second(n float64) *time.Time {
	t := base.Add(time.Duration(n * float64(time.Second)))
	return &t
}

func number(n int) *int { return &n }

// flawless gives evidence that nothing is wrong with: job a is due at 10 (a run), 20 (skipped: overlap) and 30 (a run that
// failed), job b was started by hand, killed, and then hurt by a wrapper's death.
func flawless() Evidence {
	a := &Job{Name: "a", Every: 10, Machines: 1, Bytes: 20, Code: 0}
	b := &Job{Name: "b", Machines: 2, Bytes: 5, Overlap: true}
	h := NewHistory()
	h.Seen = *second(5)
	h.Started["key"] = "b_1"
	h.killed["b_1"] = true
	end := &Span{scope: "all", onSent: *second(35), onAcked: *second(36)}
	h.spans = []*Span{end}
	e := Evidence{
		jobs: []*Job{a, b}, history: h, end: end,
		runs: []Run{
			{ID: "a_10", Job: "a", State: "ok", Scheduled: second(10), Claimed: second(10.1)},
			{ID: "a_30", Job: "a", State: "failed", Scheduled: second(30), Claimed: second(30.1)},
			{ID: "b_1", Job: "b", State: "killed", Claimed: second(12), Key: "key"},
			{ID: "b_2", Job: "b", State: "failed", Claimed: second(14)},
		},
		Targets: map[string][]Target{
			"a_10": {{Machine: "m1", State: "ok", Code: number(0), Launch: "L1"}},
			"a_30": {{Machine: "m1", State: "failed", Code: number(3), Launch: "L2"}},
			"b_1":  {{Machine: "m1", State: "killed", Code: number(143), Launch: "L3"}, {Machine: "m2", State: "killed", Code: number(143), Launch: "L3"}},
			"b_2":  {{Machine: "m1", State: "lost", Code: number(253), Presumed: true, Launch: "L4"}, {Machine: "m2", State: "ok", Code: number(0), Launch: "L4"}},
		},
		skips:   map[string][]skip{"a": {{Reason: "overlap", First: *second(20), Last: *second(20), Count: 1}}},
		output:  map[Key][]byte{},
		ledger:  map[Key][]Execution{},
		Crashed: map[Key]bool{{"L4", "m1"}: true},
	}
	executed := func(id, machine string, job *Job, from, to float64, code int) {
		k := Key{id, machine}
		x := Execution{Start: line{Job: job.Name, instance: id, machine: machine, nanos: second(from).UnixNano()}}
		e.output[k] = Output(id, machine, job.Bytes)
		if to > 0 {
			x.end = &line{Job: job.Name, nanos: second(to).UnixNano(), code: code}
		} else {
			e.output[k] = e.output[k][:2]
		}
		e.ledger[k] = []Execution{x}
	}
	executed("a_10", "m1", a, 10.2, 25, 0)
	executed("a_30", "m1", a, 30.2, 31, 3)
	executed("b_1", "m1", b, 12.2, 0, 0)
	executed("b_2", "m1", b, 14.2, 14.5, 0)
	executed("b_2", "m2", b, 14.2, 14.5, 0)
	return e
}

func TestOracleFindsNothingInFlawlessEvidence(t *testing.T) {
	if found := Judge(flawless()); len(found) > 0 {
		t.Fatalf("found %v", found)
	}
}

// Every lie must be found, and be charged to the promise that it breaks.
func TestOracleFinds(t *testing.T) {
	once := Key{"a_10", "m1"}
	tests := []struct {
		name, promise string
		spoil         func(e *Evidence)
	}{
		{"a second start", "G1", func(e *Evidence) { e.ledger[once] = append(e.ledger[once], e.ledger[once][0]) }},
		{"an execution that the record lacks", "G4", func(e *Evidence) { e.ledger[Key{"x", "m1"}] = e.ledger[once] }},
		{"a tick without run or skip", "G2", func(e *Evidence) { e.skips = nil }},
		{"a tick with run and skip", "G2", func(e *Evidence) { e.skips["a"][0].First, e.skips["a"][0].Count = *second(10), 2 }},
		{"a tick with two runs", "G2", func(e *Evidence) { e.runs[1].Scheduled = second(10) }},
		{"a wrong count of skips", "G2", func(e *Evidence) { e.skips["a"][0].Count = 2 }},
		{"a missed tick without an outage", "G2", func(e *Evidence) { e.skips["a"][0].Reason = "missed" }},
		{"a skip for maintenance without one", "G2", func(e *Evidence) { e.history.spans, e.skips["a"][0].Reason = nil, "maintenance" }},
		{"an overlap skip of a job that may overlap", "G2", func(e *Evidence) { e.jobs[0].Overlap = true }},
		{"a run at a second that is not due", "G2", func(e *Evidence) { e.runs[0].Scheduled = second(11) }},
		{"a start before the tick", "G2", func(e *Evidence) { e.ledger[once][0].Start.nanos = second(9.9).UnixNano() }},
		{"a lost byte", "G3", func(e *Evidence) { e.output[once] = e.output[once][:19] }},
		{"a doubled byte", "G3", func(e *Evidence) { e.output[once] = append(e.output[once], 0) }},
		{"a wrong byte of a lost command", "G3", func(e *Evidence) { e.output[Key{"b_2", "m1"}][0] ^= 1 }},
		{"ok without an end", "G4", func(e *Evidence) { e.ledger[once][0].end = nil }},
		{"ok though it failed", "G4", func(e *Evidence) { e.ledger[once][0].end.code = 1 }},
		{"another code", "G4", func(e *Evidence) { e.Targets["a_30"][0].Code = number(4) }},
		{"not started, and was", "G4", func(e *Evidence) { e.Targets["a_10"][0].State = "not-started" }},
		{"maintenance, and was started", "G4", func(e *Evidence) { e.Targets["a_10"][0].State = "maintenance" }},
		{"not started for no reason", "start", func(e *Evidence) { delete(e.ledger, once); e.Targets["a_10"][0].State = "not-started" }},
		{"lost for no reason", "G4", func(e *Evidence) { e.Crashed = nil }},
		{"killed by nobody", "G8", func(e *Evidence) { e.history.killed = nil }},
		{"a command that never ended", "G8", func(e *Evidence) { e.ledger[Key{"b_2", "m1"}][0].end = nil }},
		{"an acknowledged start without a run", "G4", func(e *Evidence) { e.runs[2].Key = "" }},
		{"an acknowledged start with another run", "G4", func(e *Evidence) { e.history.Started["key"] = "b_2" }},
		{"two runs for one start", "G4", func(e *Evidence) { e.runs[3].Key = "key" }},
		{"a refused start with a run", "G4", func(e *Evidence) { e.history.refused["key"] = true }},
		{"a run that is unfinished", "end", func(e *Evidence) { e.runs[0].State = "running" }},
		{"a machine that is unfinished", "end", func(e *Evidence) { e.Targets["a_10"][0].State = "granted" }},
		{"a machine that is missing", "G4", func(e *Evidence) { e.Targets["b_2"] = e.Targets["b_2"][:1] }},
		{"a claim under maintenance", "G5", func(e *Evidence) { e.runs[3].Claimed = second(37) }},
		{"a tick's run within a maintenance", "G5", func(e *Evidence) {
			e.history.spans = append(e.history.spans, &Span{scope: "job", name: "a", onSent: *second(8), onAcked: *second(9)})
		}},
		{"a start on a machine under maintenance", "G5", func(e *Evidence) {
			e.history.spans = append(e.history.spans, &Span{scope: "machine", name: "m1", onSent: *second(8), onAcked: *second(9), offSent: *second(11), offAcked: *second(11)})
		}},
		{"a claim before its tick", "G2", func(e *Evidence) { e.runs[0].Claimed = second(9.9) }},
		{"an acknowledged start that a node did not know", "G6", func(e *Evidence) { e.history.stale = []stale{{*second(12), "b_1", "n2"}} }},
		{"one command of a job during another", "overlap", func(e *Evidence) { e.ledger[once][0].end.nanos = second(30.5).UnixNano() }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := flawless()
			tt.spoil(&e)
			if found := Judge(e); !slices.ContainsFunc(found, func(v Violation) bool { return v.Promise == tt.promise }) {
				t.Errorf("no broken %s among %v", tt.promise, found)
			}
		})
	}
}

func TestLedgerLines(t *testing.T) {
	for _, bad := range []string{"", "start", "begin a a_1 m1 1 2 3 0", "start a a_1 m1 1 2 3"} {
		if l, err := parseLine(bad); err == nil {
			t.Errorf("%q is taken as %+v", bad, l)
		}
	}
	all := map[Key][]Execution{}
	if err := enter(all, line{instance: "a_1", machine: "m1", pid: 1, end: true}); err == nil {
		t.Error("an end without a start is taken")
	}
}
