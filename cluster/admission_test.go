package cluster

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/syscollective/saltpeter/internal/keys"
)

// forming is a rig whose first node begins a cluster and whose others wait until they are members of it.
func forming(t *testing.T, ids ...string) (r *rig, joined map[string]bool) {
	t.Helper()
	r, joined = newRig(t, ids...), map[string]bool{ids[0]: true}
	r.prepare = func(id string, cfg *Config) {
		cfg.Peers = nil
		cfg.Wait = id != ids[0]
		if !joined[id] {
			cfg.ClusterID = ""
		}
	}
	return r, joined
}

// join has a node ask at an address until it is admitted, and starts it anew as the member that it is now.
func (r *rig) join(joined map[string]bool, id, at string) {
	r.t.Helper()
	for range 100 {
		v, err := r.nodes[id].Apply(within(5*time.Second), at+":8890")
		if err == nil && v.Outcome == Admitted {
			if v.ClusterID != "test" {
				r.t.Errorf("%s was admitted to %q", id, v.ClusterID)
			}
			r.stop(id)
			joined[id] = true
			r.start(id)
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.t.Fatalf("%s was not admitted in 10 s", id)
}

// voters waits until exactly these ids vote, as every one of them sees it.
func (r *rig) voters(ids ...string) {
	r.t.Helper()
	slices.Sort(ids)
	var last []Member
	for range 200 {
		same := true
		for _, id := range ids {
			var seen []string
			last = r.nodes[id].Members()
			for _, m := range last {
				if m.Voter {
					seen = append(seen, m.ID)
				}
			}
			same = same && slices.Equal(seen, ids)
		}
		if same {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	r.t.Fatalf("voters: %+v, want %v", last, ids)
}

func TestNodesJoinOneAfterTheOther(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, joined := forming(t, "a", "b", "c")
		ring, err := keys.NewRing(keys.Key{1})
		if err != nil {
			t.Fatal(err)
		}
		r.ring = ring
		defer r.stopAll()
		r.startAll()
		r.leader()
		r.propose("a", "before")
		r.join(joined, "b", "a")
		r.join(joined, "c", "b") // which asks the leader
		r.voters("a", "b", "c")
		r.propose("a", "after")
		if got := r.sameEverywhere(); !slices.Equal(got, []string{"before", "after"}) {
			t.Fatalf("%q", got)
		}
		r.crash("a")
		r.propose(r.leader("a"), "without the first")
	})
}

func TestTwoThatJoinAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, joined := forming(t, "a", "b", "c", "d", "e")
		defer r.stopAll()
		r.startAll()
		r.leader()
		done := make(chan Verdict)
		for _, id := range []string{"b", "c", "d", "e"} {
			go func() {
				v, _ := r.nodes[id].Apply(within(5*time.Second), "a:8890")
				done <- v
			}()
		}
		for range 4 {
			if v := <-done; v.Outcome != Admitted {
				t.Fatalf("%+v", v)
			}
		}
		for _, id := range []string{"b", "c", "d", "e"} {
			r.join(joined, id, "a") // asking again changes nothing
		}
		r.voters("a", "b", "c", "d", "e")
	})
}

func TestWaitingNodeNeverBeginsAnything(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, _ := forming(t, "a", "b", "c")
		defer r.stopAll()
		r.start("b")
		r.start("c")
		v, err := r.nodes["b"].Apply(within(5*time.Second), "c:8890")
		if err != nil || v.Outcome != Later || v.ClusterID != "" {
			t.Fatalf("%+v, %v", v, err)
		}
		time.Sleep(time.Hour)
		for _, id := range []string{"b", "c"} {
			if st := r.nodes[id].Status(); len(st.Members) > 0 || st.LastIndex > 0 || st.State == "leader" {
				t.Errorf("%+v", st)
			}
		}
		if _, err := r.nodes["b"].Propose(within(time.Second), High, []byte("x")); !errors.Is(err, ErrNotLeader) {
			t.Errorf("a proposal on a node that waits: %v", err)
		}
	})
}

