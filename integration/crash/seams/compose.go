//go:build crashpoints

package seams

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/app"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/scheduler"
)

// Compose puts the crash points around a node's parts, as the environment says.
func Compose(o *app.Options) error {
	c, err := newCrash(os.Getenv)
	if err != nil {
		return err
	}
	if err := errors.Join(static(o, os.Getenv), segments(o, os.Getenv)); err != nil {
		return err
	}
	if path := os.Getenv("SP_CLOCK"); path != "" {
		o.Seams.Wall = func() time.Time { return time.Now().Add(wrongBy(path)) }
	}
	o.Seams.FSM = func(m *fsm.Machine) raft.FSM { return machine{m, c} }
	o.Seams.Proposer = func(p app.Proposer) app.Proposer { return proposer{p, c} }
	o.Seams.Launcher = func(l scheduler.Launcher) scheduler.Launcher { return launcher{l, c} }
	o.Seams.Cluster = func(cfg *cluster.Config) {
		cfg.WrapLogStore = func(s raft.LogStore) raft.LogStore { return logStore{s, c} }
		cfg.WrapStableStore = func(s raft.StableStore) raft.StableStore { return stableStore{s, c} }
		cfg.Handler = handler(cfg.Handler, c)
	}
	return nil
}

// static reads a cluster whose voters are known from the start.
func static(o *app.Options, getenv func(string) string) error {
	o.NodeID, o.ClusterID = getenv("SP_NODE_ID"), getenv("SP_CLUSTER_ID")
	for _, peer := range strings.FieldsFunc(getenv("SP_PEERS"), func(r rune) bool { return r == ',' }) {
		id, addr, ok := strings.Cut(peer, "=")
		if !ok {
			return fmt.Errorf("read SP_PEERS: %q is not id=host:port", peer)
		}
		o.Peers = append(o.Peers, cluster.Peer{ID: id, Addr: addr})
	}
	if text := getenv("SP_SNAPSHOT_LOGS"); text != "" {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return fmt.Errorf("read SP_SNAPSHOT_LOGS: %w", err)
		}
		o.Timings.SnapshotLogs, o.Timings.SnapshotEvery, o.Timings.TrailingLogs = n, time.Second, n/2
	}
	return nil
}

// segments makes the segments of output so small that some of them are dead before long, and has them taken for those of another
// node, which may be lacking, if the environment says so.
func segments(o *app.Options, getenv func(string) string) error {
	text := getenv("SP_SEGMENT_BYTES")
	if text == "" {
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return fmt.Errorf("read SP_SEGMENT_BYTES: %w", err)
	}
	fed := getenv("SP_FED") != ""
	o.Seams.Machine = func(m *fsm.Options) {
		m.Output.SegmentBytes = n
		if fed {
			m.Output.Origin = ""
		}
	}
	return nil
}

// wrongBy reads how far the wall clock is ahead. Without the file, or while it is being written, the clock is right.
func wrongBy(path string) time.Duration {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	d, err := time.ParseDuration(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return d
}

type proposer struct {
	app.Proposer
	c *crash
}

func (p proposer) Propose(ctx context.Context, prio cluster.Priority, cmd []byte) (cluster.Result, error) {
	name := commandName(cmd)
	n := p.c.number()
	p.c.mark(fmt.Sprintf("proposal %d %s", n, name))
	p.c.hit("propose.before." + name)
	res, err := p.Proposer.Propose(ctx, prio, cmd)
	p.c.mark(fmt.Sprintf("outcome %d %s %s", n, name, okOr(err)))
	p.c.hit("propose.after." + name)
	return res, err
}

func okOr(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}

// requests are the names of the kinds of requests to the leader, as package app numbers them.
var requests = [...]string{1: "hello", 2: "start", 3: "resume", 4: "report", 5: "lock", 6: "heard", 7: "change"}

func handler(h cluster.Handler, c *crash) cluster.Handler {
	return func(ctx context.Context, kind byte, payload []byte) ([]byte, error) {
		name := fmt.Sprintf("request%d", kind)
		if int(kind) < len(requests) {
			name = requests[kind]
		}
		b, err := h(ctx, kind, payload)
		c.mark("answer " + name + " " + okOr(err))
		c.hit("reply.before." + name)
		time.AfterFunc(replyDelay, func() { c.hit("reply.after." + name) })
		return b, err
	}
}

type launcher struct {
	scheduler.Launcher
	c *crash
}

func (l launcher) Publish(ctx context.Context, launch *saltpeter.Launch, job *saltpeter.Job, window time.Duration) error {
	l.c.hit("publish.before")
	err := l.Launcher.Publish(ctx, launch, job, window)
	l.c.hit("publish.after")
	return err
}

func (l launcher) Resolve(ctx context.Context, job saltpeter.Job, subset []string, up bool) ([]saltpeter.Resolved, error) {
	l.c.hit("resolve.before")
	found, err := l.Launcher.Resolve(ctx, job, subset, up)
	l.c.hit("resolve.after")
	return found, err
}
