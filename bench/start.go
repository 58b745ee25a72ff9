package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/syscollective/saltpeter/bench/rig"
)

// loadLimit is how long a node's first start may take.
const loadLimit = time.Minute

// overlapping is the line that lets runs of one job overlap.
const overlapping = "allow_overlap: i know what i am doing!"

// settings are the beginning of every node's files; more are lines of saltpeter_config.
func settings(machines int, more ...string) string {
	names := make([]string, machines)
	for i := range names {
		names[i] = rig.Machine(i)
	}
	if !slices.ContainsFunc(more, func(l string) bool { return strings.HasPrefix(l, "default_wrapper_path:") }) {
		more = append(more, "default_wrapper_path: /bin/true")
	}
	return "saltpeter_config:\n  launcher: local\n  auth: none\n  local_minions: [" + strings.Join(names, ", ") + "]\n  " +
		strings.Join(more, "\n  ") + "\n"
}

// proc starts a process; measure ends it at the latest.
func (b *bench) proc(ctx context.Context, role string, spec, ready any, event func(string, json.RawMessage), log *os.File) (*rig.Proc, error) {
	p, err := rig.Start(ctx, role, spec, ready, event, log)
	if err == nil {
		b.procs = append(b.procs, p)
	}
	return p, err
}

// aNode is a node's process with its directory.
type aNode struct {
	*rig.Proc
	rig.NodeReady
	dir  string
	spec rig.NodeSpec
	log  *os.File
	b    *bench
	told chan rig.LaunchTold // of PublishTell
}

// node starts a node with files in a directory of its own and waits until its jobs are in force.
func (b *bench) node(ctx context.Context, name, files string, jobs int, publish string, output int) (*aNode, error) {
	dir := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Join(dir, "config"), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "config", "bench.yaml"), []byte(files), 0o600); err != nil {
		return nil, err
	}
	n := &aNode{dir: dir, spec: rig.NodeSpec{Dir: dir, Publish: publish, Output: output}, b: b, told: make(chan rig.LaunchTold, 1<<14)}
	if err := n.start(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, loadLimit)
	defer cancel()
	return n, n.until(ctx, "the jobs to be in force", func(s rig.State) bool { return s.Serving && s.Jobs == jobs })
}

// start starts the process, again after a kill.
func (n *aNode) start(ctx context.Context) (err error) {
	if n.log, err = os.OpenFile(filepath.Join(n.dir, "node.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	n.Proc, err = n.b.proc(ctx, "node", n.spec, &n.NodeReady, n.event, n.log)
	return n.explain(err)
}

func (n *aNode) event(name string, body json.RawMessage) {
	var l rig.LaunchTold
	if name != "launch" || json.Unmarshal(body, &l) != nil {
		return
	}
	select {
	case n.told <- l:
	default: // nobody takes them any more
	}
}

// explain adds the end of the node's log to an error.
func (n *aNode) explain(err error) error {
	if err == nil {
		return nil
	}
	text, readErr := os.ReadFile(n.log.Name())
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	return fmt.Errorf("%w\n%s", err, text[max(0, len(text)-2000):])
}

func (n *aNode) state() (s rig.State, err error) {
	err = n.Ask("state", nil, &s)
	return s, n.explain(err)
}

// until waits for something of the node's state.
func (n *aNode) until(ctx context.Context, what string, good func(rig.State) bool) error {
	for {
		s, err := n.state()
		if err != nil {
			return err
		}
		if good(s) {
			return nil
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return n.explain(fmt.Errorf("wait for %s: %w: %+v", what, err, s))
		}
	}
}

// launch starts a job by hand and waits for its launch.
func (n *aNode) launch(ctx context.Context, job string) (rig.LaunchTold, error) {
	if err := n.Ask("start", job, nil); err != nil {
		return rig.LaunchTold{}, n.explain(err)
	}
	for {
		select {
		case l := <-n.told:
			if l.Job == job {
				return l, nil
			}
		case <-ctx.Done():
			return rig.LaunchTold{}, fmt.Errorf("wait for the launch of %s: %w", job, ctx.Err())
		}
	}
}

// profiled profiles the node until the returned function is called; it does nothing without -profile.
func (n *aNode) profiled(name string) (stop func() error) {
	if n.b.profile == "" {
		return func() error { return nil }
	}
	if err := n.Ask("profile", filepath.Join(n.b.profile, name+".cpu"), nil); err != nil {
		return func() error { return err }
	}
	return func() error {
		return errors.Join(n.Ask("profile", "", nil), n.Ask("heap", filepath.Join(n.b.profile, name+".heap"), nil))
	}
}

func (n *aNode) stop() error { return errors.Join(n.Stop(), n.log.Close()) }

// fleet starts played wrappers of this node, whose machines are m-0 … m-(machines-1).
func (n *aNode) fleet(ctx context.Context, machines, lives int) (*rig.Proc, error) {
	var seed []byte
	if err := n.Ask("accept", machines, &seed); err != nil {
		return nil, n.explain(err)
	}
	return n.b.proc(ctx, "fleet", rig.FleetSpec{Addrs: []string{n.Gateway}, Pin: n.Pin, Cluster: n.Cluster, Seed: seed, Lives: lives}, nil, nil, os.Stderr)
}

// bareFleet starts sessions of a bare prototype.
func (b *bench) bareFleet(ctx context.Context, to rig.BareReady) (*rig.Proc, error) {
	return b.proc(ctx, "fleet", rig.FleetSpec{Addrs: []string{to.Addr}, Pin: to.Pin, Bare: true, Lives: runsLives}, nil, nil, os.Stderr)
}

// machines are names for a bare fleet's sessions.
func machines(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = rig.Machine(i)
	}
	return out
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
