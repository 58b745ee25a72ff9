package scheduler

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter"
)

// watched gives a table with one launched target per machine.
func watched(machines ...string) (*silence, *batch) {
	t := newSilence()
	b := &batch{launch: 7, published: never}
	targets := make([]uint32, len(machines))
	for i := range targets {
		targets[i] = uint32(i)
	}
	t.watch(b, 1, targets, machines, 0)
	return t, b
}

// TestJudge goes through the rules of silence with the default settings: 60 s for the window and for lost, 5 s until the
// ping, 15 s for its answer.
func TestJudge(t *testing.T) {
	const s = time.Second
	set := saltpeter.DefaultSettings()
	set.StartWindow = 50 * s // so that it isn't mistaken for lost
	up := func(x *sign) { x.batch.published = 1 * s }
	pinged := func(p ping) func(*sign) {
		return func(x *sign) { up(x); x.machine.ping = p }
	}
	for _, c := range []struct {
		name  string
		state saltpeter.TargetState
		now   time.Duration
		setup func(*sign)
		want  string // "end 253", "ping", or "wait until"
	}{
		{"started and heard lately", saltpeter.Started, 60*s - 1, nil, "wait 1m0s"},
		{"started and silent", saltpeter.Started, 60 * s, nil, "end 253"},
		{"granted and silent", saltpeter.Granted, 60 * s, nil, "end 253"},
		{"granted, a sign moves the deadline", saltpeter.Granted, 60 * s, func(x *sign) { x.note(10 * s) }, "wait 1m10s"},
		{"not published yet", saltpeter.Launched, 20 * s, nil, "wait 50s"},
		{"not published in the window", saltpeter.Launched, 50 * s, func(x *sign) { x.batch.err = "no route" }, "end 254 launch failed: no route"},
		{"the window runs from the first attempt", saltpeter.Launched, 50 * s, func(x *sign) { x.batch.published = 49 * s }, "end 254"},
		{"published, before the ping", saltpeter.Launched, 5 * s, up, "wait 6s"},
		{"published and silent", saltpeter.Launched, 6 * s, up, "ping"},
		{"it said hello: no ping", saltpeter.Launched, 20 * s, func(x *sign) { up(x); x.note(3 * s) }, "wait 53s"},
		{"hello and then nothing", saltpeter.Launched, 53 * s, func(x *sign) { up(x); x.note(3 * s) }, "end 254 reported"},
		{"its machine gave a sign of another run", saltpeter.Launched, 6 * s, func(x *sign) { up(x); x.machine.last = 4 * s }, "wait 9s"},
		{"another run's ping is under way", saltpeter.Launched, 6 * s, pinged(ping{running: true, began: 0}), "wait 15.25s"},
		{"another run's ping was before this publish", saltpeter.Launched, 16 * s, pinged(ping{began: 0, ended: 15 * s, known: true}), "ping"},
		{"unanswered, too early", saltpeter.Launched, 21*s - 1, pinged(ping{began: 6 * s, ended: 20 * s, known: true}), "wait 21s"},
		{"unanswered for 20 s", saltpeter.Launched, 21 * s, pinged(ping{began: 6 * s, ended: 20 * s, known: true}), "end 255"},
		{"unanswered, but the launcher could not ask", saltpeter.Launched, 26 * s, pinged(ping{began: 6 * s, ended: 21 * s}), "ping"},
		{"the launcher could not ask just now", saltpeter.Launched, 22 * s, pinged(ping{began: 6 * s, ended: 21 * s}), "wait 26s"},
		{"unanswered, then a sign of another run", saltpeter.Launched, 30 * s, func(x *sign) {
			pinged(ping{began: 6 * s, ended: 21 * s, known: true})(x)
			x.machine.last = 22 * s
		}, "ping"},
		{"answered", saltpeter.Launched, 30 * s, pinged(ping{began: 6 * s, ended: 7 * s, known: true, answered: true}), "wait 50s"},
		{"answered, and the window is over", saltpeter.Launched, 50 * s, pinged(ping{began: 6 * s, ended: 7 * s, known: true, answered: true}),
			"end 254 answered ping"},
		{"nothing known, and the window is over", saltpeter.Launched, 50 * s, up, "end 254 did not report"},
		{"publishing is executing: no ping", saltpeter.Launched, 30 * s, func(x *sign) { up(x); x.batch.direct = true }, "wait 50s"},
		{"publishing is executing, and failed", saltpeter.Granted, 60 * s, func(x *sign) { x.batch.err = "broken pipe" }, "end 253 broken pipe"},
	} {
		table, _ := watched("web-1")
		x := table.signs[saltpeter.TargetRef{Run: 1}]
		if c.setup != nil {
			c.setup(x)
		}
		j := judge(x, c.state, &set, c.now)
		got := "wait " + j.at.String()
		switch {
		case j.end != nil:
			got = fmt.Sprintf("end %d %s", j.end.State.Code(), j.end.Text)
			if j.end.From != c.state {
				t.Errorf("%s: from %s", c.name, j.end.From)
			}
		case j.ping:
			got = "ping"
		}
		word, text, _ := strings.Cut(c.want, " ")
		code, text, _ := strings.Cut(text, " ")
		if !strings.HasPrefix(got, strings.TrimSpace(word+" "+code)) || !strings.Contains(got, text) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		if j.at <= c.now {
			t.Errorf("%s: looked at again at %s, which is not after %s", c.name, j.at, c.now)
		}
	}
}

