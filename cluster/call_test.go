package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/syscollective/saltpeter/internal/keys"
)

// Kinds that the tests' handler knows.
const (
	askEcho byte = iota
	askUnknown
	askNotLeader
	askTooLarge
	askFail
	askPropose
	askWait
)

// desk is a handler that counts what it was asked.
type desk struct {
	id      string
	node    func() *Node
	handled atomic.Int64
	ended   atomic.Int64
	open    chan struct{} // askWait returns when it is closed
}

func (d *desk) handle(ctx context.Context, kind byte, payload []byte) ([]byte, error) {
	d.handled.Add(1)
	defer d.ended.Add(1)
	switch kind {
	case askEcho:
		return []byte(d.id + " " + string(payload)), nil
	case askUnknown:
		return nil, fmt.Errorf("propose: %w", ErrUnknown)
	case askNotLeader:
		return nil, &NotLeaderError{LeaderID: "x", LeaderAddr: "x:1"}
	case askTooLarge:
		return nil, ErrTooLarge
	case askPropose:
		_, err := d.node().Propose(ctx, Normal, payload)
		return nil, err
	case askWait:
		select {
		case <-d.open:
			return []byte("opened"), nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	default:
		return nil, errors.New("no such thing")
	}
}

func withDesks(r *rig, desks map[string]*desk) func(id string, cfg *Config) {
	return func(id string, cfg *Config) {
		d := &desk{id: id, node: func() *Node { return r.nodes[id].Node }, open: make(chan struct{})}
		desks[id] = d
		cfg.Handler = d.handle
		cfg.PeerHandler = d.handle
	}
}

// threeDesks starts three nodes with handlers; with TLS if ring is given.
func threeDesks(t *testing.T, ring *keys.Ring) (*rig, map[string]*desk, string) {
	t.Helper()
	r := newRig(t, "a", "b", "c")
	r.ring = ring
	desks := map[string]*desk{}
	r.prepare = withDesks(r, desks)
	r.startAll()
	return r, desks, r.leader()
}

func TestCallReachesTheLeaderFromAnyNode(t *testing.T) {
	ring, err := keys.NewRing(keys.Generate())
	if err != nil {
		t.Fatal(err)
	}
	for name, ring := range map[string]*keys.Ring{"plain": nil, "mutual TLS": ring} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r, _, leader := threeDesks(t, ring)
				defer r.stopAll()
				for _, id := range r.ids {
					answer, err := r.nodes[id].Call(within(5*time.Second), Normal, askEcho, []byte("hello"))
					if err != nil || string(answer) != leader+" hello" {
						t.Errorf("from %s: %q, %v", id, answer, err)
					}
				}
				big := make([]byte, MaxPayload-10)
				if answer, err := r.nodes[r.follower(leader)].Call(within(5*time.Second), Low, askEcho, big); err != nil || len(answer) < len(big) {
					t.Errorf("large payload: %d bytes, %v", len(answer), err)
				}
			})
		})
	}
}

// A question is for one node, whoever leads.
func TestAskReachesTheNodeThatIsNamed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, _, _ := threeDesks(t, nil)
		defer r.stopAll()
		for _, from := range r.ids {
			for _, to := range r.ids {
				answer, err := r.nodes[from].Ask(within(5*time.Second), to, Low, askEcho, []byte("hello"))
				if err != nil || string(answer) != to+" hello" {
					t.Errorf("%s asked %s: %q, %v", from, to, answer, err)
				}
			}
			if _, err := r.nodes[from].Ask(within(5*time.Second), "nobody", Low, askEcho, nil); err == nil {
				t.Errorf("%s got an answer of nobody", from)
			}
			if _, err := r.nodes[from].Ask(within(5*time.Second), from, Low, askEcho, make([]byte, MaxPayload+1)); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s asked too much: %v", from, err)
			}
			var far *HandlerError
			for _, to := range r.ids {
				if _, err := r.nodes[from].Ask(within(5*time.Second), to, Low, askFail, nil); to != from && !errors.As(err, &far) {
					t.Errorf("%s asked %s what it can't answer: %v", from, to, err)
				}
			}
		}
	})
}

