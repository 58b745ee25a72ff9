package sim

import (
	"bytes"
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/outlog"
)

// where names one machine in one run.
type where struct{ run, machine string }

// facts lists what is known of all targets at this moment, in order.
func (c *commits) facts() []*facts {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*facts, 0, len(c.targets))
	for _, f := range c.targets {
		known := *f
		out = append(out, &known)
	}
	slices.SortFunc(out, func(a, b *facts) int {
		if a.ref.Run != b.ref.Run {
			return int(a.ref.Run) - int(b.ref.Run)
		}
		return int(a.ref.Target) - int(b.ref.Target)
	})
	return out
}

func (c *commits) ackedOf(ref saltpeter.TargetRef) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acked[ref]
}

func (w *world) factsByPlace() map[where]*facts {
	out := map[where]*facts{}
	for _, f := range w.commits.facts() {
		out[where{f.run, f.machine}] = f
	}
	return out
}

func (w *world) execsByPlace() map[where]*execution {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	out := map[where]*execution{}
	for _, e := range w.ledger.execs {
		out[where{e.run, e.machine}] = e
	}
	return out
}

// checkExecutions: nothing was executed twice, and only while the record said "granted" (G1, G4): neither before, nor
// after an outcome was written.
func (w *world) checkExecutions() {
	known := w.factsByPlace()
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	seen := map[where]*execution{}
	for _, e := range w.ledger.execs {
		at := where{e.run, e.machine}
		if first := seen[at]; first != nil {
			w.hist.broken("G1", "%s on %s was executed by wrapper %d at %s and by wrapper %d at %s", e.run, e.machine,
				first.wrapper, w.hist.clock(first.at), e.wrapper, w.hist.clock(e.at))
		}
		seen[at] = e
		f := known[at]
		if f == nil {
			w.hist.broken("G1", "%s on %s was executed and is not in the record", e.run, e.machine)
			continue
		}
		if c, ok := f.stateAt(e.at); !ok || c.state != saltpeter.Granted {
			w.hist.broken("G1", "%s on %s was executed at %s while the record said %s", e.run, e.machine, w.hist.clock(e.at), c.state)
		}
	}
}

// checkLocks: commands of a job that doesn't allow overlap never run together on one machine, whatever the record thinks.
func (w *world) checkLocks() {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	apart := map[string]bool{}
	for _, j := range w.plan.jobs {
		apart[j.name] = !j.overlaps()
	}
	last := map[where]*execution{} // by job and machine, in the order of their beginnings
	for _, e := range w.ledger.execs {
		if !apart[e.spec.Job] {
			continue
		}
		at := where{e.spec.Job, e.machine}
		if before := last[at]; before != nil && (before.ended.IsZero() || e.at.Before(before.ended)) {
			w.hist.broken("overlap", "%s and %s ran together on %s", before.run, e.run, e.machine)
		}
		last[at] = e
	}
}

// checkOutcomes holds every outcome against what really happened (G4).
func (w *world) checkOutcomes() {
	execs := w.execsByPlace()
	for _, f := range w.commits.facts() {
		e := execs[where{f.run, f.machine}]
		t := &f.last
		bad := func(why string) {
			w.hist.broken("G4", "%s on %s is %s, code %d, presumed %v: %s", f.run, f.machine, t.State, t.Code, t.Presumed, why)
		}
		switch {
		case e == nil:
			if slices.Contains([]saltpeter.TargetState{saltpeter.OK, saltpeter.Failed, saltpeter.TimedOut}, t.State) {
				bad("it was never executed")
			}
		case t.State == saltpeter.NotStarted, t.State == saltpeter.Unreachable, t.State == saltpeter.InMaintenance:
			bad("it was executed")
		case t.State == saltpeter.Lost:
			if !e.orphan && e.by != "power" {
				bad("its wrapper lives and has all the news")
			}
		case e.by == "itself" && len(e.signals) == 0:
			w.checkOwnEnd(e, t, bad)
		case t.State == saltpeter.OK && e.code != 0, t.State == saltpeter.Failed && t.Code != e.code:
			bad("that is not how it ended")
		}
		if !t.Presumed && t.State == saltpeter.Lost || t.Presumed && !slices.Contains([]saltpeter.TargetState{saltpeter.Lost,
			saltpeter.NotStarted, saltpeter.Unreachable}, t.State) {
			bad("that can't be")
		}
	}
}

