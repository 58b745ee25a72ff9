package rig

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/spf13/pflag"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/app"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/config"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/keys"
	"github.com/syscollective/saltpeter/scheduler"
	"github.com/syscollective/saltpeter/wsgateway"
)

// How a node's launches are carried out.
const (
	PublishReally = "really" // start wrappers, as the local launcher does
	PublishTell   = "tell"   // tell who measures of every launch, as the event "launch"
	PublishNobody = "nobody" // nothing is started and nobody answers
	PublishAnswer = "answer" // the node's process itself claims every start and reports the result at once
	PublishPlay   = "play"   // the node's process plays the wrappers, which go to the gateways of all nodes in turn
)

// WritingJob is the job whose targets report output, with PublishAnswer.
const WritingJob = "job"

// NodeSpec is what a node is made of. Dir/config holds its files, unless it is one of several.
type NodeSpec struct {
	Dir     string
	Publish string
	Output  int // bytes that each target of WritingJob reports, with PublishAnswer

	// Of one of several nodes.
	Shared string   // directory that holds what they share: config, key, machines; empty = alone
	Bind   string   // its address; the ports are the usual ones
	Join   []string // addresses of all
	Plain  bool     // wrappers are spoken to without TLS
}

// NodeReady is what a node that serves says of itself.
type NodeReady struct {
	Gateway string // host:port
	API     string
	Cluster string
	Pin     string
	Socket  string // path of the API's unix socket
}

// LaunchTold is a launch that PublishTell tells of.
type LaunchTold struct {
	Job, Launch, Token string
	Machines           []string
}

// node is the role of a node of package app.
type node struct {
	spec NodeSpec
	app  *app.App // Run's goroutine has it while that runs
	tell teller
	ring *keys.Ring
	id   atomic.Pointer[string] // of the cluster, once there is one

	machine  atomic.Pointer[fsm.Machine] // made anew when the node's standing in a cluster has changed
	cnode    atomic.Pointer[cluster.Node]
	claims   claimNotes
	log      logCounter
	snaps    snapshotNotes
	addrs    map[string]net.Addr
	ctx      context.Context //nolint:containedctx // a role lives from begin to end
	cancel   context.CancelFunc
	running  sync.WaitGroup
	endedErr error
	play     atomic.Pointer[fleet] // with PublishPlay
}

func (n *node) begin(raw json.RawMessage, tell teller) (any, error) {
	if err := json.Unmarshal(raw, &n.spec); err != nil {
		return nil, err
	}
	n.tell, n.addrs = tell, make(map[string]net.Addr)
	own, err := n.ownSettings()
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	opts := app.Options{Node: own, Log: log, OwnsProcess: true, Seams: n.seams()}
	if n.app, err = app.New(opts); err != nil {
		return nil, err
	}
	if n.ring, err = keys.Load(cmp.Or(own.KeyFile, filepath.Join(own.DataDir, "key"))); err != nil {
		return nil, errors.Join(err, n.app.Close())
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.running.Go(func() {
		if n.endedErr = n.serve(opts); n.endedErr != nil {
			fmt.Fprintln(os.Stderr, "error:", n.endedErr)
			n.tell("failed", n.endedErr.Error())
		}
	})
	return n.ready()
}

// serve runs the node, made anew whenever its standing in a cluster has changed.
func (n *node) serve(opts app.Options) error {
	for {
		err := n.app.Run(n.ctx)
		if !errors.Is(err, app.ErrRestart) || n.ctx.Err() != nil {
			return err
		}
		if err := n.app.Close(); err != nil {
			return err
		}
		if n.app, err = app.New(opts); err != nil {
			return err
		}
	}
}

// ownSettings are those of a node whose things lie below its directory, but for what it shares.
func (n *node) ownSettings() (config.Node, error) {
	dir, shared := n.spec.Dir, cmp.Or(n.spec.Shared, n.spec.Dir)
	args := []string{"-c", filepath.Join(shared, "config"), "-l", filepath.Join(dir, "log"), "--data-dir", filepath.Join(dir, "data"),
		"--local-state", filepath.Join(shared, "machines"), "--socket", n.socket(), "--bind", cmp.Or(n.spec.Bind, "127.0.0.1"), "--name", filepath.Base(dir)}
	if n.spec.Shared != "" {
		args = append(args, "--key-file", filepath.Join(shared, "key"), "--join", strings.Join(n.spec.Join, ","))
	}
	fs := pflag.NewFlagSet("node", pflag.ContinueOnError)
	config.AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		return config.Node{}, err
	}
	own, problems := config.ReadNode(fs, nil)
	for _, p := range problems {
		if p.Level == config.LevelError {
			return own, fmt.Errorf("own settings: %s", p.String())
		}
	}
	return own, nil
}

func (n *node) socket() string { return filepath.Join(n.spec.Dir, "sock") }

// ready reads what others must know of this node. It has no cluster before one was formed.
func (n *node) ready() (NodeReady, error) {
	id, err := n.clusterID()
	if err != nil {
		return NodeReady{}, err
	}
	r := NodeReady{Cluster: id, Pin: n.ring.Pin().String(), Socket: n.socket()}
	if n.spec.Shared != "" {
		r.Gateway, r.API = n.spec.Bind+":8889", n.spec.Bind+":8888"
	} else {
		r.Gateway, r.API = n.addrs["wrapper"].String(), n.addrs["api"].String()
	}
	return r, nil
}