func TestErrorsAreTheSameFarAndNear(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, _, leader := threeDesks(t, nil)
		defer r.stopAll()
		for _, id := range []string{leader, r.follower(leader)} {
			n := r.nodes[id]
			if _, err := n.Call(within(time.Second), Normal, askUnknown, nil); !errors.Is(err, ErrUnknown) {
				t.Errorf("%s: %v, want ErrUnknown", id, err)
			}
			if _, err := n.Call(within(time.Second), Normal, askNotLeader, nil); !errors.Is(err, ErrNotLeader) || errors.Is(err, ErrUnknown) {
				t.Errorf("%s: %v, want ErrNotLeader", id, err)
			}
			if _, err := n.Call(within(time.Second), Normal, askTooLarge, nil); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s: %v, want ErrTooLarge", id, err)
			}
			if _, err := n.Call(within(time.Second), Normal, askFail, nil); err == nil || !strings.Contains(err.Error(), "no such thing") {
				t.Errorf("%s: %v, want the handler's words", id, err)
			}
			if _, err := n.Call(within(time.Second), Normal, askEcho, make([]byte, MaxPayload+1)); !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s: %v, want ErrTooLarge", id, err)
			}
		}
	})
}

func TestCallWaitsForTheNextLeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, _, old := threeDesks(t, nil)
		defer r.stopAll()
		id := r.follower(old)
		r.net.Pause(old)
		time.Sleep(300 * time.Millisecond) // the old leader has stepped down, no other is elected
		answer, err := r.nodes[id].Call(within(10*time.Second), Normal, askEcho, []byte("hello"))
		if errors.Is(err, ErrUnknown) { // sent to the old leader: once more, as a caller would
			answer, err = r.nodes[id].Call(within(10*time.Second), Normal, askEcho, []byte("hello"))
		}
		if err != nil || strings.HasPrefix(string(answer), old) {
			t.Fatalf("call: %q, %v", answer, err)
		}
		r.net.Resume(old)
	})
}

// Commands that come by call under a change of leaders: what was answered is there once, what was refused is not there,
// and what is unknown is there at most once.
func TestCallOutcomesUnderLeaderChange(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, _, old := threeDesks(t, nil)
		defer r.stopAll()
		r.net.SetDelay(r.follower(old), old, 3*time.Millisecond)
		from := r.follower(old)
		outcomes := make([]error, 400)
		var group sync.WaitGroup
		for i := range outcomes {
			group.Go(func() {
				time.Sleep(time.Duration(i) * 5 * time.Millisecond)
				_, outcomes[i] = r.nodes[from].Call(within(3*time.Second), Normal, askPropose, []byte(line(i)))
			})
		}
		time.Sleep(500 * time.Millisecond)
		r.net.Isolate(old, r.ids...)
		r.leader(old)
		group.Wait()
		r.net.HealAll()
		time.Sleep(5 * time.Second)
		r.sameEverywhere()
		acked, unknowns := 0, 0
		for i, err := range outcomes {
			count := r.nodes[from].fsm.has(line(i))
			switch {
			case err == nil:
				acked++
				if count != 1 {
					t.Errorf("%s was answered and is there %d times", line(i), count)
				}
			case errors.Is(err, ErrUnknown):
				unknowns++
				if count > 1 {
					t.Errorf("%s is there %d times", line(i), count)
				}
			case count != 0:
				t.Errorf("%s failed with %v and is there", line(i), err)
			}
		}
		if acked < 100 || unknowns == 0 {
			t.Errorf("%d answered, %d unknown: the test met too little", acked, unknowns)
		}
	})
}

