package app

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter"
)

func TestFiringLag(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f firing
		if _, _, _, leads := f.figures(); leads {
			t.Error("it leads before it does")
		}
		f.begin()
		claim := func(late int64, run uint64) {
			f.note(50_000+late, []saltpeter.Claim{{Tick: 50}}, []saltpeter.ClaimResult{{Run: run}})
		}
		claim(99_999, 0) // skipped: nothing started late
		for late := range int64(200) {
			claim(late, 1)
		}
		time.Sleep(time.Minute)
		if led, n, p99, leads := f.figures(); led != time.Minute || n != 200 || p99 != 197 || !leads {
			t.Errorf("%s, %d claims, p99 %d, %v", led, n, p99, leads)
		}
		for range firingWindow { // a bounded window: what was before is forgotten
			claim(7, 1)
		}
		claim(-300, 1)
		if _, n, p99, _ := f.figures(); n != firingWindow || p99 != 7 {
			t.Errorf("%d claims, p99 %d", n, p99)
		}
		f.end()
		if _, _, _, leads := f.figures(); leads {
			t.Error("it leads afterwards")
		}
		f.begin()
		if _, n, _, _ := f.figures(); n != 0 {
			t.Errorf("%d claims of another leadership", n)
		}
	})
}

// Every node shows the same of the cluster, but for who answers.
func TestStatusTellsOfDisksAndSchedules(t *testing.T) {
	ticking(t, func(w *three) {
		for name, a := range w.nodes {
			got, err := members{a}.Cluster(w.t.Context())
			if err != nil || got.LedMillis == nil || *got.LedMillis < 1000 || got.Schedules == nil {
				t.Fatalf("%s: %+v, %v", name, got, err)
			}
			s := got.Schedules
			if s.Jobs != 1 || s.Next == nil || s.NextJob != "tick" || time.Until(s.Next.Time()).Abs() > 2*time.Second || s.LagMillis != nil || s.Missed != 0 {
				t.Errorf("%s: %+v", name, s)
			}
			for _, m := range got.Members {
				if m.DiskUsed == nil || *m.DiskUsed < 0 || *m.DiskUsed > 100 || m.Wrappers == nil || *m.Wrappers != 0 {
					t.Errorf("%s: %+v", name, m)
				}
			}
		}
	})
}
