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

// TestStoppedWrapperDoesNotExecute stops wrappers between their grant and the execution, until the record counts them as lost
// (SP_WRAPPER_STOP gives other seconds, at least 22). When they are woken the time in which they might have started is over.
func TestStoppedWrapperDoesNotExecute(t *testing.T) {
	t.Parallel()
	seconds := envNumber(t, "SP_WRAPPER_STOP", 23)
	// grant.after is none of these: there the execution may be ahead of the reader that stops the process.
	points := []string{"grant.before", "journal.before", "journal.after", "exec.before"}
	jobs := []*job{{name: jobHand, targets: "m1", machines: 1, bytes: 100, overlap: true}}
	c, h := startCluster(t, jobs, "  lost_after: 21\n")
	if err := c.startAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.seen = time.Now()
	op := &operator{c: c, h: h, p: "k"}
	var ids []string
	for i, p := range points {
		if err := os.WriteFile(c.wrapperArm(), []byte(p+":stop"), 0o644); err != nil {
			t.Fatal(err)
		}
		id, err := op.startByHand(t.Context(), jobHand)
		if err != nil || id == "" {
			t.Fatalf("start: %q, %v", id, err)
		}
		ids = append(ids, id)
		err = waitFor(t.Context(), 30*time.Second, "the wrapper to stop itself", func() error {
			if n := len(hits(c.wrapperLog())); n <= i {
				return fmt.Errorf("%d hits", n)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	since := time.Now()
	for _, id := range ids {
		waitState(t, c, id, "lost")
	}
	time.Sleep(time.Until(since.Add(time.Duration(seconds) * time.Second)))
	for _, stopped := range hits(c.wrapperLog()) {
		if err := syscall.Kill(stopped.pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	// Their word that they did not and will not start replaces what rested on silence.
	for _, id := range ids {
		waitState(t, c, id, "not-started")
	}
	if err := waitFor(t.Context(), 20*time.Second, "the wrappers to end", c.onlyNodes); err != nil {
		t.Error(err)
	}
	if all, err := readLedgers(c.ledgerDir()); err != nil || len(all) > 0 {
		t.Errorf("commands were executed: %v, %v", all, err)
	}
}

// waitState waits until the only machine of a run has a state.
func waitState(t *testing.T, c *Cluster, id, want string) {
	t.Helper()
	err := waitFor(t.Context(), 40*time.Second, id+" to be "+want, func() error {
		machines, err := list[target](t.Context(), c, "/runs/"+id+"/machines")
		if err == nil && (len(machines) != 1 || machines[0].State != want) {
			err = fmt.Errorf("machines are %+v", machines)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
