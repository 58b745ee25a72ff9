package app

import (
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/fsm"
)

func recordsOf(a *App) (ids string) {
	for _, n := range a.machine.View().Nodes() {
		ids += n.ID
	}
	return ids
}

// Who is removed is known no more as soon as the removal is answered, and the record of who never was a member goes too.
func TestARemovedNodeIsForgotten(t *testing.T) {
	inThree(t, nil, func(w *three) {
		time.Sleep(10 * time.Second)
		lead := w.leader()
		if got := recordsOf(lead); got != "abc" {
			t.Fatalf("records of %q", got)
		}
		gone := "c"
		if lead.ident.NodeID == gone {
			gone = "b"
		}
		w.stop(gone)
		if _, err := (members{lead}).Remove(w.t.Context(), saltpeter.Actor{Name: "ann"}, "n-"+gone, true); err != nil {
			t.Fatal(err)
		}
		if got := recordsOf(lead); len(got) != 2 || lead.nodeRecord(gone).ID != "" {
			t.Errorf("after the removal: records of %q", got)
		}
		by := saltpeter.Actor{Name: "x"}
		if _, err := asked[fsm.Done](w.t.Context(), lead, by, &fsm.SetNode{Node: fsm.NodeRecord{ID: "x", Name: "n-x"}}); err != nil {
			t.Fatal(err)
		}
		if lead.nodeRecord("x").ID == "" {
			t.Fatal("no record to be forgotten")
		}
		time.Sleep(2 * housekeepingEvery)
		if got := recordsOf(lead); len(got) != 2 {
			t.Errorf("later: records of %q", got)
		}
	})
}

// What the record lacks of a member, the member writes anew.
func TestAMemberWritesItsRecordAnew(t *testing.T) {
	inThree(t, nil, func(w *three) {
		time.Sleep(10 * time.Second)
		lead := w.leader()
		if _, err := asked[fsm.Done](w.t.Context(), lead, saltpeter.Actor{Name: "x"}, &fsm.ForgetNode{ID: "b"}); err != nil {
			t.Fatal(err)
		}
		if lead.nodeRecord("b").ID != "" {
			t.Fatal("the record is there still")
		}
		time.Sleep(5 * time.Second)
		if got := lead.nodeRecord("b"); got.Name != "n-b" || got.Commands != int(fsm.NewestCode) {
			t.Errorf("%+v", got)
		}
	})
}
