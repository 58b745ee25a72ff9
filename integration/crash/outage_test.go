package crash

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
)

// TestOutage ends the only node with kill -9 while forty commands run and write, and starts it again after half a minute
// (SP_OUTAGE gives other seconds): half of the commands end while nobody is there to be told. Every result and every byte
// must arrive, and nothing may be started twice.
func TestOutage(t *testing.T) {
	t.Parallel()
	outage(t, 1, envNumber(t, "SP_OUTAGE", 30))
}

// TestOutageOfAllThree does so with three nodes, all of them.
func TestOutageOfAllThree(t *testing.T) {
	t.Parallel()
	outage(t, 3, envNumber(t, "SP_OUTAGE", 20))
}

func outage(t *testing.T, nodes, seconds int) {
	t.Helper()
	jobs := []*rig.Job{
		{Name: "ends-within", Targets: rig.MachineNames(1, 20), Machines: 20, Bytes: 300_000, Seconds: float64(seconds) * 0.6, Overlap: true},
		{Name: "goes-on", Targets: rig.MachineNames(21, 40), Machines: 20, Bytes: 300_000, Seconds: float64(seconds) * 1.2, Overlap: true},
		{Name: "scheduled", Every: 10, Targets: "m1", Machines: 1, Bytes: 10, Overlap: true, Grace: 20},
	}
	c, h := startCluster(t, nodes, jobs, "")
	c.Played = 40
	if err := c.WriteConfig(); err != nil {
		t.Fatal(err)
	}
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.Seen = time.Now()
	op := &rig.Operator{C: c, H: h, P: "k"}
	for _, j := range jobs[:2] {
		if id, err := op.StartByHand(t.Context(), j.Name); err != nil || id == "" {
			t.Fatalf("start %s: %q, %v", j.Name, id, err)
		}
	}
	err := rig.WaitFor(t.Context(), time.Minute, "forty starts in the ledgers", func() error {
		all, err := rig.ReadLedgers(c.LedgerDir())
		n := 0
		for k := range all {
			if all[k][0].Start.Job != "scheduled" {
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
	from := time.Now()
	for _, n := range c.Nodes {
		if err := n.End(syscall.SIGKILL, 10*time.Second); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(time.Duration(seconds) * time.Second)
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.Down(from, time.Now())
	e := judgeAtRest(t, c, h, op)
	ok := 0
	for _, list := range e.Targets {
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
	jobs := []*rig.Job{{Name: rig.JobHand, Targets: "m1", Machines: 1, Bytes: 100, Overlap: true}}
	c, h := startCluster(t, 1, jobs, "  lost_after: 21\n")
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.Seen = time.Now()
	op := &rig.Operator{C: c, H: h, P: "k"}
	var ids []string
	for i, p := range points {
		if err := os.WriteFile(wrapperArm(c), []byte(p+":stop"), 0o644); err != nil {
			t.Fatal(err)
		}
		id, err := op.StartByHand(t.Context(), rig.JobHand)
		if err != nil || id == "" {
			t.Fatalf("start: %q, %v", id, err)
		}
		ids = append(ids, id)
		err = rig.WaitFor(t.Context(), 30*time.Second, "the wrapper to stop itself", func() error {
			if n := len(hits(wrapperLog(c))); n <= i {
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
	for _, stopped := range hits(wrapperLog(c)) {
		if err := syscall.Kill(stopped.pid, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	// Their word that they did not and will not start replaces what rested on silence.
	for _, id := range ids {
		waitState(t, c, id, "not-started")
	}
	if err := rig.WaitFor(t.Context(), 20*time.Second, "the wrappers to end", c.OnlyNodes); err != nil {
		t.Error(err)
	}
	if all, err := rig.ReadLedgers(c.LedgerDir()); err != nil || len(all) > 0 {
		t.Errorf("commands were executed: %v, %v", all, err)
	}
}

// waitState waits until the only machine of a run has a state.
func waitState(t *testing.T, c *rig.Cluster, id, want string) {
	t.Helper()
	err := rig.WaitFor(t.Context(), 40*time.Second, id+" to be "+want, func() error {
		machines, err := rig.List[rig.Target](t.Context(), c, "/runs/"+id+"/machines")
		if err == nil && (len(machines) != 1 || machines[0].State != want) {
			err = fmt.Errorf("machines are %+v", machines)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
