package form

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
)

// TestBehindHAProxy uses three nodes through the load balancer of deploy/haproxy alone: writes, reads of what was written, events,
// followed output, and wrappers that know no other address, while the node that leads is killed.
func TestBehindHAProxy(t *testing.T) {
	r := newRig(t)
	balancer := r.subnet + ".9"
	r.addJob(fmt.Sprintf("behind:\n  schedule: '0 0 1 1 *'\n  targets: m2\n  saltpeter_server_host: %s\n"+
		"  command: 'for i in $(seq 1 80); do echo \"line $i of $SP_MACHINE_ID\"; sleep 0.1; done'\n", balancer))
	all := []string{r.addr(1), r.addr(2), r.addr(3)}
	for i := 1; i <= 3; i++ {
		r.start(i, all...)
	}
	if _, err := r.nodes[1].InitCluster(t.Context()); err != nil {
		t.Fatal(err)
	}
	leader := r.healthy(1)
	r.haproxy(balancer)
	addrs, err := client.ParseAddrs("http://" + balancer + ":8888")
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{Addrs: addrs})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()

	events := r.watch(c)
	var run string
	r.until("a start through the balancer", func(ctx context.Context) (bool, error) {
		started, err := c.Start(ctx, client.Start{Job: "behind", Key: "behind"})
		run = started.Value.ID
		return err == nil, err
	})
	var output bytes.Buffer
	followed := make(chan error, 1)
	go func() { followed <- c.Output(t.Context(), run, "m2", 0, true, &output) }()
	r.until("the first output", func(ctx context.Context) (bool, error) {
		m, err := c.Machine(ctx, run, "m2")
		return m.Value.Stored > 0, err
	})
	r.stop(leader, syscall.SIGKILL)
	// Round robin: what one node wrote is read on another, with nothing said about an index.
	for i := range 30 {
		var started client.Answer[api.Run]
		r.until("a start after the leader's death", func(ctx context.Context) (bool, error) {
			var err error
			started, err = c.Start(ctx, client.Start{Job: "tick", Key: fmt.Sprint("behind-", i)})
			return err == nil, err
		})
		if _, err := c.Run(t.Context(), started.Value.ID); err != nil {
			t.Errorf("start %d is not there: %v", i, err)
		}
	}
	if err := <-followed; err != nil {
		t.Errorf("followed output: %v", err)
	}
	var want bytes.Buffer
	for k := 1; k <= 80; k++ {
		fmt.Fprintf(&want, "line %d of m2\n", k)
	}
	if !bytes.Equal(output.Bytes(), want.Bytes()) {
		t.Errorf("followed output: %d bytes of %d", output.Len(), want.Len())
	}
	events.check(t, c, run)
}

// haproxy runs the real one with the file that people are given.
func (r *rig) haproxy(bind string) {
	r.t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/haproxy"); err != nil {
			r.t.Fatalf("%v: install Debian's package haproxy", err)
		}
	}
	cmd := exec.Command(program, "-db", "-f", "../../deploy/haproxy/haproxy.cfg")
	cmd.Env = append(os.Environ(), "SP_BIND="+bind)
	for i := 1; i <= 3; i++ {
		cmd.Env = append(cmd.Env, fmt.Sprintf("SP_NODE_%d=%s.%d", i, r.subnet, i))
	}
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()         // killed
		if r.t.Failed() {
			r.t.Logf("haproxy:\n%s", log.Bytes())
		}
	})
}

// watched are the events that came through one stream.
type watched struct {
	mu   sync.Mutex
	ids  []string
	gaps int
}

// watch follows the events of the cluster until the test ends.
func (r *rig) watch(c *client.Client) *watched {
	w := new(watched)
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.Events(ctx, client.EventsAfter{Since: "0", Follow: true}, func(e client.StreamEvent) error { // canceled in the end
			w.mu.Lock()
			defer w.mu.Unlock()
			if e.Gap != nil {
				w.gaps++
				return nil
			}
			w.ids = append(w.ids, e.Event.ID)
			return nil
		})
	}()
	r.t.Cleanup(func() {
		cancel()
		<-ended
	})
	return w
}

// check holds the stream to be whole: the same events, each once, as somebody sees who reads them afterwards.
func (w *watched) check(t *testing.T, c *client.Client, run string) {
	t.Helper()
	var all []string
	finished := false
	err := c.Events(t.Context(), client.EventsAfter{Since: "0"}, func(e client.StreamEvent) error {
		all = append(all, e.Event.ID)
		finished = finished || e.Event.Type == "run-finished" && e.Event.Run == run
		return nil
	})
	if err != nil || !finished {
		t.Fatalf("read events: %v, the run's end among them: %v", err, finished)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		w.mu.Lock()
		got, gaps := w.ids, w.gaps
		w.mu.Unlock()
		if len(got) >= len(all) {
			for i := range all {
				if got[i] != all[i] || gaps > 0 {
					t.Fatalf("event %d was %s in the stream and is %s; %d gaps", i, got[i], all[i], gaps)
				}
			}
			t.Logf("%d events through the balancer, over the death of the leader", len(all))
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the stream brought %d events of %d", len(got), len(all))
		}
	}
}
