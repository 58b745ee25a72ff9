package app

import (
	"maps"
	"slices"
	"testing"
	"time"
)

// ticking is three nodes with a job that is due every second. No launcher is there, so each tick is a recorded skip; the job's
// mark says up to which tick the leader has decided.
func ticking(t *testing.T, test func(w *three)) {
	inThree(t, nil, func(w *three) {
		for _, name := range threeNames {
			w.writeText(name, "saltpeter_config: {auth: none}\ntick: {schedule: '* * * * * *', targets: m1, command: 'true'}\n")
		}
		w.passes(10*time.Second, nil)
		if _, ok := w.leader().machine.View().Job("tick"); !ok {
			t.Fatal("the job is not in force")
		}
		test(w)
	})
}

// passes lets time go by and looks all the while that no tick is decided before its time. over is called at each look.
func (w *three) passes(d time.Duration, over func()) {
	w.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		for name, a := range w.nodes {
			if j, ok := a.machine.View().Job("tick"); ok && j.Mark > time.Now().Unix() {
				w.t.Fatalf("%s: tick %d is decided %d s before its time", name, j.Mark, j.Mark-time.Now().Unix())
			}
		}
		if over != nil {
			over()
		}
	}
}

// decides fails the test if ticks stand still.
func (w *three) decides() {
	w.t.Helper()
	if j, _ := w.leader().machine.View().Job("tick"); time.Now().Unix()-j.Mark > 2 {
		w.t.Errorf("the last tick that is decided is %d s old", time.Now().Unix()-j.Mark)
	}
}

func (w *three) set(name string, ahead time.Duration) { w.ahead[name].Store(int64(ahead)) }

// followers gives the names of those that don't lead.
func (w *three) followers() []string {
	lead := w.leader().ident.NodeID
	return slices.DeleteFunc(slices.Sorted(maps.Keys(w.nodes)), func(n string) bool { return n == lead })
}

func TestALeaderWhoseClockIsSetHandsOn(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"ahead": 8 * time.Second, "behind": -8 * time.Second} {
		t.Run(name, func(t *testing.T) {
			ticking(t, func(w *three) {
				old := w.leader()
				w.set(old.ident.NodeID, ahead)
				w.passes(20*time.Second, nil)
				if now := w.leader(); now == old {
					t.Error("it leads still")
				}
				w.decides()
			})
		})
	}
}

// One whose clock is off hands on before it does a leader's work: it claims nothing, and nobody waits.
func TestAFollowerWhoseClockIsOffDoesNotLead(t *testing.T) {
	ticking(t, func(w *three) {
		off := w.followers()[0]
		w.set(off, 8*time.Second)
		term := w.leader().node.Status().Term
		if err := w.leader().node.TransferTo(w.t.Context(), off); err != nil {
			t.Fatal(err)
		}
		w.passes(20*time.Second, func() {
			if w.nodes[off].scheduler.Status().Leading {
				t.Error("it schedules")
			}
		})
		if now := w.leader(); now.ident.NodeID == off {
			t.Error("it leads still")
		}
		if got := w.leader().node.Status().Term; got != term+2 { // it won, and the next one
			t.Errorf("term %d after %d", got, term)
		}
		w.decides()
	})
}

// Two of three that agree are right, whoever leads: the median of three is theirs.
func TestTheOddOneOfThreeDoesNotLead(t *testing.T) {
	inThree(t, nil, func(w *three) {
		time.Sleep(10 * time.Second)
		old := w.leader()
		for _, name := range w.followers() {
			w.set(name, 8*time.Second)
		}
		time.Sleep(10 * time.Second)
		if now := w.leader(); now == old {
			t.Error("the odd one leads still")
		}
		now := w.leader()
		time.Sleep(time.Minute)
		if w.leader() != now || len((control{now}).Status(w.t.Context()).Faults) > 0 {
			t.Errorf("the two that agree are not content: %v", (control{now}).Status(w.t.Context()).Faults)
		}
	})
}

// Two clocks that nothing can decide between: the leader stays and says so, and leadership does not go round.
func TestWhereNoMajorityAgreesTheLeaderStays(t *testing.T) {
	inThree(t, nil, func(w *three) {
		time.Sleep(10 * time.Second)
		lead := w.leader()
		others := w.followers()
		w.stop(others[0])
		w.set(others[1], 14*time.Second)
		time.Sleep(10 * time.Second)
		term := lead.node.Status().Term
		if faults := (control{lead}).Status(w.t.Context()).Faults; len(faults) != 1 {
			t.Errorf("faults: %q", faults)
		}
		time.Sleep(5 * time.Minute)
		if st := lead.node.Status(); w.leader() != lead || st.Term != term {
			t.Errorf("leadership went round: term %d, was %d", st.Term, term)
		}
		w.set(others[1], 0)
		time.Sleep(5 * time.Second)
		if faults := (control{lead}).Status(w.t.Context()).Faults; len(faults) != 0 {
			t.Errorf("faults: %q", faults)
		}
	})
}

func TestWhoTakesOverHasTheRightTime(t *testing.T) {
	s := time.Second
	tests := map[string]struct {
		others map[string]time.Duration
		voters int
		want   timekeeping
	}{
		"agrees":               {map[string]time.Duration{"b": s, "c": -s}, 3, timekeeping{}},
		"just within":          {map[string]time.Duration{"b": 5 * s, "c": 5 * s}, 3, timekeeping{}},
		"the odd one":          {map[string]time.Duration{"b": 8 * s, "c": 9 * s}, 3, timekeeping{true, -8 * s, "b"}},
		"all differ":           {map[string]time.Duration{"b": 16 * s, "c": 8 * s}, 3, timekeeping{off: true}},
		"two that differ":      {map[string]time.Duration{"b": 12 * s}, 3, timekeeping{off: true}},
		"two against two":      {map[string]time.Duration{"b": 0, "c": 20 * s, "d": 20 * s}, 4, timekeeping{off: true}},
		"no majority answers":  {map[string]time.Duration{}, 3, timekeeping{}},
		"two of five are lost": {map[string]time.Duration{"b": -9 * s, "c": -9 * s}, 5, timekeeping{off: true}},
		"one of five is lost":  {map[string]time.Duration{"b": -9 * s, "c": -8 * s, "d": -9 * s}, 5, timekeeping{true, 8*s + s/2, "b"}},
	}
	for name, tt := range tests {
		if got := judgeClocks(tt.others, tt.voters); got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}
