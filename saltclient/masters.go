package saltclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/syscollective/saltpeter"
	"golang.org/x/sync/errgroup"
)

const (
	// listLimit is how many machines go into one list; more are several lists under one id, or the original expression.
	listLimit = 200
	// callLimit is how long one master is waited for before another is asked. A living one answers within 50 ms.
	callLimit = 5 * time.Second
	// matchGrace is how much longer than the first the other masters may take to match an expression.
	matchGrace = 2 * time.Second
	// checkEvery is how often each master is asked how it is.
	checkEvery = 10 * time.Second
)

// Options are what Masters are made of. Masters, Publication and Logger are required.
type Options struct {
	// Masters gives the ways that there are, the preferred first. It is asked often and must be quick; names tell them apart.
	Masters func() []Master
	// Publication makes what starts the wrappers of a launch on its machines; window is their start window. Its target and
	// id are filled in here.
	Publication func(launch *saltpeter.Launch, job *saltpeter.Job, window time.Duration) (*Publication, error)
	Limits      Limits
	Logger      *slog.Logger
}

// Masters launches through several Salt masters: those of this host, endpoints, other nodes' ones. The first that works does
// it; a machine that only another one reaches is found by a second publish, and remembered.
//
// Run owns the goroutine that asks each how it is. All other methods may be called at any time.
type Masters struct {
	o Options

	mu   sync.Mutex // guards ways
	ways map[string]*way

	sent sent
}

// NewMasters makes Masters.
func NewMasters(o Options) *Masters {
	o.Limits = o.Limits.orDefault()
	return &Masters{o: o, ways: make(map[string]*way), sent: newSent()}
}

// Run asks every master how it is, again and again, until ctx ends.
func (m *Masters) Run(ctx context.Context) error {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		m.check(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (m *Masters) check(ctx context.Context) {
	var g errgroup.Group
	for _, w := range m.all() {
		g.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, callLimit)
			defer cancel()
			h, err := w.get().Health(ctx)
			if w.checked(h, err) {
				m.o.Logger.Warn("salt master fails", "master", w.get().Name(), "err", err)
			}
			return nil
		})
	}
	_ = g.Wait() // none gives an error
}

// States tells how the masters are, the preferred first.
func (m *Masters) States() []MasterState {
	all := m.all()
	out := make([]MasterState, len(all))
	for i, w := range all {
		out[i] = w.state()
	}
	return out
}

// Some reports whether there is any master to launch through, working or not.
func (m *Masters) Some() bool { return len(m.o.Masters()) > 0 }

// all gives the ways in the order of preference, and forgets those that are gone.
func (m *Masters) all() []*way {
	masters := m.o.Masters()
	m.mu.Lock()
	defer m.mu.Unlock()
	now := make(map[string]*way, len(masters))
	out := make([]*way, 0, len(masters))
	for _, master := range masters {
		name := master.Name()
		if now[name] != nil {
			continue
		}
		w := m.ways[name]
		if w == nil {
			w = newWay(m.o.Limits)
		}
		w.set(master)
		now[name] = w
		out = append(out, w)
	}
	m.ways = now
	return out
}

// order gives the ways, those that failed lately last.
func (m *Masters) order() []*way {
	all := m.all()
	slices.SortStableFunc(all, func(a, b *way) int { return cmp.Compare(a.failures(), b.failures()) })
	return all
}

var errNoMaster = fmt.Errorf("%w: no Salt master is known: no node runs on one, and no endpoint is given", ErrUnreachable)

// Resolve gives the machines that a job's expression matches on any master, of subset if that is not empty; ids of a list
// that no master has a key of are among them, down. Only with needUp it is asked who is up.
func (m *Masters) Resolve(ctx context.Context, job saltpeter.Job, subset []string, needUp bool) ([]saltpeter.Resolved, error) {
	found, err := m.match(ctx, Expression{Type: job.TargetType, Text: job.Targets})
	if err != nil {
		return nil, err
	}
	if len(subset) > 0 {
		found = slices.DeleteFunc(found, func(id string) bool { return !slices.Contains(subset, id) })
	}
	up := map[string]bool{}
	if needUp && len(found) > 0 {
		answered, err := m.ping(ctx, found, pingQuiet)
		if err != nil {
			return nil, err
		}
		for _, id := range answered {
			up[id] = true
		}
	}
	out := make([]saltpeter.Resolved, len(found))
	for i, id := range found {
		out[i] = saltpeter.Resolved{Machine: id, Up: up[id]}
	}
	return out, nil
}

// match gives what any master matches, sorted. All are asked; who takes much longer than the first is not waited for.
func (m *Masters) match(ctx context.Context, e Expression) ([]string, error) {
	answers, errs, err := m.matches(ctx, e)
	switch {
	case err != nil:
		return nil, err
	case len(answers) == 0:
		return nil, errors.Join(errs...)
	}
	var found []string
	for _, a := range answers {
		found = append(append(found, a.Minions...), a.Missing...)
	}
	return sorted(found), nil
}

// matchedBy is what one master makes of an expression.
type matchedBy struct {
	Matched
	master string
	err    error
}

// matches gives what each master makes of an expression, and why the others have no answer. All are asked; who takes much
// longer than the first is not waited for.
func (m *Masters) matches(ctx context.Context, e Expression) (got []matchedBy, failed []error, err error) {
	order := m.order()
	if len(order) == 0 {
		return nil, nil, errNoMaster
	}
	ctx, cancel := context.WithCancel(ctx)
	answers := make(chan matchedBy, len(order))
	var g sync.WaitGroup
	defer g.Wait()
	defer cancel()
	waited := make(map[string]bool, len(order))
	for _, w := range order {
		waited[w.get().Name()] = true
		g.Go(func() {
			a := matchedBy{master: w.get().Name()}
			a.err = w.call(ctx, callLimit, 0, func(ctx context.Context) (err error) {
				a.Matched, err = w.get().Resolve(ctx, e)
				return err
			})
			answers <- a
		})
	}
	var late <-chan time.Time
	for range order {
		select {
		case a := <-answers:
			delete(waited, a.master)
			if a.err != nil {
				failed = append(failed, a.err)
				continue
			}
			if got = append(got, a); late == nil {
				late = time.After(matchGrace)
			}
		case <-late:
			for _, name := range slices.Sorted(maps.Keys(waited)) {
				failed = append(failed, fmt.Errorf("%s: no answer %s after another master's", name, matchGrace))
			}
			return got, failed, nil
		case <-ctx.Done():
			return nil, nil, fmt.Errorf("match %s: %w", e.Type, ctx.Err())
		}
	}
	return got, failed, nil
}

func sorted(ids []string) []string {
	slices.Sort(ids)
	return slices.Compact(ids)
}

// Key gives the key that a master has accepted for a machine. ErrNoKey means that every master was asked and none has one.
func (m *Masters) Key(ctx context.Context, machine string) ([]byte, error) {
	order := m.order()
	if len(order) == 0 {
		return nil, errNoMaster
	}
	var errs []error
	for _, w := range order {
		var key []byte
		err := w.call(ctx, callLimit, 0, func(ctx context.Context) (err error) {
			key, err = w.get().Key(ctx, machine)
			return err
		})
		if err == nil {
			return key, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}
