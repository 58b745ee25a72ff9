package rig

import (
	"slices"
	"testing"
	"time"
)

// robbed gives flawless evidence of a cluster from which ten bytes of a_10's output were taken.
func robbed() Evidence {
	e := flawless()
	once := Key{"a_10", "m1"}
	whole := Output("a_10", "m1", 20)
	e.history.Rob(slices.Concat([]byte("head"), whole[5:15], []byte("head of another")))
	e.history.robberies[0].at = *second(26)
	e.takenOf = map[Key]int{once: e.taken(&e.runs[0], once, 20)}
	e.gaps = map[Key]int{once: 10}
	e.output[once] = slices.Concat(whole[:5], whole[15:])
	return e
}

func TestOracleFindsNothingWhereAllThatLacksWasTaken(t *testing.T) {
	e := robbed()
	e.jobs[0].Bytes = 20
	if n := e.takenOf[Key{"a_10", "m1"}]; n != 10 {
		t.Fatalf("%d bytes were taken", n)
	}
	e.output[Key{"a_10", "m1"}] = Output("a_10", "m1", 20)[:10]
	e.history.robberies = nil
	e.history.Rob(Output("a_10", "m1", 20)[10:])
	if found := Judge(e); len(found) > 0 {
		t.Errorf("found %v", found)
	}
	late := Run{Claimed: second(27)}
	e.history.robberies[0].at = *second(26)
	if n := e.taken(&late, Key{"a_10", "m1"}, 20); n != 0 {
		t.Errorf("%d bytes of a run that was claimed later", n)
	}
}

// What is lacking must have been taken, and be told.
func TestOracleFindsWhatNobodyTook(t *testing.T) {
	once := Key{"a_10", "m1"}
	tests := []struct {
		name  string
		spoil func(e *Evidence)
	}{
		{"lacking and nothing said", func(e *Evidence) { e.gaps = nil }},
		{"more than was taken", func(e *Evidence) { e.output[once], e.gaps[once] = e.output[once][:9], 11 }},
		{"too little said", func(e *Evidence) { e.gaps[once] = 9 }},
		{"too much said", func(e *Evidence) { e.gaps[once] = 11 }},
		{"lacking in one that nobody touched", func(e *Evidence) { e.takenOf = nil }},
		{"a wrong byte", func(e *Evidence) { e.output[once][9] ^= 1 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := robbed()
			tt.spoil(&e)
			if found := Judge(e); !slices.ContainsFunc(found, func(v Violation) bool { return v.Promise == "G3" }) {
				t.Errorf("found %v", found)
			}
		})
	}
}

// removedOnce gives flawless evidence of a member that was removed at 12, forgotten at 13, and had a successor at 16.
func removedOnce() Evidence {
	e := flawless()
	e.history.removals = []*removal{{name: "n2", sent: *second(12), forgotten: *second(13), back: *second(16)}}
	told := func() []nodeEvent {
		return []nodeEvent{
			{Time: *second(1), Actor: "n1", Text: "v1"}, {Time: *second(1), Actor: "n2", Text: "v1"},
			{Time: *second(13), Actor: "n2", Text: forgets}, {Time: *second(17), Actor: "n2", Text: "v1"},
		}
	}
	e.nodeEvents = map[string][]nodeEvent{"n1": told(), "n2": told()}
	return e
}

func TestOracleFindsNothingInAFlawlessRemoval(t *testing.T) {
	if found := Judge(removedOnce()); len(found) > 0 {
		t.Errorf("found %v", found)
	}
}

func TestOracleFindsWhatARemovalDoesWrong(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(e *Evidence)
	}{
		{"never forgotten", func(e *Evidence) { e.nodeEvents["n2"] = slices.Delete(e.nodeEvents["n2"], 2, 3) }},
		{"forgotten twice", func(e *Evidence) {
			e.nodeEvents["n1"] = append(e.nodeEvents["n1"], nodeEvent{Time: *second(14), Actor: "n2", Text: forgets})
		}},
		{"a member is forgotten", func(e *Evidence) {
			e.nodeEvents["n1"] = append(e.nodeEvents["n1"], nodeEvent{Time: *second(14), Actor: "n3", Text: forgets})
		}},
		{"it comes back", func(e *Evidence) { e.nodeEvents["n1"][3].Time = second(14).Add(time.Millisecond) }},
		{"it comes back for good", func(e *Evidence) { e.history.removals[0].back = time.Time{} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := removedOnce()
			tt.spoil(&e)
			if found := Judge(e); !slices.ContainsFunc(found, func(v Violation) bool { return v.Promise == "members" }) {
				t.Errorf("found %v", found)
			}
		})
	}
}
