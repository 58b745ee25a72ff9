package saltclient

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// Masters are asked for what came back of a question after returnsSoon, then less and less often: behind salt-api each time
// costs the master a process.
const (
	returnsSoon   = 250 * time.Millisecond
	returnsRarest = 2 * time.Second
)

// Sight is one machine that an expression matches.
type Sight struct {
	Machine string
	Masters []string // names of those that match it and have accepted its key, sorted; none has where it is empty
}

// Look gives the machines that an expression matches, by machine, each with the masters that say so, and why other masters
// say nothing. Nobody but the masters is asked. An error means that none could tell.
func (m *Masters) Look(ctx context.Context, e Expression) (seen []Sight, failed []error, err error) {
	answers, failed, err := m.matches(ctx, e)
	switch {
	case err != nil:
		return nil, nil, err
	case len(answers) == 0:
		return nil, nil, errors.Join(failed...)
	}
	by := map[string][]string{}
	for _, a := range answers {
		for _, id := range a.Missing {
			if _, listed := by[id]; !listed {
				by[id] = nil
			}
		}
		for _, id := range a.Minions {
			by[id] = append(by[id], a.master)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(by)) {
		seen = append(seen, Sight{Machine: id, Masters: sorted(by[id])})
	}
	return seen, failed, nil
}

// Examine asks every master anew how it is.
func (m *Masters) Examine(ctx context.Context) []MasterState {
	m.check(ctx)
	return m.States()
}

// Accepted gives the keys that masters have accepted for a machine, by the masters' names, and why others could not tell.
// That a master has none is no failure.
func (m *Masters) Accepted(ctx context.Context, machine string) (keys map[string][]byte, failed []error) {
	keys = map[string][]byte{}
	var mu sync.Mutex // guards keys and failed
	m.each(func(w *way) {
		var key []byte
		err := w.call(ctx, callLimit, 0, func(ctx context.Context) (err error) {
			key, err = w.get().Key(ctx, machine)
			return err
		})
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			keys[w.get().Name()] = key
		case !errors.Is(err, ErrNoKey):
			failed = append(failed, err)
		}
	})
	return keys, failed
}

// each has f use all ways side by side.
func (m *Masters) each(f func(*way)) {
	var g sync.WaitGroup
	for _, w := range m.order() {
		g.Go(func() { f(w) })
	}
	g.Wait()
}

// Reply is what a machine returned to a question.
type Reply struct {
	Return
	After time.Duration // since it was asked, as far as it was noticed
}

// Ask publishes a question to machines through every master, since each machine may listen to another one and does a job
// that it gets twice only once, and gives what they returned, by machine: when all have, or at ctx's deadline. Its error says that
// nothing was published.
func (m *Masters) Ask(ctx context.Context, p Publication, machines []string) (map[string]Reply, error) {
	p.Target = Expression{Type: "list", Text: machines}
	a := asking{publication: &p, began: time.Now(), got: make(map[string]Reply, len(machines))}
	a.ctx, a.end = context.WithCancel(ctx)
	defer a.end()
	m.each(a.through)
	if !a.published {
		return nil, errors.Join(append(a.errs, errNoneAsked)...)
	}
	return a.got, nil
}

// errNoneAsked says that no master could ask.
var errNoneAsked = errors.New("no master took the question")

// asking collects what machines return.
type asking struct {
	ctx         context.Context //nolint:containedctx // of one call; ends early when all have returned
	end         context.CancelFunc
	publication *Publication
	began       time.Time

	mu        sync.Mutex // guards the following
	got       map[string]Reply
	published bool
	errs      []error
}

// through asks through one master, and waits for the returns that come to it.
func (a *asking) through(w *way) {
	p := a.publication
	err := w.call(a.ctx, callLimit, p.size(), func(ctx context.Context) error {
		_, err := w.get().Publish(ctx, p)
		return err
	})
	a.mu.Lock()
	// A doubtful publish may have arrived: its returns tell.
	if err == nil || errors.Is(err, ErrDoubtful) {
		a.published = true
	}
	if err != nil {
		a.errs = append(a.errs, err)
	}
	a.mu.Unlock()
	if err != nil && !errors.Is(err, ErrDoubtful) {
		return
	}
	for wait := returnsSoon; pause(a.ctx, wait); wait = min(2*wait, returnsRarest) {
		var got []Return
		err := w.call(a.ctx, callLimit, 0, func(ctx context.Context) (err error) {
			got, err = w.get().Returns(ctx, p.ID)
			return err
		})
		if err == nil {
			a.take(got)
		}
	}
}

// take notes returns, and ends the wait when all are there.
func (a *asking) take(got []Return) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range got {
		if _, known := a.got[r.Minion]; !known && slices.Contains(a.publication.Target.Text, r.Minion) {
			a.got[r.Minion] = Reply{r, time.Since(a.began)}
		}
	}
	if len(a.got) == len(a.publication.Target.Text) {
		a.end()
	}
}
