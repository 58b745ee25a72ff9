package sim

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/syscollective/saltpeter/app"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/config"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/outlog"
	"github.com/syscollective/saltpeter/internal/wire"
	"github.com/syscollective/saltpeter/scheduler"
	"github.com/syscollective/saltpeter/wsgateway"
)

// Ports of every node.
const (
	apiPort     = 8888
	wrapperPort = 8889
	nodePort    = 8890
)

// What the disks of nodes say.
var (
	errPower = errors.New("power is off")
	errDisk  = errors.New("input/output error")
)

// node is one node over all its lives: what stays is its disk, its files and its clock.
type node struct {
	w       *world
	name    string // also its host and its id
	config  string // directory of configuration files
	data    string
	memory  *cluster.Memory
	disk    *outlog.Lossy
	gate    gate         // shut while the process is stopped
	offset  atomic.Int64 // of the wall clock, in ns
	stopped atomic.Int64 // Unix ns of the last stop of the process, which excuses much
	failing atomic.Bool  // some of its disk, until it is started again
	failLog atomic.Bool  // that of the log

	turn chan struct{} // held while a life begins or ends: a channel, since time must go on for those who wait
	life atomic.Pointer[life]
}

// life is one process.
type life struct {
	n       *node
	app     *app.App
	machine *fsm.Machine
	raft    transferrer
	off     atomic.Bool // killed: nothing that it does counts any more
	leaving atomic.Bool // asked to end
	cancel  context.CancelFunc
	ended   chan struct{}
}

type transferrer interface {
	TransferLeadership(ctx context.Context) error
}

func newNode(w *world, name string) *node {
	n := &node{w: w, name: name, turn: make(chan struct{}, 1), memory: cluster.NewMemory(), disk: outlog.NewLossy(w.seed + uint64(name[0]))}
	n.config = filepath.Join(w.dir, name, "config")
	n.data = filepath.Join(w.dir, name, "data")
	for _, dir := range []string{n.config, n.data} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			w.t.Fatal(err)
		}
	}
	return n
}

func (n *node) addr(port string) string { return net.JoinHostPort(n.name, port) }

// wall is the node's wall clock.
func (n *node) wall() time.Time {
	n.gate.pass()
	return time.Now().Add(time.Duration(n.offset.Load())).Round(0)
}

// start begins a life; the node must not be alive.
func (n *node) start() {
	n.turn <- struct{}{}
	defer func() { <-n.turn }()
	if n.life.Load() != nil || n.w.ctx.Err() != nil {
		return
	}
	n.failing.Store(false)
	n.failLog.Store(false)
	n.disk.FailWrites(nil, 0)
	n.disk.FailSyncs(nil, 0)
	l := &life{n: n, ended: make(chan struct{})}
	a, err := app.New(n.options(l))
	if err != nil {
		n.w.hist.broken("start", "node %s does not start: %v", n.name, err)
		return
	}
	l.app = a
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	n.life.Store(l)
	n.w.hist.note("node %s starts", n.name)
	n.w.trouble.around(3 * time.Second)
	n.w.wg.Go(func() {
		defer close(l.ended)
		err := a.Run(ctx)
		if err != nil && !l.off.Load() {
			n.w.hist.note("node %s ended: %v", n.name, err)
			n.judgeEnd(err)
		}
		if !l.leaving.Load() { // systemd starts it again
			n.w.wg.Go(func() { n.restart(l) })
		}
	})
}

// judgeEnd holds a node that ended by itself to having had a reason.
func (n *node) judgeEnd(err error) {
	excused := time.Since(time.Unix(0, n.stopped.Load())) < 30*time.Second || n.w.lossy.Load()
	if n.failing.Load() {
		return
	}
	if errors.Is(err, fsm.ErrHalted) || !excused {
		n.w.hist.broken("node", "node %s ended by itself: %v", n.name, err)
	}
}

func (n *node) restart(l *life) {
	n.end(l)
	n.w.sleep(2 * time.Second)
	n.start()
}

// end brings a life to its end and frees what it held.
func (n *node) end(l *life) {
	n.turn <- struct{}{}
	defer func() { <-n.turn }()
	if n.life.Load() != l || l == nil {
		return
	}
	l.leaving.Store(true)
	n.gate.open()
	n.w.net.Resume(n.name)
	l.cancel()
	<-l.ended
	if err := l.app.Close(); err != nil && !l.off.Load() {
		n.w.hist.note("node %s: close: %v", n.name, err)
	}
	n.life.Store(nil)
}

// stop ends the process in good order.
func (n *node) stop() { n.end(n.life.Load()) }

// kill ends the process without a word; without power its disk loses what was not synced.
func (n *node) kill(power bool) {
	l := n.life.Load()
	if l == nil {
		return
	}
	l.off.Store(true)
	n.w.net.Crash(n.name)
	if !power {
		n.disk.Crash()
	}
	n.end(l)
}

