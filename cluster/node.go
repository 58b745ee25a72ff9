package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

const (
	maxAppendEntries = 64 // entries of one AppendEntries: 16 MiB at most
	poolPerPeer      = 3  // idle connections of Raft's to one peer
	// commitTell is after how long at least, and twice that at most, a follower is told that the last entry is committed if no
	// other follows: a strong read on a follower waits for it (bench cluster-pages). Raft's own 50 ms is too slow for
	// that; the shorter, the more an idle cluster says.
	commitTell = 10 * time.Millisecond
	// endWait is how long Run and Close wait for goroutines that a hung disk may hold for ever, and failedWait how long
	// they do in a node that has failed already.
	endWait    = 20 * time.Second
	failedWait = 5 * time.Second
)

// Node is one member of a cluster. Its methods are safe for concurrent use, from Open to Close.
type Node struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	machine *machine
	stores  *stores
	disk    io.Closer // nil in memory
	port    *port
	trans   *transport
	raft    *raft.Raft
	contact contact

	proposer    *proposer
	barriers    *barriers
	links       *links
	leaderWatch *watch

	leading      atomic.Pointer[leadership]
	transferring atomic.Bool
	changing     chan struct{} // held by who changes the members
	closing      chan struct{} // closed when Run begins to end, or Close is called
	closeOnce    sync.Once
	failed       chan struct{} // closed once failErr is set

	runMu   sync.Mutex // guards what follows
	runCtx  context.Context
	running sync.WaitGroup // goroutines of Run
	ran     chan struct{}  // closed when Run has returned; nil before Run
	failErr error

	closeErr error // of the disk; written by its closer
}

// Open opens the node's stores, or makes new ones, restores the newest snapshot and starts Raft. The node neither accepts
// connections nor serves anybody before Run. The listener is the node's from here on, and is closed if Open fails. What is wrong with the data directory is an error that says so and wraps ErrStore.
func Open(cfg Config) (*Node, error) {
	cfg.Timings = cfg.Timings.withDefaults()
	if cfg.Name == "" {
		cfg.Name = cfg.ID
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if err := cfg.check(); err != nil {
		return nil, fmt.Errorf("open node: %w", err)
	}
	n := &Node{cfg: cfg, log: cfg.Logger.With("component", "cluster"), leaderWatch: newWatch(),
		changing: make(chan struct{}, 1),
		closing:  make(chan struct{}), failed: make(chan struct{})}
	if err := n.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("open node: %w", err), n.release())
	}
	return n, nil
}

func (n *Node) open() (err error) {
	n.metrics, err = newMetrics(n.cfg.Registerer, func() time.Duration {
		age, ok := n.contact.age()
		if !ok {
			return -time.Second
		}
		return age
	})
	if err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	conf, err := n.cfg.staticConfiguration()
	if err != nil {
		return err
	}
	n.machine = newMachine(n.cfg.FSM, n.fail)
	n.openProposer()
	raftLog := newRaftLogger(n.log)
	snapshots, err := n.openStores(raftLog)
	if err != nil {
		return err
	}
	n.openPort(raftLog)
	return n.startRaft(conf, snapshots, raftLog)
}

func (n *Node) openProposer() {
	n.proposer = newProposer(n.cfg.Timings.Linger)
	n.proposer.raft = func() *raft.Raft { return n.raft }
	n.proposer.healthy = n.failure
	n.proposer.notLead = n.notLeader
	n.proposer.metrics = n.metrics
	n.proposer.contact = n.contact.note
	n.barriers = newBarriers(n.askBarrier, n.closing)
}

// openStores opens log, stable store and snapshots and checks that they fit together.
func (n *Node) openStores(raftLog *raftLogger) (*usableSnapshots, error) {
	var log raft.LogStore
	var stable raft.StableStore
	usable := &usableSnapshots{}
	if n.cfg.Memory != nil {
		log, stable = n.cfg.Memory.store, n.cfg.Memory.store
		usable.SnapshotStore = &n.cfg.Memory.snapshots
	} else {
		bolt, err := openDisk(n.cfg.Dir)
		if err != nil {
			return nil, err
		}
		n.disk, log, stable = bolt, bolt, bolt
		if err := dropUnfinished(n.cfg.Dir); err != nil {
			return nil, err
		}
		if usable.newest, err = newestSnapshot(n.cfg.Dir); err != nil {
			return nil, err
		}
		if usable.SnapshotStore, err = openSnapshots(n.cfg.Dir, raftLog); err != nil {
			return nil, err
		}
	}
	if n.cfg.WrapLogStore != nil {
		log = n.cfg.WrapLogStore(log)
	}
	if n.cfg.WrapStableStore != nil {
		stable = n.cfg.WrapStableStore(stable)
	}
	n.stores = newStores(log, stable, n.fail)
	var err error
	if usable.first, usable.last, err = n.stores.verify(); err != nil {
		return nil, err
	}
	if err := n.stores.verifyTerm(usable.last); err != nil {
		return nil, err
	}
	return usable, usable.check()
}

