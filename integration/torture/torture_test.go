package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/syscollective/saltpeter/app" // so that results are not cached over a change of the programs
	"github.com/syscollective/saltpeter/integration/rig"
	_ "github.com/syscollective/saltpeter/wrapper" // as above
)

// TestTorture is make torture with every kind of fault once and a third of the jobs, which is what a host that runs other
// tests beside it can carry.
func TestTorture(t *testing.T) {
	program := filepath.Join(t.TempDir(), "torture")
	build := exec.Command("go", "build", "-o", program, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	runtime.LockOSThread() // whose end would be taken for this program's
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(t.Context(), program, "-seconds", "1", "-jobs", "20", "-seed", "1")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	out, err := cmd.CombinedOutput()
	t.Logf("\n%s", out)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "10 faults of 10 kinds, 10 hits, 0 violations") {
		t.Error("not every kind of fault came once")
	}
}

// A seed repeats the plan, each round has every kind, and in two rounds each kind comes to a leader and to a follower.
func TestPlan(t *testing.T) {
	one, same, other := newPlan(5), newPlan(5), newPlan(6)
	differs := false
	for range 10 {
		roles := map[kind]int{}
		for range 2 * len(kinds) {
			f := one.next()
			if g := same.next(); f != g {
				t.Fatalf("one seed gives %+v and %+v", f, g)
			}
			differs = differs || f != other.next()
			if f.leader {
				roles[f.kind]++
			} else {
				roles[f.kind] += 100
			}
			if f.kind == frozen && f.length > 9*time.Second || f.kind == frozenLong && f.length < 12*time.Second {
				t.Errorf("%s for %s, the watchdog waits 10 s", f.kind, f.length)
			}
		}
		for _, k := range kinds {
			if roles[k] != 101 {
				t.Errorf("%s: %d", k, roles[k])
			}
		}
	}
	if !differs {
		t.Error("another seed gives the same plan")
	}
}

// What is found is charged to the fault in whose time it falls, and errors in the log of a node whose disk is hurt are none.
func TestChargeAndExcuse(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(1_700_000_000+int64(s), 0) }
	results := []*result{
		{fault: fault{kind: killed, leader: true}, node: "n1", hit: true, from: at(10), to: at(12)},
		{fault: fault{kind: full}, node: "n2", hit: true, from: at(20), to: at(25)},
	}
	for _, c := range []struct {
		v    rig.Violation
		want bool
	}{
		{rig.Violation{At: at(22), Text: "n2: level=ERROR"}, true},
		{rig.Violation{At: at(22), Text: "n1: level=ERROR"}, false},
		{rig.Violation{At: at(30), Text: "n2: level=ERROR"}, false},
		{rig.Violation{At: at(11), Text: "n1: level=ERROR"}, false},
	} {
		if got := excused(results, c.v); got != c.want {
			t.Errorf("%+v: excused %v", c.v, got)
		}
	}
	charge(results, []rig.Violation{{Promise: "G1", At: at(5)}, {Promise: "G2", At: at(15)}, {Promise: "G3", At: at(21)}, {Promise: "G4", At: at(40)}})
	if a, b := len(results[0].broken), len(results[1].broken); a != 2 || b != 2 {
		t.Errorf("charged %d and %d", a, b)
	}
	results[1].hit = false
	var table strings.Builder
	if bad := report(&table, settings{seed: 7}, results); bad != 5 {
		t.Errorf("%d broken: %s", bad, table.String())
	}
	if !slices.ContainsFunc(strings.Split(table.String(), "\n"), func(l string) bool {
		return strings.Contains(l, "disk full") && strings.Contains(l, "0 of 1")
	}) {
		t.Errorf("the fault that was not done is not shown:\n%s", table.String())
	}
}

// A disk that is full gives room again, and one that is frozen thaws when its time is over or at once. Both go without
// a trace.
func TestDisk(t *testing.T) {
	if err := checkNeeds(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	d, err := makeDisk(filepath.Join(dir, "image"), filepath.Join(dir, "mnt"), 64<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer d.remove()
	file := filepath.Join(d.dir, "file")
	if err := d.fill(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, make([]byte, 8192), 0o644); err == nil {
		t.Error("there is room on a full disk")
	}
	if err := d.free(); err != nil {
		t.Fatal(err)
	}
	for _, early := range []bool{false, true} {
		began := time.Now()
		if err := d.freeze(300 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
		if early {
			d.thaw()
		}
		if err := os.WriteFile(file, make([]byte, 8192), 0o644); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); !early && took < 250*time.Millisecond {
			t.Errorf("a write to a frozen disk took %s", took)
		}
	}
}
