package form

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/syscollective/saltpeter/api/client"
)

// recover runs saltpeter recover on node i's data directory.
func (r *rig) recover(i, want int, args ...string) string {
	r.t.Helper()
	args = append([]string{"recover", "--data-dir", r.data(i), "--node-file", r.dir + "/node.yaml"}, args...)
	cmd := exec.Command(r.dir+"/bin/saltpeter", args...)
	out, _ := cmd.CombinedOutput() // how it ended is in its exit code
	if code := cmd.ProcessState.ExitCode(); code != want {
		r.t.Fatalf("saltpeter %s: exit %d, want %d\n%s", strings.Join(args, " "), code, want, out)
	}
	return string(out)
}

// TestRecoverALostMajority: two of three nodes are lost with their data; the third goes on alone, and two fresh ones join.
func TestRecoverALostMajority(t *testing.T) {
	r := newRig(t)
	r.form()
	long, err := r.nodes[1].Start(t.Context(), client.Start{Job: "long", Key: "long"})
	if err != nil {
		t.Fatal(err)
	}
	run := long.Value.ID
	r.until("output", func(ctx context.Context) (bool, error) {
		got, err := r.nodes[3].Machine(ctx, run, "m2")
		return err == nil && got.Value.Stored > 100, err
	})
	for _, i := range []int{1, 2} {
		r.stop(i, syscall.SIGKILL)
		if err := os.RemoveAll(r.data(i)); err != nil {
			t.Fatal(err)
		}
	}
	if got := r.recover(3, 1, "-y"); !strings.Contains(got, "in use by another process") {
		t.Errorf("recover of a running node: %s", got)
	}
	r.stop(3, syscall.SIGKILL)
	r.recover(3, 1) // there is no terminal to ask on
	if got := r.recover(3, 0, "--dry-run"); !strings.Contains(got, "3 members") || !strings.Contains(got, "Nothing was changed") {
		t.Errorf("dry run: %s", got)
	}
	if got := r.recover(3, 0, "-y"); !strings.Contains(got, "Recovered.") {
		t.Errorf("recover: %s", got)
	}
	if got := r.recover(3, 0, "-y"); !strings.Contains(got, "recovered already") {
		t.Errorf("recover again: %s", got)
	}
	r.recoverIsRefused()

	all := []string{r.addr(1), r.addr(2), r.addr(3)}
	r.start(3, all...)
	r.until("a leader alone", func(ctx context.Context) (bool, error) {
		got, err := r.nodes[3].Cluster(ctx)
		return err == nil && got.Value.Voters == 1 && got.Value.Leader == "n3", err
	})
	r.until("maintenance", func(ctx context.Context) (bool, error) {
		list, err := r.nodes[3].Maintenance(ctx)
		return len(list.Items) == 1 && list.Items[0].Reason == "recovered from a lost majority", err
	})
	r.start(1, all...)
	r.start(2, all...)
	r.healthy(1)
	r.resumed(run)
	r.spctl(1, 0, "maintenance", "off", "--all")
	r.until("ticks again", func(ctx context.Context) (bool, error) {
		list, err := r.nodes[2].Runs(ctx, url.Values{"job": {"tick"}}, 1)
		return len(list.Items) == 1 && time.Since(list.Items[0].Claimed.Time()) < 3*time.Second, err
	})
	r.stop(3, syscall.SIGTERM)
	r.start(3, all...)
	r.healthy(3)
	if list, err := r.nodes[3].Maintenance(t.Context()); err != nil || len(list.Items) != 0 {
		t.Errorf("a restart began another epoch: %+v, %v", list.Items, err)
	}
}

// recoverIsRefused tries it where there is nothing to recover.
func (r *rig) recoverIsRefused() {
	r.t.Helper()
	empty := r.dir + "/empty"
	if err := os.Mkdir(empty, 0o700); err != nil {
		r.t.Fatal(err)
	}
	if got := r.recover(3, 1, "-y", "--data-dir", empty); !strings.Contains(got, "not a data directory") {
		r.t.Errorf("an empty directory: %s", got)
	}
	text, err := os.ReadFile(r.data(3) + "/node.json")
	if err == nil {
		err = os.WriteFile(empty+"/node.json", text, 0o600)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	if got := r.recover(3, 1, "-y", "--data-dir", empty); !strings.Contains(got, "no raft state") {
		r.t.Errorf("a directory without a log: %s", got)
	}
}
