package app

import (
	"context"
	"sync"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/fsm"
)

// changes collects what applies changed, for one goroutine that tells the parts: the state machine must not wait.
type changes struct {
	mu      sync.Mutex
	pending fsm.Change
	wake    chan struct{}
	moved   chan struct{} // closed at the next change
	begun   chan struct{} // closed when the next epoch begins
}

func newChanges() *changes {
	return &changes{wake: make(chan struct{}, 1), moved: make(chan struct{}), begun: make(chan struct{})}
}

// add is called by raft's goroutine after every entry.
func (c *changes) add(ch fsm.Change) {
	c.mu.Lock()
	c.pending.Runs = append(c.pending.Runs, ch.Runs...)
	c.pending.Kills = append(c.pending.Kills, ch.Kills...)
	c.pending.Plan = c.pending.Plan || ch.Plan
	c.pending.Epoch = c.pending.Epoch || ch.Epoch
	c.mu.Unlock()
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *changes) take() fsm.Change {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := c.pending
	c.pending = fsm.Change{}
	close(c.moved)
	c.moved = make(chan struct{})
	if ch.Epoch {
		close(c.begun)
		c.begun = make(chan struct{})
	}
	return ch
}

// epoch gives a channel that is closed when the next epoch begins.
func (c *changes) epoch() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.begun
}

// next gives a channel that is closed at the next change.
func (c *changes) next() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.moved
}

func (c *changes) run(ctx context.Context, a *App) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.wake:
		}
		ch := c.take()
		if ch.Epoch {
			a.log.Warn("a new epoch began", "component", "fsm", "index", a.machine.AppliedIndex())
			a.gateway.Reset()
		}
		if len(ch.Runs) > 0 || ch.Plan {
			a.scheduler.Changed(ch.Runs, ch.Plan)
		}
		if len(ch.Kills) > 0 {
			a.pushKills(ch.Kills)
		}
	}
}

// pushKills has the gateway tell the wrappers that are connected here.
func (a *App) pushKills(refs []saltpeter.TargetRef) {
	v := a.machine.View()
	for _, ref := range refs {
		grace := v.Settings().KillGrace
		if r, ok := v.Run(ref.Run); ok {
			if def, ok := v.Definition(r.Digest); ok {
				grace = def.KillGrace
			}
		}
		a.gateway.Kill(ref, grace)
	}
}
