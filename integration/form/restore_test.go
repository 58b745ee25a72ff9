package form

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
)

// spctl runs a command line against node i and gives what it printed.
func (r *rig) spctl(i, want int, args ...string) string {
	r.t.Helper()
	cmd := exec.Command(r.dir+"/bin/spctl", append([]string{"--addr", fmt.Sprintf("unix://%s/n%d.sock", r.dir, i)}, args...)...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, _ := cmd.Output() // how it ended is in its exit code
	if code := cmd.ProcessState.ExitCode(); code != want {
		r.t.Fatalf("spctl %s: exit %d, want %d\n%s%s", strings.Join(args, " "), code, want, out, &errs)
	}
	return string(out) + errs.String()
}

// form starts three nodes and makes them a cluster.
func (r *rig) form() (leader int) {
	r.t.Helper()
	for i := 1; i <= 3; i++ {
		r.start(i, r.addr(1), r.addr(2), r.addr(3))
	}
	r.until("cluster init", func(ctx context.Context) (bool, error) {
		_, err := r.nodes[1].InitCluster(ctx)
		return err == nil, err
	})
	leader = r.healthy(2)
	r.firstTick()
	return leader
}

// TestSaveAndRestore: a cluster is put back to a backup while a run of it goes on and a follower is down.
func TestSaveAndRestore(t *testing.T) {
	r := newRig(t)
	leader := r.form()
	follower, down := leader%3+1, (leader+1)%3+1
	long, err := r.nodes[follower].Start(t.Context(), client.Start{Job: "long", Key: "long"})
	if err != nil {
		t.Fatal(err)
	}
	run := long.Value.ID
	r.until("output", func(ctx context.Context) (bool, error) {
		var b bytes.Buffer
		err := r.nodes[follower].Output(ctx, run, "m2", 0, false, &b)
		return b.Len() > 100, err
	})
	file := r.dir + "/sp.backup"
	if got := r.spctl(follower, 0, "snapshot", "save", file, "--with-output"); !strings.Contains(got, "wrote "+file) {
		t.Errorf("save: %s", got)
	}
	r.spctl(follower, 5, "snapshot", "save", file) // it exists
	if got := r.spctl(follower, 0, "snapshot", "inspect", file); !strings.Contains(got, "epoch 1") || !strings.Contains(got, "2 jobs") {
		t.Errorf("inspect: %s", got)
	}
	var after client.Answer[api.Run]
	r.until("a run after the backup", func(ctx context.Context) (bool, error) {
		var err error
		after, err = r.nodes[follower].Start(ctx, client.Start{Job: "tick", Key: "after"})
		return err == nil, err
	})
	r.stop(down, syscall.SIGKILL)

	if got := r.spctl(follower, 0, "snapshot", "restore", file, "--dry-run"); !strings.Contains(got, "Nothing was changed") {
		t.Errorf("dry run: %s", got)
	}
	if _, err := r.nodes[leader].Run(t.Context(), after.Value.ID); err != nil {
		t.Fatalf("a dry run changed something: %v", err)
	}
	r.spctl(follower, 5, "snapshot", "restore", file) // there is no terminal to ask on
	if got := r.spctl(follower, 0, "snapshot", "restore", file, "-y"); !strings.Contains(got, "restored on 2/3 nodes (epoch 2") {
		t.Errorf("restore: %s", got)
	}
	if _, err := r.nodes[leader].Run(t.Context(), after.Value.ID); saltpeter.CodeOf(err) != saltpeter.CodeNotFound {
		t.Errorf("a run of after the backup: %v", err)
	}
	got, err := r.nodes[leader].Run(t.Context(), run)
	if err != nil || got.Value.Ended == 0 {
		t.Fatalf("the run that went on: %+v, %v", got.Value, err)
	}
	r.noTicks(leader)
	r.start(down, r.addr(1), r.addr(2), r.addr(3))
	r.healthy(down)
	r.resumed(run)
	r.spctl(down, 0, "maintenance", "off", "--all")
	r.until("ticks again", func(ctx context.Context) (bool, error) {
		list, err := r.nodes[down].Runs(ctx, url.Values{"job": {"tick"}}, 1)
		return len(list.Items) == 1 && time.Since(list.Items[0].Claimed.Time()) < 3*time.Second, err
	})
}

// noTicks makes sure that nothing starts under the maintenance of a restore.
func (r *rig) noTicks(i int) {
	r.t.Helper()
	newest := func() string {
		list, err := r.nodes[i].Runs(r.t.Context(), url.Values{"job": {"tick"}}, 1)
		if err != nil || len(list.Items) != 1 {
			r.t.Fatal(list.Items, err)
		}
		return list.Items[0].ID
	}
	before := newest()
	time.Sleep(2500 * time.Millisecond)
	if now := newest(); now != before {
		r.t.Errorf("%s started under maintenance", now)
	}
}

// resumed waits for the results of commands that a restore found running: each is told late, with its output but for a gap at
// most, the same on every node.
func (r *rig) resumed(run string) {
	r.t.Helper()
	for _, machine := range []string{"m2", "m3"} {
		var m api.Machine
		r.until("the late result of "+machine, func(ctx context.Context) (bool, error) {
			got, err := r.nodes[1].Machine(ctx, run, machine)
			m = got.Value
			return err == nil && m.State == "ok", err
		})
		var want bytes.Buffer
		for i := range r.nodes {
			var b bytes.Buffer
			if err := r.nodes[i].Output(r.t.Context(), run, machine, 0, false, &b); err != nil {
				r.t.Errorf("n%d: %v", i, err)
			}
			if want.Len() == 0 {
				want = b
			}
			if !bytes.Equal(b.Bytes(), want.Bytes()) || !strings.HasPrefix(b.String(), "line 1 of "+machine) || !strings.HasSuffix(b.String(), "line 80 of "+machine+"\n") {
				r.t.Errorf("output of %s on n%d: %q", machine, i, b.String())
			}
		}
		text, _ := json.Marshal(m)
		r.t.Logf("%s: %d bytes, %s", machine, want.Len(), text)
	}
}
