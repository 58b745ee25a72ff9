package sinks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"pgregory.net/rapid"
)

// drawEvents makes a feed in which records of a few jobs lie mixed, with output up to beyond what is gathered.
func drawEvents(t *rapid.T, n *node, count int) []saltpeter.Event {
	var out []saltpeter.Event
	for range count {
		job := rapid.SampledFrom([]string{"a", "b", "c/d"}).Draw(t, "job")
		num := len(n.outputs)
		e := saltpeter.Event{Job: job, Run: fmt.Sprintf("%s_%d", job, num), Machine: "m", Millis: t0 + int64(num),
			Ref: saltpeter.TargetRef{Run: uint64(num) + 1}, State: "ok"}
		e.Type = rapid.SampledFrom([]saltpeter.EventType{saltpeter.EventRunClaimed, saltpeter.EventMachineStarted,
			saltpeter.EventMachineResult, saltpeter.EventMachineResult, saltpeter.EventRunFinished, saltpeter.EventWindowSet}).Draw(t, "type")
		lines := rapid.SampledFrom([]int{0, 1, 3, 200, 300}).Draw(t, "lines")
		n.outputs[e.Ref] = strings.Repeat(fmt.Sprintf("%d: 10%%\r100%%\n", num), lines)
		out = append(out, e)
	}
	return out
}

// small gives a sink whose batches and buffers are so small that the draws cross their bounds.
func small(n *node, d disk) *LogFiles {
	l := n.sink()
	l.disk = d
	l.bounds = bounds{flush: 256, batch: 2048, syncs: 1}
	return l
}

// run takes steps until all is written, or the disk fails.
func run(l *LogFiles) error {
	for {
		l.released = time.Time{}
		more, err := l.step(context.Background())
		if err != nil || !more {
			return err
		}
	}
}

// TestCrash: whatever the moment at which the process is killed, the power fails, or the disk has no room, in the end the
// files hold what they hold without any of that.
func TestCrash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		n := newNode("/logs")
		smooth := newMemDisk(rng.IntN)
		rough := newMemDisk(rng.IntN)
		plain, l := small(n, smooth), small(n, rough)
		for range rapid.IntRange(1, 6).Draw(t, "rounds") {
			n.add(drawEvents(t, n, rapid.IntRange(1, 12).Draw(t, "events"))...)
			kind := rapid.SampledFrom([]string{"kill", "power", "room", "deny"}).Draw(t, "trouble")
			switch kind {
			case "kill", "power":
				rough.left = rapid.IntRange(1, 60).Draw(t, "operations")
			case "room":
				rough.room = rapid.IntRange(0, 4000).Draw(t, "room")
			case "deny":
				rough.denied["/logs/b.log"] = !rough.denied["/logs/b.log"]
			}
			err := run(l)
			if err != nil && !errors.Is(err, errDead) && !errors.Is(err, errNoRoom) {
				t.Fatalf("%s: %v", kind, err)
			}
			switch {
			case kind == "room":
				rough.room = -1 // and the same process goes on
			case errors.Is(err, errDead):
				rough.crash(kind == "power")
				l = small(n, rough)
			}
			rough.left = -1
			if err := run(plain); err != nil {
				t.Fatalf("without trouble: %v", err)
			}
		}
		rough.crash(rapid.Bool().Draw(t, "power"))
		l = small(n, rough)
		rough.denied["/logs/b.log"] = false
		if err := run(l); err != nil {
			t.Fatalf("in the end: %v", err)
		}
		wantSame(t, rough.logs(), smooth.logs())
	})
}

// TestCrashEverywhere kills the process at each operation of one batch in turn.
func TestCrashEverywhere(t *testing.T) {
	for _, power := range []bool{false, true} {
		points := 0
		for at := 1; ; at++ {
			rng := rand.New(rand.NewPCG(uint64(at), 1))
			n := newNode("/logs")
			rough, smooth := newMemDisk(rng.IntN), newMemDisk(rng.IntN)
			ref := saltpeter.TargetRef{Run: 1}
			n.outputs[ref] = strings.Repeat("line\n", 500)
			result := saltpeter.Event{Type: saltpeter.EventMachineResult, Job: "b", Run: "b_1", Machine: "m", Ref: ref, State: "ok"}
			for range 3 {
				n.add(claimed("a"), claimed("b"), result, finished("a"))
			}
			rough.left = at
			l := small(n, rough)
			err := run(l)
			if err == nil {
				break
			}
			points++
			rough.crash(power)
			if err := run(small(n, rough)); err != nil {
				t.Fatalf("operation %d: %v", at, err)
			}
			if err := run(small(n, smooth)); err != nil {
				t.Fatal(err)
			}
			wantSame(t, rough.logs(), smooth.logs())
		}
		if points < 30 {
			t.Errorf("power %v: only %d points", power, points)
		}
	}
}

// TestCutOnlyDeclared: between batches nothing is declared, so that what others write is safe from a crash.
func TestCutOnlyDeclared(t *testing.T) {
	n := newNode("/logs")
	d := newMemDisk(func(int) int { return 0 })
	l := small(n, d)
	n.add(claimed("a"))
	if err := run(l); err != nil {
		t.Fatal(err)
	}
	d.names["/logs/a.log"].data = append(d.names["/logs/a.log"].data, "by hand\n"...)
	d.crash(false)
	n.add(finished("a"))
	if err := run(small(n, d)); err != nil {
		t.Fatal(err)
	}
	wantSame(t, d.logs(), map[string]string{"/logs/a.log": startLine("a") + "by hand\n" + endLine("a")})
}

// TestReplay: after a restart the feed is shorter than it was, until the log's tail has been applied again.
func TestReplay(t *testing.T) {
	n, l := newLogs(t)
	n.add(claimed("a"), finished("a"))
	drain(t, l)
	if err := l.stop(); err != nil {
		t.Fatal(err)
	}
	var tail []saltpeter.Event
	n.set(func() { tail, n.events = n.events[1:], n.events[:1] })
	l = n.sink()
	drain(t, l)
	n.add(tail...)
	drain(t, l)
	n.add(claimed("a"))
	drain(t, l)
	wantLog(t, n, "a", startLine("a")+endLine("a")+startLine("a"))
}
