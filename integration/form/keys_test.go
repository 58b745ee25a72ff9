package form

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/syscollective/saltpeter/api/client"
	"github.com/syscollective/saltpeter/internal/keys"
)

// gate gives a job whose command runs until open is called, and adds one, quick, that is over at once.
func (r *rig) gate() (job string, open func()) {
	r.t.Helper()
	file := r.dir + "/gate"
	text := fmt.Sprintf("gate:\n  schedule: '0 0 1 1 *'\n  targets: m2\n  command: 'while [ ! -e %s ]; do echo waiting; sleep 0.2; done; echo through'\n"+
		"quick:\n  schedule: '0 0 1 1 *'\n  targets: m3\n  command: echo quick\n", file)
	if err := os.WriteFile(r.dir+"/config/gate.yaml", []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	return "gate", func() {
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
}

// setKeys writes the key files of all nodes, newest first.
func (r *rig) setKeys(i int, list ...keys.Key) {
	r.t.Helper()
	var text strings.Builder
	for _, k := range list {
		text.WriteString(k.Hex() + "\n")
	}
	r.keys[i] = fmt.Sprintf("%s/key%d", r.dir, i)
	if err := os.WriteFile(r.keys[i], []byte(text.String()), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// restartAll gives each node in turn another list of keys.
func (r *rig) restartAll(list ...keys.Key) {
	r.t.Helper()
	for i := 1; i <= 3; i++ {
		r.setKeys(i, list...)
		r.stop(i, syscall.SIGTERM)
		r.start(i, r.addr(1), r.addr(2), r.addr(3))
		r.healthy(i)
	}
}

// succeeds waits for the end of a run that has to end well.
func (r *rig) succeeds(run string) {
	r.t.Helper()
	r.until("the end of "+run, func(ctx context.Context) (bool, error) {
		got, err := r.nodes[2].Run(ctx, run)
		if err == nil && got.Value.Final() && got.Value.State != "ok" {
			r.t.Fatalf("%s ended %s", run, got.Value.State)
		}
		return err == nil && got.Value.Final(), err
	})
}

// TestKeysRotate: the key of a cluster is exchanged while a run goes on that was launched under the old one. A node that drops
// the old key too early ends itself and names the run.
func TestKeysRotate(t *testing.T) {
	r := newRig(t)
	job, open := r.gate()
	old, next := keys.Generate(), keys.Generate()
	for i := 1; i <= 3; i++ {
		r.setKeys(i, old)
		r.start(i, r.addr(1), r.addr(2), r.addr(3))
	}
	r.until("init", func(ctx context.Context) (bool, error) {
		_, err := r.nodes[1].InitCluster(ctx)
		return err == nil, err
	})
	r.healthy(2)
	var run string
	r.until("the configuration is in force", func(ctx context.Context) (bool, error) {
		started, err := r.nodes[3].Start(ctx, client.Start{Job: job, Key: "gate"})
		run = started.Value.ID
		return err == nil, err
	})
	r.until("the command runs", func(ctx context.Context) (bool, error) {
		var out bytes.Buffer
		err := r.nodes[2].Output(ctx, run, "m2", 0, false, &out)
		return strings.HasPrefix(out.String(), "waiting\n"), err
	})
	r.restartAll(old, next)
	r.restartAll(next, old)

	again, err := r.nodes[1].Start(t.Context(), client.Start{Job: "quick", Key: "under-new"})
	if err != nil {
		t.Fatal(err)
	}
	r.dropTooEarly(1, run, next)
	r.setKeys(1, next, old)
	r.start(1, r.addr(2))
	r.healthy(1)
	r.succeeds(again.Value.ID)
	open()
	r.succeeds(run)
	var out bytes.Buffer
	if err := r.nodes[1].Output(t.Context(), run, "m2", 0, false, &out); err != nil || !strings.HasSuffix(out.String(), "waiting\nthrough\n") {
		t.Errorf("output %q, %v", out.String(), err)
	}
	r.restartAll(next)
	last, err := r.nodes[1].Start(t.Context(), client.Start{Job: job, Key: "after"})
	if err != nil {
		t.Fatal(err)
	}
	r.succeeds(last.Value.ID)
}

// dropTooEarly restarts node i without the old key.
func (r *rig) dropTooEarly(i int, run string, left keys.Key) {
	r.t.Helper()
	r.setKeys(i, left)
	r.stop(i, syscall.SIGTERM)
	r.start(i, r.addr(1), r.addr(2), r.addr(3))
	n := r.nodes[i]
	select {
	case <-n.gone:
	case <-time.After(15 * time.Second):
		r.t.Fatalf("n%d works without a key that it needs", i)
	}
	delete(r.nodes, i)
	n.Close()
	text, err := os.ReadFile(fmt.Sprintf("%s/n%d.log", r.dir, i))
	if err != nil {
		r.t.Fatal(err)
	}
	if code := n.cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(string(text), "does not list the key") || !strings.Contains(string(text), run) {
		r.t.Errorf("n%d ended with %d:\n%s", i, code, text[max(0, len(text)-2000):])
	}
}
