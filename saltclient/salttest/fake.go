package salttest

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/saltclient"
)

// Fault is what is wrong with a master. The zero value is nothing.
type Fault struct {
	Ops       []string      // which calls have it: resolve publish ping returns key health; nil: all
	Calls     int           // how many of them; 0: all until Heal
	After     time.Duration // how long they take
	Hang      bool          // they end with their context only
	Err       error         // what they fail with
	Delivered bool          // a publish that fails, hangs or answers nothing gets through all the same
	Empty     bool          // a publish says that nobody matches, as an overloaded master does
}

// Fake is one master of a fleet.
type Fake struct {
	name  string
	fleet *Fleet

	mu     sync.Mutex // guards all below
	faults []*Fault
	health saltclient.Health
	pings  int
	calls  map[string]int
}

var _ saltclient.Master = (*Fake)(nil)

// Master makes a master that all minions are connected to which don't say otherwise.
func (f *Fleet) Master(name string) *Fake {
	return &Fake{name: name, fleet: f, health: saltclient.Health{Version: "3007.99", Took: time.Millisecond}, calls: make(map[string]int)}
}

// Fail begins a fault. Several may hold; the first that fits a call counts.
func (m *Fake) Fail(f Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, &f)
}

// Heal ends all faults.
func (m *Fake) Heal() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = nil
}

// SetHealth says what Health answers; the number of minions is filled in.
func (m *Fake) SetHealth(h saltclient.Health) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.health = h
}

// Calls gives how often an operation was called: resolve publish ping returns key health.
func (m *Fake) Calls(op string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls[op]
}

// fault takes the one that a call has, if any, and bears what it does.
func (m *Fake) fault(ctx context.Context, op string, through func()) (Fault, error) {
	f := m.pick(op)
	if f.Delivered && through != nil {
		through()
	}
	lost := saltclient.ErrUnreachable
	if op == "publish" {
		lost = saltclient.ErrDoubtful
	}
	wait := time.After(f.After)
	if f.Hang {
		wait = nil
	}
	if f.Hang || f.After > 0 {
		select {
		case <-wait:
		case <-ctx.Done():
			return f, fmt.Errorf("%w: %w", lost, ctx.Err())
		}
	}
	if ctx.Err() != nil {
		return f, fmt.Errorf("%w: %w", saltclient.ErrUnreachable, ctx.Err())
	}
	return f, f.Err
}

func (m *Fake) pick(op string) Fault {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls[op]++
	for i, f := range m.faults {
		if f.Ops != nil && !slices.Contains(f.Ops, op) {
			continue
		}
		if f.Calls > 0 {
			if f.Calls--; f.Calls == 0 {
				m.faults = slices.Delete(m.faults, i, i+1)
			}
		}
		return *f
	}
	return Fault{}
}

// Name gives the master's name.
func (m *Fake) Name() string { return m.name }

// Resolve matches glob, pcre, list, nodegroup, grain, pillar and compounds of one word.
func (m *Fake) Resolve(ctx context.Context, e saltclient.Expression) (saltclient.Matched, error) {
	if _, err := m.fault(ctx, "resolve", nil); err != nil {
		return saltclient.Matched{}, err
	}
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	return m.fleet.match(e)
}

// match is what a master makes of an expression.
func (f *Fleet) match(e saltclient.Expression) (saltclient.Matched, error) {
	var out saltclient.Matched
	fits, err := f.matcher(e)
	if err != nil {
		return out, err
	}
	known := f.accepted()
	for _, id := range known {
		if fits(id) {
			out.Minions = append(out.Minions, id)
		}
	}
	if e.Type == "list" {
		for _, id := range e.Text {
			if !slices.Contains(known, id) {
				out.Missing = append(out.Missing, id)
			}
		}
		slices.Sort(out.Missing)
	}
	return out, nil
}

func (f *Fleet) matcher(e saltclient.Expression) (func(id string) bool, error) {
	if e.Type == "list" {
		return func(id string) bool { return slices.Contains(e.Text, id) }, nil
	}
	if len(e.Text) != 1 {
		return nil, fmt.Errorf("%w: %d texts", saltclient.ErrExpression, len(e.Text))
	}
	text := e.Text[0]
	switch e.Type {
	case "glob":
		pattern := strings.NewReplacer(`\*`, ".*", `\?`, ".").Replace(regexp.QuoteMeta(text))
		return regexpMatcher("^(?s:" + pattern + ")$")
	case "pcre":
		return regexpMatcher("^(?:" + text + ")")
	case "nodegroup":
		group, ok := f.groups[text]
		if !ok {
			return nil, fmt.Errorf("%w: unknown nodegroup %q", saltclient.ErrExpression, text)
		}
		return func(id string) bool { return slices.Contains(group, id) }, nil
	case "grain", "pillar":
		key, value, ok := strings.Cut(text, ":")
		if !ok {
			return func(string) bool { return false }, nil
		}
		return func(id string) bool {
			if e.Type == "grain" {
				return f.minions[id].Grains[key] == value
			}
			return f.minions[id].Pillar[key] == value
		}, nil
	case "compound":
		if !strings.ContainsAny(text, " ()@") {
			return f.matcher(saltclient.Expression{Type: "glob", Text: e.Text})
		}
	}
	return nil, fmt.Errorf("%w: %s %q", saltclient.ErrExpression, e.Type, text)
}

