package salt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
	"github.com/syscollective/saltpeter/integration/salt/saltrig"
)

// minions are real ones that are called as the oracle calls machines.
const minions = 6

// world is a cluster of three nodes on real Salt: n1 on the host of the master m1, n2 on that of m2, n3 on none.
type world struct {
	t     *testing.T
	salt  *saltrig.Rig
	c     *rig.Cluster
	h     *rig.History
	op    *rig.Operator
	ctx   context.Context //nolint:containedctx // of the test
	began time.Time
}

// targetTypes has a job for each target type. Machines is how many of m1 to m6 match.
func targetTypes() []*rig.Job {
	jobs := []*rig.Job{
		{Name: "glob", Type: "glob", Targets: "m*", Machines: 6},
		{Name: "pcre", Type: "pcre", Targets: "m[1-4]", Machines: 4},
		{Name: "list", Type: "list", Targets: "m2,m5", Machines: 2},
		{Name: "grain", Type: "grain", Targets: "role:web", Machines: 3},
		{Name: "grain_pcre", Type: "grain_pcre", Targets: "n:[1-2]$", Machines: 2},
		{Name: "pillar", Type: "pillar", Targets: "tier:front", Machines: 3},
		{Name: "pillar_pcre", Type: "pillar_pcre", Targets: "rigid:m[3-4]", Machines: 2},
		{Name: "nodegroup", Type: "nodegroup", Targets: "first", Machines: 2},
		{Name: "compound", Type: "compound", Targets: "G@role:web and not m1 or L@m6", Machines: 3},
		{Name: "ipcidr", Type: "ipcidr", Targets: "127.0.0.0/8", Machines: 6},
	}
	for _, j := range jobs {
		j.Every, j.Bytes, j.Seconds = 15, 2000, 0.3
	}
	return append(jobs,
		&rig.Job{Name: "steady", Targets: "m1", Machines: 1, Every: 2, Bytes: 500},
		&rig.Job{Name: "long", Targets: "m4,m5", Machines: 2, Every: 20, Bytes: 20_000, Seconds: 12, Code: 3},
		&rig.Job{Name: "batches", Type: "glob", Targets: "m[123]", Machines: 3, Every: 30, Bytes: 100, Batch: 1},
		&rig.Job{Name: rig.JobHand, Targets: "m1,m6", Machines: 2, Bytes: 300},
	)
}

// begin brings Salt and the cluster up; change gives Salt other options.
func begin(t *testing.T, jobs []*rig.Job, change ...func(*saltrig.Options)) *world {
	t.Helper()
	ids := make([]string, minions)
	for i := range ids {
		ids[i] = fmt.Sprintf("m%d", i+1)
	}
	o := saltrig.Options{Masters: 2, Minions: minions, IDs: ids}
	for _, f := range change {
		f(&o)
	}
	w := &world{t: t, salt: saltrig.Start(t, o), h: rig.NewHistory()}
	dir, err := os.MkdirTemp("", "sp-salt")
	w.must(err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("files are kept in %s", dir)
			return
		}
		_ = os.RemoveAll(dir)
	})
	bins := filepath.Join(dir, "bin")
	w.must(os.MkdirAll(bins, 0o755))
	bin, err := rig.Build(bins, "")
	w.must(err)
	w.c, err = rig.NewCluster(dir, bin, 3, jobs, "")
	w.must(err)
	w.c.Played, w.c.Salt = minions, true
	w.must(w.c.WriteConfig())
	t.Cleanup(w.c.Kill)
	var cancel context.CancelFunc
	w.ctx, cancel = context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	for i, n := range w.c.Nodes {
		n.Args = w.c.Joins()
		conf := filepath.Join(dir, "nosalt")
		if i < len(w.salt.Masters) {
			conf = w.salt.Masters[i].Conf
		}
		n.Args = append(n.Args, "--salt-config", conf, "--salt-python", w.salt.Python)
		w.must(n.Start())
	}
	w.op = &rig.Operator{C: w.c, H: w.h, P: "salt", NoMaintenance: true}
	w.must(w.c.Begun(w.ctx))
	w.h.Seen = time.Now()
	w.began = time.Now()
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// phase lets the cluster work for some seconds after something happened, and starts a run by hand.
func (w *world) phase(what string, length time.Duration, happens func() error) {
	w.t.Helper()
	w.t.Logf("%5.1f s: %s", time.Since(w.began).Seconds(), what)
	if happens != nil {
		w.must(happens())
	}
	_, err := w.op.StartByHand(w.ctx, rig.JobHand)
	w.must(err)
	select {
	case <-time.After(length):
	case <-w.ctx.Done():
		w.t.Fatal(w.ctx.Err())
	}
}

