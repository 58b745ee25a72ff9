package sim

import (
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/fsm"
)

const (
	// beforePing and pingWait are the defaults of silence_to_ping and ping_timeout.
	beforePing = 5 * time.Second
	pingWait   = 15 * time.Second
	// onItsWay is how long a word may be on its way from the leader's ear to its commit; a leader may be stopped in between.
	onItsWay = 10 * time.Second
)

// checkSilence: an outcome that rests on silence was written only after a silence that was long enough, counted from the
// beginning of the leadership that wrote it, and from the last word of the target's that is in the log.
func (w *world) checkSilence(log []*commit) {
	began := map[uint64]time.Time{} // by term, its first entry: the barrier
	word := map[saltpeter.TargetRef]time.Time{}
	for _, k := range log {
		if began[k.term].IsZero() {
			began[k.term] = k.at
		}
		for i, cmd := range k.cmds {
			if _, refused := k.results[i].(*fsm.Refusal); refused {
				continue
			}
			switch x := cmd.(type) {
			case *fsm.StartTarget:
				word[x.Ask.Ref] = k.at
			case *fsm.Report:
				for _, r := range x.Reports {
					word[r.Ref] = k.at
				}
			case *fsm.EndTargets:
				for _, e := range x.Ends {
					ref := saltpeter.TargetRef{Run: x.Run, Target: e.Target}
					if w.commits.became(ref, k.index) == e.State { // also that one is back no more; else the target's own word came before
						w.checkEnd(k, ref, e.State, began[k.term], word)
					}
				}
			}
		}
	}
}

func (w *world) checkEnd(k *commit, ref saltpeter.TargetRef, to saltpeter.TargetState, began time.Time, word map[saltpeter.TargetRef]time.Time) {
	least := w.plan.silence
	if to == saltpeter.Unreachable {
		least = min(least, beforePing+pingWait)
	}
	if d := k.at.Sub(began); d < least {
		w.hist.broken("G4", "run %d.%d became %s at %d, %s after the leadership began", ref.Run, ref.Target, to, k.index, d)
	}
	if last := word[ref]; !last.IsZero() && k.at.Sub(last) < least-onItsWay {
		w.hist.broken("G4", "run %d.%d became %s at %d, %s after its last word", ref.Run, ref.Target, to, k.index, k.at.Sub(last))
	}
}
