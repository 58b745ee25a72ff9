package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestAloneLeadsAndCommits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "a")
		r.startAll()
		defer r.stopAll()
		r.leader()
		result, err := r.nodes["a"].Propose(t.Context(), Normal, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		if result.Value != 1 || result.Index == 0 {
			t.Fatalf("result = %+v, want the state machine's 1 and an index", result)
		}
	})
}

func TestThreeNodesReplicate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, leader := three(t, nil)
		defer r.stopAll()
		for i := range 50 {
			r.propose(leader, line(i))
		}
		lines := r.sameEverywhere()
		if len(lines) != 50 || lines[0] != line(0) || lines[49] != line(49) {
			t.Fatalf("lines = %q", lines)
		}
	})
}

func TestFailoverKeepsWhatWasAcked(t *testing.T) {
	cuts := map[string]func(r *rig, leader string){
		"both ways":       func(r *rig, leader string) { r.net.Isolate(leader, r.ids...) },
		"to the others":   func(r *rig, leader string) { cutOneWay(r, leader, true) },
		"from the others": func(r *rig, leader string) { cutOneWay(r, leader, false) },
		"stopped":         func(r *rig, leader string) { r.net.Pause(leader) },
		"crashed":         func(r *rig, leader string) { r.crash(leader) },
	}
	for name, cut := range cuts {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, old := three(t, nil)
				defer r.stopAll()
				r.propose(old, "before")
				cut(r, old)
				begun := time.Now()
				next := r.leader(old)
				if d := time.Since(begun); d > 5*time.Second {
					t.Errorf("failover took %v", d)
				}
				r.propose(next, "after")
				r.net.Resume(old)
				r.net.HealAll()
				if r.nodes[old].Node == nil {
					r.start(old)
				}
				lines := r.sameEverywhere()
				if len(lines) != 2 || lines[0] != "before" || lines[1] != "after" {
					t.Fatalf("lines = %q", lines)
				}
			})
		})
	}
}

func cutOneWay(r *rig, leader string, from bool) {
	for _, other := range r.others(leader) {
		if from {
			r.net.Cut(leader, other)
		} else {
			r.net.Cut(other, leader)
		}
	}
}

// A leader that was cut off may have taken commands that were then overwritten, or that the next leader committed. What it
// must never do is say ErrNotLeader of a command that commits, or nil of one that doesn't.
func TestOutcomesOfACutOffLeaderAreHonest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, old := three(t, nil)
		defer r.stopAll()
		errs := make(map[string]chan error)
		propose := func(cmd string) {
			done := make(chan error, 1)
			errs[cmd] = done
			go func() {
				_, err := r.nodes[old].Propose(within(5*time.Second), Normal, []byte(cmd))
				done <- err
			}()
		}
		r.net.Isolate(old, r.ids...)
		for i := range 20 {
			propose(line(i))
			time.Sleep(50 * time.Millisecond)
		}
		next := r.leader(old)
		r.propose(next, "after")
		r.net.HealAll()
		time.Sleep(10 * time.Second)
		r.sameEverywhere()
		unknowns, refused := 0, 0
		for cmd, done := range errs {
			err := <-done
			count := r.nodes[next].fsm.has(cmd)
			switch {
			case err == nil:
				t.Errorf("%s was acked without a majority", cmd)
			case errors.Is(err, ErrUnknown):
				unknowns++
			case errors.Is(err, ErrNotLeader):
				refused++
				if count != 0 {
					t.Errorf("%s was refused and committed %d times", cmd, count)
				}
			default:
				t.Errorf("%s: %v", cmd, err)
			}
		}
		if unknowns == 0 || refused == 0 {
			t.Fatalf("%d unknown, %d refused: the test met only one of the two", unknowns, refused)
		}
	})
}

// An entry that reached a follower before the leader lost its majority is committed by the next leader: "unknown" is the
// only honest answer.
func TestUnknownMayCommit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, old := three(t, nil)
		defer r.stopAll()
		cutOneWay(r, old, false) // the entry goes out, no acknowledgement comes back
		_, err := r.nodes[old].Propose(within(10*time.Second), Normal, []byte("lost and found"))
		if !errors.Is(err, ErrUnknown) {
			t.Fatalf("propose: %v, want ErrUnknown", err)
		}
		next := r.leader(old)
		r.propose(next, "after")
		r.net.HealAll()
		r.sameEverywhere()
		if n := r.nodes[next].fsm.has("lost and found"); n != 1 {
			t.Fatalf("committed %d times, want once", n)
		}
	})
}

func TestFollowerRefusesAndNamesTheLeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, leader := three(t, nil)
		defer r.stopAll()
		time.Sleep(time.Second)
		_, err := r.nodes[r.follower(leader)].Propose(t.Context(), Normal, []byte("x"))
		var notLeader *NotLeaderError
		if !errors.As(err, &notLeader) || !errors.Is(err, ErrNotLeader) {
			t.Fatalf("propose on a follower: %v", err)
		}
		if notLeader.LeaderID != leader || notLeader.LeaderAddr != leader+":8890" {
			t.Fatalf("it names %+v, want %s", notLeader, leader)
		}
	})
}

func TestAbandonedBeforeItWasTakenIsNeverAppended(t *testing.T) {
	bubble(t, func(t *testing.T) {
		logs := map[string]*faultyLog{}
		r := newRig(t, "a")
		r.prepare = faulty(logs)
		r.startAll()
		defer r.stopAll()
		r.leader()
		release := hang(logs["a"])
		n := r.nodes["a"]
		// Three fill what may be in flight and Raft's hands; those that come later wait in the queue.
		for i := range 3 {
			go n.Propose(context.Background(), Normal, make([]byte, MaxCommand-i))
			time.Sleep(10 * time.Millisecond)
		}
		_, err := n.Propose(within(time.Second), Normal, []byte("given up"))
		if errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) {
			t.Fatalf("propose: %v, want the context's error and nothing unknown", err)
		}
		release()
		r.propose("a", "later")
		if n.fsm.has("given up") != 0 {
			t.Fatal("a command that was given up while it waited was appended")
		}
	})
}

// hang makes a log's writes wait until the returned function is called.
func hang(log *faultyLog) (release func()) {
	gate := make(chan struct{})
	log.set(func([]*raft.Log) error { <-gate; return nil }, nil)
	return func() { log.set(nil, nil); close(gate) }
}
