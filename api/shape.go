package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/syscollective/saltpeter"
)

// Time is an instant in Unix milliseconds. In JSON it is RFC 3339 in UTC with milliseconds; 0 is null.
type Time int64

const timeLayout = "2006-01-02T15:04:05.000Z07:00"

// TimeOf gives the Time of t.
func TimeOf(t time.Time) Time { return Time(t.UnixMilli()) }

// tick gives the Time of a tick in Unix seconds; 0 stays null.
func tick(seconds int64) Time { return Time(seconds * 1000) }

// Time gives the instant in UTC.
func (t Time) Time() time.Time { return time.UnixMilli(int64(t)).UTC() }

// MarshalJSON gives the text or null.
func (t Time) MarshalJSON() ([]byte, error) {
	if t == 0 {
		return []byte("null"), nil
	}
	return []byte(`"` + t.Time().Format(timeLayout) + `"`), nil
}

// UnmarshalJSON takes any RFC 3339 text, or null.
func (t *Time) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("want a time as RFC 3339 text: %w", err)
	}
	*t = 0
	if s == nil {
		return nil
	}
	parsed, err := time.Parse(time.RFC3339, *s)
	if err != nil {
		return fmt.Errorf("%q is not a time as RFC 3339 has it, like 2026-01-02T15:04:05Z", *s)
	}
	*t = TimeOf(parsed)
	return nil
}

// Page is a list's answer. NextCursor is empty at its end.
type Page[T any] struct {
	Items      []T    `json:"items"`
	NextCursor string `json:"next_cursor,omitempty"`
	Index      uint64 `json:"index"` // of the record that was read
}

// encode gives the list in JSON. By the rest of it, without the record's index, it is recognized.
func (p Page[T]) encode() (body []byte, tag string, err error) {
	body, err = encode(struct {
		Items      []T    `json:"items"`
		NextCursor string `json:"next_cursor,omitempty"`
	}{p.Items, p.NextCursor})
	if err != nil {
		return nil, "", err
	}
	tag = etag(body)
	body = append(bytes.TrimRight(body, "}\n"), `,"index":`...)
	return append(strconv.AppendUint(body, p.Index, 10), "}\n"...), tag, nil
}

// Run is one execution of a job.
type Run struct {
	ID        string         `json:"id"`
	Num       uint64         `json:"num"`
	Job       string         `json:"job"`
	Group     string         `json:"group"`
	State     string         `json:"state"`
	Scheduled Time           `json:"scheduled"` // the tick; null for a start by hand
	Claimed   Time           `json:"claimed"`
	Started   Time           `json:"started"` // first launch
	Ended     Time           `json:"ended"`
	Cause     string         `json:"cause"` // "tick", "misfire", "manual", "rerun"
	Actor     string         `json:"actor"`
	Origin    string         `json:"origin"`
	Note      string         `json:"note"`
	Parent    string         `json:"parent,omitempty"`
	Key       string         `json:"idempotency_key,omitempty"`
	Subset    []string       `json:"subset,omitempty"` // machines that a start by hand was restricted to
	Counts    map[string]int `json:"counts"`           // targets by state, with "total" and "counted" (those that decide)
	Text      string         `json:"text,omitempty"`   // why it ended without targets
	KilledBy  string         `json:"killed_by,omitempty"`
	Killed    Time           `json:"killed"`
	Back      int            `json:"back,omitempty"` // machines whose command was taken for lost and still runs
	Digest    string         `json:"digest"`         // of the definition that it executes
	Term      uint64         `json:"term"`
}

// Final reports whether the run is finished.
func (r *Run) Final() bool {
	s, ok := saltpeter.ParseRunState(r.State)
	return ok && s.Final()
}

