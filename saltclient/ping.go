package saltclient

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

const (
	// pingStage is how long a ping waits for machines at the master that they probably listen to, before all are asked.
	pingStage = 2 * time.Second
	// pingQuiet is after how much silence of all others those who have not answered count as down, where a run waits for it:
	// more than a minion on a busy host needs.
	pingQuiet = 5 * time.Second
)

// Ping asks machines whether they are there, each first through the master that it probably listens to and, if it is silent
// for some seconds, through all. It ends when all have answered, or with ctx's deadline. Its error says that no master could ask.
func (m *Masters) Ping(ctx context.Context, machines []string) ([]string, error) {
	return m.ping(ctx, machines, 0)
}

// ping ends also when nobody has answered for quiet since somebody did; 0 = not.
func (m *Masters) ping(ctx context.Context, machines []string, quiet time.Duration) ([]string, error) {
	order := m.order()
	if len(order) == 0 {
		return nil, errNoMaster
	}
	ctx, cancel := context.WithCancel(ctx)
	p := &pinging{up: make(map[string]bool, len(machines)), want: len(machines), quiet: quiet, end: cancel}
	var g sync.WaitGroup
	for w, group := range assign(&m.sent, order, 0, machines) {
		g.Go(func() { p.ask(ctx, w, group) })
	}
	if len(order) > 1 {
		g.Go(func() {
			if !pause(ctx, pingStage) {
				return
			}
			silent := p.silent(machines)
			for _, w := range order {
				g.Go(func() { p.ask(ctx, w, silent) })
			}
		})
	}
	g.Wait()
	cancel()
	return p.result(machines)
}

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// pinging collects answers to pings.
type pinging struct {
	want  int
	quiet time.Duration
	end   context.CancelFunc

	mu    sync.Mutex // guards the following
	up    map[string]bool
	timer *time.Timer // ends it after quiet; nil before the first answer
	asked bool
	errs  []error
}

// ask pings through one way. That not all answer in time is no failure: who is down doesn't.
func (p *pinging) ask(ctx context.Context, w *way, machines []string) {
	limit := callLimit
	if until, ok := ctx.Deadline(); ok {
		limit = time.Until(until)
	}
	err := w.call(ctx, limit, 256+16*len(machines), func(ctx context.Context) error { return w.get().Ping(ctx, machines, p.answered) })
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		p.asked = true
	} else if ctx.Err() == nil || !errors.Is(err, ctx.Err()) {
		p.errs = append(p.errs, err)
	}
}

func (p *pinging) answered(machine string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = true
	if p.up[machine] {
		return
	}
	p.up[machine] = true
	switch {
	case len(p.up) == p.want:
		p.end()
	case p.quiet == 0:
	case p.timer == nil:
		p.timer = time.AfterFunc(p.quiet, p.end)
	default:
		p.timer.Reset(p.quiet)
	}
}

func (p *pinging) silent(machines []string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(machines), func(m string) bool { return p.up[m] })
}

func (p *pinging) result(machines []string) ([]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.timer != nil {
		p.timer.Stop()
	}
	if !p.asked {
		return nil, errors.Join(p.errs...)
	}
	return slices.DeleteFunc(slices.Clone(machines), func(m string) bool { return !p.up[m] }), nil
}

// collectPing gives who answered until all have or ctx ended.
func collectPing(ctx context.Context, m Master, minions []string) ([]string, error) {
	var mu sync.Mutex // guards up
	up := make(map[string]bool, len(minions))
	err := m.Ping(ctx, minions, func(minion string) {
		mu.Lock()
		defer mu.Unlock()
		up[minion] = true
	})
	mu.Lock()
	defer mu.Unlock()
	return slices.DeleteFunc(slices.Clone(minions), func(m string) bool { return !up[m] }), err
}
