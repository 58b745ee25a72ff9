package app

import (
	"slices"
	"testing"
	"time"

	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/outlog"
)

// foreign gives a manifest of output that lies on a disk which is gone.
func foreign(t *testing.T) outlog.Manifest {
	t.Helper()
	s, err := outlog.Open(outlog.NewLossy(9), "/gone", outlog.Options{SegmentBytes: 1000, Origin: "gone"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for seq := range uint64(40) {
		if err := s.Append(outlog.Key{Run: 77}, outlog.Frame{Seq: seq + 1, Kind: outlog.Data, Data: make([]byte, 100)}); err != nil {
			t.Fatal(err)
		}
	}
	return s.Manifest()
}

// Segments that no member has are given up, and output can be read again; as long as one member has not said that it lacks
// them, they are waited for.
func TestWhatNobodyHasIsGivenUp(t *testing.T) {
	inThree(t, nil, func(w *three) {
		time.Sleep(10 * time.Second)
		m := foreign(t)
		lack := func(name string) {
			if err := w.nodes[name].machine.Output().Restore(m); err != nil {
				t.Fatal(err)
			}
		}
		lead := w.leader()
		others := w.followers()
		lack(lead.ident.NodeID)
		lack(others[0])
		time.Sleep(time.Minute)
		if !lead.lacksOutput() || lead.machine.View().NextLoss() != 1 {
			t.Fatal("given up although one member may have it")
		}
		lack(others[1])
		down := others[0]
		w.stop(down) // its log is replayed at the start, without what this test did to it
		time.Sleep(time.Minute)
		if !lead.lacksOutput() {
			t.Fatal("given up although one member gives no answer")
		}
		w.start(down)
		time.Sleep(10 * time.Second)
		lack(down)
		time.Sleep(time.Minute)
		for name, a := range w.nodes {
			if a.lacksOutput() || len(a.machine.Output().Missing()) > 0 {
				t.Errorf("%s waits for output still", name)
			}
		}
		if got := w.leader().machine.View().NextLoss(); got != 2 {
			t.Errorf("the next round is %d", got)
		}
	})
}

func TestBoth(t *testing.T) {
	x := []fsm.LostSegment{{No: 1, Last: 1}, {No: 2, Last: 4, Gen: 1}, {No: 5, Last: 5}}
	y := []fsm.LostSegment{{No: 5, Last: 5}, {No: 2, Last: 4}, {No: 1, Last: 1}}
	if got := both(x, y); !slices.Equal(got, []fsm.LostSegment{{No: 1, Last: 1}, {No: 5, Last: 5}}) {
		t.Errorf("%+v", got)
	}
}
