package saltclient

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// factsFor is for how long is believed what changes rarely: the version, the number of keys.
const factsFor = 5 * time.Minute

// nobody is a target that no master can have: a minion's id holds no slash.
var nobody = Expression{Type: "list", Text: []string{"saltpeter/nobody"}}

// masterFacts are what is known of the master behind an endpoint.
type masterFacts struct {
	perms    []string // of the last login: what stands in it as plain text
	health   Health
	until    time.Time
	learning bool
}

// Health publishes test.ping to nobody: the master's own work up to the point where it would send something. It fails
// where salt-api still answers but its master is gone.
func (a *API) Health(ctx context.Context) (Health, error) {
	began := time.Now()
	if _, err := a.publish(ctx, &Publication{Target: nobody, Function: "test.ping"}, ""); err != nil {
		return Health{}, fmt.Errorf("publish to nobody: %w", err)
	}
	took := time.Since(began)
	h := a.facts(ctx)
	h.Took = took
	return h, nil
}

// facts gives what is known, asked for anew if it is old. What can't be had is said in the notes.
func (a *API) facts(ctx context.Context) Health {
	a.mu.Lock()
	known, perms := a.master.health, slices.Clone(a.master.perms)
	if a.master.learning || time.Now().Before(a.master.until) {
		a.mu.Unlock()
		return known
	}
	a.master.learning = true
	a.mu.Unlock()
	h, sure := a.learn(ctx, perms)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.master.learning = false
	a.master.health = h
	if sure {
		a.master.until = time.Now().Add(factsFor)
	}
	return h
}

// learn asks the master about itself. It is not sure where there was no answer.
func (a *API) learn(ctx context.Context, perms []string) (h Health, sure bool) {
	sure = true
	var notes []string
	note := func(err error, text string) {
		if err == nil {
			return
		}
		sure = sure && errors.Is(err, ErrDenied)
		notes = append(notes, text)
	}
	var keys struct{ Minions []string }
	err := a.wheel(ctx, "key.list_all", map[string]any{}, &keys)
	note(err, "accepted keys can't be counted: no right to wheel key.list_all, or no answer")
	h.Minions = len(keys.Minions)
	// Being denied puts the login's secrets on the master's event bus, so only what is surely allowed is asked for. And these
	// two functions give a lot: nobody should be allowed them for a version.
	if slices.Contains(perms, "@runner") {
		note(a.call(ctx, &lowstate{fields: runner("salt.cmd", map[string]any{"arg": []string{"test.version"}}), into: &h.Version, lost: ErrUnreachable}), "version unknown")
		note(a.call(ctx, &lowstate{fields: runner("config.get", map[string]any{"arg": []string{"zmq_filtering"}}), into: &h.Filtered, lost: ErrUnreachable}), "zmq_filtering unknown")
	}
	if h.Version == "3008.0" || h.Version == "3008.1" {
		notes = append(notes, "salt-api of "+h.Version+" forgets sessions within a minute: install 3008.2 or later")
	}
	h.Notes = strings.Join(notes, "; ")
	return h, sure
}
