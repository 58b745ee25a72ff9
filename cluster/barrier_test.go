package cluster

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestBarrierOnAnyNodeShowsWhatWasAckedBefore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, leader := three(t, nil)
		defer r.stopAll()
		slow := r.follower(leader)
		r.net.SetDelay(leader, slow, 50*time.Millisecond)
		stale := 0
		for i := range 20 {
			r.propose(leader, line(i))
			if r.nodes[slow].fsm.has(line(i)) == 0 {
				stale++
			}
			for _, id := range r.ids {
				if _, err := r.nodes[id].Barrier(within(10 * time.Second)); err != nil {
					t.Fatalf("barrier on %s: %v", id, err)
				}
				if r.nodes[id].fsm.has(line(i)) != 1 {
					t.Fatalf("%s does not have line %d after its barrier", id, i)
				}
			}
		}
		if stale == 0 {
			t.Fatal("the slow follower was never behind: the test shows nothing")
		}
	})
}

// A leader that was deposed without knowing it must not answer: its state may be old.
func TestBarrierOfACutOffLeaderDoesNotReturn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, old := three(t, func(_ string, cfg *Config) { cfg.Timings.Lease = 400 * time.Millisecond })
		defer r.stopAll()
		r.net.Isolate(old, r.ids...)
		if index, err := r.nodes[old].Barrier(within(5 * time.Second)); err == nil {
			t.Fatalf("barrier at %d without a majority", index)
		}
		r.propose(r.leader(old), "after")
		r.net.HealAll()
		if _, err := r.nodes[old].Barrier(within(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if r.nodes[old].fsm.has("after") != 1 {
			t.Fatal("a barrier after healing shows old state")
		}
	})
}

func TestBarrierWaitsForALeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, leader := three(t, nil)
		defer r.stopAll()
		r.crash(leader)
		id := r.follower(leader)
		if _, err := r.nodes[id].Barrier(within(10 * time.Second)); err != nil {
			t.Fatalf("barrier while a leader is elected: %v", err)
		}
	})
}

func TestManyBarriersShareFewEntries(t *testing.T) {
	for name, onLeader := range map[string]bool{"leader": true, "follower": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, leader := three(t, nil)
				defer r.stopAll()
				for _, other := range r.others(leader) {
					r.net.SetDelay(leader, other, time.Millisecond)
				}
				id := leader
				if !onLeader {
					id = r.follower(leader)
				}
				before := r.nodes[leader].raft.LastIndex()
				var group sync.WaitGroup
				for range 1000 {
					group.Go(func() {
						if _, err := r.nodes[id].Barrier(t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
				group.Wait()
				if used := r.nodes[leader].raft.LastIndex() - before; used > 5 {
					t.Errorf("1000 barriers took %d entries", used)
				}
			})
		})
	}
}

func TestBarrierEndsWithItsContextAndTheNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, leader := three(t, nil)
		defer r.stopAll()
		id := r.follower(leader)
		r.net.Isolate(id, r.ids...)
		if _, err := r.nodes[id].Barrier(within(time.Second)); !errors.Is(err, context.Canceled) {
			t.Errorf("barrier of a node that is cut off: %v, want the context's end", err)
		}
		done := make(chan error, 1)
		n := r.nodes[id]
		go func() { _, err := n.Barrier(context.Background()); done <- err }()
		synctest.Wait()
		r.stop(id)
		if err := <-done; !errors.Is(err, ErrClosed) {
			t.Errorf("barrier of a node that stops: %v, want ErrClosed", err)
		}
	})
}

func TestFollowerFedByASnapshotServesBarriersAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, leader := three(t, func(_ string, cfg *Config) {
			cfg.Timings.SnapshotBytes = 2000
			cfg.Timings.TrailingLogs = 5
			cfg.Timings.Tick = time.Second
		})
		defer r.stopAll()
		id := r.follower(leader)
		r.crash(id)
		for i := range 500 {
			r.propose(leader, line(i))
		}
		time.Sleep(5 * time.Second) // the snapshot is taken at a tick
		if !r.nodes[leader].memory.holdsSnapshot() {
			t.Fatal("no snapshot was taken")
		}
		r.start(id)
		if _, err := r.nodes[id].Barrier(within(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if lines := r.sameEverywhere(); len(lines) != 500 {
			t.Fatalf("%d lines", len(lines))
		}
		if !r.nodes[id].memory.holdsSnapshot() {
			t.Fatal("the follower got no snapshot: the test shows nothing")
		}
	})
}
