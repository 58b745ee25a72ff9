package cluster

import (
	"context"
	"sync"
	"testing"
	"time"
)

// A new leader's work begins when everything that earlier leaders committed is applied on this node, however far its state
// machine lags behind its log.
func TestLeadBeginsWithAllThatWasCommitted(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const lines = 20
		var mu sync.Mutex
		began := map[string]int{} // lines at the beginning of a node's last leadership
		r, leader := three(t, func(id string, cfg *Config) {
			fsm := cfg.FSM.(*journal)
			cfg.Lead = func(ctx context.Context, _ uint64) error {
				mu.Lock()
				began[id] = len(fsm.lines())
				mu.Unlock()
				<-ctx.Done()
				return nil
			}
		})
		defer r.stopAll()
		block := make(chan struct{})
		for _, id := range r.others(leader) {
			fsm := r.nodes[id].fsm
			fsm.mu.Lock()
			fsm.block = block
			fsm.mu.Unlock()
		}
		for i := range lines {
			r.propose(leader, line(i))
		}
		r.crash(leader)
		time.AfterFunc(4*time.Second, func() { close(block) })
		next := r.leader(leader)
		mu.Lock()
		defer mu.Unlock()
		if began[next] != lines {
			t.Errorf("the work of %s began with %d lines of %d", next, began[next], lines)
		}
	})
}
