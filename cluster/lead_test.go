package cluster

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"
)

// stints records every run of a node's leader's work.
type stints struct {
	mu      sync.Mutex // guards what follows
	terms   []uint64
	running int
	overlap bool
	slow    time.Duration // how long the work takes to end
	err     error         // what it returns at once
}

func (s *stints) lead(ctx context.Context, term uint64) error {
	s.mu.Lock()
	s.terms = append(s.terms, term)
	s.running++
	s.overlap = s.overlap || s.running > 1
	err := s.err
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running--
	}()
	if err != nil {
		return err
	}
	<-ctx.Done()
	s.mu.Lock()
	slow := s.slow
	s.mu.Unlock()
	time.Sleep(slow)
	return ctx.Err()
}

func (s *stints) seen() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]uint64(nil), s.terms...)
}

func leadingWith(all map[string]*stints) func(id string, cfg *Config) {
	return func(id string, cfg *Config) {
		if all[id] == nil {
			all[id] = &stints{}
		}
		cfg.Lead = all[id].lead
	}
}

func TestLeadEndsWithLeadershipAndTermsGrow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		all := map[string]*stints{}
		r, old := three(t, leadingWith(all))
		defer r.stopAll()
		r.net.Isolate(old, r.ids...)
		next := r.leader(old)
		time.Sleep(5 * time.Second)
		all[old].mu.Lock()
		running := all[old].running
		all[old].mu.Unlock()
		if running != 0 {
			t.Fatal("the old leader's work still runs")
		}
		if a, b := all[old].seen(), all[next].seen(); b[0] <= a[0] {
			t.Fatalf("terms %v, then %v", a, b)
		}
	})
}

// Raft's signal coalesces: a node whose work is slow to end can lose and regain leadership meanwhile and see "gained"
// alone. The work has to begin anew, in the new term, after the old has ended.
func TestGainAfterAGainRestartsTheWork(t *testing.T) {
	bubble(t, func(t *testing.T) {
		all := map[string]*stints{}
		r, old := three(t, leadingWith(all))
		defer r.stopAll()
		down := r.follower(old)
		r.crash(down)
		other := r.others(old)[0]
		if other == down {
			other = r.others(old)[1]
		}
		all[old].mu.Lock()
		all[old].slow = 10 * time.Second
		all[old].mu.Unlock()
		r.net.CutBoth(old, other)
		for r.nodes[old].raft.State().String() == "Leader" {
			time.Sleep(time.Millisecond)
		}
		r.net.HealAll()
		deadline := time.Now().Add(9 * time.Second)
		for r.nodes[old].raft.State().String() != "Leader" {
			if r.nodes[other].leading.Load() != nil {
				if err := r.nodes[other].TransferLeadership(t.Context()); err != nil && !errors.Is(err, ErrNotLeader) {
					t.Fatal(err)
				}
			}
			if time.Now().After(deadline) {
				t.Fatal("the old leader did not regain leadership in time")
			}
			time.Sleep(10 * time.Millisecond)
		}
		if len(all[old].seen()) != 1 {
			t.Fatal("the work restarted before it had ended")
		}
		time.Sleep(20 * time.Second)
		terms := all[old].seen()
		if len(terms) != 2 || terms[1] <= terms[0] || all[old].overlap {
			t.Fatalf("terms %v, overlap %v, want a second stint in a later term", terms, all[old].overlap)
		}
		if r.leader() != old {
			t.Fatal("the regained leadership is not served")
		}
	})
}

func TestFailingLeadersWorkHandsLeadershipOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		all := map[string]*stints{"a": {err: errors.New("no launcher")}, "b": {}, "c": {}}
		r := newRig(t, "a", "b", "c")
		r.prepare = leadingWith(all)
		r.startAll()
		defer r.stopAll()
		for range 20 { // until a was leader, at least once
			leader := r.leader("a")
			if len(all["a"].seen()) > 0 {
				break
			}
			if err := r.nodes[leader].TransferLeadership(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
		}
		if len(all["a"].seen()) == 0 {
			t.Skip("a was never elected")
		}
		r.propose(r.leader("a"), "served")
		if err := r.nodes["a"].failure(); err != nil {
			t.Fatalf("a failed: %v", err)
		}
	})
}

func TestFailingLeadersWorkEndsANodeThatIsAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		cause := errors.New("no launcher")
		all := map[string]*stints{"a": {err: cause}}
		r := newRig(t, "a")
		r.prepare = leadingWith(all)
		n := r.start("a")
		<-n.ended
		if !errors.Is(n.err, cause) || !errors.Is(n.err, ErrNoSuccessor) {
			t.Fatalf("Run: %v, want the cause and that nobody can take over", n.err)
		}
		r.stop("a")
	})
}

func TestGracefulStopHandsLeadershipOnFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, old := three(t, nil)
		defer r.stopAll()
		r.propose(old, "before")
		begun := time.Now()
		if err := r.stop(old); err != nil {
			t.Fatalf("Run: %v", err)
		}
		next := r.leader()
		r.propose(next, "after")
		if d := time.Since(begun); d > 100*time.Millisecond {
			t.Fatalf("without a leader for %v", d)
		}
	})
}

func TestTransferGoesToAFollowerThatAnswers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, old := three(t, nil)
		defer r.stopAll()
		cut := r.follower(old)
		r.net.CutBoth(old, cut)
		if err := r.nodes[old].TransferLeadership(t.Context()); err != nil {
			t.Fatal(err)
		}
		if next := r.leader(old); next == cut {
			t.Fatalf("leadership went to %s, which was cut off", cut)
		}
	})
}

func TestTransferWithoutAFollowerChangesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, n, _ := alone(t)
		defer r.stopAll()
		if err := n.TransferLeadership(t.Context()); !errors.Is(err, ErrNoSuccessor) {
			t.Fatalf("transfer: %v, want ErrNoSuccessor", err)
		}
		r.propose("a", "still served")
		r2, leader := three(t, nil)
		defer r2.stopAll()
		if err := r2.nodes[r2.follower(leader)].TransferLeadership(t.Context()); !errors.Is(err, ErrNotLeader) {
			t.Fatalf("transfer on a follower: %v, want ErrNotLeader", err)
		}
	})
}