func regexpMatcher(pattern string) (func(string) bool, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", saltclient.ErrExpression, err)
	}
	return re.MatchString, nil
}

// Publish has the minions do it that don't remember its id.
func (m *Fake) Publish(ctx context.Context, p *saltclient.Publication) ([]string, error) {
	publish := func() ([]string, error) {
		m.fleet.mu.Lock()
		defer m.fleet.mu.Unlock()
		got, err := m.fleet.match(p.Target)
		if err == nil {
			m.fleet.deliver(m.name, got.Minions, p)
		}
		return got.Minions, err
	}
	f, err := m.fault(ctx, "publish", func() { _, _ = publish() })
	switch {
	case err != nil:
		return nil, err
	case f.Empty:
		return nil, nil
	case !p.Deadline.IsZero() && time.Now().After(p.Deadline):
		return nil, fmt.Errorf("%w: too old", saltclient.ErrUnreachable)
	}
	return publish()
}

// Ping tells of the minions that answer, in the order of their delays.
func (m *Fake) Ping(ctx context.Context, minions []string, answered func(minion string)) error {
	if _, err := m.fault(ctx, "ping", nil); err != nil {
		return err
	}
	began := time.Now()
	answers, all := m.pong(minions)
	for _, a := range answers {
		if !sleepUntil(ctx, began.Add(a.after)) {
			return endOfPing(ctx)
		}
		answered(a.minion)
	}
	if !all {
		<-ctx.Done()
		return endOfPing(ctx)
	}
	return nil
}

// pong is an answer to a ping.
type pong struct {
	minion string
	after  time.Duration
}

// pong gives the answers to a ping, and whether nobody that the master knows stays silent.
func (m *Fake) pong(minions []string) (answers []pong, all bool) {
	m.mu.Lock()
	m.pings++
	jid := fmt.Sprintf("ping %s %d", m.name, m.pings)
	m.mu.Unlock()
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	all = true
	for _, id := range minions {
		if !slices.Contains(m.fleet.accepted(), id) {
			continue // the master knows that it won't answer
		}
		minion := m.fleet.reached(id, m.name)
		if minion == nil || !minion.hears(jid) || minion.Silent {
			all = false
			continue
		}
		answers = append(answers, pong{id, minion.Delay})
		if minion.Doubled {
			answers = append(answers, pong{id, minion.Delay})
		}
	}
	slices.SortStableFunc(answers, func(a, b pong) int { return int(a.after - b.after) })
	return answers, all
}

func sleepUntil(ctx context.Context, at time.Time) bool {
	if !time.Now().Before(at) {
		return ctx.Err() == nil
	}
	select {
	case <-time.After(time.Until(at)):
		return true
	case <-ctx.Done():
		return false
	}
}

// endOfPing is no error at the deadline.
func endOfPing(ctx context.Context) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil
	}
	return ctx.Err()
}

// Returns gives the returns that have come to this master.
func (m *Fake) Returns(ctx context.Context, id saltpeter.LaunchID) ([]saltclient.Return, error) {
	if _, err := m.fault(ctx, "returns", nil); err != nil {
		return nil, err
	}
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	var out []saltclient.Return
	for _, d := range m.fleet.returned[m.name][id] {
		if !time.Now().Before(d.at) {
			out = append(out, d.Return)
		}
	}
	return out, nil
}

// Key gives a minion's accepted key.
func (m *Fake) Key(ctx context.Context, minion string) ([]byte, error) {
	if _, err := m.fault(ctx, "key", nil); err != nil {
		return nil, err
	}
	m.fleet.mu.Lock()
	defer m.fleet.mu.Unlock()
	k := m.fleet.minions[minion]
	if k == nil || k.NoKey {
		return nil, fmt.Errorf("%w of %q", saltclient.ErrNoKey, minion)
	}
	return slices.Clone(k.key), nil
}

// Health answers what SetHealth said.
func (m *Fake) Health(ctx context.Context) (saltclient.Health, error) {
	if _, err := m.fault(ctx, "health", nil); err != nil {
		return saltclient.Health{}, err
	}
	m.fleet.mu.Lock()
	known := len(m.fleet.accepted())
	m.fleet.mu.Unlock()
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.health
	h.Minions = known
	return h, nil
}
