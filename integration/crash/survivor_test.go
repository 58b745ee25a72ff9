package crash

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
)

// TestRecoverASurvivorThatLacksOutput loses two of three nodes with their data, and of the third a segment of output, as if the
// others had died before it had fetched what its snapshot names. Recovered, it comes up, says of every output how many bytes are
// lacking, gives all others whole, and runs jobs.
func TestRecoverASurvivorThatLacksOutput(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	c, err := pointedCluster(testDir(t), built(t), 3, lossWorkload(), timings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	c.Env = append(c.Env, "SP_SNAPSHOT_LOGS=120", "SP_SEGMENT_BYTES=65536", "SP_FED=1")
	ch := &chain{c: c, h: rig.NewHistory(), rand: rand.New(rand.NewPCG(1, 7)), log: t.Logf}
	ch.op = &rig.Operator{C: c, H: ch.h, P: "k", NoMaintenance: true}
	if err := ch.form(ctx); err != nil {
		t.Fatal(err)
	}
	ch.h.Seen = time.Now()
	var names []string
	err = rig.WaitFor(ctx, time.Minute, "two segments that snapshots name", func() (err error) {
		names, err = ch.oldSegments()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	all := c.Nodes
	err = ch.recover(ctx, "", func(survivor *rig.Node) error {
		for _, n := range others(c, survivor) {
			if err := os.RemoveAll(filepath.Join(n.Dir, "data")); err != nil {
				return err
			}
		}
		if err := ch.noteTaken(survivor, names[0]); err != nil {
			return err
		}
		return removeSegments(survivor, names[0])
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.leaveEpoch(ctx); err != nil {
		t.Fatal(err)
	}
	if err := ch.readable(ctx); err != nil {
		t.Error(err)
	}
	time.Sleep(2 * time.Second) // jobs run again
	found, err := ch.finish(ctx)
	if err != nil {
		t.Fatalf("%v%s", err, c.LastWords())
	}
	for _, v := range found {
		t.Error(v.Say())
	}
	if len(all) != 3 || len(c.Nodes) != 1 || ch.lacking == 0 {
		t.Errorf("%d of %d nodes are left, %d bytes of output are said to be lacking", len(c.Nodes), len(all), ch.lacking)
	}
	t.Logf("%d bytes of output are said to be lacking", ch.lacking)
}
