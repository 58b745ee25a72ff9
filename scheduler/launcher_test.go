package scheduler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/syscollective/saltpeter"
)

// launcher is a fake: what it answers is set, what it was asked is in the model's ledger.
type launcher struct {
	m        *model
	mu       sync.Mutex
	machines []string
	down     map[string]bool
	resolve  string // "", "hang", or an error
	publish  string
	ping     string
	lossy    bool // a publish without error may have started nothing
	asked    int  // questions so far
	started  func(*saltpeter.Launch)
}

var errHung = errors.New("hung")

func (f *launcher) trouble(ctx context.Context, what *string) error {
	f.mu.Lock()
	t := *what
	f.asked++
	f.mu.Unlock()
	switch t {
	case "":
		return nil
	case "hang":
		<-ctx.Done()
		return fmt.Errorf("%w: %w", errHung, ctx.Err())
	default:
		return errors.New(t)
	}
}

func (f *launcher) Resolve(ctx context.Context, job saltpeter.Job, subset []string, needUp bool) (out []saltpeter.Resolved, err error) {
	if err := f.trouble(ctx, &f.resolve); err != nil {
		f.m.noteLocked("resolve %s: error", job.Name)
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range f.machines {
		if len(subset) == 0 || slices.Contains(subset, name) {
			out = append(out, saltpeter.Resolved{Machine: name, Up: needUp && !f.down[name]})
		}
	}
	return out, nil
}

func (f *launcher) Publish(ctx context.Context, l *saltpeter.Launch, job *saltpeter.Job, window time.Duration) error {
	names := strings.Join(l.Machines, " ")
	if job.Batch.Size > 0 || job.NumberOfTargets > 0 || len(l.Machines) > 5 {
		names = fmt.Sprintf("%d machines", len(l.Machines))
	}
	if err := f.trouble(ctx, &f.publish); err != nil {
		f.m.noteLocked("publish %d to %s: error", l.ID, names)
		return err
	}
	f.m.noteLocked("publish %d to %s", l.ID, names)
	if f.started != nil {
		f.started(l)
	}
	return nil
}

func (f *launcher) Certain() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.lossy
}

func (f *launcher) Ping(ctx context.Context, machines []string) (up []string, err error) {
	f.m.noteLocked("ping %s", strings.Join(slices.Sorted(slices.Values(machines)), " "))
	if err := f.trouble(ctx, &f.ping); err != nil && !errors.Is(err, errHung) {
		return nil, err
	}
	f.mu.Lock()
	for _, name := range machines {
		if !f.down[name] {
			up = append(up, name)
		}
	}
	f.mu.Unlock()
	if len(up) < len(machines) { // an answer takes as long as the last machine may
		<-ctx.Done()
	}
	return up, nil
}