// judge ends all and compares what the machines did with what the record says.
func (w *world) judge() {
	w.t.Helper()
	end, err := w.op.Finish(w.ctx, 2*time.Minute)
	w.must(err)
	evidence, err := w.c.Collect(w.ctx, w.h, end)
	w.must(err)
	w.t.Log(evidence.Size())
	for _, v := range rig.Judge(evidence) {
		w.t.Error(v.Say())
	}
	w.must(w.c.StopAll())
}

func (w *world) leader() *rig.Node {
	w.t.Helper()
	n, err := w.c.Leader(w.ctx)
	w.must(err)
	return n
}

// restart kills a node and starts it again after some time.
func (w *world) restart(n *rig.Node, away time.Duration) error {
	from := time.Now()
	if err := n.End(syscall.SIGKILL, 10*time.Second); err != nil {
		return err
	}
	time.Sleep(away)
	if err := n.Start(); err != nil {
		return err
	}
	err := w.c.AllWork(w.ctx)
	w.h.Down(from, time.Now())
	return err
}

// bridges sends a signal to the bridge of every node that has one.
func (w *world) bridges(s syscall.Signal) error {
	for i := range w.salt.Masters {
		node := w.c.Nodes[i]
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", node.Pid()))
		if err != nil {
			return err
		}
		found := false
		for _, list := range threads {
			children, _ := os.ReadFile(list) // the thread may have ended
			for _, f := range strings.Fields(string(children)) {
				line, err := os.ReadFile("/proc/" + f + "/cmdline")
				if err != nil || !strings.HasPrefix(string(line), w.salt.Python) {
					continue
				}
				child, err := strconv.Atoi(f)
				if err = errors.Join(err, syscall.Kill(child, s)); err != nil {
					return err
				}
				found = true
			}
		}
		if !found {
			return fmt.Errorf("%s has no bridge", node.Name)
		}
	}
	return nil
}

// Every target type, on real minions, while nodes, masters, bridges and minions fail: each run's record is what the ledgers of
// the machines say; nothing is lost, nothing is done twice.
func TestClusterOnSalt(t *testing.T) {
	w := begin(t, targetTypes())
	w.phase("all well", 35*time.Second, nil)
	w.phase("the leader is killed", 15*time.Second, func() error { return w.restart(w.leader(), 3*time.Second) })
	w.phase("a master is killed", 20*time.Second, func() error { return w.salt.Kill("m1") })
	w.phase("the leader is killed, with one master", 15*time.Second, func() error { return w.restart(w.leader(), time.Second) })
	w.phase("the master is back, the other hangs", 20*time.Second, func() error {
		if err := w.salt.Start("m1"); err != nil {
			return err
		}
		time.Sleep(10 * time.Second) // minions dial it again within that
		return w.salt.Pause("m2")
	})
	w.phase("it goes on", 15*time.Second, func() error { return w.salt.Resume("m2") })
	w.phase("the bridges are killed", 10*time.Second, func() error { return w.bridges(syscall.SIGKILL) })
	w.phase("the bridges hang", 25*time.Second, func() error { return w.bridges(syscall.SIGSTOP) })
	w.phase("a minion is restarted", 25*time.Second, func() error {
		if err := w.salt.Kill("mn01"); err != nil {
			return err
		}
		return w.salt.Start("mn01")
	})
	w.judge()
}
