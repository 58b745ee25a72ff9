package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// leadership is one stretch of leading, from the barrier on.
type leadership struct {
	ctx  context.Context // ends with the leadership
	term uint64
}

// leadLoop runs the leader's work while this node leads. Raft's signal coalesces: two gains can arrive without the loss
// between them, so any signal ends the work and a gain begins it anew.
func (n *Node) leadLoop(ctx context.Context) error {
	var group sync.WaitGroup
	stop := func() {}
	defer func() { stop(); group.Wait() }()
	for {
		var gained bool
		select {
		case <-ctx.Done():
			return nil
		case gained = <-n.raft.LeaderCh():
		}
		stop()
		group.Wait()
		stop = func() {}
		if !gained {
			n.log.Info("leadership lost")
			continue
		}
		leadCtx, cancel := context.WithCancel(ctx)
		stop = cancel
		group.Go(func() { n.lead(leadCtx) })
	}
}

// lead takes over and does the leader's work until ctx ends. The barrier comes first: before it, what earlier leaders
// committed may be missing here, and whether this node leads at all is not known.
func (n *Node) lead(ctx context.Context) {
	begun := time.Now()
	out, err := n.proposeBarrier(ctx)
	if err == nil {
		n.log.Info("leadership gained", "term", out.term, "index", out.index, "dur", time.Since(begun))
		err = n.work(ctx, out.term)
	}
	if err == nil || ctx.Err() != nil || n.raft.State() != raft.Leader {
		return // Raft's signal is on its way, or has been seen
	}
	n.handOn(ctx, err)
}

// work calls Lead and has requests handled meanwhile. It returns nil only if ctx has ended.
func (n *Node) work(ctx context.Context, term uint64) error {
	n.leading.Store(&leadership{ctx: ctx, term: term})
	n.metrics.leading.Set(1)
	defer n.metrics.leading.Set(0)
	defer n.leading.Store(nil)
	n.leaderWatch.notify() // requests that wait for a leader find it here now
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() { n.settle(ctx) })
	if n.cfg.Lead == nil {
		<-ctx.Done()
		return nil
	}
	err := n.cfg.Lead(ctx, term)
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = errors.New("returned before its time")
	}
	return fmt.Errorf("leader's work: %w", err)
}

// handOn gives leadership away because the leader's work does not run here, and ends the node if it can't: a leader that
// does nothing is worse than none.
func (n *Node) handOn(ctx context.Context, cause error) {
	n.log.Error("leader's work ended, handing leadership on", "err", cause)
	if err := n.TransferLeadership(ctx); err != nil && !errors.Is(err, ErrNotLeader) && ctx.Err() == nil {
		n.fail(fmt.Errorf("%w; hand leadership on: %w", cause, err))
	}
}

// watch tells those who wait that the leader may have changed.
type watch struct {
	mu sync.Mutex // guards ch
	ch chan struct{}
}

func newWatch() *watch { return &watch{ch: make(chan struct{})} }

// changed returns a channel that is closed at the next notify.
func (w *watch) changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ch
}

func (w *watch) notify() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.ch)
	w.ch = make(chan struct{})
}

// observe keeps links to none but the leader, and wakes who waits for one.
func (n *Node) observe(ctx context.Context) {
	seen := make(chan raft.Observation, 16)
	observer := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	n.raft.RegisterObserver(observer)
	defer n.raft.DeregisterObserver(observer)
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-seen: // observations may be dropped, so ask for the newest
		}
		addr, id := n.raft.LeaderWithID()
		if id != "" && string(id) != last {
			last = string(id)
			n.links.only(last)
			n.log.Info("leader is known", "leader", last, "addr", string(addr), "term", n.raft.CurrentTerm())
		}
		n.leaderWatch.notify()
	}
}
