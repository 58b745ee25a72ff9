package crash

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"
)

// TestOutage ends the only node with kill -9 while forty commands run and write, and starts it again after half a minute
// (SP_OUTAGE gives other seconds): half of the commands end while nobody is there to be told. Every result and every byte
// must arrive, and nothing may be started twice.
func TestOutage(t *testing.T) {
	t.Parallel()
	seconds := envNumber(t, "SP_OUTAGE", 30)
	jobs := []*job{
		{name: "ends-within", targets: machineNames(1, 20), machines: 20, bytes: 300_000, seconds: float64(seconds) * 0.6, overlap: true},
		{name: "goes-on", targets: machineNames(21, 40), machines: 20, bytes: 300_000, seconds: float64(seconds) * 1.2, overlap: true},
		{name: "scheduled", every: 10, targets: "m1", machines: 1, bytes: 10, overlap: true, grace: 20},
	}
	c, h := startCluster(t, jobs, "")
	c.played = 40
	if err := c.writeConfig(); err != nil {
		t.Fatal(err)
	}
	if err := c.startAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.seen = time.Now()
	op := &operator{c: c, h: h, p: "k"}
	for _, j := range jobs[:2] {
		if id, err := op.startByHand(t.Context(), j.name); err != nil || id == "" {
			t.Fatalf("start %s: %q, %v", j.name, id, err)
		}
	}
	err := waitFor(t.Context(), time.Minute, "forty starts in the ledgers", func() error {
		all, err := readLedgers(c.ledgerDir())
		n := 0
		for k := range all {
			if all[k][0].start.job != "scheduled" {
				n++
			}
		}
		if err == nil && n < 40 {
			err = fmt.Errorf("%d", n)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	n := c.nodes[0]
	from := time.Now()
	if err := n.end(syscall.SIGKILL, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Duration(seconds) * time.Second)
	if err := c.startAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.down(from, time.Now())
	e := judgeAtRest(t, c, h, op)
	ok := 0
	for _, list := range e.targets {
		if len(list) < 20 {
			continue
		}
		for _, target := range list {
			if target.State == "ok" && !target.Presumed {
				ok++
			}
		}
	}
	if ok != 40 {
		t.Errorf("%d of 40 commands have their result", ok)
	}
}

// TestStoppedWrapperDoesNotExecute stops a wrapper right after its grant, until the record counts it as lost
// (SP_WRAPPER_STOP gives other seconds, at least 22). When it is woken the time in which it might have started is over.
func TestStoppedWrapperDoesNotExecute(t *testing.T) {
	t.Parallel()
	seconds := envNumber(t, "SP_WRAPPER_STOP", 23)
	jobs := []*job{{name: jobHand, targets: "m1", machines: 1, bytes: 100, overlap: true}}
	c, h := startCluster(t, jobs, "  lost_after: 21\n")
	if err := c.startAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.seen = time.Now()
	if err := os.WriteFile(c.wrapperArm(), []byte("grant.after:stop"), 0o644); err != nil {
		t.Fatal(err)
	}
	op := &operator{c: c, h: h, p: "k"}
	id, err := op.startByHand(t.Context(), jobHand)
	if err != nil || id == "" {
		t.Fatalf("start: %q, %v", id, err)
	}
	state := func(want string) func() error {
		return func() error {
			machines, err := list[target](t.Context(), c, "/runs/"+id+"/machines")
			if err != nil {
				return err
			}
			if len(machines) != 1 || machines[0].State != want {
				return fmt.Errorf("machines are %+v", machines)
			}
			return nil
		}
	}
	var stopped hit
	err = waitFor(t.Context(), 30*time.Second, "the wrapper to stop itself", func() error {
		for _, stopped = range hits(c.wrapperLog()) {
			return nil
		}
		return fmt.Errorf("no hit")
	})
	if err != nil {
		t.Fatal(err)
	}
	since := time.Now()
	if err := waitFor(t.Context(), 40*time.Second, "the record to count it as lost", state("lost")); err != nil {
		t.Error(err)
	}
	time.Sleep(time.Until(since.Add(time.Duration(seconds) * time.Second)))
	if err := syscall.Kill(stopped.pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	// Its word that it did not and will not start replaces what rested on silence.
	if err := waitFor(t.Context(), 40*time.Second, "the wrapper to decline", state("not-started")); err != nil {
		t.Error(err)
	}
	if err := waitFor(t.Context(), 20*time.Second, "the wrapper to end", c.onlyNodes); err != nil {
		t.Error(err)
	}
	if all, err := readLedgers(c.ledgerDir()); err != nil || len(all) > 0 {
		t.Errorf("the command was executed: %v, %v", all, err)
	}
}
