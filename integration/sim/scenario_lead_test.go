package sim

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api/client"
)

// follower gives a node that does not lead.
func (w *world) follower() *node {
	for _, n := range w.nodes {
		if n != w.leads.Load() {
			return n
		}
	}
	return nil
}

// handTo has a node become the leader, as an operator does it.
func (w *world) handTo(n *node) error {
	return w.operator.on(n, patience, func(ctx context.Context, c *client.Client) error {
		_, err := c.TransferLeader(ctx, n.name)
		return err
	})
}

// claimsOf counts the runs that a node has claimed since an entry.
func (w *world) claimsOf(n *node, since uint64) (count int) {
	by := w.proposals.byIndex()
	for _, k := range w.commits.all() {
		if k.index > since && by[k.index] == n.name && slices.ContainsFunc(k.results, someRun) {
			count++
		}
	}
	return count
}

func (w *world) lastIndex() uint64 {
	log := w.commits.all()
	return log[len(log)-1].index
}

// A node whose clock is far off comes to lead: it claims nothing, and another leads soon. No tick is claimed before its time,
// missed or run twice.
func TestAClockFarOffDoesNotLead(t *testing.T) {
	for name, off := range map[string]time.Duration{"ahead": 40 * time.Second, "behind": -40 * time.Second} {
		t.Run(name, func(t *testing.T) {
			scenario(t, 3, []job{{name: "often", seconds: "*/2", script: script{term: "exit"}, extra: []string{"targets: m1"}}}, func(t *testing.T, w *world) {
				bad := w.follower()
				w.clocks.move(bad, off)
				before := w.lastIndex()
				if err := w.handTo(bad); err != nil {
					t.Error(err)
				}
				w.sleep(15 * time.Second)
				if n := w.claimsOf(bad, before); n != 0 || w.leads.Load() == bad {
					t.Errorf("%s has claimed %d runs with a clock that is %s off; %s leads", bad.name, n, off, w.leads.Load().name)
				}
				others := 0
				for _, n := range w.nodes {
					others += w.claimsOf(n, before)
				}
				if others < 5 {
					t.Errorf("%d runs were claimed in 15 s", others)
				}
				w.clocks.move(bad, -off)
			})
		})
	}
}

// A leader's clock is carried away in steps that are no jumps: it hands over before it is far off.
func TestAClockThatDriftsEndsALeadership(t *testing.T) {
	scenario(t, 3, []job{{name: "often", seconds: "*/2", script: script{term: "exit"}, extra: []string{"targets: m1"}}}, func(t *testing.T, w *world) {
		bad := w.leads.Load()
		for range 5 {
			w.clocks.move(bad, -1500*time.Millisecond)
			w.sleep(3 * time.Second)
		}
		w.sleep(22 * time.Second)
		before := w.lastIndex()
		w.sleep(10 * time.Second)
		if n := w.claimsOf(bad, before); n != 0 || w.leads.Load() == bad {
			t.Errorf("%s has claimed %d runs with a clock that is 7.5 s behind", bad.name, n)
		}
		w.clocks.move(bad, 7500*time.Millisecond)
	})
}

// A leader's clock jumps and is set right again: ahead, nothing is skipped for it; back, nothing is repeated. The checks of all
// worlds say the rest.
func TestAJumpOfTheLeadersClock(t *testing.T) {
	for name, by := range map[string]time.Duration{"ahead": time.Hour, "back": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			scenario(t, 3, []job{{name: "often", seconds: "*/2", script: script{term: "exit"}, extra: []string{"targets: m1"}}}, func(t *testing.T, w *world) {
				bad, begun := w.leads.Load(), time.Now()
				w.clocks.move(bad, by)
				w.sleep(30 * time.Second)
				w.clocks.move(bad, -by)
				w.sleep(10 * time.Second)
				runs := 0
				for _, k := range w.commits.all() {
					if k.at.After(begun) && slices.ContainsFunc(k.results, someRun) {
						runs++
					}
				}
				if runs < 18 { // of 20, one of which may still be on its way, as at the beginning
					t.Errorf("%d runs in 40 s", runs)
				}
				w.leads.Load().life.Load().machine.View().Jobs("", func(j saltpeter.JobStatus) bool {
					if j.Skipped != 0 {
						t.Errorf("%d ticks of %s were skipped", j.Skipped, j.Job.Name)
					}
					return true
				})
			})
		})
	}
}

