package api

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/syscollective/saltpeter"
)

// Job is a job in force. Durations are seconds.
type Job struct {
	Name     string   `json:"name"`
	Group    string   `json:"group"`
	Schedule Schedule `json:"schedule"`
	Next     Time     `json:"next"`  // next tick; null while paused and where it never comes
	Never    bool     `json:"never"` // it is not due any more
	Paused   *Window  `json:"paused"`

	Command         string            `json:"command"`
	User            string            `json:"user"`
	Cwd             string            `json:"cwd"`
	Env             map[string]string `json:"env,omitempty"`
	Targets         []string          `json:"targets"`
	TargetType      string            `json:"target_type"`
	NumberOfTargets int               `json:"number_of_targets"` // 0 = all
	Batch           string            `json:"batch_size"`        // "10", "25%" or empty
	Timeout         float64           `json:"timeout"`           // 0 = none
	SoftTimeout     float64           `json:"soft_timeout"`
	KillGrace       float64           `json:"kill_grace"`
	MisfireGrace    float64           `json:"misfire_grace"`
	AllowOverlap    bool              `json:"allow_overlap"`
	OutputLimit     int64             `json:"output_limit"` // bytes for each machine
	UseWrapper      bool              `json:"use_wrapper"`
	Start           string            `json:"start"`

	Active   int             `json:"active"` // runs that count for overlap
	LastRun  *Run            `json:"last_run"`
	LastEnd  *Run            `json:"last_end"`
	Skipped  uint64          `json:"skipped"`
	Source   string          `json:"source"` // "file.yaml:12"
	Digest   string          `json:"digest"`
	Revision uint64          `json:"revision"`
	Written  json.RawMessage `json:"written,omitempty"` // as in the file; only of a single job
}

// Schedule says when a job is due.
type Schedule struct {
	Expr     string `json:"expr"` // sec min hour dom mon dow year
	Written  string `json:"written,omitempty"`
	Timezone string `json:"timezone"`
	DayMatch string `json:"day_match"` // "and", "or"
	Words    string `json:"words"`
}

func expression(s *saltpeter.Schedule) string {
	return s.Sec + " " + s.Min + " " + s.Hour + " " + s.Dom + " " + s.Mon + " " + s.Dow + " " + s.Year
}

func dayMatch(or bool) string {
	if or {
		return "or"
	}
	return "and"
}

func zoneName(zone string) string {
	if zone == "" {
		return "UTC"
	}
	return zone
}

func jobOf(s *saltpeter.JobStatus, m *matcher, now time.Time) Job {
	j := s.Job
	shape := Job{
		Name: j.Name, Group: j.Group,
		Schedule: Schedule{
			Expr: expression(&j.Schedule), Written: j.Schedule.Written,
			Timezone: zoneName(j.Schedule.Timezone), DayMatch: dayMatch(j.Schedule.MatchAny),
		},
		Command: j.Command, User: j.User, Cwd: j.Cwd, Env: j.Env, Targets: j.Targets, TargetType: j.TargetType,
		NumberOfTargets: j.NumberOfTargets, Batch: batchText(j.Batch),
		Timeout: j.Timeout.Seconds(), SoftTimeout: j.SoftTimeout.Seconds(), KillGrace: j.KillGrace.Seconds(),
		MisfireGrace: j.MisfireGrace.Seconds(), AllowOverlap: j.AllowOverlap, OutputLimit: j.OutputLimit,
		UseWrapper: j.UseWrapper, Start: j.Start,
		Active: s.Active, LastRun: runOrNil(s.LastRun), LastEnd: runOrNil(s.LastEnd), Skipped: s.Skipped,
		Source: j.Source, Digest: s.Digest.String(), Revision: s.Revision,
	}
	if s.Paused != nil {
		w := windowOf(s.Paused, now)
		shape.Paused = &w
	}
	if m.schedule != nil {
		shape.Schedule.Words = m.words
		next, due := m.schedule.Next(now)
		shape.Never = !due
		if due && (shape.Paused == nil || !shape.Paused.Active) {
			shape.Next = TimeOf(next)
		}
	}
	return shape
}

func batchText(b saltpeter.Batch) string {
	switch {
	case b.Size == 0:
		return ""
	case b.Percent:
		return strconv.Itoa(b.Size) + "%"
	default:
		return strconv.Itoa(b.Size)
	}
}
