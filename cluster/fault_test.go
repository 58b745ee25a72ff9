package cluster

import (
	"context"
	"errors"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestLeaderWithAHungDiskEndsAndAnotherTakesOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		logs := map[string]*faultyLog{}
		r, old := three(t, faulty(logs))
		defer r.stopAll()
		r.propose(old, "before")
		release := hang(logs[old])
		begun := time.Now()
		n := r.nodes[old]
		<-n.ended
		if !errors.Is(n.err, ErrStalled) {
			t.Fatalf("Run: %v, want ErrStalled", n.err)
		}
		if d := time.Since(begun); d < 9*time.Second || d > 20*time.Second {
			t.Errorf("it took %v", d)
		}
		// The process would end here, and its disk's calls with it.
		r.net.Crash(old)
		r.net.Isolate(old, r.ids...)
		release()
		r.stop(old)
		r.propose(r.leader(old), "after")
	})
}

func TestFollowerWithAHungDiskEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		logs := map[string]*faultyLog{}
		r, leader := three(t, faulty(logs))
		defer r.stopAll()
		id := r.follower(leader)
		release := hang(logs[id])
		n := r.nodes[id]
		<-n.ended
		if !errors.Is(n.err, ErrStalled) {
			t.Fatalf("Run: %v, want ErrStalled", n.err)
		}
		release()
		r.stop(id)
		r.propose(leader, "after")
	})
}

func TestHungStateMachineEndsTheNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, n, _ := alone(t)
		gate := make(chan struct{})
		n.fsm.mu.Lock()
		n.fsm.block = gate
		n.fsm.mu.Unlock()
		<-n.ended
		if !errors.Is(n.err, ErrStalled) {
			t.Fatalf("Run: %v, want ErrStalled", n.err)
		}
		close(gate)
		r.stop("a")
	})
}

// A slow disk is not a hung one.
func TestSlowDiskIsNoStall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, n, log := alone(t)
		defer r.stopAll()
		log.set(func([]*raft.Log) error { time.Sleep(4 * time.Second); return nil }, nil)
		for i := range 20 {
			if _, err := n.Propose(t.Context(), Normal, []byte(line(i))); err != nil {
				t.Fatal(err)
			}
		}
		if err := n.failure(); err != nil {
			t.Fatalf("node failed: %v", err)
		}
	})
}

func TestStoreErrorEndsTheNodeAndNothingIsAckedAfterIt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		logs := map[string]*faultyLog{}
		r, old := three(t, faulty(logs))
		defer r.stopAll()
		r.propose(old, "before")
		failures := 0
		logs[old].set(func([]*raft.Log) error {
			failures++
			if failures == 1 {
				return syscall.EIO
			}
			return nil // as bbolt does: the next sync "succeeds"
		}, nil)
		n := r.nodes[old]
		_, err := n.Propose(within(5*time.Second), Normal, []byte("during"))
		if !errors.Is(err, ErrUnknown) {
			t.Errorf("propose: %v, want ErrUnknown", err)
		}
		<-n.ended
		if !errors.Is(n.err, ErrStore) || !errors.Is(n.err, syscall.EIO) {
			t.Fatalf("Run: %v, want ErrStore and its cause", n.err)
		}
		if _, err := n.Propose(within(5*time.Second), Normal, []byte("after")); err == nil {
			t.Error("a node that failed acked a command")
		}
		if failures != 1 {
			t.Errorf("the store was written %d times after its failure", failures-1)
		}
		r.stop(old)
		r.propose(r.leader(old), "by another")
	})
}

func TestStableStoreErrorEndsTheNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		broken := &brokenStable{}
		r := newRig(t, "a", "b", "c")
		r.prepare = func(id string, cfg *Config) {
			if id == "a" {
				cfg.WrapStableStore = func(inner raft.StableStore) raft.StableStore {
					broken.StableStore = inner
					return broken
				}
			}
		}
		r.startAll()
		defer r.stopAll()
		r.leader()
		time.Sleep(3 * time.Second)
		broken.fail.Store(true)
		crashed := r.leader()
		if crashed == "a" {
			if err := r.nodes["a"].TransferLeadership(t.Context()); err != nil {
				t.Fatal(err)
			}
			crashed = r.leader("a")
		}
		r.crash(crashed) // the next election has a store its vote, or its term, where Raft itself would panic
		time.Sleep(5 * time.Second)
		<-r.nodes["a"].ended
		if err := r.nodes["a"].err; !errors.Is(err, ErrStore) || !errors.Is(err, syscall.EIO) {
			t.Fatalf("Run: %v, want ErrStore", err)
		}
		r.stop("a")
		r.start(crashed)
		r.propose(r.leader("a"), "served")
	})
}

