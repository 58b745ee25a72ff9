package saltclient

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
)

// Classes of errors beside those that bridge.py gives.
const (
	classGone = "gone" // the process ended with the call under way
	classLate = "late" // no answer until the deadline
)

// bridgeClasses are bridge.py's words for the errors.
var bridgeClasses = map[string]error{
	"unreachable": ErrUnreachable, "doubtful": ErrDoubtful, "denied": ErrDenied, "expression": ErrExpression, "nokey": ErrNoKey,
}

// Resolve gives the minions that an expression matches, by the master's caches.
func (b *Bridge) Resolve(ctx context.Context, e Expression) (Matched, error) {
	var m Matched
	if err := e.check(); err != nil {
		return m, err
	}
	err := b.call(ctx, "resolve", map[string]any{"type": e.Type, "text": e.Text}, &m, ErrUnreachable, nil)
	return m, err
}

// check refuses what has no text at all; the rest is Salt's to judge.
func (e Expression) check() error {
	if len(e.Text) == 0 || e.Type != "list" && len(e.Text) != 1 {
		return fmt.Errorf("%w: target_type %s with %d texts", ErrExpression, e.Type, len(e.Text))
	}
	return nil
}

// Publish publishes by Salt's LocalClient under our id.
func (b *Bridge) Publish(ctx context.Context, p *Publication) ([]string, error) {
	if err := p.Target.check(); err != nil {
		return nil, err
	}
	jid := p.ID.String()
	minions, err := b.publish(ctx, jid, p)
	if err == nil {
		b.returns.expect(jid, minions)
	}
	return minions, err
}

func (b *Bridge) publish(ctx context.Context, jid string, p *Publication) ([]string, error) {
	fields := map[string]any{"jid": jid, "type": p.Target.Type, "text": p.Target.Text, "fun": p.Function, "kwarg": p.Kwargs}
	if !p.Deadline.IsZero() {
		fields["expires"] = p.Deadline
	}
	var got struct{ Minions []string }
	err := b.call(ctx, "publish", fields, &got, ErrDoubtful, nil)
	return got.Minions, err
}

// Ping publishes test.ping under an id of Salt's form and takes the returns from the master's event bus.
func (b *Bridge) Ping(ctx context.Context, minions []string, answered func(minion string)) error {
	if len(minions) == 0 {
		return nil
	}
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	p, err := b.process(ctx)
	if err != nil {
		return err
	}
	bus, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if err := p.awaitBus(bus); err != nil {
		return err
	}
	jid := b.returns.pingID(time.Now())
	answers, forget := b.returns.listen(jid, len(minions))
	defer forget()
	expected, err := b.publish(ctx, jid, &Publication{Target: Expression{Type: "list", Text: minions}, Function: "test.ping"})
	if err != nil {
		return err
	}
	left := len(slices.DeleteFunc(expected, func(m string) bool { return !slices.Contains(minions, m) }))
	for left > 0 {
		select {
		case m := <-answers:
			left--
			answered(m)
		case <-p.ended:
			return fmt.Errorf("%w: the bridge ended", ErrUnreachable)
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil
			}
			return ctx.Err()
		}
	}
	return nil
}

// Returns gives what came over the master's event bus and, where that isn't all, what the master's job cache has.
func (b *Bridge) Returns(ctx context.Context, id saltpeter.LaunchID) ([]Return, error) {
	jid := id.String()
	if !b.returns.ask(jid, time.Now()) {
		return b.returns.list(jid), nil
	}
	began := time.Now()
	err := b.call(ctx, "lookup", map[string]any{"jid": jid}, &struct{}{}, ErrUnreachable, func(part json.RawMessage) error {
		var r minionReturn
		if err := json.Unmarshal(part, &r); err != nil {
			return err
		}
		b.returns.add(jid, r)
		return nil
	})
	if err != nil {
		b.returns.unasked(jid)
		return nil, err
	}
	b.returns.asked(jid, time.Since(began))
	return b.returns.list(jid), nil
}

// Key reads the key that the master has accepted for a minion.
func (b *Bridge) Key(ctx context.Context, minion string) ([]byte, error) {
	if minion == "" || strings.HasPrefix(minion, ".") || strings.ContainsAny(minion, "/\\\x00") {
		return nil, fmt.Errorf("%w: %q can't be a minion's id", ErrNoKey, minion)
	}
	var got struct{ PEM string }
	if err := b.call(ctx, "key", map[string]any{"minion": minion}, &got, ErrUnreachable, nil); err != nil {
		return nil, err
	}
	if block, _ := pem.Decode([]byte(got.PEM)); block == nil {
		return nil, fmt.Errorf("%w: what the master has of %q is no PEM", ErrNoKey, minion)
	}
	return []byte(got.PEM), nil
}

// Health has a worker of the master send a word back, which needs more than its sockets.
func (b *Bridge) Health(ctx context.Context) (Health, error) {
	var got struct {
		Salt          string
		Filtered, Bus bool
		JobCache      bool `json:"job_cache"`
		Keys          int
	}
	if p, err := b.process(ctx); err == nil {
		bus, cancel := context.WithTimeout(ctx, 2*time.Second) // it is heard some 0.2 s after the start
		_ = p.awaitBus(bus)                                    // the answer tells
		cancel()
	}
	began := time.Now()
	if err := b.call(ctx, "health", map[string]any{}, &got, ErrUnreachable, nil); err != nil {
		return Health{}, err
	}
	h := Health{Version: got.Salt, Took: time.Since(began), Filtered: got.Filtered, Minions: got.Keys}
	var notes []string
	if !got.Bus {
		notes = append(notes, "the event bus is silent: pings and returns are not heard")
	}
	if !got.JobCache {
		notes = append(notes, "job_cache is off: returns that were missed can't be looked up")
	}
	h.Notes = strings.Join(notes, "; ")
	return h, nil
}

// call asks the bridge; lost is the class where it may have been done without our knowing.
func (b *Bridge) call(ctx context.Context, op string, fields map[string]any, into any, lost error, part func(json.RawMessage) error) error {
	ctx, cancel := withDeadline(ctx)
	defer cancel()
	p, err := b.process(ctx)
	if err != nil {
		return err
	}
	l, err := p.call(ctx, op, fields, part)
	if err != nil {
		return err
	}
	switch {
	case l.Class == classLate:
		return fmt.Errorf("%w: the bridge: %s: %w", lost, l.Error, ctx.Err())
	case l.Error != "":
		class := bridgeClasses[l.Class]
		if class == nil {
			class = lost
		}
		return fmt.Errorf("%w: %s", class, l.Error)
	}
	if err := json.Unmarshal(l.OK, into); err != nil {
		return fmt.Errorf("decode bridge's answer to %s: %w", op, err)
	}
	return nil
}

func withDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, bridgeCallLimit)
}