// checkOwnEnd is for a command that nobody sent a signal.
func (w *world) checkOwnEnd(e *execution, t *saltpeter.Target, bad func(string)) {
	switch {
	case t.State == saltpeter.OK && e.code == 0:
	case t.State == saltpeter.Failed && e.code != 0 && t.Code == e.code:
	case t.State == saltpeter.TimedOut && e.spec.Timeout > 0 && e.ended.Sub(e.at) >= e.spec.Timeout: // in the same instant
	default:
		bad("it ended by itself, with another code")
	}
}

// checkOutput holds what is stored on a node against what the command wrote, with what is left out accounted for (G3).
func (w *world) checkOutput(n *node) {
	execs := w.execsByPlace()
	store := n.life.Load().machine.Output()
	if !w.until(2*time.Minute, "node "+n.name+" to have all segments", func() bool { return len(store.Missing()) == 0 }) {
		return
	}
	for _, f := range w.commits.facts() {
		e := execs[where{f.run, f.machine}]
		var frames []outlog.Frame
		err := store.Frames(outlog.Key{Run: f.ref.Run, Target: f.ref.Target}, 0, func(fr outlog.Frame) bool {
			fr.Data = bytes.Clone(fr.Data)
			frames = append(frames, fr)
			return true
		})
		switch {
		case errors.Is(err, outlog.ErrNoOutput) && f.last.Stored == 0 && f.last.LeftOut == 0:
		case err != nil:
			w.hist.broken("G3", "output of %s on %s on node %s: %v", f.run, f.machine, n.name, err)
			continue
		}
		if e == nil {
			if len(frames) > 0 {
				w.hist.broken("G3", "%s on %s has output and was never executed", f.run, f.machine)
			}
			continue
		}
		w.compareOutput(f, e, frames)
	}
}

func (w *world) compareOutput(f *facts, e *execution, frames []outlog.Frame) {
	pos, stored, left := 0, 0, 0
	var seq uint64
	for _, fr := range frames {
		if fr.Seq <= seq {
			w.hist.broken("G3", "%s on %s: number %d follows %d", f.run, f.machine, fr.Seq, seq)
		}
		seq = fr.Seq
		if fr.Kind == outlog.Skip {
			pos += int(fr.Skipped)
			left += int(fr.Skipped)
			continue
		}
		if pos+len(fr.Data) > len(e.wrote) || !bytes.Equal(fr.Data, e.wrote[pos:pos+len(fr.Data)]) {
			w.hist.broken("G3", "%s on %s: frame %d is not what was written at byte %d", f.run, f.machine, fr.Seq, pos)
			return
		}
		pos += len(fr.Data)
		stored += len(fr.Data)
	}
	if uint64(stored) != f.last.Stored || uint64(left) != f.last.LeftOut {
		w.hist.broken("G3", "%s on %s: %d bytes stored and %d left out, the record says %d and %d", f.run, f.machine, stored, left, f.last.Stored, f.last.LeftOut)
	}
	if f.last.Done && f.last.State != saltpeter.NotStarted && pos != len(e.wrote) {
		w.hist.broken("G3", "%s on %s: the record accounts for %d bytes of %d", f.run, f.machine, pos, len(e.wrote))
	}
}

// checkSignals: only a timeout or a kill stops a command (G8).
func (w *world) checkSignals(log []*commit) {
	kills := map[uint64]time.Time{} // by run, the first
	for _, k := range log {
		for i, cmd := range k.cmds {
			x, ok := cmd.(*fsm.Kill)
			if _, refused := k.results[i].(*fsm.Refusal); ok && !refused && kills[x.Run].IsZero() {
				kills[x.Run] = k.at
			}
		}
	}
	known := w.factsByPlace()
	for at, e := range w.execsByPlace() {
		f := known[at]
		for _, s := range e.signals {
			if s.sig != syscall.SIGTERM && s.sig != syscall.SIGKILL {
				w.hist.broken("G8", "%s on %s got %s", e.run, e.machine, s.sig)
			}
			timeout := e.spec.Timeout > 0 && s.at.Sub(e.at) >= e.spec.Timeout
			killed := f != nil && !kills[f.ref.Run].IsZero() && !kills[f.ref.Run].After(s.at)
			if !timeout && !killed {
				w.hist.broken("G8", "%s on %s got %s at %s without a timeout or a kill", e.run, e.machine, s.sig, w.hist.clock(s.at))
			}
		}
		if e.by == "" {
			w.hist.broken("liveness", "%s on %s still runs", e.run, e.machine)
		}
	}
}
