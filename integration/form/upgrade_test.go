package form

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api/client"
)

// TestUpgradeOneByOne takes three nodes from a program that lacks the newest commands to the present one and one of them back
// and forth, while a job is due every second and a long run goes on. What is new is refused until the last node knows it;
// once it was used, the older program is let in nowhere.
func TestUpgradeOneByOne(t *testing.T) {
	r := newRig(t)
	older := r.buildOlder()
	all := []string{r.addr(1), r.addr(2), r.addr(3)}
	for i := 1; i <= 3; i++ {
		r.programs[i] = older
		r.start(i, all...)
	}
	if _, err := r.nodes[1].InitCluster(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.healthy(2)
	r.firstTick()
	from := time.Now()
	long, err := r.nodes[1].Start(t.Context(), client.Start{Job: "long", Key: "long"})
	if err != nil {
		t.Fatal(err)
	}
	r.refused(1, "n1", "n2", "n3")

	r.become(1, "")
	r.refused(1, "n2", "n3")
	r.become(2, "")
	r.refused(1, "n3")
	r.refused(3, "n3")
	r.become(2, older) // nothing new was used: it may go back
	r.refused(2, "n2", "n3")
	r.become(2, "")
	r.refused(2, "n3")
	r.become(3, "")
	r.until("the new command is taken", func(ctx context.Context) (bool, error) {
		_, err := r.nodes[2].CreateToken(ctx, "ci", "viewer", 0)
		return err == nil, err
	})
	for i := 1; i <= 3; i++ {
		got, err := r.nodes[i].Tokens(t.Context(), false)
		if err != nil || len(got.Value.Items) != 1 {
			t.Errorf("n%d: %+v, %v", i, got.Value, err)
		}
	}
	r.olderIsRefused(older)
	r.output(long.Value.ID)
	r.ticks(from, time.Now().Add(-2*time.Second))
}

// buildOlder builds a program that lacks the commands which came after the first.
func (r *rig) buildOlder() string {
	r.t.Helper()
	path := r.dir + "/older/saltpeter"
	build := exec.Command("go", "build", "-tags", "baseprogram", "-ldflags", "-X github.com/syscollective/saltpeter/internal/buildinfo.version=0.9", "-o", path, "./cmd/saltpeter")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		r.t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// become restarts a node with another program, in good order, and waits until the cluster is whole.
func (r *rig) become(i int, program string) {
	r.t.Helper()
	r.stop(i, syscall.SIGTERM)
	r.programs[i] = program
	r.start(i, r.addr(i%3+1))
	r.healthy(i)
}

// refused holds a new command, asked for on a node, to be refused with the name of one that is too old.
func (r *rig) refused(i int, tooOld ...string) {
	r.t.Helper()
	r.until("the refusal names one of "+strings.Join(tooOld, ", "), func(ctx context.Context) (bool, error) {
		_, err := r.nodes[i].CreateToken(ctx, "ci", "viewer", 0)
		if err == nil {
			r.t.Fatal("a command that a member does not know was taken")
		}
		named := slices.ContainsFunc(tooOld, func(n string) bool {
			return strings.HasPrefix(err.Error(), "node "+n+" (0.9) doesn't know ") && strings.HasSuffix(err.Error(), " yet: upgrade it first")
		})
		return named && saltpeter.CodeOf(err) == saltpeter.CodeConflict, err
	})
}

// olderIsRefused starts the older program in the place of a member, and as a new node.
func (r *rig) olderIsRefused(older string) {
	r.t.Helper()
	r.stop(3, syscall.SIGTERM)
	r.programs[3] = older
	r.start(3, r.addr(1))
	n := r.nodes[3]
	select {
	case <-n.gone:
	case <-time.After(30 * time.Second):
		r.t.Fatal("the older program goes on with a log that it does not know")
	}
	delete(r.nodes, 3)
	n.Close()
	text, err := os.ReadFile(r.dir + "/n3.log")
	if err != nil || n.cmd.ProcessState.Success() || !strings.Contains(string(text), "it is older than what the cluster has used") {
		r.t.Errorf("the older program ended with %v, %v", n.cmd.ProcessState, err)
	}
	r.programs[3] = ""
	r.start(3, r.addr(1))
	r.healthy(3)

	r.programs[4] = older
	r.start(4, r.addr(1))
	r.until("the older program is not admitted", func(ctx context.Context) (bool, error) {
		got, err := r.nodes[4].Status(ctx)
		if err == nil && !strings.Contains(got.Value.Forming, "its program (version 0.9) is older than what this cluster uses") {
			err = fmt.Errorf("forming: %q", got.Value.Forming)
		}
		return err == nil, err
	})
	r.stop(4, syscall.SIGTERM)
}
