package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
)

// List is a list's answer over all its pages, decoded and as it was.
type List[T any] struct {
	Items []T
	Raw   []json.RawMessage
	Next  string // cursor of what follows; empty at the end of the list
	Index uint64
}

// list reads pages until there are most items, or no more; 0 = all.
func list[T any](ctx context.Context, c *Client, path string, query url.Values, most int) (List[T], error) {
	if query == nil {
		query = url.Values{}
	}
	l := List[T]{Items: []T{}, Raw: []json.RawMessage{}}
	for {
		limit := 1000
		if most > 0 {
			limit = min(limit, most-len(l.Raw))
		}
		query.Set("limit", strconv.Itoa(limit))
		page, err := call[api.Page[json.RawMessage]](ctx, c, request{method: http.MethodGet, path: path, query: query})
		if err != nil {
			return l, err
		}
		l.Raw, l.Next, l.Index = append(l.Raw, page.Value.Items...), page.Value.NextCursor, page.Value.Index
		if l.Next == "" || most > 0 && len(l.Raw) >= most {
			break
		}
		query.Set("cursor", l.Next)
	}
	for _, raw := range l.Raw {
		var item T
		if err := json.Unmarshal(raw, &item); err != nil {
			return l, saltpeter.Errorf(saltpeter.CodeInternal, "an item of %s is not what a saltpeter node gives: %w", path, err)
		}
		l.Items = append(l.Items, item)
	}
	return l, nil
}

func get[T any](ctx context.Context, c *Client, path string) (Answer[T], error) {
	return call[T](ctx, c, request{method: http.MethodGet, path: path})
}

func seg(name string) string { return api.PathEscape(name) }

// Status gives the state of the node that answers.
func (c *Client) Status(ctx context.Context) (Answer[api.Status], error) {
	return get[api.Status](ctx, c, "status")
}

// Version gives the version of the node that answers.
func (c *Client) Version(ctx context.Context) (Answer[api.Version], error) {
	return get[api.Version](ctx, c, "version")
}

// Jobs lists the jobs in force.
func (c *Client) Jobs(ctx context.Context, query url.Values, most int) (List[api.Job], error) {
	return list[api.Job](ctx, c, "jobs", query, most)
}

// Job gives one job.
func (c *Client) Job(ctx context.Context, name string) (Answer[api.Job], error) {
	return get[api.Job](ctx, c, "jobs/"+seg(name))
}

// Skips lists the ticks of a job that had no run.
func (c *Client) Skips(ctx context.Context, job string, most int) (List[api.Skip], error) {
	return list[api.Skip](ctx, c, "jobs/"+seg(job)+"/skips", nil, most)
}

// Runs lists runs, newest first; the query may name job and state.
func (c *Client) Runs(ctx context.Context, query url.Values, most int) (List[api.Run], error) {
	return list[api.Run](ctx, c, "runs", query, most)
}

// Run gives one run.
func (c *Client) Run(ctx context.Context, id string) (Answer[api.Run], error) {
	return get[api.Run](ctx, c, "runs/"+seg(id))
}

