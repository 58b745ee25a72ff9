package scheduler

import (
	"context"
	"log/slog"
	"sync"

	"github.com/syscollective/saltpeter"
)

// leadership is all state of one leadership. Nothing in it outlives its term, so that no clock or sign of an earlier
// term can be taken for one of this.
type leadership struct {
	options *Options
	term    uint64
	record  Record
	log     *slog.Logger
	clock   *attention
	silence *silence
	driver  *driver
	loop    *loop
}

func newLeadership(s *Scheduler, term uint64) *leadership {
	l := &leadership{
		options: &s.options, term: term, record: s.options.Record(term),
		log: s.options.Logger.With("component", "scheduler", "term", term), clock: newAttention(), silence: newSilence(),
	}
	l.driver = newDriver(l)
	l.loop = newLoop(l, newPlanner(s.schedules))
	return l
}

// run does the work until ctx or the loop ends.
func (l *leadership) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { l.driver.run(ctx) })
	wg.Go(func() { l.watch(ctx) })
	err := l.loop.run(ctx)
	cancel()
	wg.Wait()
	return err
}

// changed may come from the apply goroutine: it notes and wakes, nothing else.
func (l *leadership) changed(runs []uint64, jobsOrWindows bool) {
	l.driver.changed(runs)
	if jobsOrWindows {
		l.loop.jobsChanged()
	}
}

// launcherOf gives the launcher that settings name, nil if there is none.
func (l *leadership) launcherOf(set *saltpeter.Settings) Launcher { return l.options.Launcher(set) }
