package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
)

// maxEvent bounds a line of a stream of events, in bytes.
const maxEvent = 1 << 20

// EventsAfter says which events are wanted.
type EventsAfter struct {
	Since  string   // the id of the last one that is known; "0" = from the oldest on, empty = only new ones
	Topics []string // empty = all
	Follow bool     // go on until ctx ends
}

// StreamEvent is an event, or a gap in which events are missing.
type StreamEvent struct {
	Event api.Event
	Gap   *api.EventGap   // in place of the event
	Raw   json.RawMessage // as it came
}

// Events hands the events of the cluster to each, in order, until it returns an error. A stream that breaks off goes on after
// the last event, on another node if there is one.
func (c *Client) Events(ctx context.Context, want EventsAfter, each func(StreamEvent) error) error {
	alive, breaks := time.Now(), 0
	for {
		before := want.Since
		done, err := c.eventsOnce(ctx, &want, each)
		if want.Since != before || errors.Is(err, errQuiet) {
			alive, breaks = time.Now(), 0
		}
		switch {
		case done || err != nil && !broken(err):
			return err
		case ctx.Err() != nil:
			return c.explain(ctx, err)
		case time.Since(alive) > patienceFollow:
			return saltpeter.Errorf(saltpeter.CodeUnavailable, "the events broke off: %w", err)
		}
		if err := pause(ctx, min(firstPause<<breaks, 5*time.Second)); err != nil {
			return c.explain(ctx, err)
		}
		breaks = min(breaks+1, 10)
	}
}

// eventsOnce reads one stream; since is where to go on after it.
func (c *Client) eventsOnce(ctx context.Context, want *EventsAfter, each func(StreamEvent) error) (done bool, err error) {
	query := url.Values{}
	if len(want.Topics) > 0 {
		query.Set("topics", strings.Join(want.Topics, ","))
	}
	if !want.Follow {
		query.Set("follow", "false")
	}
	if want.Since != "" {
		query.Set("since", want.Since)
	}
	resp, err := c.send(ctx, request{method: http.MethodGet, path: "events", query: query})
	if err != nil {
		return false, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	alarm := time.AfterFunc(quiet, func() { resp.Body.(*answerBody).cancel(errQuiet) })
	defer alarm.Stop()
	s := &eventScanner{want: want, each: each}
	lines := bufio.NewScanner(&lively{resp.Body, alarm})
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		if err := s.line(lines.Text()); err != nil {
			return true, err
		}
	}
	switch err := lines.Err(); {
	case !alarm.Stop():
		return false, fmt.Errorf("%w: %w", errBroken, errQuiet)
	case err != nil:
		return false, fmt.Errorf("%w: %w", errBroken, err)
	case want.Follow:
		return false, errBroken // a node that stops ends its streams
	}
	return true, nil
}

// eventScanner puts events together from lines.
type eventScanner struct {
	want     *EventsAfter
	each     func(StreamEvent) error
	kind, id string
	data     []byte
}

func (s *eventScanner) line(text string) error {
	field, value, _ := strings.Cut(text, ":")
	value = strings.TrimPrefix(value, " ")
	switch field {
	case "event":
		s.kind = value
	case "id":
		s.id = value
	case "data":
		s.data = append(s.data, value...)
	}
	if text != "" || len(s.data) == 0 {
		return nil
	}
	e := StreamEvent{Raw: s.data}
	kind, id := s.kind, s.id
	s.kind, s.id, s.data = "", "", nil
	var into any = &e.Event
	if kind == "gap" {
		e.Gap = new(api.EventGap)
		into = e.Gap
	}
	if err := json.Unmarshal(e.Raw, into); err != nil {
		return fmt.Errorf("read event %q: %w", id, err)
	}
	if err := s.each(e); err != nil {
		return err
	}
	switch {
	case id != "":
		s.want.Since = id
	case e.Gap != nil:
		s.want.Since = e.Gap.Next
	}
	return nil
}
