package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/config"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/keys"
	"github.com/syscollective/saltpeter/internal/outlog"
	"github.com/syscollective/saltpeter/launcher/local"
	"github.com/syscollective/saltpeter/saltclient"
	"github.com/syscollective/saltpeter/scheduler"
	"github.com/syscollective/saltpeter/wsgateway"
)

// Options are what a node is made of. Node is required; the rest has defaults.
type Options struct {
	Node config.Node
	Log  *slog.Logger // nil = discard

	// Peers are the voters of a statically configured cluster, this node's identity among them; empty = alone.
	Peers     []cluster.Peer
	NodeID    string // with Peers
	ClusterID string // with Peers
	Timings   cluster.Timings

	// OwnsProcess says that nothing else lives in this process: its garbage collector is set for this node.
	OwnsProcess bool

	Seams Seams
}

// Seams are where tests put their own parts or decorate ours. None is set in production.
type Seams struct {
	Wall     func() time.Time                                         // this node's wall clock
	FS       outlog.FS                                                // holds the segments
	Memory   *cluster.Memory                                          // holds the raft log
	Listen   func(what, addr string) (net.Listener, error)            // what: "node", "api", "wrapper"; nil listener = not served
	Dial     func(ctx context.Context, addr string) (net.Conn, error) // to other nodes
	Lookup   func(ctx context.Context, host string) ([]string, error) // of names, in place of this host's resolver
	Identity wsgateway.Identity
	SaltKey  wsgateway.ReadKey              // in place of asking the masters
	Gossip   Gossip                         // with Listen, none if nil
	Salt     func(*App) (SaltMaster, error) // this host's Salt master, nil if it has none

	Machine  func(*fsm.Options)
	FSM      func(*fsm.Machine) raft.FSM
	Cluster  func(*cluster.Config)
	Gateway  func(*wsgateway.Config)
	Proposer func(Proposer) Proposer
	Launcher func(scheduler.Launcher) scheduler.Launcher
}

// App is one node.
type App struct {
	opts     Options
	log      *slog.Logger
	wall     func() time.Time
	ident    identity
	ring     *keys.Ring
	listen   config.Listen
	registry *prometheus.Registry
	started  time.Time

	machine   *fsm.Machine
	node      *cluster.Node
	proposer  Proposer
	scheduler *scheduler.Scheduler
	gateway   *wsgateway.Gateway
	api       *api.Server
	files     *files
	gossip    Gossip // nil until it is opened
	masters   *saltclient.Masters
	endpoints endpoints
	ownMaster SaltMaster // nil on a host without one
	changes   *changes
	listeners listeners

	firing     firing                 // how late claims are
	leads      atomic.Uint64          // term in which this node leads, 0 = it doesn't
	clockAlarm atomic.Pointer[string] // why this node leads although its clock is off

	forming forming
	restart chan error // one that ends Run so that the node begins again
}

type listeners struct {
	socket  net.Listener
	api     []net.Listener
	wrapper net.Listener
}

