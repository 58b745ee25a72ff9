package wsgateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/syscollective/saltpeter"
)

// Gateway is the wrappers' side of one node. Make it with New; it does nothing until Serve.
type Gateway struct {
	cfg   Config
	lim   Limits
	log   *slog.Logger
	stats *metrics

	batch   *batcher
	heard   *heard
	writers *writers
	budget  *semaphore.Weighted // bytes of words that are not acked, all sessions
	bufs    sync.Pool           // *bytes.Buffer, for messages while they are read

	served   atomic.Bool
	fresh    chan *session // from the upgrade to Serve, which starts the reader
	open     atomic.Int64  // sessions, from the upgrade to the closed connection
	pending  sync.WaitGroup
	shaking  atomic.Int64  // connections that are not upgraded yet
	slots    chan struct{} // one per such connection, and one for the next
	stopping chan struct{} // closed when Serve takes no more connections

	mu       sync.Mutex
	sessions map[*session]struct{}
	lanes    map[saltpeter.TargetRef][]*lane // that asked to start, or won
	machines map[string]int                  // sessions that said hello
}

// New makes a gateway; it owns nothing until Serve.
func New(cfg Config) *Gateway {
	lim := cfg.Limits.withDefaults()
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	g := &Gateway{
		cfg: cfg, lim: lim, log: log.With("component", "wsgateway"), stats: newMetrics(),
		budget: semaphore.NewWeighted(lim.QueuedBytes),
		fresh:  make(chan *session), slots: make(chan struct{}, lim.Handshakes), stopping: make(chan struct{}),
		sessions: map[*session]struct{}{}, lanes: map[saltpeter.TargetRef][]*lane{}, machines: map[string]int{},
	}
	g.bufs.New = newBuffer
	g.batch = newBatcher(cfg.Leader, lim, g.log, g.stats, g.budget.Release)
	g.heard = newHeard(cfg.Leader, lim, g.log)
	g.writers = &writers{wake: make(chan struct{}, 1)}
	return g
}

// Serve takes wrappers from ln until ctx ends, closes every session then, and returns nil once all is closed. A listener
// that fails ends it with that error. It closes ln. A gateway serves once.
func (g *Gateway) Serve(ctx context.Context, ln net.Listener) error {
	if g.cfg.Leader == nil || g.cfg.Contact == nil || g.cfg.Tokens == nil || g.cfg.Identity == nil {
		return fmt.Errorf("serve wrappers: %w", errConfig)
	}
	if g.served.Swap(true) {
		return fmt.Errorf("serve wrappers: %w", errServed)
	}
	remove, err := g.stats.register(g.cfg.Registerer)
	if err != nil {
		return err
	}
	defer remove()
	// What serves the sessions outlives them: they still write their last messages after ctx has ended.
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	var parts sync.WaitGroup
	parts.Go(func() { g.writers.run(inner) })
	parts.Go(func() { g.heard.run(inner) })
	for range reporters {
		parts.Go(func() { g.batch.run(inner) })
	}
	err = g.serveSessions(ctx, ln)
	stop()
	parts.Wait()
	return err
}

// serveSessions returns when the last session has ended.
func (g *Gateway) serveSessions(ctx context.Context, ln net.Listener) error {
	srv := g.httpServer()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(g.listener(ln)) }()
	var readers sync.WaitGroup
	quiet := context.WithoutCancel(ctx)
	var err error
	ended := false // the accept loop
	for taking := true; taking; {
		select {
		case s := <-g.fresh:
			g.register(s)
			readers.Go(func() { s.run(ctx, quiet) })
		case err = <-served:
			err = fmt.Errorf("serve wrappers: %w", err)
			taking, ended = false, true
		case <-ctx.Done():
			taking = false
		}
	}
	close(g.stopping)
	_ = srv.Close() // what a listener says on its way out changes nothing
	if !ended {
		if closed := <-served; !errors.Is(closed, http.ErrServerClosed) {
			g.log.Debug("accept loop ended", "err", closed)
		}
	}
	g.pending.Wait()
	g.closeAll(goingAway)
	readers.Wait()
	return err
}