func (n *Node) openPort(raftLog *raftLogger) {
	n.port = &port{
		self: n.cfg.ID, cluster: n.cfg.ClusterID, advertise: n.cfg.Advertise,
		listener: n.cfg.Listener, dial: n.cfg.Dial, tls: n.cfg.TLS, timings: n.cfg.Timings,
		members: n.Members, log: n.log, metrics: n.metrics,
		toRaft: make(chan net.Conn), closed: make(chan struct{}), conns: map[*portConn]bool{},
	}
	n.port.serve = func(ctx context.Context, conn net.Conn, peer string) {
		err := serveLink(ctx, conn, 2*n.cfg.Timings.RPC, n.answer)
		n.log.Debug("link ended", "node", peer, "err", err)
	}
	n.port.apply = func(ctx context.Context, conn net.Conn, peer string) {
		if err := n.answerApplicant(ctx, conn, peer); err != nil {
			n.log.Debug("applicant not answered", "node", peer, "err", err)
		}
	}
	n.links = &links{port: n.port, spawn: n.spawn, links: map[string]*link{}}
	n.trans = &transport{contact: &n.contact, NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: raftLayer{n.port}, MaxPool: poolPerPeer, Timeout: n.cfg.Timings.RPC,
		MaxRPCsInFlight: 1, // a stalled follower could otherwise stop replication for ever
		Logger:          raftLog.Named("transport"),
	})}
}

func (n *Node) startRaft(conf raft.Configuration, snapshots *usableSnapshots, raftLog *raftLogger) error {
	t := n.cfg.Timings
	rc := raft.DefaultConfig()
	rc.LocalID = raft.ServerID(n.cfg.ID)
	rc.HeartbeatTimeout, rc.ElectionTimeout, rc.LeaderLeaseTimeout = t.Heartbeat, t.Election, t.Lease
	rc.MaxAppendEntries, rc.CommitTimeout = maxAppendEntries, commitTell
	rc.TrailingLogs, rc.SnapshotThreshold, rc.SnapshotInterval = t.TrailingLogs, t.SnapshotLogs, t.SnapshotEvery
	rc.Logger = raftLog
	rc.NoLegacyTelemetry = true
	if err := n.newRaft(rc, conf, snapshots); err != nil {
		return fmt.Errorf("start raft: %w", err)
	}
	snapshots.started.Store(true)
	n.warnOfOtherPeers(conf)
	return n.failure()
}

// newRaft starts Raft on its stores, with the static configuration if they are empty. It does so in a goroutine that it
// waits for, since one that meets a store's failure is ended by it (see stores).
func (n *Node) newRaft(rc *raft.Config, conf raft.Configuration, snapshots *usableSnapshots) error {
	var err error
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		if snapshots.none() && !n.cfg.Wait {
			err = n.stores.bootstrap(conf)
		}
		if err == nil {
			n.raft, err = raft.NewRaft(rc, n.machine, n.stores, n.stores, snapshots, n.trans)
		}
	}()
	<-begun
	return errors.Join(err, n.stores.err())
}

// fail ends the node with its first failure.
func (n *Node) fail(err error) {
	n.runMu.Lock()
	defer n.runMu.Unlock()
	if n.failErr == nil {
		n.failErr = err
		close(n.failed)
	}
}

// failure is what failed the node, or nil.
func (n *Node) failure() error {
	n.runMu.Lock()
	defer n.runMu.Unlock()
	return n.failErr
}

// spawn runs f in a goroutine of Run's; it returns false if Run does not run.
func (n *Node) spawn(f func(context.Context)) bool {
	n.runMu.Lock()
	defer n.runMu.Unlock()
	if n.runCtx == nil || n.runCtx.Err() != nil {
		return false
	}
	ctx := n.runCtx
	n.running.Go(func() { f(ctx) })
	return true
}