func TestFlippedBitIsFoundAtStart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "a")
		r.startAll()
		r.leader()
		r.propose("a", "the original")
		r.stop("a")
		r.prepare = func(_ string, cfg *Config) {
			cfg.WrapLogStore = func(inner raft.LogStore) raft.LogStore {
				return &faultyLog{LogStore: inner, get: flip}
			}
		}
		_, err := Open(r.config("a"))
		if !errors.Is(err, ErrStore) {
			t.Fatalf("Open: %v, want ErrStore", err)
		}
	})
}

// flip changes one bit of every entry that holds commands.
func flip(log *raft.Log) {
	if log.Type == raft.LogCommand && len(log.Data) > 3 {
		log.Data[3] ^= 4
	}
}

// A leader that reads an entry back for a follower must not send it what its disk made of it.
func TestFlippedBitIsNotSentToFollowers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		logs := map[string]*faultyLog{}
		r, leader := three(t, faulty(logs))
		defer r.stopAll()
		late := r.follower(leader)
		r.crash(late)
		for i := range 20 {
			r.propose(leader, line(i))
		}
		n := r.nodes[leader]
		n.stores.cache.drop(0, 1<<60)
		logs[leader].set(nil, flip)
		r.start(late)
		<-n.ended
		if !errors.Is(n.err, ErrStore) {
			t.Fatalf("Run: %v, want ErrStore", n.err)
		}
		r.stop(leader)
		r.propose(r.leader(leader), "by another")
		lines := r.sameEverywhere()
		for i := range 20 {
			if lines[i] != line(i) {
				t.Fatalf("line %d = %q", i, lines[i])
			}
		}
	})
}

func TestStateMachineThatRefusesAnEntryHalts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, n, _ := alone(t)
		if _, err := n.Propose(within(time.Second), Normal, []byte("halt")); !errors.Is(err, ErrUnknown) {
			t.Errorf("propose: %v, want ErrUnknown", err)
		}
		<-n.ended
		if !errors.Is(n.err, ErrHalted) {
			t.Fatalf("Run: %v, want ErrHalted", n.err)
		}
		if err := n.raft.Snapshot().Error(); err == nil {
			t.Error("a halted state was saved")
		}
		r.stop("a")
		// The entry is in the log: the node halts again, before it serves.
		again := r.start("a")
		<-again.ended
		if !errors.Is(again.err, ErrHalted) {
			t.Fatalf("after a restart: %v, want ErrHalted", again.err)
		}
		r.stop("a")
	})
}

// Power is lost while writes hang: what was acked is there, what was not is unknown and may be gone.
func TestPowerLossKeepsWhatWasAcked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, n, log := alone(t)
		for i := range 30 {
			r.propose("a", line(i))
		}
		lost := errors.New("power lost")
		gate := make(chan struct{})
		log.set(func([]*raft.Log) error { <-gate; return lost }, nil)
		errs := make(chan error, 5)
		for i := range 5 {
			go func() {
				_, err := n.Propose(context.Background(), Normal, []byte(line(100+i)))
				errs <- err
			}()
		}
		time.Sleep(time.Second)
		close(gate)
		<-n.ended
		r.stop("a")
		for range 5 {
			if err := <-errs; err == nil {
				t.Error("a command was acked that was never written")
			}
		}
		r.start("a")
		defer r.stopAll()
		r.leader()
		if _, err := r.nodes["a"].Barrier(within(5 * time.Second)); err != nil {
			t.Fatal(err)
		}
		lines := r.nodes["a"].fsm.lines()
		if len(lines) != 30 || lines[29] != line(29) {
			t.Fatalf("%d lines", len(lines))
		}
	})
}

// brokenStable is a stable store whose writes can be made to fail.
type brokenStable struct {
	raft.StableStore
	fail atomic.Bool
}

func (b *brokenStable) Set(key, value []byte) error {
	if b.fail.Load() {
		return syscall.EIO
	}
	return b.StableStore.Set(key, value)
}