// Reset ends all sessions, because what they were told of their runs may not be so any more: each wrapper presents its secret
// anew.
func (g *Gateway) Reset() { g.closeAll(anew) }

func (g *Gateway) closeAll(why *ending) {
	g.mu.Lock()
	all := make([]*session, 0, len(g.sessions))
	for s := range g.sessions {
		all = append(all, s)
	}
	g.mu.Unlock()
	for _, s := range all {
		s.shut(why)
	}
}

// Kill pushes a committed kill to the wrapper that holds ref, if its session is on this node; grace is the time between
// TERM and KILL, 0 = as the grant says. A wrapper whose start claim is on its way gets it with the grant.
func (g *Gateway) Kill(ref saltpeter.TargetRef, grace time.Duration) {
	g.mu.Lock()
	lanes := append([]*lane(nil), g.lanes[ref]...)
	g.mu.Unlock()
	for _, l := range lanes {
		l.s.kill(l, grace)
	}
}

// Stats is what a gateway carries at one moment.
type Stats struct {
	Sessions    int   // connections that were upgraded
	Handshakes  int   // connections before that
	Targets     int   // that asked to start or are held by a winner here
	QueuedWords int   // that wait for their commit, in flight or not
	QueuedBytes int64 // the same, as BatchBytes counts
}

// Sessions tells what the gateway carries now.
func (g *Gateway) Sessions() Stats {
	g.mu.Lock()
	targets := len(g.lanes)
	g.mu.Unlock()
	words, bytes := g.batch.queued()
	return Stats{Sessions: int(g.open.Load()), Handshakes: int(g.shaking.Load()), Targets: targets, QueuedWords: words, QueuedBytes: bytes}
}

// register makes s known for closing, before its reader starts.
func (g *Gateway) register(s *session) {
	g.mu.Lock()
	g.sessions[s] = struct{}{}
	g.mu.Unlock()
}

// unregister forgets s and everything that hung on it.
func (g *Gateway) unregister(s *session, machine string, lanes []*lane) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.sessions, s)
	if machine != "" {
		if g.machines[machine]--; g.machines[machine] <= 0 {
			delete(g.machines, machine)
		}
	}
	for _, l := range lanes {
		g.dropLane(l)
	}
}

// addMachine counts one more session of a machine, unless it has too many.
func (g *Gateway) addMachine(machine string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.machines[machine] >= g.lim.PerMachine {
		return false
	}
	g.machines[machine]++
	return true
}

// attach makes l reachable for Kill and gives the other lanes of the same target.
func (g *Gateway) attach(l *lane) (others []*lane) {
	g.mu.Lock()
	defer g.mu.Unlock()
	known := false
	for _, o := range g.lanes[l.ref] {
		if o == l {
			known = true
			continue
		}
		others = append(others, o)
	}
	if !known {
		g.lanes[l.ref] = append(g.lanes[l.ref], l)
	}
	return others
}

func (g *Gateway) detach(l *lane) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dropLane(l)
}

// dropLane is called with mu held.
func (g *Gateway) dropLane(l *lane) {
	list := g.lanes[l.ref]
	for i, o := range list {
		if o == l {
			list = append(list[:i:i], list[i+1:]...)
			break
		}
	}
	if len(list) == 0 {
		delete(g.lanes, l.ref)
		return
	}
	g.lanes[l.ref] = list
}

// leaderAge is the age of this node's contact with the leader as it is told to wrappers: milliseconds, -1 = never.
func (g *Gateway) leaderAge() *int64 {
	ms := int64(-1)
	if age, known := g.cfg.Contact(); known {
		ms = max(0, age.Milliseconds())
	}
	return &ms
}
