package fsm

import "github.com/syscollective/saltpeter"

func (c *SetWindow) apply(a *applier) any {
	w := c.Window
	if _, ok := saltpeter.ParseScope(w.Scope.String()); !ok || (w.Scope == saltpeter.ScopeAll) != (w.Name == "") || w.Pause && w.Scope != saltpeter.ScopeJob {
		return refuse(saltpeter.CodeInvalid, "a window of %s %q makes no sense", w.Scope, w.Name)
	}
	if w.UntilMillis != 0 && w.UntilMillis <= a.env.Millis {
		return refuse(saltpeter.CodeInvalid, "the window would end before it begins")
	}
	if w.Pause {
		if j, ok := a.s.jobs.Get(w.Name); !ok || !j.inForce {
			return refuse(saltpeter.CodeNotFound, "job %q not found", w.Name)
		}
	}
	w.File, w.OffMillis, w.FromMillis, w.Actor = false, 0, a.env.Millis, a.env.Actor
	w, changed := a.s.setWindow(w)
	if !changed {
		return WindowTaken{Window: w}
	}
	a.changed.Plan = true
	a.event(saltpeter.Event{Type: saltpeter.EventWindowSet, Actor: w.Actor, Text: describeWindow(&w)})
	return WindowTaken{Window: w}
}

func (c *LiftWindow) apply(a *applier) any {
	like := saltpeter.Window{Scope: c.Scope, Name: c.Name, Pause: c.Pause}
	lifted, count := a.s.liftWindows(like, a.env.Millis)
	out := Lifted{Count: count}
	like.File = true
	for _, w := range a.s.windows.list {
		out.File = out.File || sameWindow(w, &like) && inForce(w, a.env.Millis)
	}
	if lifted {
		like.File, like.Actor = false, a.env.Actor
		a.changed.Plan = true
		a.event(saltpeter.Event{Type: saltpeter.EventWindowLifted, Actor: a.env.Actor, Text: describeWindow(&like)})
	}
	return out
}

func (c *PullMarks) apply(a *applier) any {
	if r := a.stale(); r != nil {
		return r
	}
	var ahead []string
	a.s.jobs.Scan(func(name string, j *job) bool {
		if j.mark > c.To {
			ahead = append(ahead, name)
		}
		return true
	})
	for _, name := range ahead {
		j := a.s.mutJob(name)
		j.mark, j.inRow = c.To, false // ticks that come again make a series of their own
	}
	a.changed.Plan = a.changed.Plan || len(ahead) > 0
	return Done{}
}
