package cluster

import (
	"bytes"
	"context"
	"fmt"
	"runtime/pprof"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// monitor tells whether one call has been running since it was last asked.
type monitor struct {
	seq    atomic.Uint64 // odd while a call runs; calls don't overlap, or stand for each other
	active atomic.Int64
}

// begin marks a call; the returned function ends it.
func (m *monitor) begin() func() {
	m.active.Add(1)
	return func() {
		m.seq.Add(1)
		m.active.Add(-1)
	}
}

// stuck says whether something runs and nothing has ended since the last ask, whose answer it keeps in last.
func (m *monitor) stuck(last *uint64) bool {
	seq := m.seq.Load()
	same := seq == *last
	*last = seq
	return same && m.active.Load() > 0
}

// watchdog ends a node that goes on answering but gets nothing done: a leader whose disk hangs keeps sending heartbeats
// from another goroutine, so that nobody is elected in its place and nothing commits. It counts its own ticks, not
// the clock, so that a process which was stopped for a while is not taken for one that hangs.
func (n *Node) watchdog(ctx context.Context) error {
	ticker := time.NewTicker(n.cfg.Timings.Tick)
	defer ticker.Stop()
	var store, apply, commits stallCounter
	var storeSeq, applySeq, committed uint64
	var tick *proposal
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		leads := n.raft.State() == raft.Leader
		if leads && (tick == nil || tick.finished()) {
			tick = n.proposer.enqueue(ctx, High, nil)
		}
		now := n.proposer.committed.Load()
		store.count(n.stores.busy.stuck(&storeSeq))
		apply.count(n.machine.busy.stuck(&applySeq))
		commits.count(leads && now == committed)
		committed = now
		for what, c := range map[string]stallCounter{"a call of the store": store, "applying an entry": apply, "a commit": commits} {
			if int(c) >= n.cfg.Timings.StallTicks {
				return n.stalled(what, c)
			}
		}
	}
}

// stallCounter is the number of ticks in a row for which something stood still.
type stallCounter int

func (c *stallCounter) count(still bool) {
	if still {
		*c++
	} else {
		*c = 0
	}
}

// stalled writes every goroutine's stack to the log, for whoever asks later why, and returns Run's error.
func (n *Node) stalled(what string, c stallCounter) error {
	var stacks bytes.Buffer
	_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1) // a buffer takes everything
	err := fmt.Errorf("%w: waiting for %s for %v", ErrStalled, what, time.Duration(c)*n.cfg.Timings.Tick)
	n.log.Error("node stalled", "err", err, "goroutines", stacks.String())
	return err
}