func (n *node) clusterID() (string, error) {
	if id := n.id.Load(); id != nil {
		return *id, nil
	}
	text, err := os.ReadFile(filepath.Join(n.spec.Dir, "data", "node.json"))
	if err != nil {
		return "", err
	}
	var id struct {
		Cluster string `json:"cluster_id"`
	}
	if err := json.Unmarshal(text, &id); err != nil {
		return "", err
	}
	if id.Cluster != "" {
		n.id.Store(&id.Cluster)
	}
	return id.Cluster, nil
}

func (n *node) seams() app.Seams {
	s := app.Seams{
		FSM: func(m *fsm.Machine) raft.FSM {
			n.machine.Store(m)
			return &notedMachine{Machine: m, notes: &n.snaps}
		},
		Cluster: func(c *cluster.Config) {
			c.WrapLogStore = func(s raft.LogStore) raft.LogStore { return &countedLog{LogStore: s, count: &n.log} }
		},
		Proposer: func(p app.Proposer) app.Proposer {
			if c, ok := p.(*cluster.Node); ok {
				n.cnode.Store(c)
			}
			return &notedProposer{Proposer: p, notes: &n.claims}
		},
	}
	if n.spec.Shared == "" {
		s.Listen = func(what, _ string) (net.Listener, error) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err == nil {
				n.addrs[what] = ln.Addr()
			}
			return ln, err
		}
	}
	if n.spec.Plain {
		s.Gateway = func(c *wsgateway.Config) { c.TLS = nil }
	}
	if n.spec.Publish != PublishReally {
		s.Launcher = func(l scheduler.Launcher) scheduler.Launcher { return launcher{Launcher: l, n: n} }
	}
	return s
}

// State is what a node's record and log hold.
type State struct {
	Serving    bool // the leader's work runs
	Jobs       int
	Unfinished int
	Targets    int
	LogBytes   int64 // of the entries stored since the process began
	LogEntries int64
	Snapshots  []Snapshot // taken since the process began
}

func (n *node) ops() map[string]op {
	all := common()
	all["ready"] = func(json.RawMessage) (any, error) { return n.ready() }
	all["state"] = func(json.RawMessage) (any, error) {
		m, c := n.machine.Load(), n.cnode.Load()
		if m == nil || c == nil {
			return State{}, nil // it waits for a cluster
		}
		v := m.View()
		return State{Serving: c.Status().Serving, Jobs: v.JobCount(), Unfinished: v.UnfinishedCount(), Targets: v.TargetCount(),
			LogBytes: n.log.bytes.Load(), LogEntries: n.log.entries.Load(), Snapshots: n.snaps.list()}, nil
	}
	all["barrier"] = func(json.RawMessage) (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return n.cnode.Load().Barrier(ctx)
	}
	all["commits"] = with(n.commits)
	all["claims"] = func(json.RawMessage) (any, error) { return n.claims.take() }
	all["start"] = with(n.start)
	all["output"] = with(n.output)
	all["accept"] = with(n.accept)
	all["play"] = with(n.playAs)
	all["lives"] = func(json.RawMessage) (any, error) { return n.play.Load().counts(), nil }
	return all
}

// commits has one entry after the other committed, by barriers of this node, and tells when each was (Unix nanoseconds).
func (n *node) commits(span time.Duration) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), span)
	defer cancel()
	var at []int64
	for ctx.Err() == nil {
		if _, err := n.cnode.Load().Barrier(ctx); err == nil {
			at = append(at, time.Now().UnixNano())
		}
	}
	return at, nil
}

// start starts a run of a job by hand.
func (n *node) start(job string) (any, error) {
	b, err := fsm.Encode(n.env(), &fsm.StartRun{Request: saltpeter.StartRequest{Job: job, Key: fmt.Sprintf("%s-%d", job, time.Now().UnixNano())}})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	res, err := n.cnode.Load().Propose(ctx, cluster.Normal, b)
	if err != nil {
		return nil, err
	}
	if r, refused := res.Value.(*fsm.Refusal); refused {
		return nil, r.AsError()
	}
	return res.Value.(fsm.RunStarted).Run, nil
}

func (n *node) env() fsm.Envelope {
	return fsm.Envelope{Millis: time.Now().UnixMilli(), Actor: "bench", Origin: "bench"}
}

// OutputOf is what is stored of the first machine of a run.
type OutputOf struct {
	State           string
	Stored, LeftOut uint64
}

func (n *node) output(run uint64) (any, error) {
	t, ok := n.machine.Load().View().Target(saltpeter.TargetRef{Run: run})
	if !ok {
		return OutputOf{}, nil // not resolved yet
	}
	return OutputOf{State: t.State.String(), Stored: t.Stored, LeftOut: t.LeftOut}, nil
}

func (n *node) end() error {
	if n.cancel == nil {
		return nil
	}
	n.cancel()
	n.running.Wait()
	if f := n.play.Load(); f != nil {
		if err := f.end(); err != nil {
			return err
		}
	}
	return errors.Join(n.endedErr, n.app.Close())
}