// Links that break again and again while their leader goes on: a command whose answer was lost is unknown to its caller, and is
// there once; none is sent a second time.
func TestForwardsAreNotDoubledOnReconnect(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, desks, leader := threeDesks(t, nil)
		defer r.stopAll()
		from := r.follower(leader)
		r.net.SetDelay(from, leader, 3*time.Millisecond)
		r.net.SetDelay(leader, from, 3*time.Millisecond)
		outcomes := make([]error, 400)
		var group sync.WaitGroup
		for i := range outcomes {
			group.Go(func() {
				time.Sleep(time.Duration(i) * 5 * time.Millisecond)
				_, outcomes[i] = r.nodes[from].Call(within(3*time.Second), Normal, askPropose, []byte(line(i)))
			})
		}
		for range 40 {
			time.Sleep(47 * time.Millisecond)
			r.net.Reset(from, leader)
		}
		group.Wait()
		time.Sleep(time.Second)
		acked, unknowns := 0, 0
		for i, err := range outcomes {
			count := r.nodes[leader].fsm.has(line(i))
			switch {
			case count > 1:
				t.Errorf("%s is there %d times (%v)", line(i), count, err)
			case err == nil && count != 1:
				t.Errorf("%s was answered and is not there", line(i))
			case err == nil:
				acked++
			case errors.Is(err, ErrUnknown):
				unknowns++
			}
		}
		if acked < 100 || unknowns == 0 || desks[leader].handled.Load() > int64(len(outcomes)) {
			t.Errorf("%d answered, %d unknown, %d handled of %d", acked, unknowns, desks[leader].handled.Load(), len(outcomes))
		}
	})
}

func TestUrgentCallsPassThoseThatWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, desks, leader := threeDesks(t, nil)
		defer r.stopAll()
		n := r.nodes[r.follower(leader)]
		var group sync.WaitGroup
		for range 3 * window[Low] {
			group.Go(func() {
				if _, err := n.Call(t.Context(), Low, askWait, make([]byte, 1000)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if got := desks[leader].handled.Load(); got != int64(window[Low]) {
			t.Errorf("%d requests reached the leader, the window is %d", got, window[Low])
		}
		begun := time.Now()
		if _, err := n.Call(within(time.Second), High, askEcho, nil); err != nil {
			t.Errorf("urgent call: %v", err)
		}
		if d := time.Since(begun); d != 0 {
			t.Errorf("urgent call took %v", d)
		}
		close(desks[leader].open)
		group.Wait()
	})
}

func TestCallersEndReachesTheHandler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, desks, leader := threeDesks(t, nil)
		defer r.stopAll()
		for _, id := range []string{leader, r.follower(leader)} {
			before := desks[leader].ended.Load()
			if _, err := r.nodes[id].Call(within(time.Second), Normal, askWait, nil); !errors.Is(err, ErrUnknown) {
				t.Errorf("from %s: %v, want ErrUnknown: the handler had begun", id, err)
			}
			synctest.Wait()
			if desks[leader].ended.Load() != before+1 {
				t.Errorf("from %s: the handler still runs", id)
			}
		}
	})
}

func TestLeadershipsEndReachesTheHandler(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, desks, leader := threeDesks(t, nil)
		defer r.stopAll()
		done := make(chan error, 1)
		go func() {
			_, err := r.nodes[leader].Call(context.Background(), Normal, askWait, nil)
			done <- err
		}()
		synctest.Wait()
		if err := r.nodes[leader].TransferLeadership(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errors.Is(err, ErrUnknown) {
			t.Errorf("call: %v, want ErrUnknown", err)
		}
		if desks[leader].ended.Load() != 1 {
			t.Error("the handler still runs")
		}
	})
}