func runOf(r *saltpeter.Run) Run {
	counts := map[string]int{"total": r.Counts.Total(), "counted": r.Counts.Counted()}
	for _, s := range saltpeter.TargetStates() {
		if n := r.Counts[s]; n > 0 {
			counts[s.String()] = int(n)
		}
	}
	return Run{
		ID: r.ID, Num: r.Num, Job: r.Job, Group: r.Group, State: r.State.String(), Scheduled: tick(r.Tick),
		Claimed: Time(r.ClaimedMillis), Started: Time(r.StartedMillis), Ended: Time(r.EndedMillis),
		Cause: r.Cause, Actor: r.Actor, Origin: r.Origin, Note: r.Note, Parent: r.Parent, Key: r.Key, Subset: r.Machines,
		Counts: counts, Text: r.Text, KilledBy: r.KilledBy, Killed: Time(r.KilledMillis), Back: r.Backs,
		Digest: r.Digest.String(), Term: r.Term,
	}
}

func runOrNil(r *saltpeter.Run) *Run {
	if r == nil {
		return nil
	}
	shape := runOf(r)
	return &shape
}

// Machine is one target of a run.
type Machine struct {
	Machine        string `json:"machine"`
	State          string `json:"state"`
	Code           *int   `json:"code"` // null until State is an outcome
	Signal         int    `json:"signal,omitempty"`
	Presumed       bool   `json:"presumed"`           // the outcome rests on silence
	Replaced       bool   `json:"replaced,omitempty"` // a witnessed result replaced a presumed one
	Back           bool   `json:"back,omitempty"`     // taken for lost, came back, still runs
	TwoHosts       bool   `json:"two_hosts,omitempty"`
	Killing        bool   `json:"killing,omitempty"`
	Launched       Time   `json:"launched"`
	Granted        Time   `json:"granted"`
	Started        Time   `json:"started"`
	Ended          Time   `json:"ended"`
	Launch         string `json:"launch,omitempty"` // Salt's jid
	Stored         uint64 `json:"output_bytes"`
	LeftOut        uint64 `json:"output_left_out"`
	Text           string `json:"text,omitempty"`
	Host           string `json:"host,omitempty"`
	BootID         string `json:"boot_id,omitempty"`
	WrapperVersion string `json:"wrapper_version,omitempty"`
}

// Final reports whether the machine has its outcome.
func (m *Machine) Final() bool {
	s, ok := saltpeter.ParseTargetState(m.State)
	return ok && s.Final()
}

func machineOf(t *saltpeter.Target) Machine {
	m := Machine{
		Machine: t.Machine, State: t.State.String(), Signal: t.Signal, Presumed: t.Presumed, Replaced: t.Replaced,
		Back: t.Back, TwoHosts: t.TwoHosts, Killing: t.Killing, Launched: Time(t.LaunchedMillis),
		Granted: Time(t.GrantedMillis), Started: Time(t.StartedMillis), Ended: Time(t.EndedMillis),
		Stored: t.Stored, LeftOut: t.LeftOut, Text: t.Text, Host: t.Host, BootID: t.BootID, WrapperVersion: t.WrapperVersion,
	}
	if t.State.Final() {
		code := t.Code
		m.Code = &code
	}
	if t.Launch != 0 {
		m.Launch = t.Launch.String()
	}
	return m
}

// Skip is a series of ticks in a row that had no run for one reason.
type Skip struct {
	Reason string `json:"reason"`
	First  Time   `json:"first"`
	Last   Time   `json:"last"`
	Count  uint64 `json:"count"`
	Detail string `json:"detail,omitempty"`
}

// Window is a maintenance, or the pause of a job.
type Window struct {
	Scope  string `json:"scope"`
	Name   string `json:"name"`
	Pause  bool   `json:"pause"`
	File   bool   `json:"file"` // it stands in the configuration files
	Active bool   `json:"active"`
	From   Time   `json:"from"`
	Until  Time   `json:"until"` // null = until it is lifted
	Lifted Time   `json:"lifted"`
	Actor  string `json:"actor"`
	Reason string `json:"reason"`
}

func windowOf(w *saltpeter.Window, now time.Time) Window {
	return Window{
		Scope: w.Scope.String(), Name: w.Name, Pause: w.Pause, File: w.File, Active: w.ActiveAt(now.UnixMilli()),
		From: Time(w.FromMillis), Until: Time(w.UntilMillis), Lifted: Time(w.OffMillis), Actor: w.Actor, Reason: w.Reason,
	}
}