func TestAnotherKeyIsToldFromSilence(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, _ := forming(t, "a", "b")
		defer r.stopAll()
		inner := r.prepare
		r.prepare = func(id string, cfg *Config) {
			inner(id, cfg)
			ring, err := keys.NewRing(keys.Key{id[0]})
			if err != nil {
				t.Fatal(err)
			}
			if cfg.TLS, err = ring.NodeTLS(id); err != nil {
				t.Fatal(err)
			}
		}
		r.startAll()
		r.leader()
		if _, err := r.nodes["b"].Apply(within(5*time.Second), "a:8890"); !errors.Is(err, keys.ErrPeer) {
			t.Errorf("another key: %v", err)
		}
		if _, err := r.nodes["b"].Apply(within(5*time.Second), "nobody:8890"); err == nil || errors.Is(err, keys.ErrPeer) {
			t.Errorf("nobody there: %v", err)
		}
		if n := len(r.nodes["a"].Members()); n != 1 {
			t.Errorf("%d members", n)
		}
	})
}

func TestApplicantsAreRefusedWithTheReason(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, leader := three(t, func(_ string, cfg *Config) {
			cfg.NameOf = func(id string) string { return "node-" + id }
			cfg.Vet = func(_ context.Context, a Applicant) (string, error) {
				if a.Name == "taken" {
					return "the name is taken", nil
				}
				return "", nil
			}
		})
		defer r.stopAll()
		tests := map[string]struct {
			a       Applicant
			outcome Outcome
			reason  string
		}{
			"another cluster":         {Applicant{ID: "d", Addr: "d:8890", ClusterID: "other"}, Refused, "is of cluster other"},
			"a copy of a directory":   {Applicant{ID: "b", Addr: "d:8890", ClusterID: "test", LastIndex: 9}, Refused, "a copy of that node's"},
			"a lost directory":        {Applicant{ID: "d", Addr: "b:8890"}, Refused, "spctl cluster remove node-b"},
			"a lost log":              {Applicant{ID: "b", Addr: "b:8890", ClusterID: "test"}, Refused, "log is gone"},
			"one that was removed":    {Applicant{ID: "d", Addr: "d:8890", ClusterID: "test", LastIndex: 9}, Removed, "was removed"},
			"a taken name":            {Applicant{ID: "d", Addr: "d:8890", Name: "taken"}, Refused, "name is taken"},
			"a member that asks":      {Applicant{ID: "b", Addr: "b:8890", ClusterID: "test", LastIndex: 3}, Admitted, ""},
			"a new one, the last try": {Applicant{ID: "z", Addr: "z:8890", Name: "z"}, Admitted, ""},
		}
		for name, tt := range tests {
			if name == "a new one, the last try" {
				continue
			}
			v, err := r.nodes[leader].admit(within(time.Second), tt.a)
			if err != nil || v.Outcome != tt.outcome || !strings.Contains(v.Reason, tt.reason) {
				t.Errorf("%s: %+v, %v", name, v, err)
			}
		}
		if n := len(r.nodes[leader].Members()); n != 3 {
			t.Fatalf("%d members after refusals", n)
		}
		last := tests["a new one, the last try"]
		if v, err := r.nodes[leader].admit(within(time.Second), last.a); err != nil || v.Outcome != Admitted {
			t.Fatalf("%+v, %v", v, err)
		}
		// It never comes up: it gets no vote, and the others go on without it.
		time.Sleep(time.Minute)
		r.propose(leader, "goes on")
		r.voters("a", "b", "c")
	})
}

func TestConnectionsOfStrangersAreRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r, joined := forming(t, "a", "b")
		defer r.stopAll()
		r.startAll()
		r.leader()
		joined["b"] = true // it believes so
		r.stop("b")
		r.start("b")
		if _, err := r.nodes["b"].port.connect(within(time.Second), speakRaft, "a", "a:8890"); err != nil {
			t.Fatal(err) // the refusal comes after the dial
		}
		conn, err := r.nodes["b"].port.connect(within(time.Second), speakLink, "a", "a:8890")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); err == nil {
			t.Fatal("a node that is no member was served")
		}
	})
}

func TestAddressOfANodeThatWasAloneFollows(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, "a")
		defer r.stopAll()
		advertise := "nobody-knows"
		r.prepare = func(_ string, cfg *Config) { cfg.Advertise = advertise }
		r.start("a")
		r.leader()
		r.propose("a", "alone")
		r.stop("a")
		advertise = "a:8890"
		r.start("a")
		r.leader()
		for range 100 {
			if r.nodes["a"].Members()[0].Addr == advertise {
				r.propose("a", "with an address")
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
		t.Fatalf("%+v", r.nodes["a"].Members())
	})
}
