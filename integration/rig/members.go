package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// removal is a member that was taken out, as the one who asked for it saw it.
type removal struct {
	name      string
	sent      time.Time
	forgotten time.Time // the feed said so
	back      time.Time // another node of that name was started; zero = never
}

// nodeEvent is what the change feed says of a node.
type nodeEvent struct {
	Type  string    `json:"type"`
	Time  time.Time `json:"time"`
	Actor string    `json:"actor"`
	Text  string    `json:"text"`
}

const (
	// forgets is what the feed says when a node's record goes.
	forgets = "no member any more"
	// slackOfEvents is by how much an event's time, in whole milliseconds, may be beside that of the request that made it.
	slackOfEvents = 100 * time.Millisecond

	eventsPath = "/events?since=0&follow=false&topics=cluster"
)

// Remove takes a dead node out of its cluster, again until it is out.
func (o *Operator) Remove(ctx context.Context, n *Node) error {
	o.H.mu.Lock()
	o.H.removals = append(o.H.removals, &removal{name: n.Name, sent: time.Now()})
	o.H.mu.Unlock()
	_, err := o.C.insist(ctx, http.MethodDelete, "/cluster/members/"+n.Name+"?force=true", nil, nil)
	var s *statusError
	if errors.As(err, &s) && s.code == http.StatusNotFound {
		return nil // an earlier try did it
	}
	return err
}

// Forgotten gives an error until the feed tells that the node which was removed last is forgotten.
func (o *Operator) Forgotten(ctx context.Context, n *Node) error {
	var events []nodeEvent
	body, err := o.C.do(ctx, http.MethodGet, eventsPath, nil, nil)
	if err == nil {
		events, err = readNodeEvents(body)
	}
	if err != nil {
		return err
	}
	o.H.mu.Lock()
	defer o.H.mu.Unlock()
	r := o.H.removals[len(o.H.removals)-1]
	for _, e := range events {
		if e.Text == forgets && e.Actor == n.Name && !e.Time.Before(r.sent.Add(-slackOfEvents)) {
			r.forgotten = e.Time
			return nil
		}
	}
	return errors.New("the feed does not say so")
}

// Removed reports whether a member was removed.
func (h *History) Removed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.removals) > 0
}

// Rejoins notes that a node is started in the place of the one that was removed last.
func (o *Operator) Rejoins() {
	o.H.mu.Lock()
	defer o.H.mu.Unlock()
	o.H.removals[len(o.H.removals)-1].back = time.Now()
}

// readNodeEvents takes what is about nodes out of a stream of events.
func readNodeEvents(body []byte) ([]nodeEvent, error) {
	var out []nodeEvent
	for text := range strings.Lines(string(body)) {
		data, ok := strings.CutPrefix(text, "data: ")
		if !ok {
			continue
		}
		var e nodeEvent
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return nil, fmt.Errorf("read event %q: %w", data, err)
		}
		if e.Type == "node-changed" {
			out = append(out, e)
		}
	}
	return out, nil
}

// collectMembers reads from each node what its feed says of nodes.
func (c *Cluster) collectMembers(ctx context.Context, e *Evidence) error {
	if len(e.history.removals) == 0 {
		return nil
	}
	e.nodeEvents = make(map[string][]nodeEvent)
	for _, n := range c.Nodes {
		body, err := n.call(ctx, http.MethodGet, eventsPath, nil, nil)
		if err != nil {
			return fmt.Errorf("read events of %s: %w", n.Name, err)
		}
		if e.nodeEvents[n.Name], err = readNodeEvents(body); err != nil {
			return err
		}
	}
	return nil
}

// members holds every node's feed to the removals: each removed node is forgotten once, nobody else is, and its record does not
// come back before another node of that name does.
func (o *oracle) members() {
	for node, events := range o.nodeEvents {
		times := make(map[*removal]int)
		for _, e := range events {
			r := o.removalBefore(e)
			switch {
			case e.Text != forgets:
				if r != nil && r.away(e.Time) {
					o.add("members", e.Time, "%s: the record of %s came back (%s)", node, e.Actor, e.Text)
				}
			case r == nil:
				o.add("members", e.Time, "%s: %s was forgotten, and nobody had removed it", node, e.Actor)
			default:
				times[r]++
			}
		}
		for _, r := range o.history.removals {
			if times[r] != 1 {
				o.add("members", r.sent, "%s: %s was removed once, and forgotten %d times", node, r.name, times[r])
			}
		}
	}
}

// removalBefore gives the newest removal of the node that an event is about; nil if there was none before it.
func (o *oracle) removalBefore(e nodeEvent) (last *removal) {
	for _, r := range o.history.removals {
		if r.name == e.Actor && !e.Time.Before(r.sent.Add(-slackOfEvents)) {
			last = r
		}
	}
	return last
}

// away reports whether nobody had the name of the removed node at an instant.
func (r *removal) away(at time.Time) bool {
	return at.After(r.forgotten.Add(slackOfEvents)) && (r.back.IsZero() || at.Before(r.back.Add(-slackOfEvents)))
}

// Everywhere asks all nodes; each must answer with success.
func (c *Cluster) Everywhere(ctx context.Context, path string) error {
	for _, n := range c.Nodes {
		ctx, cancel := context.WithTimeout(ctx, 6*time.Second)
		_, err := n.call(ctx, http.MethodGet, path, nil, nil)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", n.Name, err)
		}
	}
	return nil
}
