package app

import (
	"errors"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/fsm"
)

// future is a command above those that every program knows.
type future struct{ fsm.Retain }

func (*future) Code() fsm.Code { return fsm.BaseCode + 1 }

func TestACommandWaitsForEveryMember(t *testing.T) {
	members := []cluster.Member{{ID: "1", Voter: true, Self: true}, {ID: "2", Voter: true}, {ID: "3"}}
	next := int(fsm.BaseCode) + 1
	knows := func(id, name string, commands int) fsm.NodeRecord {
		return fsm.NodeRecord{ID: id, Name: name, Version: "1." + id, Commands: commands, Envelope: 1, Snapshot: 1}
	}
	for name, test := range map[string]struct {
		records []fsm.NodeRecord
		want    string
	}{
		"all know it":              {[]fsm.NodeRecord{knows("2", "sp-2", next), knows("3", "sp-3", next+1)}, ""},
		"a voter's is older":       {[]fsm.NodeRecord{knows("2", "sp-2", next-1), knows("3", "sp-3", next)}, "node sp-2 (1.2) doesn't know"},
		"one without a vote":       {[]fsm.NodeRecord{knows("2", "sp-2", next), knows("3", "sp-3", next-1)}, "node sp-3 (1.3) doesn't know"},
		"a voter without a record": {[]fsm.NodeRecord{knows("3", "sp-3", next)}, "node 2 (version unknown) doesn't know"},
		"who is no member":         {[]fsm.NodeRecord{knows("2", "sp-2", next), knows("3", "sp-3", next), knows("4", "sp-4", 1)}, ""},
		"this node's own record":   {[]fsm.NodeRecord{knows("1", "sp-1", 1), knows("2", "sp-2", next), knows("3", "sp-3", next)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := lagging(members, test.records, "1", &future{})
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || !errors.Is(err, errTooOld) || saltpeter.CodeOf(err) != saltpeter.CodeConflict {
				t.Fatalf("%v, want %q", err, test.want)
			}
		})
	}
}

func TestAnApplicantSaysWhatItKnows(t *testing.T) {
	if got := programOf(program()); got != ownProgram() || got.Knows != fsm.Known() {
		t.Errorf("%+v", got)
	}
	for _, b := range [][]byte{nil, {}, []byte("garbage"), {0xa1, 0x01}} {
		if got := programOf(b); got != (aboutProgram{}) || !got.Knows.Covers(fsm.BaseCode) || got.Knows.Covers(fsm.BaseCode+1) {
			t.Errorf("%q: %+v", b, got)
		}
	}
}
