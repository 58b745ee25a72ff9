package sim

import (
	"slices"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/fsm"
)

// windows is the test's own reading of what is under maintenance or paused, entry by entry.
type windows struct {
	list []*window
}

type window struct {
	scope saltpeter.Scope
	name  string
	pause bool
	file  bool
	until int64 // ms; 0 = until it is lifted
}

// take takes up what a command changes.
func (s *windows) take(cmd fsm.Command, res any, millis int64) {
	switch x := cmd.(type) {
	case *fsm.SetWindow:
		if _, done := res.(fsm.WindowTaken); done {
			s.drop(x.Window.Scope, x.Window.Name, x.Window.Pause, false)
			s.list = append(s.list, &window{x.Window.Scope, x.Window.Name, x.Window.Pause, false, x.Window.UntilMillis})
		}
	case *fsm.LiftWindow:
		if _, done := res.(fsm.Lifted); done {
			s.drop(x.Scope, x.Name, x.Pause, false)
		}
	case *fsm.ApplyConfig:
		if _, done := res.(fsm.Done); done && x.Last {
			s.list = slices.DeleteFunc(s.list, func(w *window) bool { return w.file })
			for _, m := range x.Maintenance.Machines {
				s.list = append(s.list, &window{saltpeter.ScopeMachine, m, false, true, 0})
			}
			if x.Maintenance.Global {
				s.list = append(s.list, &window{saltpeter.ScopeAll, "", false, true, 0})
			}
		}
	}
}

func (s *windows) drop(scope saltpeter.Scope, name string, pause, file bool) {
	s.list = slices.DeleteFunc(s.list, func(w *window) bool { return w.scope == scope && w.name == name && w.pause == pause && w.file == file })
}

func (w *window) on(millis int64) bool { return w.until == 0 || millis < w.until }

// job gives a window that keeps a job from starting; pauses concern ticks alone.
func (s *windows) job(name string, tick bool, millis int64) *window {
	for _, w := range s.list {
		covers := w.scope == saltpeter.ScopeAll || w.scope == saltpeter.ScopeJob && w.name == name || w.scope == saltpeter.ScopeGroup && w.name == "jobs"
		if covers && w.on(millis) && (tick || !w.pause) {
			return w
		}
	}
	return nil
}

func (s *windows) machine(name string, millis int64) *window {
	for _, w := range s.list {
		if w.scope == saltpeter.ScopeMachine && w.name == name && w.on(millis) {
			return w
		}
	}
	return nil
}

// checkWindows: once a maintenance is committed, nothing that it covers starts (G5). The entries say in which order
// things were decided.
func (w *world) checkWindows(log []*commit) {
	s := &windows{}
	runs := map[uint64]bool{}
	granted := map[saltpeter.TargetRef]bool{}
	launched := map[saltpeter.LaunchID]bool{}
	for _, k := range log {
		for i, cmd := range k.cmds {
			millis := k.envs[i].Millis
			switch x := cmd.(type) {
			case *fsm.ClaimRuns:
				res, _ := k.results[i].(fsm.Claimed)
				for n, r := range res.Results {
					if r.Outcome == saltpeter.ClaimRun && !runs[r.Run] {
						runs[r.Run] = true
						if win := s.job(x.Claims[n].Job, true, millis); win != nil {
							w.hist.broken("G5", "%s was claimed at %d under %+v", r.RunID, k.index, *win)
						}
					}
				}
			case *fsm.StartRun:
				if r, ok := k.results[i].(fsm.RunStarted); ok && !runs[r.Run] {
					runs[r.Run] = true
					if win := s.job(x.Request.Job, false, millis); win != nil {
						w.hist.broken("G5", "%s was started by hand at %d under %+v", r.RunID, k.index, *win)
					}
				}
			case *fsm.LaunchBatch:
				w.checkLaunch(s, launched, k, i)
			case *fsm.StartTarget:
				if r, ok := k.results[i].(fsm.TargetAsked); ok && r.Granted && !granted[x.Ask.Ref] {
					granted[x.Ask.Ref] = true
					if win := s.machine(x.Ask.Sight.Machine, millis); win != nil {
						w.hist.broken("G5", "run %d on %s was granted at %d under %+v", x.Ask.Ref.Run, x.Ask.Sight.Machine, k.index, *win)
					}
				}
			}
			s.take(cmd, k.results[i], millis)
		}
	}
}

func (w *world) checkLaunch(s *windows, launched map[saltpeter.LaunchID]bool, k *commit, i int) {
	r, ok := k.results[i].(fsm.BatchLaunched)
	if !ok || r.Launch == nil || launched[r.Launch.ID] {
		return
	}
	launched[r.Launch.ID] = true
	for _, m := range r.Launch.Machines {
		if win := s.machine(m, k.envs[i].Millis); win != nil {
			w.hist.broken("G5", "%s was launched on %s at %d under %+v", r.Launch.RunID, m, k.index, *win)
		}
	}
}