// A file changes on one node first, and breaks on another: the leader's goes into force, and no node that comes to lead with
// older or broken files turns it back.
func TestFilesThatLagTurnNothingBack(t *testing.T) {
	scenario(t, 3, []job{byHand("x", script{term: "exit"})}, func(t *testing.T, w *world) {
		revision := func() uint64 { return w.leads.Load().life.Load().machine.View().Revision().Number }
		was := revision()
		w.files.mu.Lock()
		w.files.maintenance = "m2"
		w.files.write(w.leads.Load())
		w.files.mu.Unlock()
		if !w.until(30*time.Second, "the change to be in force", func() bool { return revision() == was+1 }) {
			return
		}
		for _, broken := range []bool{false, true} {
			lags := w.follower()
			if broken {
				w.files.mu.Lock()
				w.files.put(lags, "saltpeter_config: [what?\n")
				w.files.mu.Unlock()
				w.sleep(settled)
			}
			if err := w.handTo(lags); err != nil {
				t.Error(err)
			}
			w.sleep(20 * time.Second)
			if w.leads.Load() != lags || revision() != was+1 {
				t.Errorf("%s leads, revision %d is in force after %d", w.leads.Load().name, revision(), was+1)
			}
			if problems := len(w.problems(lags)); (problems > 0) != broken {
				t.Errorf("%s shows %d problems of its files", lags.name, problems)
			}
		}
		w.files.mu.Lock()
		w.files.maintenance = ""
		w.files.write(w.leads.Load())
		w.files.mu.Unlock()
		w.until(30*time.Second, "the leader's mended files to be in force", func() bool { return revision() == was+2 })
	})
}

func (w *world) problems(n *node) (out []string) {
	err := w.operator.on(n, patience, func(ctx context.Context, c *client.Client) error {
		st, err := c.Status(ctx)
		for _, p := range st.Value.Config.Problems {
			out = append(out, p.Message)
		}
		return err
	})
	if err != nil {
		w.hist.broken("liveness", "%s does not say how it is: %v", n.name, err)
	}
	return out
}

// A node that was away is fed by a snapshot and lacks output until it has fetched it: it has another node answer.
func TestANodeThatLacksOutputForwards(t *testing.T) {
	jobs := []job{byHand("wrote", script{dur: time.Second, out: 50_000, term: "exit"}),
		{name: "often", seconds: "*/2", script: script{out: 2000, term: "exit"}, extra: []string{"targets: m1"}}}
	scenario(t, 3, jobs, func(t *testing.T, w *world) {
		away := w.follower()
		away.stop()
		if w.startNow("wrote") == nil {
			return
		}
		w.sleep(40 * time.Second) // some snapshots
		away.start()
		lacks := func() bool { l := away.life.Load(); return l != nil && lacksOutput(l) }
		for end := time.Now().Add(30 * time.Second); !lacks() && time.Now().Before(end); w.sleep(time.Millisecond) {
		}
		if !lacks() {
			t.Error("the node has never lacked output")
			return
		}
		for at, e := range w.execsByPlace() {
			if e.spec.Job != "wrote" {
				continue
			}
			var got bytes.Buffer
			err := w.operator.on(away, patience, func(ctx context.Context, c *client.Client) error {
				return c.Output(ctx, at.run, at.machine, 0, false, &got)
			})
			if err != nil || !bytes.Equal(got.Bytes(), e.wrote) {
				t.Errorf("%d bytes of %d (%v)", got.Len(), len(e.wrote), err)
			}
		}
	})
}
