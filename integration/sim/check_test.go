package sim

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api/client"
	"github.com/syscollective/saltpeter/fsm"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// check holds the whole history against the promises. Everything has come to rest.
func (w *world) check() {
	v := w.finalView()
	if v == nil {
		return
	}
	log := w.commits.all()
	w.checkFacts(v)
	w.checkExecutions()
	w.checkLocks()
	w.checkOutcomes()
	for _, n := range w.nodes {
		w.checkOutput(n)
	}
	w.checkSignals(log)
	w.checkSilence(log)
	w.checkTerms(log)
	w.checkClocks(log)
	w.checkConfig(log)
	w.checkTicks(log, v)
	w.checkWindows(log)
	w.checkAcked(log, v)
	w.checkReplicas()
}

// finalView is a view that a strong read has brought up to date.
func (w *world) finalView() *fsm.View {
	for _, n := range w.nodes {
		err := w.operator.on(n, patience, func(ctx context.Context, c *client.Client) error {
			_, err := c.Maintenance(ctx)
			return err
		})
		if err != nil {
			w.hist.broken("liveness", "%s answers %v at the end", n.name, err)
			return nil
		}
	}
	return w.nodes[w.draw(len(w.nodes))].life.Load().machine.View()
}

// checkFacts holds what was seen of the targets over time against the final record, and looks for what is not finished.
func (w *world) checkFacts(v *fsm.View) {
	v.Unfinished(func(r *saltpeter.Run) bool {
		w.hist.broken("liveness", "run %s is %s at the end", r.ID, r.State)
		return true
	})
	for _, f := range w.commits.facts() {
		t, ok := v.Target(f.ref)
		if !ok {
			w.hist.broken("G4", "%s on %s is not in the record", f.run, f.machine)
			continue
		}
		if t.State != f.last.State || t.Code != f.last.Code || t.NextSeq != f.last.NextSeq || t.Stored != f.last.Stored {
			w.hist.broken("G4", "%s on %s is %+v at the end, and was %+v", f.run, f.machine, t, f.last)
		}
		if t.State.Final() && t.State != saltpeter.Failed && t.Code != codes[t.State] {
			w.hist.broken("G4", "%s on %s is %s with code %d", f.run, f.machine, t.State, t.Code)
		}
		if got := w.commits.ackedOf(f.ref); got > t.NextSeq {
			w.hist.broken("G3", "%s on %s: %d was acked, the record has %d", f.run, f.machine, got, t.NextSeq)
		}
	}
}

// codes are those of the outcomes, written down a second time.
var codes = map[saltpeter.TargetState]int{
	saltpeter.OK: 0, saltpeter.TimedOut: 124, saltpeter.Killed: 143, saltpeter.Lost: 253, saltpeter.NotStarted: 254,
	saltpeter.Unreachable: 255, saltpeter.InMaintenance: 0,
}

// checkAcked holds every write that was acknowledged to being in the record (G6).
func (w *world) checkAcked(log []*commit, v *fsm.View) {
	o := w.operator
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range o.acked {
		if !slices.ContainsFunc(log, a.find) {
			w.hist.broken("G6", "%s was acknowledged and is not in the log", a.what)
		}
	}
	for key, id := range o.starts {
		r, ok := v.RunByID(id)
		if !ok || r.Key != key {
			w.hist.broken("G6", "run %s of %s was acknowledged and is not in the record", id, key)
		}
	}
	for _, k := range log { // one key, one run
		for i, cmd := range k.cmds {
			start, ok := cmd.(*fsm.StartRun)
			started, done := k.results[i].(fsm.RunStarted)
			if ok && done && o.starts[start.Request.Key] != "" && o.starts[start.Request.Key] != started.RunID {
				w.hist.broken("G6", "%s made run %s, and %s was acknowledged", start.Request.Key, started.RunID, o.starts[start.Request.Key])
			}
		}
	}
}

// checkReplicas holds all nodes to the same record at the same index.
func (w *world) checkReplicas() {
	for range 2000 {
		var views []*fsm.View
		for _, n := range w.nodes {
			l := n.life.Load()
			if l == nil {
				w.hist.broken("liveness", "node %s is not alive at the end", n.name)
				return
			}
			views = append(views, l.machine.View())
		}
		same := true
		for _, v := range views {
			same = same && v.Index() == views[0].Index()
		}
		if !same {
			w.sleep(7 * time.Millisecond)
			continue
		}
		first := dump(views[0])
		for i, v := range views {
			if text := dump(v); text != first {
				w.hist.broken("apply", "the record of %s differs from that of %s:\n%s", w.nodes[i].name, w.nodes[0].name, firstDifference(first, text))
			}
		}
		return
	}
	w.hist.broken("liveness", "the nodes do not come to the same index")
}

// dump writes a record down.
func dump(v *fsm.View) string {
	var b strings.Builder
	fmt.Fprintf(&b, "epoch %d revision %d next event %d windows %+v\n", v.Epoch(), v.Revision().Number, v.FeedNext(), v.Windows())
	v.Jobs("", func(j saltpeter.JobStatus) bool {
		fmt.Fprintf(&b, "job %s %s mark %d active %d skipped %d %+v\n", j.Job.Name, j.Digest, j.Mark, j.Active, j.Skipped, v.Skips(j.Job.Name))
		return true
	})
	v.Runs(0, func(r *saltpeter.Run) bool {
		fmt.Fprintf(&b, "run %+v\n", *r)
		v.TargetsOf(r.Num, 0, func(t saltpeter.Target) bool {
			fmt.Fprintf(&b, "target %+v\n", t)
			return true
		})
		return true
	})
	return b.String()
}

func firstDifference(a, b string) string {
	as, bs := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			return as[i] + "\n" + bs[i]
		}
	}
	return "one is longer"
}