// New opens what a node needs: data directory, key, record, ports. Nothing runs before Run; Close undoes it.
func New(opts Options) (*App, error) {
	a := &App{opts: opts, log: opts.Log, wall: opts.Seams.Wall, registry: prometheus.NewRegistry(), started: time.Now(),
		restart: make(chan error, 1)}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.wall == nil {
		a.wall = time.Now
	}
	if opts.OwnsProcess {
		spareMemory()
	}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if err := a.open(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

func (a *App) open() error {
	n := &a.opts.Node
	if err := makeAbsolute(&n.DataDir, &n.LocalState, &n.KeyFile, &n.Socket, &n.LogDir, &n.ConfigDir); err != nil {
		return err
	}
	if err := os.MkdirAll(n.DataDir, 0o700); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if err := dropRestoreSpool(n.DataDir); err != nil {
		return fmt.Errorf("tidy data directory: %w", err)
	}
	var err error
	if a.ident, err = loadIdentity(n.DataDir, a.opts.NodeID, a.opts.ClusterID, len(n.Join) > 0); err != nil {
		return err
	}
	if a.ring, err = loadKeys(n, a.ident.standing()); err != nil {
		return err
	}
	a.files = newFiles(n, a.log.With("component", "config"))
	if a.listen, err = config.Effective(*n, a.files.settings()); err != nil {
		return err
	}
	if err := a.openSalt(); err != nil {
		return err
	}
	if err := a.openRecord(); err != nil {
		return err
	}
	if err := a.noteLog(); err != nil {
		return err
	}
	a.openGossip()
	return a.openPorts()
}

// makeAbsolute makes paths mean the same for processes that run in other directories.
func makeAbsolute(paths ...*string) error {
	for _, p := range paths {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return fmt.Errorf("find %s: %w", *p, err)
		}
		*p = abs
	}
	return nil
}

// loadKeys reads the cluster's key. A node that is alone makes one if it has none; to another it is given.
func loadKeys(n *config.Node, s standing) (*keys.Ring, error) {
	path := n.KeyFile
	if path == "" {
		path = filepath.Join(n.DataDir, "key")
		if s == alone {
			ring, err := keys.LoadOrCreate(path)
			if err != nil {
				return nil, fmt.Errorf("read this node's key: %w", err)
			}
			return ring, nil
		}
	}
	ring, err := keys.Load(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, saltpeter.Errorf(saltpeter.CodeConfig, "the cluster's key is not at %s: %w", path, err).
			WithHint("copy the key file of a node of the cluster there (mode 0600), or name it with --key-file")
	}
	if err != nil {
		return nil, fmt.Errorf("read the cluster's key: %w", err)
	}
	return ring, nil
}

// openRecord opens the state machine and raft.
func (a *App) openRecord() error {
	n := &a.opts.Node
	a.changes = newChanges()
	disk := a.opts.Seams.FS
	if disk == nil {
		disk = outlog.OS()
	}
	opts := fsm.Options{FS: disk, Dir: filepath.Join(n.DataDir, "segments"), Changed: a.changes.add,
		Output: outlog.Options{Origin: a.ident.NodeID}, Feed: outlog.Options{Origin: a.ident.NodeID}}
	if a.opts.Seams.Machine != nil {
		a.opts.Seams.Machine(&opts)
	}
	a.machine = fsm.New(opts)
	cfg := cluster.Config{
		ID: a.ident.NodeID, Name: n.Name, ClusterID: a.ident.ClusterID, Dir: filepath.Join(n.DataDir, "raft"), Memory: a.opts.Seams.Memory, FSM: a.machine,
		Advertise: a.ident.NodeID, Peers: a.opts.Peers, Timings: a.opts.Timings,
		Lead: a.lead, Handler: a.serveLeader, PeerHandler: a.servePeer, Vet: a.vet, Program: program(), NameOf: a.nameOf, Logger: a.log, Registerer: a.registry,
	}
	if a.opts.Seams.FSM != nil {
		cfg.FSM = a.opts.Seams.FSM(a.machine)
	}
	if err := a.openNodePort(&cfg); err != nil {
		return err
	}
	if a.opts.Seams.Cluster != nil {
		a.opts.Seams.Cluster(&cfg)
	}
	node, err := cluster.Open(cfg)
	if err != nil {
		return errors.Join(err, cfg.Listener.Close())
	}
	a.node = node
	a.proposer = node
	if a.opts.Seams.Proposer != nil {
		a.proposer = a.opts.Seams.Proposer(node)
	}
	a.scheduler = scheduler.New(scheduler.Options{
		Record: a.recordOf, Launcher: a.launcherFor, Clocks: clocks{a}, Wall: a.wall, Logger: a.log,
	})
	return nil
}

func (a *App) localBase() string {
	if a.opts.Node.LocalState != "" {
		return a.opts.Node.LocalState
	}
	return local.DefaultBase()
}

// Addresses gives where the API listens on TCP, for those who gave port 0.
func (a *App) Addresses() []net.Addr {
	var out []net.Addr
	for _, ln := range a.listeners.api {
		out = append(out, ln.Addr())
	}
	return out
}

// Run serves until ctx ends or a part fails; then everything is stopped: first leadership is handed on, then the ports
// close. Commands that run on machines go on. ErrRestart means that the node is to be made anew: see Serve.
func (a *App) Run(ctx context.Context) error {
	// Raft outlives the rest: what is in flight when ctx ends still gets its answer.
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return a.node.Run(ctx) })
	g.Go(func() error { return a.watchHalt(ctx) })
	g.Go(func() error { return a.changes.run(ctx, a) })
	g.Go(func() error { return a.files.run(ctx) })
	g.Go(func() error { return a.watchRestart(ctx) })
	g.Go(func() error { return a.form(ctx) })
	if a.opts.OwnsProcess {
		g.Go(func() error { return tuneCollector(ctx) })
	}
	g.Go(func() error { return a.gossip.Run(ctx) })
	if a.serves() {
		g.Go(func() error { return a.runSalt(ctx) })
		g.Go(func() error { return a.introduce(ctx) })
		g.Go(func() error { return a.watchKeys(ctx) })
		g.Go(func() error { return a.fetchSegments(ctx) })
		g.Go(func() error { return a.jobLogs().Run(ctx) })
	}
	if a.listeners.wrapper != nil {
		g.Go(func() error { return a.gateway.Serve(ctx, a.listeners.wrapper) })
	}
	if a.listeners.socket != nil {
		g.Go(func() error { return a.api.Serve(ctx, a.listeners.socket, api.OriginSocket) })
	}
	for _, ln := range a.listeners.api {
		g.Go(func() error { return a.api.Serve(ctx, ln, api.OriginNetwork) })
	}
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// watchHalt ends the node when the state machine can't go on.
func (a *App) watchHalt(ctx context.Context) error {
	select {
	case <-a.machine.Halted():
		return a.machine.Err()
	case <-ctx.Done():
		return nil
	}
}

// Close closes what New opened. Run must have returned.
func (a *App) Close() error {
	var errs []error
	for _, ln := range append(a.listeners.api, a.listeners.socket, a.listeners.wrapper) {
		if ln != nil {
			if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	if a.gossip != nil {
		errs = append(errs, a.gossip.Close())
	}
	if a.node != nil {
		errs = append(errs, a.node.Close())
	}
	if a.machine != nil {
		errs = append(errs, a.machine.Close())
	}
	return errors.Join(errs...)
}