// TestSilenceForgets: nothing is kept of what is not watched any more.
func TestSilenceForgets(t *testing.T) {
	m := newModel(time.Now)
	m.runs[1] = &modelRun{}
	table, _ := watched("a", "b", "c")
	other := &batch{launch: 8, published: never}
	table.watch(other, 2, []uint32{0}, []string{"a"}, 0)
	table.watch(other, 2, []uint32{0}, []string{"a"}, 0) // twice does no harm
	if f := table.sweep(view{m}, 0); len(f.ends) > 0 || table.count() != 0 {
		t.Errorf("targets that are not in the record: %+v, %d watched", f, table.count())
	}
	table, b := watched("a", "b", "c")
	table.signs[saltpeter.TargetRef{Run: 1, Target: 2}].machine.ping.running = true
	table.forget(b)
	if len(table.signs)+len(table.hellos)+len(table.heap.items) > 0 || len(table.machines) != 1 {
		t.Errorf("%d signs, %d hellos, %d machines", len(table.signs), len(table.hellos), len(table.machines))
	}
	table.pinged([]string{"c", "unknown"}, nil, true, 0)
	if len(table.machines) != 0 {
		t.Error("a machine is kept for a ping that is over")
	}
	table.heard(saltpeter.TargetRef{Run: 1}, 0) // of nobody that is watched
	table.heardLaunch(7, "a", 0)
}

// TestPublishedMovesTheLook: whether to ping is counted from the publish, however long it took.
func TestPublishedMovesTheLook(t *testing.T) {
	table, b := watched("a")
	x := b.signs[0]
	x.at = time.Minute
	table.heap.push(x)
	table.published(b, 3*time.Second, errors.New("first"))
	if b.err != "first" || x.at != time.Minute {
		t.Errorf("after an error: %q, %s", b.err, x.at)
	}
	table.published(b, 4*time.Second, nil)
	table.published(b, 5*time.Second, errors.New("second"))
	if b.err != "" || b.published != 4*time.Second || x.at != 4*time.Second {
		t.Errorf("after a success: %q, %s, %s", b.err, b.published, x.at)
	}
}

// TestHeardLaunch: a sign of a launch counts for its target; one of another launch for the machine alone.
func TestHeardLaunch(t *testing.T) {
	table, b := watched("a", "b")
	table.heardLaunch(7, "a", 3*time.Second)
	table.heardLaunch(99, "b", 4*time.Second)
	table.heardLaunch(7, "b", 2*time.Second) // came late: it turns nothing back
	table.heardLaunch(7, "c", 5*time.Second)
	a, other := b.signs[0], b.signs[1]
	if !a.heard || a.last != 3*time.Second || a.machine.last != 3*time.Second {
		t.Errorf("its own launch: %+v, %+v", a, a.machine)
	}
	if other.last != 2*time.Second || other.machine.last != 4*time.Second {
		t.Errorf("another launch: %+v, %+v", other, other.machine)
	}
}

// TestLongWindow: a start window that is longer than lost_after doesn't hide the silence of who was granted meanwhile.
func TestLongWindow(t *testing.T) {
	set := saltpeter.DefaultSettings()
	set.StartWindow = 10 * time.Minute
	_, b := watched("a")
	if j := judge(b.signs[0], saltpeter.Launched, &set, 7*time.Second); j.at != 67*time.Second {
		t.Errorf("looked at again at %s", j.at)
	}
}

// TestAttention: time counts while there are beats; of a stop only a second does.
func TestAttention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAttention()
		time.Sleep(600 * time.Millisecond)
		if got := a.now(); got != 600*time.Millisecond {
			t.Errorf("between beats %s", got)
		}
		for range 8 {
			a.beat()
			time.Sleep(beat)
		}
		if got := a.now(); got != 2600*time.Millisecond {
			t.Errorf("after beats %s", got)
		}
		a.beat()
		time.Sleep(90 * time.Second)
		before := a.now()
		if got := a.beat(); got != 3600*time.Millisecond || before != got {
			t.Errorf("after a stop %s, then %s", before, got)
		}
	})
}

// TestPingWhileAway: a ping whose answers came while this process was stopped says nothing.
func TestPingWhileAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		s.m.term = 1
		l := newLeadership(s.sched, 1)
		table, b := watched("a")
		l.silence = table
		s.f.down["a"] = true
		machine := b.signs[0].machine
		for _, beats := range []bool{false, true} {
			machine.ping.running = true
			done := make(chan struct{})
			go func() { l.ping(t.Context(), []string{"a"}); close(done) }()
			for range 60 {
				time.Sleep(beat)
				if beats {
					l.clock.beat()
				}
			}
			<-done
			if machine.ping.known != beats || machine.ping.running {
				t.Errorf("with beats %v: %+v", beats, machine.ping)
			}
		}
	})
}

// TestTakeoverSilenceBeginsAtBarrier: a new leader counts nobody's silence from before its own barrier.
func TestTakeoverSilenceBeginsAtBarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t)
		defer s.depose()
		s.m.put(testJob("j"), time.Now().Unix())
		s.lead()
		time.Sleep(61 * time.Second)
		s.m.set(1, "*", saltpeter.Granted)
		for range 10 { // each leadership ends before 60 s of silence
			time.Sleep(50 * time.Second)
			s.depose()
			s.m.change(func() ([]uint64, bool) { s.m.jobs["j"].paused = true; return nil, true })
			s.lead()
		}
		time.Sleep(59 * time.Second)
		if ends := endsOf(s.m.take()); len(ends) > 0 {
			t.Fatalf("ended too early: %q", ends)
		}
		time.Sleep(2 * time.Second)
		if ends := endsOf(s.m.take()); len(ends) != 2 || !strings.Contains(ends[0], "253") {
			t.Errorf("after 60 s of silence: %q", ends)
		}
	})
}

func endsOf(ledger []string) []string {
	return slices.DeleteFunc(ledger, func(line string) bool { return !strings.Contains(line, " end ") })
}
