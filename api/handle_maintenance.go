package api

import (
	"net/http"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
)

// maxWindow is the longest time that a maintenance may be set for; longer ones have to be without end.
const maxWindow = 10 * 365 * 24 * time.Hour

// windowRequest is the body of PUT maintenance: exactly one of For, Until and Forever.
type windowRequest struct {
	Reason  string
	For     Duration
	Until   Time
	Forever bool
}

// Lifted is the answer to the end of a maintenance or pause.
type Lifted struct {
	Lifted int `json:"lifted"`
	// Active are those of the same scope and name that still hold: they stand in the configuration files.
	Active []Window `json:"active"`
}

// scope reads which windows the path means. A path without a scope means all jobs.
func (c *call) scope() (saltpeter.Scope, string, error) {
	word, name := c.r.PathValue("scope"), c.r.PathValue("name")
	if word == "" {
		return saltpeter.ScopeAll, "", nil
	}
	scope, ok := saltpeter.ParseScope(word)
	switch {
	case !ok:
		return 0, "", saltpeter.Errorf(saltpeter.CodeNotFound, "there is no scope %q", word).
			WithHint("scopes: all, group/NAME, job/NAME, machine/NAME")
	case scope == saltpeter.ScopeAll && name != "":
		return 0, "", saltpeter.Errorf(saltpeter.CodeInvalid, "scope all has no name").WithHint("use maintenance/all")
	}
	return scope, name, nil
}

// named is scope for what needs a name.
func (c *call) named() (saltpeter.Scope, string, error) {
	scope, name, err := c.scope()
	if err == nil && scope != saltpeter.ScopeAll && name == "" {
		err = saltpeter.Errorf(saltpeter.CodeInvalid, "scope %s needs a name", scope).WithHint("use maintenance/%s/NAME", scope)
	}
	return scope, name, err
}

func (c *call) getWindows() error {
	scope, name, err := c.scope()
	if err != nil {
		return err
	}
	ended, err := c.params.flag("all")
	if err != nil {
		return err
	}
	return c.watch(func(v View) (any, error) {
		page := Page[Window]{Items: []Window{}, Index: v.Index()}
		for _, w := range v.Windows() {
			if c.r.PathValue("scope") != "" && (w.Scope != scope || name != "" && w.Name != name) {
				continue
			}
			shape := windowOf(&w, c.s.now())
			if !w.Pause && (shape.Active || ended) {
				page.Items = append(page.Items, shape)
			}
		}
		return page, nil
	})
}

func (c *call) putWindow() error {
	scope, name, err := c.named()
	if err != nil {
		return err
	}
	var req windowRequest
	err = c.body(fields{"reason": &req.Reason, "for": &req.For, "until": &req.Until, "forever": &req.Forever})
	if err != nil {
		return err
	}
	return c.setWindow(saltpeter.Window{Scope: scope, Name: name}, req)
}

func (c *call) setWindow(w saltpeter.Window, req windowRequest) error {
	if err := checkText("reason", req.Reason, maxNote); err != nil {
		return err
	}
	if err := req.span(&w, c.s.now()); err != nil {
		return err
	}
	v, err := c.view()
	if err != nil {
		return err
	}
	if err := covers(v, &w); err != nil {
		return err
	}
	w.Actor, w.Reason = c.by.Name, req.Reason
	set, err := c.s.node.SetWindow(c.r.Context(), c.by, w)
	if err != nil {
		return err
	}
	if _, err := c.local(); err != nil {
		return err
	}
	return c.reply(http.StatusOK, windowOf(&set, c.s.now()))
}

// span turns what was asked for into the window's ends.
func (req *windowRequest) span(w *saltpeter.Window, now time.Time) error {
	given := 0
	for _, is := range []bool{req.For != 0, req.Until != 0, req.Forever} {
		if is {
			given++
		}
	}
	if given != 1 {
		return saltpeter.Errorf(saltpeter.CodeInvalid, "how long is not said, or said twice").
			WithHint(`give exactly one of "for" (seconds, or text like "2h"), "until" (a time) and "forever": true`)
	}
	w.FromMillis = now.UnixMilli()
	switch {
	case req.Forever:
		return nil
	case req.For != 0:
		w.UntilMillis = w.FromMillis + max(time.Duration(req.For).Milliseconds(), 1)
	default:
		w.UntilMillis = int64(req.Until)
	}
	switch length := w.UntilMillis - w.FromMillis; {
	case length <= 0:
		return fieldError("until", "lies in the past", "give a time that is to come")
	case length > maxWindow.Milliseconds():
		return fieldError("for", "is more than ten years", `use "forever": true`)
	}
	return nil
}

// covers refuses a window about a job or group that does not exist: a typing error would leave unprotected what
// somebody believes to be stopped. Machines are known to Salt only.
func covers(v View, w *saltpeter.Window) error {
	switch w.Scope {
	case saltpeter.ScopeJob:
		if _, ok := v.Job(w.Name); !ok {
			return noJob(w.Name)
		}
	case saltpeter.ScopeGroup:
		found, groups, seen := false, []string{}, map[string]bool{"": true}
		v.Jobs("", func(j saltpeter.JobStatus) bool {
			found = j.Job.Group == w.Name
			if !seen[j.Job.Group] && len(groups) < 20 {
				groups = append(groups, j.Job.Group)
			}
			seen[j.Job.Group] = true
			return !found
		})
		if !found {
			return saltpeter.Errorf(saltpeter.CodeNotFound, "no job is in group %q", w.Name).WithHint("groups: %s", strings.Join(groups, ", "))
		}
	case saltpeter.ScopeMachine:
		return checkText("name", w.Name, maxMachine)
	}
	return nil
}

func (c *call) deleteWindow() error {
	scope, name, err := c.named()
	if err != nil {
		return err
	}
	if err := c.body(nil); err != nil {
		return err
	}
	return c.liftWindow(scope, name, false)
}

func (c *call) liftWindow(scope saltpeter.Scope, name string, pause bool) error {
	n, err := c.s.node.LiftWindow(c.r.Context(), c.by, scope, name, pause)
	if err != nil {
		return err
	}
	v, err := c.view()
	if err != nil {
		return err
	}
	answer := Lifted{Lifted: n, Active: []Window{}}
	for _, w := range v.Windows() {
		if shape := windowOf(&w, c.s.now()); w.Scope == scope && w.Name == name && w.Pause == pause && shape.Active {
			answer.Active = append(answer.Active, shape)
		}
	}
	return c.reply(http.StatusOK, answer)
}
