package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
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
)

// How a node's launches are carried out.
const (
	PublishReally = "really" // start wrappers, as the local launcher does
	PublishTell   = "tell"   // tell who measures of every launch, as the event "launch"
	PublishNobody = "nobody" // nothing is started and nobody answers
	PublishAnswer = "answer" // the node's process itself claims every start and reports the result at once
)

// NodeSpec is what a node is made of. Dir/config holds its files.
type NodeSpec struct {
	Dir     string
	Publish string
	Output  int // bytes that each target reports, with PublishAnswer
}

// NodeReady is what a node that serves says of itself.
type NodeReady struct {
	Gateway string // host:port
	API     string
	Cluster string
	Pin     string
}

// LaunchTold is a launch that PublishTell tells of.
type LaunchTold struct {
	Job, Launch, Token string
	Machines           []string
}

// node is the role of a node of package app.
type node struct {
	spec    NodeSpec
	app     *app.App
	tell    teller
	ring    *keys.Ring
	cluster string

	machine  *fsm.Machine
	cnode    *cluster.Node
	claims   claimNotes
	log      logCounter
	snaps    snapshotNotes
	addrs    map[string]net.Addr
	ctx      context.Context //nolint:containedctx // a role lives from begin to end
	cancel   context.CancelFunc
	running  sync.WaitGroup
	endedErr error
}

func (n *node) begin(raw json.RawMessage, tell teller) (any, error) {
	if err := json.Unmarshal(raw, &n.spec); err != nil {
		return nil, err
	}
	n.tell, n.addrs = tell, make(map[string]net.Addr)
	own, err := ownSettings(n.spec.Dir)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if n.app, err = app.New(app.Options{Node: own, Log: log, OwnsProcess: true, Seams: n.seams()}); err != nil {
		return nil, err
	}
	ready, err := n.whoAmI(own.DataDir)
	if err != nil {
		return nil, errors.Join(err, n.app.Close())
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.running.Go(func() {
		if n.endedErr = n.app.Run(n.ctx); n.endedErr != nil {
			fmt.Fprintln(os.Stderr, "error:", n.endedErr)
			n.tell("failed", n.endedErr.Error())
		}
	})
	return ready, nil
}

// ownSettings are those of a node whose things all lie below dir.
func ownSettings(dir string) (config.Node, error) {
	fs := pflag.NewFlagSet("node", pflag.ContinueOnError)
	config.AddFlags(fs)
	err := fs.Parse([]string{"-c", filepath.Join(dir, "config"), "-l", filepath.Join(dir, "log"), "--data-dir", filepath.Join(dir, "data"),
		"--local-state", filepath.Join(dir, "machines"), "--socket", filepath.Join(dir, "sock"), "--bind", "127.0.0.1", "--name", "bench"})
	if err != nil {
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

// whoAmI reads what others must know: the key and the cluster's id are in the data directory by now.
func (n *node) whoAmI(dataDir string) (NodeReady, error) {
	var err error
	if n.ring, err = keys.Load(filepath.Join(dataDir, "key")); err != nil {
		return NodeReady{}, err
	}
	text, err := os.ReadFile(filepath.Join(dataDir, "node.json"))
	if err != nil {
		return NodeReady{}, err
	}
	var id struct {
		Cluster string `json:"cluster_id"`
	}
	if err := json.Unmarshal(text, &id); err != nil {
		return NodeReady{}, err
	}
	n.cluster = id.Cluster
	return NodeReady{Gateway: n.addrs["wrapper"].String(), API: n.addrs["api"].String(), Cluster: id.Cluster, Pin: n.ring.Pin().String()}, nil
}

func (n *node) seams() app.Seams {
	s := app.Seams{
		Listen: func(what, _ string) (net.Listener, error) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err == nil {
				n.addrs[what] = ln.Addr()
			}
			return ln, err
		},
		FSM: func(m *fsm.Machine) raft.FSM {
			n.machine = m
			return &notedMachine{Machine: m, notes: &n.snaps}
		},
		Cluster: func(c *cluster.Config) {
			c.WrapLogStore = func(s raft.LogStore) raft.LogStore { return &countedLog{LogStore: s, count: &n.log} }
		},
		Proposer: func(p app.Proposer) app.Proposer {
			n.cnode, _ = p.(*cluster.Node)
			return &notedProposer{Proposer: p, notes: &n.claims}
		},
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
	all["state"] = func(json.RawMessage) (any, error) {
		v := n.machine.View()
		return State{Serving: n.cnode.Status().Serving, Jobs: v.JobCount(), Unfinished: v.UnfinishedCount(), Targets: v.TargetCount(),
			LogBytes: n.log.bytes.Load(), LogEntries: n.log.entries.Load(), Snapshots: n.snaps.list()}, nil
	}
	all["barrier"] = func(json.RawMessage) (any, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return n.cnode.Barrier(ctx)
	}
	all["claims"] = func(json.RawMessage) (any, error) { return n.claims.take() }
	all["start"] = with(n.start)
	all["output"] = with(n.output)
	all["accept"] = with(n.accept)
	return all
}

// start starts a run of a job by hand.
func (n *node) start(job string) (any, error) {
	b, err := fsm.Encode(n.env(), &fsm.StartRun{Request: saltpeter.StartRequest{Job: job, Key: fmt.Sprintf("%s-%d", job, time.Now().UnixNano())}})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	res, err := n.cnode.Propose(ctx, cluster.Normal, b)
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
	t, ok := n.machine.View().Target(saltpeter.TargetRef{Run: run})
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
	return errors.Join(n.endedErr, n.app.Close())
}