func (n *node) listen(what, _ string) (net.Listener, error) {
	port := map[string]int{"api": apiPort, "wrapper": wrapperPort, "node": nodePort}[what]
	return n.w.net.Host(n.name).Listen(port)
}

func (n *node) options(l *life) app.Options {
	w := n.w
	o := app.Options{
		Node:      config.Node{ConfigDir: n.config, DataDir: n.data, KeyFile: w.keyFile, Name: n.name, NodePort: nodePort, GossipPort: nodePort + 1},
		NodeID:    n.name,
		ClusterID: clusterID,
		Timings:   w.plan.timings,
		Log:       w.logger(n.name),
		Seams: app.Seams{
			Wall: n.wall, FS: n.disk, Memory: n.memory, Listen: n.listen, Identity: trusting{},
			Dial: func(ctx context.Context, addr string) (net.Conn, error) {
				n.gate.pass()
				if l.off.Load() {
					return nil, errPower
				}
				return w.net.Host(n.name).Dial(ctx, addr)
			},
			FSM: func(m *fsm.Machine) raft.FSM {
				l.machine = m
				return watchedMachine{m, l}
			},
			Cluster:  func(c *cluster.Config) { n.change(l, c) },
			Gateway:  func(c *wsgateway.Config) { n.plain(c) },
			Proposer: func(p app.Proposer) app.Proposer { return n.proposer(l, p) },
			Launcher: func(scheduler.Launcher) scheduler.Launcher { return saltOf{w.salt, n} },
		},
	}
	if len(w.nodes) > 1 {
		for _, other := range w.nodes {
			o.Peers = append(o.Peers, cluster.Peer{ID: other.name, Addr: other.addr("8890")})
		}
	}
	return o
}

func (n *node) change(l *life, c *cluster.Config) {
	if !n.w.plan.tls {
		c.TLS = nil
	}
	c.WrapLogStore = func(inner raft.LogStore) raft.LogStore { return &slowLog{LogStore: inner, l: l} }
}

func (n *node) plain(c *wsgateway.Config) {
	if !n.w.plan.tls {
		c.TLS = nil
	}
}

func (n *node) proposer(l *life, p app.Proposer) app.Proposer {
	if t, ok := p.(transferrer); ok {
		l.raft = t
	}
	return watchedProposer{p, l}
}

// slowLog is a disk that takes its time, and takes nothing once the power is off.
type slowLog struct {
	raft.LogStore
	l *life
}

func (s *slowLog) StoreLogs(logs []*raft.Log) error {
	s.l.n.gate.pass()
	s.l.n.w.disturb()
	if s.l.off.Load() {
		return errPower
	}
	err := s.LogStore.StoreLogs(logs)
	if s.l.n.failLog.Load() { // what was written may be there, or not
		return errDisk
	}
	s.l.n.w.disturb()
	s.l.n.gate.pass()
	return err
}

func (s *slowLog) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// watchedMachine tells the world what is applied.
type watchedMachine struct {
	*fsm.Machine
	l *life
}

// Apply implements raft.FSM.
func (m watchedMachine) Apply(log *raft.Log) any {
	m.l.n.gate.pass()
	out := m.Machine.Apply(log)
	if !m.l.off.Load() {
		m.l.n.w.commits.applied(m.l, log, out)
	}
	return out
}

// watchedProposer knows who leads.
type watchedProposer struct {
	app.Proposer
	l *life
}

// Propose implements app.Proposer.
func (p watchedProposer) Propose(ctx context.Context, prio cluster.Priority, cmd []byte) (cluster.Result, error) {
	p.l.n.gate.pass()
	begun := time.Now()
	res, err := p.Proposer.Propose(ctx, prio, cmd)
	p.l.n.gate.pass()
	if err != nil {
		return res, err
	}
	w := p.l.n.w
	w.leads.Store(p.l.n)
	w.proposals.add(p.l.n.name, begun, res)
	on := w.onPropose.Load()
	if on == nil {
		return res, nil
	}
	_, c, err := fsm.Decode(cmd)
	if err == nil {
		err = (*on)(c)
	}
	return res, err
}

// trusting takes every machine for what it says: identities have tests of their own.
type trusting struct{}

// Verify implements wsgateway.Identity.
func (trusting) Verify(context.Context, string, *wire.Proof, []byte) error { return nil }

func (w *world) logger(name string) *slog.Logger {
	if os.Getenv("SIM_LOG") != "debug" {
		return nil
	}
	return slog.New(slog.NewTextHandler(logLines{w, name}, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey || a.Key == "goroutines" {
			return slog.Attr{}
		}
		return a
	}}))
}

// logLines puts log lines into the history.
type logLines struct {
	w    *world
	name string
}

func (l logLines) Write(p []byte) (int, error) {
	l.w.hist.note("log %s %s", l.name, string(p[:len(p)-1]))
	return len(p), nil
}
