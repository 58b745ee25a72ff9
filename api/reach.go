package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/syscollective/saltpeter"
)

// maxDiagnosed is how many machines one diagnosis looks at.
const maxDiagnosed = 100

// Reach is what the API asks about the way to machines. Errors that people may see are *saltpeter.Error.
type Reach interface {
	// Match gives the machines that an expression matches now, by the launcher. With ping they are asked who is up.
	Match(ctx context.Context, kind string, targets []string, ping bool) (Matched, error)
	// Diagnose looks for what is wrong on the way to machines, in general and with those named.
	Diagnose(ctx context.Context, machines []string) (Health, error)
}

// Matched is the machines that an expression matches.
type Matched struct {
	TargetType string           `json:"target_type"`
	Targets    []string         `json:"targets"`
	Launcher   string           `json:"launcher"`          // "salt" or "local"
	Pinged     bool             `json:"pinged"`            // Up of machines is known
	Failed     []string         `json:"failed,omitempty"`  // why masters could not say what matches
	Machines   []MatchedMachine `json:"machines"`          // by name
	Unknown    int              `json:"unknown,omitempty"` // how many of them nobody knows
}

// MatchedMachine is one of them.
type MatchedMachine struct {
	Machine     string   `json:"machine"`
	Known       bool     `json:"known"`                 // a master has accepted its key, or this host plays it
	Masters     []string `json:"masters,omitempty"`     // Salt masters that match it
	Up          *bool    `json:"up"`                    // null where it was not asked
	Maintenance string   `json:"maintenance,omitempty"` // what it is under: "machine", or with its reason
}

// JobTargets is what a job would run on if it were started now.
type JobTargets struct {
	Job             string `json:"job"`
	NumberOfTargets int    `json:"number_of_targets"` // of those that are up and free; 0 = all
	Batch           string `json:"batch_size"`        // "10", "25%" or empty
	// Maintenance says what keeps the whole job from starting; empty = nothing does.
	Maintenance string `json:"maintenance,omitempty"`
	Matched
}

// reachRoutes lists the resources about the way to machines.
func (s *Server) reachRoutes() map[string]map[string]route {
	if s.reach == nil {
		return nil
	}
	return map[string]map[string]route{
		"jobs/{job}/targets": {
			http.MethodGet:  {handle: (*call).jobTargets, access: accessRead},
			http.MethodPost: {handle: (*call).pingTargets, access: accessDiagnose},
		},
		"targets": {http.MethodPost: {handle: (*call).matchTargets, access: accessRead}},
		"doctor":  {http.MethodPost: {handle: (*call).diagnose, access: accessDiagnose}},
	}
}

func (c *call) jobTargets() error { return c.targetsOf(false) }

// pingTargets is jobTargets with who is up, which asks the machines.
func (c *call) pingTargets() error {
	if err := c.body(nil); err != nil {
		return err
	}
	return c.targetsOf(true)
}

func (c *call) targetsOf(ping bool) error {
	v, err := c.view()
	if err != nil {
		return err
	}
	j, err := c.job(v)
	if err != nil {
		return err
	}
	got, err := c.s.reach.Match(c.r.Context(), j.Job.TargetType, j.Job.Targets, ping)
	if err != nil {
		return err
	}
	out := JobTargets{Job: j.Job.Name, NumberOfTargets: j.Job.NumberOfTargets, Batch: batchText(j.Job.Batch), Matched: got}
	c.markMaintenance(v, j.Job, &out)
	return c.reply(http.StatusOK, out)
}

// markMaintenance says what would keep the job, or machines of it, from starting now.
func (c *call) markMaintenance(v View, job *saltpeter.Job, out *JobTargets) {
	now := c.s.now().UnixMilli()
	machines := map[string]string{}
	for _, w := range v.Windows() {
		switch {
		case w.OffMillis != 0 || !w.ActiveAt(now):
		case w.Scope == saltpeter.ScopeMachine:
			machines[w.Name] = windowText(&w)
		case w.CoversJob(job.Name, job.Group):
			out.Maintenance = windowText(&w)
		}
	}
	for i := range out.Machines {
		out.Machines[i].Maintenance = machines[out.Machines[i].Machine]
	}
}

// windowText says what a window is, and why, if that was said.
func windowText(w *saltpeter.Window) string {
	text := "maintenance of " + w.Scope.String()
	if w.Pause {
		text = "paused"
	}
	if w.Scope == saltpeter.ScopeGroup {
		text += " " + w.Name
	}
	if w.Reason != "" {
		text += ": " + w.Reason
	}
	return text
}

// matchTargets matches an expression that no job has, or not yet.
func (c *call) matchTargets() error {
	kind, targets := "glob", []string(nil)
	if err := c.body(fields{"target_type": &kind, "targets": &targets}); err != nil {
		return err
	}
	switch {
	case len(targets) == 0:
		return fieldError("targets", "is missing", "want a list of texts")
	case kind == "" || strings.TrimSpace(kind) != kind:
		return fieldError("target_type", "is not a target type", "glob, list, compound, …")
	}
	got, err := c.s.reach.Match(c.r.Context(), kind, targets, false)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, got)
}

// diagnose looks for what is wrong between this node, Salt and machines.
func (c *call) diagnose() error {
	var machines []string
	if err := c.body(fields{"machines": &machines}); err != nil {
		return err
	}
	machines, err := checkMachines(machines)
	if err != nil {
		return err
	}
	if len(machines) > maxDiagnosed {
		return fieldError("machines", "names too many", "at most 100 at a time")
	}
	got, err := c.s.reach.Diagnose(c.r.Context(), machines)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, got)
}
