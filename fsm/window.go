package fsm

import (
	"slices"

	"github.com/syscollective/saltpeter"
)

// keepWindow is how long an ended window is kept, in ms: longer than any tick may wait for its decision.
const keepWindow = 25 * 3600 * 1000

// maxWindows bounds the list; the oldest ended ones go first.
const maxWindows = 10_000

// windows holds maintenance and pauses. Its slices and map are replaced as a whole by a change, never changed in place,
// so that views may share them. The two indexes keep the claim's cost from growing with machines under maintenance.
type windows struct {
	list     []*saltpeter.Window // in the order in which they were set
	jobs     []*saltpeter.Window // those of all, groups and jobs
	machines map[string][]*saltpeter.Window
}

func indexWindows(list []*saltpeter.Window) windows {
	w := windows{list: list, machines: make(map[string][]*saltpeter.Window)}
	for _, win := range list {
		if win.Scope == saltpeter.ScopeMachine {
			w.machines[win.Name] = append(w.machines[win.Name], win)
		} else {
			w.jobs = append(w.jobs, win)
		}
	}
	return w
}

// inForce reports whether a window is on for what is decided at millis. Windows begin with their commit and are lifted by
// one: whether the clock of whoever decides lags behind theirs makes no difference.
func inForce(w *saltpeter.Window, millis int64) bool {
	return w.OffMillis == 0 && (w.UntilMillis == 0 || millis < w.UntilMillis)
}

// keepsTick reports whether a window keeps a tick that is decided at millis from being run: it is on, or the tick lies in
// it, or it was lifted after the tick. The last is how lifting moves the marks of what it covered to its commit, and yet
// every tick is recorded.
func keepsTick(w *saltpeter.Window, tick, millis int64) bool {
	lifted := w.OffMillis != 0 && w.OffMillis <= millis
	return inForce(w, millis) || w.ActiveAt(tick*1000) || lifted && tick*1000 < w.OffMillis
}

// coveringTick gives a window that keeps a tick of a job from being run. A maintenance goes before a pause.
func (w *windows) coveringTick(jobName, group string, tick, millis int64) *saltpeter.Window {
	var pause *saltpeter.Window
	for _, win := range w.jobs {
		if !win.CoversJob(jobName, group) || !keepsTick(win, tick, millis) {
			continue
		}
		if !win.Pause {
			return win
		}
		pause = win
	}
	return pause
}

// activeForJob gives a maintenance (or with pause, a pause) that covers the job at millis.
func (w *windows) activeForJob(jobName, group string, millis int64, pause bool) *saltpeter.Window {
	for _, win := range w.jobs {
		if win.Pause == pause && win.CoversJob(jobName, group) && inForce(win, millis) {
			return win
		}
	}
	return nil
}

// activeForMachine gives a maintenance of the machine at millis.
func (w *windows) activeForMachine(machine string, millis int64) *saltpeter.Window {
	for _, win := range w.machines[machine] {
		if inForce(win, millis) {
			return win
		}
	}
	return nil
}

// setWindow adds a window that begins now; one of the same scope, name, kind and source that is on is replaced, its
// beginning kept. It says whether that changed anything.
func (s *state) setWindow(win saltpeter.Window) (saltpeter.Window, bool) {
	list := make([]*saltpeter.Window, 0, len(s.windows.list)+1)
	now := win.FromMillis
	for _, old := range s.windows.list {
		if sameWindow(old, &win) && inForce(old, now) {
			if win.FromMillis = old.FromMillis; *old == win {
				return win, false
			}
			continue
		}
		list = append(list, old)
	}
	s.windows = indexWindows(append(list, &win))
	return win, true
}

// lift gives a window's lifted form.
func lift(w *saltpeter.Window, millis int64) *saltpeter.Window {
	c := *w
	c.OffMillis = millis
	return &c
}

// liftWindows ends the windows that match and are on. It says whether there were any and, so that a command that comes
// again gets the same answer, how many were lifted at this instant.
func (s *state) liftWindows(like saltpeter.Window, millis int64) (lifted bool, count int) {
	list := slices.Clone(s.windows.list)
	for i, old := range list {
		switch {
		case !sameWindow(old, &like):
		case inForce(old, millis):
			list[i] = lift(old, millis)
			lifted = true
			count++
		case old.OffMillis == millis:
			count++
		}
	}
	if lifted {
		s.windows = indexWindows(list)
	}
	return lifted, count
}

// pruneWindows forgets windows that ended long ago.
func (s *state) pruneWindows(millis int64) {
	gone := func(w *saltpeter.Window) bool { return w.End() != 0 && w.End() < millis-keepWindow }
	list := slices.DeleteFunc(slices.Clone(s.windows.list), gone)
	excess := len(list) - maxWindows
	list = slices.DeleteFunc(list, func(w *saltpeter.Window) bool {
		ended := excess > 0 && !inForce(w, millis)
		if ended {
			excess--
		}
		return ended
	})
	if len(list) != len(s.windows.list) {
		s.windows = indexWindows(list)
	}
}

func sameWindow(a, b *saltpeter.Window) bool {
	return a.Scope == b.Scope && a.Name == b.Name && a.Pause == b.Pause && a.File == b.File
}

// setFileMaintenance makes the windows of the files equal to fm.
func (s *state) setFileMaintenance(fm saltpeter.FileMaintenance, millis int64, actor string) {
	want := map[saltpeter.Scope]map[string]bool{saltpeter.ScopeAll: {}, saltpeter.ScopeMachine: {}}
	if fm.Global {
		want[saltpeter.ScopeAll][""] = true
	}
	for _, m := range fm.Machines {
		want[saltpeter.ScopeMachine][m] = true
	}
	list := slices.Clone(s.windows.list)
	for i, old := range list {
		if !old.File || !inForce(old, millis) {
			continue
		}
		if want[old.Scope][old.Name] {
			delete(want[old.Scope], old.Name)
			continue
		}
		list[i] = lift(old, millis)
	}
	add := func(scope saltpeter.Scope, name string) {
		if want[scope][name] {
			list = append(list, &saltpeter.Window{Scope: scope, Name: name, File: true, FromMillis: millis, Actor: actor})
			delete(want[scope], name)
		}
	}
	add(saltpeter.ScopeAll, "")
	for _, m := range fm.Machines {
		add(saltpeter.ScopeMachine, m)
	}
	s.windows = indexWindows(list)
}