// What was sent to a leader that is cut off must not wait for it: there is a new one to ask.
func TestCallToALeaderThatIsCutOffEndsWithTheNextOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, desks, old := threeDesks(t, nil)
		defer r.stopAll()
		from := r.follower(old)
		done := make(chan error, 1)
		go func() {
			_, err := r.nodes[from].Call(context.Background(), Normal, askWait, nil)
			done <- err
		}()
		synctest.Wait()
		if desks[old].handled.Load() != 1 {
			t.Fatal("the request did not arrive")
		}
		r.net.Isolate(old, r.ids...)
		next := r.leader(old)
		begun := time.Now()
		if err := <-done; !errors.Is(err, ErrUnknown) {
			t.Errorf("call: %v, want ErrUnknown", err)
		}
		if d := time.Since(begun); d > time.Second {
			t.Errorf("it took %v after the election of %s", d, next)
		}
	})
}

// The link to a leader that can't be reached is still being dialed when the next leader is known.
func TestCallThatWaitsForADialGoesToTheNextLeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, desks, old := threeDesks(t, nil)
		defer r.stopAll()
		from := r.follower(old)
		r.net.Isolate(old, r.ids...)
		done := make(chan error, 1)
		begun := time.Now()
		go func() {
			_, err := r.nodes[from].Call(context.Background(), Normal, askEcho, nil)
			done <- err
		}()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if d := time.Since(begun); d > 3*time.Second || desks[old].handled.Load() != 0 {
			t.Fatalf("answered after %v, the old leader handled %d", d, desks[old].handled.Load())
		}
	})
}

func TestMetricsMakeRoomForTheNextLife(t *testing.T) {
	bubble(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		r := newRig(t, "a")
		r.prepare = func(_ string, cfg *Config) { cfg.Registerer = registry }
		for range 2 {
			r.startAll()
			r.leader()
			r.propose("a", "x")
			families, err := registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			values := map[string]float64{}
			for _, f := range families {
				values[f.GetName()] = f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
			}
			if commands, leading := values["saltpeter_cluster_commands_total"], values["saltpeter_cluster_leading"]; commands != 1 || leading != 1 {
				t.Errorf("commands %v, leading %v, want 1 and 1", commands, leading)
			}
			r.stop("a")
		}
	})
}

func TestCallOfAClosedNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, _, leader := threeDesks(t, nil)
		defer r.stopAll()
		for _, id := range r.ids {
			n := r.nodes[id].Node
			r.stop(id)
			if _, err := n.Call(t.Context(), Normal, askEcho, nil); !errors.Is(err, ErrClosed) {
				t.Errorf("%s (leader: %v): %v, want ErrClosed", id, id == leader, err)
			}
			if _, err := n.Propose(t.Context(), Normal, nil); err == nil || errors.Is(err, ErrUnknown) {
				t.Errorf("%s: propose: %v", id, err)
			}
		}
	})
}

func TestLeaderContact(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, leader := three(t, nil)
		defer r.stopAll()
		time.Sleep(10 * time.Second)
		for _, id := range r.ids {
			if age, known := r.nodes[id].LeaderContact(); !known || age > 1100*time.Millisecond {
				t.Errorf("%s: %v, %v with a leader", id, age, known)
			}
		}
		// The old leader must not be taken for one with fresh contact when it notices and steps down.
		r.net.Isolate(leader, r.ids...)
		time.Sleep(30 * time.Second)
		if age, _ := r.nodes[leader].LeaderContact(); age < 29*time.Second {
			t.Errorf("%s, cut off for 30 s: %v", leader, age)
		}
		// Two that elect each other in vain have no leader either, whatever they vote.
		rest := r.others(leader)
		r.net.CutBoth(rest[0], rest[1])
		time.Sleep(30 * time.Second)
		for _, id := range rest {
			if age, _ := r.nodes[id].LeaderContact(); age < 28*time.Second {
				t.Errorf("%s, alone for 30 s: %v", id, age)
			}
		}
		r.net.HealAll()
		time.Sleep(5 * time.Second)
		for _, id := range r.ids {
			if age, _ := r.nodes[id].LeaderContact(); age > 1100*time.Millisecond {
				t.Errorf("%s, healed: %v", id, age)
			}
		}
	})
}
