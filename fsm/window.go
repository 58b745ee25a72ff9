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

// coveringTick gives a window that keeps a tick of a job from being run: one that the tick lies in, or one that is active
// when it is decided. A maintenance goes before a pause.
func (w *windows) coveringTick(jobName, group string, tick, millis int64) *saltpeter.Window {
	var pause *saltpeter.Window
	for _, win := range w.jobs {
		if !win.CoversJob(jobName, group) || !win.ActiveAt(tick*1000) && !win.ActiveAt(millis) {
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
		if win.Pause == pause && win.CoversJob(jobName, group) && win.ActiveAt(millis) {
			return win
		}
	}
	return nil
}

// activeForMachine gives a maintenance of the machine at millis.
func (w *windows) activeForMachine(machine string, millis int64) *saltpeter.Window {
	for _, win := range w.machines[machine] {
		if win.ActiveAt(millis) {
			return win
		}
	}
	return nil
}

// setWindow adds a window; an active one of the same scope, name, kind and source is replaced, its beginning kept.
func (s *state) setWindow(win saltpeter.Window) saltpeter.Window {
	list := make([]*saltpeter.Window, 0, len(s.windows.list)+1)
	for _, old := range s.windows.list {
		if sameWindow(old, &win) && old.ActiveAt(win.FromMillis) {
			win.FromMillis = old.FromMillis
			continue
		}
		list = append(list, old)
	}
	s.windows = indexWindows(append(list, &win))
	return win
}

// liftWindows ends the active windows that match, and says how many.
func (s *state) liftWindows(like saltpeter.Window, millis int64) int {
	list, lifted := slices.Clone(s.windows.list), 0
	for i, old := range list {
		if !sameWindow(old, &like) || !old.ActiveAt(millis) {
			continue
		}
		c := *old
		c.OffMillis = millis
		list[i] = &c
		lifted++
	}
	if lifted > 0 {
		s.windows = indexWindows(list)
	}
	return lifted
}

// pruneWindows forgets windows that ended long ago.
func (s *state) pruneWindows(millis int64) {
	gone := func(w *saltpeter.Window) bool { return w.End() != 0 && w.End() < millis-keepWindow }
	list := slices.DeleteFunc(slices.Clone(s.windows.list), gone)
	for i := 0; i < len(list) && len(list) > maxWindows; {
		if w := list[i]; w.End() != 0 && w.End() <= millis {
			list = slices.Delete(list, i, i+1)
			continue
		}
		i++
	}
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
		if !old.File || !old.ActiveAt(millis) {
			continue
		}
		if want[old.Scope][old.Name] {
			delete(want[old.Scope], old.Name)
			continue
		}
		c := *old
		c.OffMillis = millis
		list[i] = &c
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