// WaitRun gives a run as soon as it differs from the one with the tag, or after wait as it is. The first call has an
// empty tag and does not wait.
func (c *Client) WaitRun(ctx context.Context, id, tag string, wait time.Duration) (a Answer[api.Run], newTag string, err error) {
	r := request{method: http.MethodGet, path: "runs/" + seg(id), query: url.Values{}, header: http.Header{}}
	if tag != "" {
		r.query.Set("wait", strconv.Itoa(int(wait.Seconds())))
		r.header.Set("If-None-Match", tag)
		r.wait = wait
	}
	resp, err := c.send(ctx, r)
	if err != nil {
		return a, tag, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	if resp.StatusCode == http.StatusNotModified {
		return a, tag, nil
	}
	a, err = read[api.Run](resp)
	return a, resp.Header.Get("Etag"), err
}

// Machines lists the machines of a run in drawn order.
func (c *Client) Machines(ctx context.Context, run string, query url.Values, most int) (List[api.Machine], error) {
	return list[api.Machine](ctx, c, "runs/"+seg(run)+"/machines", query, most)
}

// Machine gives one machine of a run.
func (c *Client) Machine(ctx context.Context, run, machine string) (Answer[api.Machine], error) {
	return get[api.Machine](ctx, c, "runs/"+seg(run)+"/machines/"+seg(machine))
}

// Start is a request for a run by hand.
type Start struct {
	Job      string
	Key      string // idempotency key; without one the request is not repeated after a doubtful failure
	Note     string
	Machines []string
}

// Start claims a run.
func (c *Client) Start(ctx context.Context, s Start) (Answer[api.Run], error) {
	body := map[string]any{}
	if s.Note != "" {
		body["note"] = s.Note
	}
	if len(s.Machines) > 0 {
		body["machines"] = s.Machines
	}
	r := request{method: http.MethodPost, path: "jobs/" + seg(s.Job) + "/runs", body: body, header: http.Header{}, once: s.Key == ""}
	if s.Key != "" {
		r.header.Set("Idempotency-Key", s.Key)
	}
	return call[api.Run](ctx, c, r)
}

// Kill kills the named machines of a run, all if none is named.
func (c *Client) Kill(ctx context.Context, run string, machines []string) (Answer[api.Killed], error) {
	body := map[string]any{}
	if len(machines) > 0 {
		body["machines"] = machines
	}
	return call[api.Killed](ctx, c, request{method: http.MethodPost, path: "runs/" + seg(run) + "/kill", body: body})
}

// Span says how long a maintenance or pause lasts: For, or without end.
type Span struct {
	For    time.Duration // 0 = until it is lifted
	Reason string
}

func (s Span) body(forever bool) map[string]any {
	body := map[string]any{}
	if s.For > 0 {
		body["for"] = fmt.Sprintf("%dms", max(s.For.Milliseconds(), 1))
	} else if forever {
		body["forever"] = true
	}
	if s.Reason != "" {
		body["reason"] = s.Reason
	}
	return body
}

// Maintenance lists the active maintenances.
func (c *Client) Maintenance(ctx context.Context) (List[api.Window], error) {
	w, err := call[api.Page[json.RawMessage]](ctx, c, request{method: http.MethodGet, path: "maintenance"})
	l := List[api.Window]{Items: []api.Window{}, Raw: w.Value.Items, Index: w.Value.Index}
	for _, raw := range w.Value.Items {
		var item api.Window
		if err := json.Unmarshal(raw, &item); err != nil {
			return l, saltpeter.Errorf(saltpeter.CodeInternal, "a window is not what a saltpeter node gives: %w", err)
		}
		l.Items = append(l.Items, item)
	}
	return l, err
}

func windowPath(scope, name string) string {
	if name == "" {
		return "maintenance/" + seg(scope)
	}
	return "maintenance/" + seg(scope) + "/" + seg(name)
}

// MaintenanceOn begins a maintenance, or replaces the one of the same scope and name.
func (c *Client) MaintenanceOn(ctx context.Context, scope, name string, s Span) (Answer[api.Window], error) {
	return call[api.Window](ctx, c, request{method: http.MethodPut, path: windowPath(scope, name), body: s.body(true)})
}

// MaintenanceOff ends a maintenance.
func (c *Client) MaintenanceOff(ctx context.Context, scope, name string) (Answer[api.Lifted], error) {
	return call[api.Lifted](ctx, c, request{method: http.MethodDelete, path: windowPath(scope, name)})
}

// Pause stops a job's ticks from becoming runs.
func (c *Client) Pause(ctx context.Context, job string, s Span) (Answer[api.Window], error) {
	return call[api.Window](ctx, c, request{method: http.MethodPost, path: "jobs/" + seg(job) + "/pause", body: s.body(false)})
}

// Resume ends a pause.
func (c *Client) Resume(ctx context.Context, job string) (Answer[api.Lifted], error) {
	return call[api.Lifted](ctx, c, request{method: http.MethodPost, path: "jobs/" + seg(job) + "/resume", body: struct{}{}})
}
