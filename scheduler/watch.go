package scheduler

import (
	"context"
	"sync"
	"time"
)

// away is by how much a ping's own time may exceed the attentive one: beyond it this process was stopped meanwhile, and
// that nobody answered says nothing.
const away = 2 * time.Second

// watch advances the attentive clock and acts on silence until ctx ends.
func (l *leadership) watch(ctx context.Context) {
	var pings sync.WaitGroup
	defer pings.Wait()
	ticker := time.NewTicker(beat)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		f := l.silence.sweep(l.record.View(), l.clock.beat())
		for run, ends := range f.ends {
			l.driver.end(run, ends)
		}
		if len(f.ping) > 0 {
			pings.Go(func() { l.ping(ctx, f.ping) })
		}
	}
}

// ping asks machines whether they are there, and notes who answered.
func (l *leadership) ping(ctx context.Context, machines []string) {
	set := l.record.View().Settings()
	launcher := l.launcherOf(set)
	began, real := l.clock.now(), time.Now()
	var answered []string
	err := errNoLauncher
	if launcher != nil {
		ctx, cancel := context.WithTimeout(ctx, set.PingTimeout)
		defer cancel()
		answered, err = launcher.Ping(ctx, machines)
	}
	now := l.clock.now()
	if err != nil && ctx.Err() == nil {
		l.log.Warn("ping failed", "machines", len(machines), "err", err)
	}
	up := make(map[string]bool, len(answered))
	for _, m := range answered {
		up[m] = true
	}
	l.silence.pinged(machines, up, err == nil && time.Since(real)-(now-began) <= away, now)
}
