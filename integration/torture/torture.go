package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/syscollective/saltpeter/integration/rig"
)

// torture is one run.
type torture struct {
	s      settings
	began  time.Time
	c      *rig.Cluster
	h      *rig.History
	op     *rig.Operator // uses the cluster all the time
	long   *rig.Operator // starts what is to end during elections
	hosts  []*host
	rand   *rand.Rand // of what lies between the faults
	traces int
}

// newTorture lays out files; nothing runs yet.
func newTorture(s settings, bin rig.Binaries) (*torture, error) {
	c, err := rig.NewCluster(s.dir, bin, 3, workload(s.jobs), "")
	if err != nil {
		return nil, err
	}
	c.Played = played(s.jobs)
	t := &torture{s: s, began: time.Now(), c: c, h: rig.NewHistory(), rand: rand.New(rand.NewPCG(s.seed, 4))}
	t.op, t.long = &rig.Operator{C: c, H: t.h, P: "k"}, &rig.Operator{C: c, H: t.h, P: "l"}
	c.Wrapper = filepath.Join(s.dir, "wrapper.sh")
	if err := os.WriteFile(c.Wrapper, []byte(shim(bin.Wrapper)), 0o755); err != nil {
		return nil, err
	}
	return t, c.WriteConfig()
}

func (t *torture) log(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s %s\n", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}

// run makes networks and disks, hurts nodes until the time is over and every kind of fault has come once, and judges.
func (t *torture) run(ctx context.Context) ([]*result, error) {
	if err := t.start(ctx); err != nil {
		return nil, fmt.Errorf("%w%s", err, t.c.LastWords())
	}
	t.h.Seen = time.Now()
	side, stop := context.WithCancel(ctx)
	defer stop()
	var g errgroup.Group
	g.Go(func() error { return t.op.Use(side) })
	results, failed := t.hurtAll(ctx)
	stop()
	err := errors.Join(failed, g.Wait(), ctx.Err())
	if err == nil {
		err = t.finish(ctx, results)
	}
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, t.c.LastWords())
	}
	return results, nil
}

// start makes what the nodes stand on, starts them and begins the cluster on the first.
func (t *torture) start(ctx context.Context) error {
	if err := makeBridge(); err != nil {
		return err
	}
	for i, n := range t.c.Nodes {
		n.Addr = address(i)
	}
	for i, n := range t.c.Nodes {
		h := &host{Node: n}
		t.hosts = append(t.hosts, h)
		var err error
		if h.net, err = makeNetwork(); err != nil {
			return err
		}
		if err = h.net.connect(i); err != nil {
			return err
		}
		size := int64(1<<30) + int64(t.s.seconds)<<20
		if h.disk, err = makeDisk(filepath.Join(t.s.dir, n.Name+".ext4"), n.Dir, size); err != nil {
			return err
		}
		n.Enter, n.Args = h.net.enter(), t.c.Joins()
		if err = n.Start(); err != nil {
			return err
		}
	}
	return t.c.Begun(ctx)
}

// hurtAll does one fault after the other.
func (t *torture) hurtAll(ctx context.Context) (results []*result, err error) {
	p := newPlan(t.s.seed)
	for began := time.Now(); len(results) < len(kinds) || time.Since(began) < time.Duration(t.s.seconds)*time.Second; {
		r := &result{fault: p.next()}
		results = append(results, r)
		if err := t.one(ctx, r); err != nil {
			return results, fmt.Errorf("%s of a %s: %w", r.kind, r.victim(), err)
		}
		r.hit = true
		t.log("%-20s %-8s %s for %4.1f s, all well after %4.1f s", r.kind, r.victim(), r.node, r.length.Seconds(), r.to.Sub(r.from).Seconds())
	}
	return results, nil
}

// one does a fault and waits until all three nodes work again.
func (t *torture) one(ctx context.Context, r *result) error {
	time.Sleep(time.Duration(200+t.rand.IntN(800)) * time.Millisecond)
	if r.leader {
		if err := t.startLong(ctx); err != nil {
			return err
		}
	}
	h, err := t.choose(ctx, r.fault)
	if err != nil {
		return err
	}
	if err := os.WriteFile(t.release(), nil, 0o644); err != nil {
		return err
	}
	r.node, r.from = h.Name, time.Now()
	if err := t.hurt(ctx, r, h); err != nil {
		return err
	}
	err = rig.WaitFor(ctx, time.Minute, "three working nodes", func() error { return t.mended(ctx, r) })
	r.to = time.Now()
	t.h.Down(r.from, r.to)
	return err
}

// mended says what does not work yet. A node whose disk was full may end some time after, and is started again.
func (t *torture) mended(ctx context.Context, r *result) error {
	for _, h := range t.hosts {
		if h.Alive() {
			continue
		}
		r.died = true
		if h.Name != r.node || r.kind != full {
			r.say("%s ended by itself: %s", h.Name, h.Proc.ProcessState)
		}
		if err := h.Start(); err != nil {
			return err
		}
	}
	return t.c.Healthy(ctx)
}

// startLong starts forty runs and waits until their commands run.
func (t *torture) startLong(ctx context.Context) error {
	if err := os.Remove(t.release()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for range longRuns {
		if _, err := t.long.StartByHand(ctx, jobWait); err != nil {
			return fmt.Errorf("start a long run: %w", err)
		}
	}
	return rig.WaitFor(ctx, time.Minute, "long runs", func() error {
		n, err := t.c.Running(jobWait)
		if err == nil && n < longRuns {
			err = fmt.Errorf("%d of %d", n, longRuns)
		}
		return err
	})
}

func (t *torture) release() string { return filepath.Join(t.c.Dir, release) }

// choose gives the node that a fault is for.
func (t *torture) choose(ctx context.Context, f fault) (*host, error) {
	var leader *rig.Node
	err := rig.WaitFor(ctx, 40*time.Second, "a leader", func() (err error) {
		leader, err = t.c.Leader(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	i := slices.Index(t.c.Nodes, leader)
	if !f.leader {
		i = (i + 1 + f.which) % len(t.hosts)
	}
	return t.hosts[i], nil
}

// finish waits for rest, judges, and charges what it finds to the faults.
func (t *torture) finish(ctx context.Context, results []*result) error {
	end, err := t.op.Finish(ctx, 150*time.Second)
	if err != nil {
		return err
	}
	e, err := t.c.Collect(ctx, t.h, end)
	if err != nil {
		return err
	}
	found := rig.Judge(e)
	t.log("judged: %s; %d broken promises", e.Size(), len(found))
	for _, r := range results {
		if r.leader {
			from, to := e.Pause(r.from.Add(-time.Second), r.to)
			r.pause = to.Sub(from)
			r.ended = e.Ended(jobWait, from, to)
		}
	}
	if err := t.c.StopAll(); err != nil {
		found = append(found, rig.Violation{Promise: "end", At: time.Now(), Text: err.Error()})
	}
	for _, v := range t.c.Complaints() {
		if !excused(results, v) {
			found = append(found, v)
		}
	}
	charge(results, found)
	return nil
}

// clean undoes all that was made, in whatever state it is.
func (t *torture) clean() {
	for _, h := range t.hosts {
		if h.disk != nil {
			h.disk.thaw()
		}
	}
	t.c.Kill()
	for _, h := range t.hosts {
		if h.disk != nil {
			h.disk.remove()
		}
		if h.net != nil {
			h.net.remove()
		}
	}
}
