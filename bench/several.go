package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/syscollective/saltpeter/api/client"
	"github.com/syscollective/saltpeter/bench/rig"
	"github.com/syscollective/saltpeter/internal/keys"
)

// formLimit is how long forming a cluster, or joining one, may take.
const formLimit = 2 * time.Minute

// several are the nodes of one cluster on this machine. They share configuration, key and played machines.
type several struct {
	nodes []*aNode
	b     *bench
	dir   string
	spec  rig.NodeSpec
	told  chan rig.LaunchTold
}

// cluster forms a cluster of so many nodes with these files and waits until its jobs are in force and all nodes vote.
func (b *bench) cluster(ctx context.Context, name string, count int, files string, jobs int, spec rig.NodeSpec) (*several, error) {
	c := &several{b: b, dir: filepath.Join(b.dir, name), told: make(chan rig.LaunchTold, 1<<14)}
	c.spec = spec
	c.spec.Shared = c.dir
	for i := range 9 {
		c.spec.Join = append(c.spec.Join, bindOf(i))
	}
	if err := os.MkdirAll(filepath.Join(c.dir, "config"), 0o700); err != nil {
		return nil, err
	}
	for path, text := range map[string]string{"config/bench.yaml": files, "key": keys.Generate().Hex() + "\n"} {
		if err := os.WriteFile(filepath.Join(c.dir, path), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	for range count {
		if _, err := c.add(ctx); err != nil {
			return nil, err
		}
	}
	api, err := c.nodes[0].client()
	if err != nil {
		return nil, err
	}
	defer api.Close()
	ctx, cancel := context.WithTimeout(ctx, formLimit)
	defer cancel()
	if _, err := api.InitCluster(ctx); err != nil {
		return nil, c.nodes[0].explain(fmt.Errorf("begin the cluster: %w", err))
	}
	if err := c.untilVoters(ctx, count); err != nil {
		return nil, err
	}
	return c, c.untilInForce(ctx, jobs)
}

// untilInForce waits until every node knows so many jobs.
func (c *several) untilInForce(ctx context.Context, jobs int) error {
	for _, n := range c.nodes {
		if err := n.until(ctx, fmt.Sprintf("%d jobs in force", jobs), func(s rig.State) bool { return s.Jobs == jobs }); err != nil {
			return err
		}
	}
	return nil
}

// bindOf is the address of the i-th node: it differs between two benches.
func bindOf(i int) string {
	return fmt.Sprintf("127.%d.%d.%d", 30+os.Getpid()%60, 1+os.Getpid()/60%250, 1+i)
}

// add starts one more node.
func (c *several) add(ctx context.Context) (*aNode, error) {
	i := len(c.nodes)
	spec := c.spec
	spec.Dir, spec.Bind = filepath.Join(c.dir, fmt.Sprintf("n%d", i+1)), bindOf(i)
	if err := os.MkdirAll(spec.Dir, 0o700); err != nil {
		return nil, err
	}
	n := &aNode{dir: spec.Dir, spec: spec, b: c.b, told: c.told}
	if err := n.start(ctx); err != nil {
		return nil, err
	}
	c.nodes = append(c.nodes, n)
	return n, nil
}

// client speaks to the node's API.
func (n *aNode) client() (*client.Client, error) {
	addrs, err := client.ParseAddrs("unix://" + n.Socket)
	if err != nil {
		return nil, err
	}
	return client.New(client.Config{Addrs: addrs})
}

// untilVoters waits until so many nodes vote.
func (c *several) untilVoters(ctx context.Context, want int) error {
	api, err := c.nodes[0].client()
	if err != nil {
		return err
	}
	defer api.Close()
	for {
		voters := 0
		if a, err := api.Cluster(ctx); err == nil { // none yet while nodes begin again
			for _, m := range a.Value.Members {
				if m.Voter {
					voters++
				}
			}
		}
		if voters == want {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return c.nodes[0].explain(fmt.Errorf("wait for %d voters: %w, %d are", want, err, voters))
		}
	}
}

// leader waits for a node that leads.
func (c *several) leader(ctx context.Context) (*aNode, error) {
	for {
		for _, n := range c.nodes {
			s, err := n.state()
			if err != nil {
				return nil, err
			}
			if s.Serving {
				return n, nil
			}
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, fmt.Errorf("wait for a leader: %w", err)
		}
	}
}

// fleet starts played wrappers that go to all nodes in turn.
func (c *several) fleet(ctx context.Context, machines, lives int) (*rig.Proc, error) {
	spec, err := c.wrappers(machines, lives)
	if err != nil {
		return nil, err
	}
	return c.b.proc(ctx, "fleet", spec, nil, nil, os.Stderr)
}

// play has every node play the wrappers of its launches, with PublishPlay.
func (c *several) play(machines, lives int) error {
	spec, err := c.wrappers(machines, lives)
	if err != nil {
		return err
	}
	for _, n := range c.nodes {
		if err := n.Ask("play", spec, nil); err != nil {
			return n.explain(err)
		}
	}
	return nil
}

// lives sums what became of wrappers that the nodes play.
func (c *several) lives() (sum rig.Lives, err error) {
	for _, n := range c.nodes {
		var l rig.Lives
		if err := n.Ask("lives", nil, &l); err != nil {
			return sum, n.explain(err)
		}
		sum.Done, sum.Failed, sum.Under = sum.Done+l.Done, sum.Failed+l.Failed, sum.Under+l.Under
		if l.Trouble != "" {
			sum.Trouble = l.Trouble
		}
	}
	return sum, nil
}

// wrappers describes played wrappers that go to all nodes in turn.
func (c *several) wrappers(machines, lives int) (rig.FleetSpec, error) {
	spec := rig.FleetSpec{Lives: lives}
	for _, n := range c.nodes {
		var ready rig.NodeReady
		if err := n.Ask("ready", nil, &ready); err != nil {
			return spec, n.explain(err)
		}
		spec.Addrs = append(spec.Addrs, ready.Gateway)
		spec.Cluster = ready.Cluster
		if !c.spec.Plain {
			spec.Pin = ready.Pin
		}
	}
	if err := c.nodes[0].Ask("accept", machines, &spec.Seed); err != nil {
		return spec, c.nodes[0].explain(err)
	}
	return spec, nil
}

// launch starts a job by hand on whichever node leads and waits for its launch.
func (c *several) launch(ctx context.Context, job string) (rig.LaunchTold, error) {
	lead, err := c.leader(ctx)
	if err != nil {
		return rig.LaunchTold{}, err
	}
	return lead.launch(ctx, job)
}

// claimsDuring gives the claims that were committed while f ran, whoever led.
func (c *several) claimsDuring(f func() error) (all rig.Claims, err error) {
	for _, n := range c.nodes {
		if err := n.Ask("claims", nil, nil); err != nil {
			return all, n.explain(err)
		}
	}
	if err := f(); err != nil {
		return all, err
	}
	for _, n := range c.nodes {
		var one rig.Claims
		if err := n.Ask("claims", nil, &one); err != nil {
			return all, n.explain(err)
		}
		all.Runs += one.Runs
		all.Skips += one.Skips
		all.Others += one.Others
		all.Late = append(all.Late, one.Late...)
	}
	return all, nil
}

// unfinished gives the runs that have not ended, as the leader's record says.
func (c *several) unfinished(ctx context.Context) (int, error) {
	lead, err := c.leader(ctx)
	if err != nil {
		return 0, err
	}
	s, err := lead.state()
	return s.Unfinished, err
}

// usage sums the CPU of all nodes and gives the largest memory of one.
func (c *several) usage() (sum rig.Usage, err error) {
	for _, n := range c.nodes {
		u, err := n.Usage(false)
		if err != nil {
			return sum, n.explain(err)
		}
		sum.CPU += u.CPU
		sum.RSS = max(sum.RSS, u.RSS)
	}
	return sum, nil
}

// profiled profiles every node until the returned function is called.
func (c *several) profiled(name string) (stop func() error) {
	stops := make([]func() error, len(c.nodes))
	for i, n := range c.nodes {
		stops[i] = n.profiled(fmt.Sprintf("%s-n%d", name, i+1))
	}
	return func() error {
		var errs []error
		for _, stop := range stops {
			errs = append(errs, stop())
		}
		return errors.Join(errs...)
	}
}

func (c *several) stop() error {
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, n.stop())
	}
	return errors.Join(errs...)
}

// forward hands every launch to the fleet, until ctx ends.
func forward(ctx context.Context, told <-chan rig.LaunchTold, f *rig.Proc) {
	for {
		select {
		case <-ctx.Done():
			return
		case l := <-told:
			if f.Ask("live", l, nil) != nil {
				return // whoever asks next sees it
			}
		}
	}
}