// Run serves until ctx ends or the node fails. When ctx ends it hands leadership on first, if it leads and a follower
// answers, and returns nil. Any error means that the process is to end; ErrStore, ErrStalled and ErrHalted say why.
func (n *Node) Run(ctx context.Context) error {
	// The node's own context outlives ctx: handing on needs the port and the links.
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if err := n.begin(inner); err != nil {
		return err
	}
	defer close(n.ran)
	leadCtx, stopLead := context.WithCancel(inner)
	defer stopLead()
	led := make(chan struct{})
	n.spawn(func(context.Context) { defer close(led); n.orFail(n.leadLoop(leadCtx)) })
	n.spawn(func(ctx context.Context) { n.orFail(n.port.run(ctx)) })
	n.spawn(func(ctx context.Context) { n.orFail(n.watchdog(ctx)) })
	n.spawn(func(ctx context.Context) { n.proposer.run(ctx) })
	n.spawn(func(context.Context) { n.proposer.complete() })
	n.spawn(func(ctx context.Context) { n.barriers.run(ctx, n.cfg.Timings.RPC) })
	n.spawn(n.observe)
	n.spawn(n.snapshotLoop)

	select {
	case <-ctx.Done():
	case <-n.closing:
	case <-n.failed:
		n.log.Error("node failed", "err", n.failure())
	}
	n.shut()
	if n.failure() == nil {
		stopLead()
		<-led
		n.leave(inner)
	}
	n.runMu.Lock() // no goroutine is spawned after this
	cancel()
	n.runMu.Unlock()
	n.await(&n.running)
	return n.failure()
}

// begin makes the node one that runs, once.
func (n *Node) begin(ctx context.Context) error {
	n.runMu.Lock()
	defer n.runMu.Unlock()
	select {
	case <-n.closing:
		return ErrClosed
	default:
	}
	if n.ran != nil {
		return errors.New("run node: it ran already")
	}
	n.runCtx, n.ran = ctx, make(chan struct{})
	return nil
}

func (n *Node) orFail(err error) {
	if err != nil {
		n.fail(err)
	}
}

// shut makes callers that wait for a leader give up.
func (n *Node) shut() { n.closeOnce.Do(func() { close(n.closing) }) }

// leave hands leadership on when the node ends in good order, so that the cluster is not without a leader for an
// election's time.
func (n *Node) leave(ctx context.Context) {
	if n.raft.State() != raft.Leader || n.failure() != nil {
		return
	}
	if err := n.TransferLeadership(ctx); err != nil && !errors.Is(err, ErrNotLeader) && len(n.otherVoters()) > 0 {
		n.log.Warn("leadership not handed on", "err", err)
	}
}

// await waits for a group, but not for ever, and says whether it was worth it: a goroutine inside a hung disk can't be
// ended, and the process has to.
func (n *Node) await(group *sync.WaitGroup) bool {
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	limit := endWait
	if n.failure() != nil {
		limit = failedWait
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		n.fail(fmt.Errorf("%w: goroutines still run %v after the node's end", ErrStalled, limit))
		n.log.Error("goroutines still run", "dur", limit)
		return false
	}
}

// snapshotLoop has a snapshot taken when enough bytes were applied since the last: Raft itself counts entries, whose size
// is anything up to 256 KiB.
func (n *Node) snapshotLoop(ctx context.Context) {
	ticker := time.NewTicker(n.cfg.Timings.Tick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if n.machine.bytes.Load() < n.cfg.Timings.SnapshotBytes {
			continue
		}
		outcome := "ok"
		if err := n.raft.Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrRaftShutdown) {
			outcome = "failed"
			n.machine.bytes.Add(n.cfg.Timings.SnapshotBytes / 2) // try again, not at once
			n.log.Warn("take snapshot", "err", err)
		}
		n.metrics.snapshots.WithLabelValues(outcome).Inc()
	}
}

// Close stops the node. It ends Run first, if it runs, then Raft, then closes transport and stores.
func (n *Node) Close() error {
	n.shut()
	n.runMu.Lock()
	ran := n.ran
	n.runMu.Unlock()
	if ran != nil {
		<-ran
	}
	return n.release()
}

// release closes what Open opened, as far as it got.
func (n *Node) release() error {
	var errs []error
	if n.raft != nil {
		stopped := n.raft.Shutdown()
		errs = append(errs, n.trans.Close()) // with the port: Raft waits for exchanges on its connections
		var group sync.WaitGroup
		group.Go(func() { _ = stopped.Error() }) // always nil
		n.await(&group)
	} else if n.trans != nil {
		errs = append(errs, n.trans.Close())
	}
	if n.trans != nil {
		n.trans.CloseStreams()
	}
	if n.cfg.Listener != nil {
		if err := n.cfg.Listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if n.disk != nil {
		var group sync.WaitGroup
		group.Go(func() { n.closeErr = n.disk.Close() })
		if n.await(&group) {
			errs = append(errs, n.closeErr)
		}
	}
	if n.metrics != nil {
		n.metrics.unregister(n.cfg.Registerer)
	}
	return errors.Join(errs...)
}
