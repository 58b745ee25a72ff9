package crash

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
)

// TestRandomBytesOverTwoKills has a command write 900 KB from /dev/urandom, also into a file, while the node is killed twice:
// what spctl gives of its output has the checksum of the file.
func TestRandomBytesOverTwoKills(t *testing.T) {
	t.Parallel()
	c, h := startCluster(t, 1, []*rig.Job{{Name: "tick", Every: 10, Targets: "m1", Machines: 1, Bytes: 10, Overlap: true}}, "")
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(c.Dir, "source")
	text := fmt.Sprintf("random:\n  schedule: '0 0 1 1 *'\n  targets: m2\n"+
		"  command: 'for i in 1 2 3 4 5 6 7 8 9; do head -c 100000 /dev/urandom | tee -a %s; sleep 0.8; done'\n", source)
	if err := os.WriteFile(filepath.Join(c.Dir, "config", "random.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	err := rig.WaitFor(t.Context(), time.Minute, "the job to be in force", func() error {
		var j struct{}
		return c.Get(t.Context(), "/jobs/random", &j)
	})
	if err != nil {
		t.Fatal(err)
	}
	op := &rig.Operator{C: c, H: h, P: "k"}
	id, err := op.StartByHand(t.Context(), "random")
	if err != nil || id == "" {
		t.Fatalf("start: %q, %v", id, err)
	}
	for _, written := range []int64{200_000, 600_000} {
		err := rig.WaitFor(t.Context(), time.Minute, fmt.Sprintf("%d bytes", written), func() error {
			info, err := os.Stat(source)
			if err == nil && info.Size() < written {
				err = fmt.Errorf("%d are written", info.Size())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Nodes[0].End(syscall.SIGKILL, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		if err := c.Nodes[0].Start(); err != nil {
			t.Fatal(err)
		}
	}
	waitState(t, c, id, "ok")
	spctl := filepath.Join(c.Dir, "spctl")
	root, err := rig.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	command(t, root, "go", "build", "-o", spctl, "./cmd/spctl")
	sh := exec.Command("bash", "-o", "pipefail", "-c", fmt.Sprintf("%s logs %s --raw | sha256sum; sha256sum < %s", spctl, id, source))
	sh.Env = append(os.Environ(), "SPCTL_ADDR=unix://"+filepath.Join(c.Dir, "n1.sock"))
	out, err := sh.Output() // remarks are on the other stream
	sums := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(sums) != 2 || sums[0] != sums[1] || len(sums[0]) < 64 {
		t.Errorf("the output is not what was written: %v\n%s", err, out)
	}
	if info, err := os.Stat(source); err != nil || info.Size() != 900_000 {
		t.Errorf("%v, %v", info, err)
	}
}
