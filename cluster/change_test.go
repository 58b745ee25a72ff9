package cluster

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestCanLose(t *testing.T) {
	member := func(id string, voter bool) Member { return Member{ID: id, Voter: voter} }
	three := []Member{member("a", true), member("b", true), member("c", true)}
	tests := map[string]struct {
		members []Member
		up      string
		want    int
	}{
		"one":               {three[:1], "a", 0},
		"two":               {three[:2], "ab", 0},
		"three":             {three, "abc", 1},
		"three, one down":   {three, "ab", 0},
		"three, two down":   {three, "a", -1},
		"no vote no weight": {append(three[:3:3], member("d", false)), "abcd", 1},
		"five":              {append(three[:3:3], member("d", true), member("e", true)), "abcde", 2},
	}
	for name, tt := range tests {
		alive := map[string]bool{}
		for _, id := range tt.up {
			alive[string(id)] = true
		}
		if got := CanLose(tt.members, alive); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

func TestRemoveAFollower(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, leader := three(t, nil)
		defer r.stopAll()
		gone := r.follower(leader)
		other := r.others(leader)[1]
		var no *RefusedError
		if err := r.nodes[leader].Remove(within(5*time.Second), gone, false); !errors.As(err, &no) || no.Hint == "" {
			t.Fatalf("without force: %v", err)
		}
		if err := r.nodes[leader].Remove(within(5*time.Second), "nobody", true); !errors.As(err, &no) {
			t.Fatalf("nobody: %v", err)
		}
		if err := r.nodes[gone].Remove(within(5*time.Second), leader, true); !errors.Is(err, ErrNotLeader) {
			t.Fatalf("on a follower: %v", err)
		}
		if err := r.nodes[leader].Remove(within(5*time.Second), gone, true); err != nil {
			t.Fatal(err)
		}
		r.voters(leader, other)
		r.propose(leader, "without it")
		v, err := r.nodes[gone].Apply(within(5*time.Second), other+":8890")
		if err != nil || v.Outcome != Removed {
			t.Fatalf("the removed node asks: %+v, %v", v, err)
		}
	})
}

func TestRemoveTheLeaderHandsOnFirst(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, leader := three(t, nil)
		defer r.stopAll()
		if err := r.nodes[leader].Remove(within(5*time.Second), leader, true); !errors.Is(err, ErrNotLeader) {
			t.Fatalf("%v", err)
		}
		next := r.leader(leader)
		if err := r.nodes[next].Remove(within(5*time.Second), leader, true); err != nil {
			t.Fatal(err)
		}
		r.voters(r.others(leader)...)
		r.propose(next, "without the old leader")
	})
}

func TestRemoveKeepsAMajority(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, leader := three(t, nil)
		defer r.stopAll()
		dead, alive := r.others(leader)[0], r.others(leader)[1]
		r.crash(dead)
		var no *RefusedError
		if err := r.nodes[leader].Remove(within(5*time.Second), alive, true); !errors.As(err, &no) {
			t.Fatalf("one of the last two: %v", err)
		}
		if err := r.nodes[leader].Remove(within(5*time.Second), leader, true); !errors.As(err, &no) {
			t.Fatalf("the leader, one of the last two: %v", err)
		}
		// The dead one costs nothing that is not lost already.
		if err := r.nodes[leader].Remove(within(5*time.Second), dead, false); err != nil {
			t.Fatal(err)
		}
		if err := r.nodes[leader].Remove(within(5*time.Second), alive, false); err != nil {
			t.Fatal(err)
		}
		if err := r.nodes[leader].Remove(within(5*time.Second), leader, true); !errors.As(err, &no) {
			t.Fatalf("the last: %v", err)
		}
		r.propose(leader, "alone")
	})
}

func TestTransferToOneThatIsNamed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, leader := three(t, nil)
		defer r.stopAll()
		for range 4 {
			to := r.others(leader)[1]
			if err := r.nodes[leader].TransferTo(within(5*time.Second), to); err != nil {
				t.Fatal(err)
			}
			if got := r.leader(leader); got != to {
				t.Fatalf("%s leads, not %s", got, to)
			}
			leader = to
		}
		dead := r.others(leader)[0]
		r.crash(dead)
		if err := r.nodes[leader].TransferTo(within(5*time.Second), dead); !errors.Is(err, ErrNoSuccessor) {
			t.Fatalf("to a dead node: %v", err)
		}
		r.propose(leader, "still leads")
	})
}

// TestTransferToOneThatJustCameBack: Raft sends a follower that was dead nothing for a while, though it answers again. Leadership is
// not handed to it before it is up to date, for a transfer that doesn't end in time ends the leader.
func TestTransferToOneThatJustCameBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, leader := three(t, nil)
		defer r.stopAll()
		back := r.others(leader)[0]
		r.crash(back)
		for i := range 30 { // Raft's pauses between its tries grow meanwhile
			r.propose(leader, fmt.Sprint("while it is dead ", i))
			time.Sleep(time.Second)
		}
		r.start(back)
		refused := 0
		for r.nodes[leader] != nil {
			err := r.nodes[leader].TransferTo(within(5*time.Second), back)
			if err == nil {
				break
			}
			if !errors.Is(err, ErrNoSuccessor) {
				t.Fatalf("after %d refusals: %v", refused, err)
			}
			if refused++; refused > 1000 {
				t.Fatal("it never catches up")
			}
		}
		if got := r.leader(leader); got != back {
			t.Fatalf("%s leads, not %s", got, back)
		}
		t.Logf("refused %d times, until it was up to date", refused)
	})
}
