package demo

import (
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDemo does what the demo prints, in another order, and then ends it with Ctrl-C while runs are under way.
func TestDemo(t *testing.T) {
	t.Parallel()
	d := start(t)
	d.formed()
	if out := d.mustRun("spctl status"); !strings.Contains(out, "3 nodes · leader n") || !strings.Contains(out, "4 · 0 paused") {
		t.Errorf("status: %s", out)
	}
	if out := d.mustRun("spctl cluster status"); !strings.Contains(out, "(3 voters) · HEALTHY") {
		t.Errorf("cluster status: %s", out)
	}
	if out := d.mustRun("spctl start hello --follow"); strings.Count(out, "hello from local-") != 3 {
		t.Errorf("start --follow: %s", out)
	}
	d.mustType("spctl start long")
	if out := d.mustRun("spctl runs"); !strings.Contains(out, "long_") || !strings.Contains(out, "hello_") {
		t.Errorf("runs: %s", out)
	}
	follow := d.background(d.printed("spctl logs long -f"))
	follow.until("step 2")
	d.mustRun("kill -9")
	follow.until("step 7") // the leader's death does not stop it
	d.mustRun("/start ")
	d.healthy()
	d.mustRun("spctl cluster transfer-leader")
	d.healthy()
	d.mustRun("spctl kill")
	follow.ends()
	if out := follow.text(); !inOrder(out) {
		t.Errorf("what was followed is not every step, once, in order:\n%s", out)
	}
	d.mustRun("spctl maintenance on --all")
	if out, code := d.typed("spctl start hello"); code == 0 || !strings.Contains(out, "maintenance") {
		t.Errorf("a start under maintenance: exit code %d, %s", code, out)
	}
	d.mustRun("spctl maintenance off --all")
	for _, bad := range []string{"spctl kill nothing_1", "spctl start nothing", "spctl logs nothing", "spctl maintenance on", "spctl statsu"} {
		if out, code := d.typed(bad); code == 0 || !strings.HasPrefix(out, "error: ") {
			t.Errorf("%s: exit code %d, %s", bad, code, out)
		}
	}
	d.mustType("spctl start long")
	d.interrupt()
	d.ends(0)
	d.nothingLeft()
}

// inOrder holds what was followed of the job long to be all steps of each machine, with none twice.
func inOrder(out string) bool {
	next := map[string]int{}
	for line := range strings.Lines(out) {
		machine, text, ok := strings.Cut(strings.TrimSpace(line), "step ")
		if !ok {
			continue
		}
		next[machine]++
		if strings.TrimSpace(text) != itoa(next[machine]) {
			return false
		}
	}
	return len(next) > 0
}

// A second Ctrl-C does not wait for runs to end in good order.
func TestSecondInterrupt(t *testing.T) {
	t.Parallel()
	d := start(t)
	d.formed()
	d.mustType("spctl start long")
	d.interrupt()
	d.wait("ending runs")
	d.interrupt()
	d.ends(130)
	d.nothingLeft()
}

// A demo whose majority was killed can't end its runs in good order, and still leaves nothing.
func TestInterruptWithoutMajority(t *testing.T) {
	t.Parallel()
	d := start(t)
	d.formed()
	d.mustType("spctl start long")
	d.waitFor("commands", func() bool { return len(d.processes("sp_wrapper")) > 0 })
	nodes := d.processes("/saltpeter ")
	if len(nodes) != 3 {
		t.Fatalf("nodes: %v", nodes)
	}
	for _, pid := range nodes[:2] {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	d.interrupt()
	d.ends(0)
	d.nothingLeft()
}

func TestPortTaken(t *testing.T) {
	t.Parallel()
	host := newNet()
	for _, port := range []string{"8888", "8889", "8890"} {
		ln, err := net.Listen("tcp", host+".2:"+port)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		d := startOn(t, host)
		d.ends(1)
		if out := d.text(); !strings.Contains(out, "n2 did not start; its log:") || !strings.Contains(out, "address already in use") || !strings.Contains(out, port) {
			t.Errorf("port %s is taken: %s", port, out)
		}
		d.nothingLeft()
		t.Logf("port %s: %s", port, time.Since(began).Round(time.Millisecond))
		ln.Close()
	}
}

// Ctrl-C while nodes are being started.
func TestInterruptAtTheStart(t *testing.T) {
	t.Parallel()
	d := start(t)
	d.waitFor("a node", func() bool { return len(d.processes("/saltpeter ")) > 0 })
	d.interrupt()
	d.ends(0)
	d.nothingLeft()
}

func TestInOrder(t *testing.T) {
	for text, want := range map[string]bool{"": false, "m1 step 1\nm2 step 1\nm1 step 2\n": true, "m1 step 1\nm1 step 3\n": false, "m1 step 1\nm1 step 1\n": false} {
		if inOrder(text) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}
