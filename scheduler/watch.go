package scheduler

import (
	"context"
	"sync"
	"time"

	"github.com/syscollective/saltpeter"
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
	var seen map[uint64]*saltpeter.Run
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		v, now := l.record.View(), l.clock.beat()
		seen = l.watchBacks(v, seen, now)
		f := l.silence.sweep(v, now)
		for run, ends := range f.ends {
			l.driver.end(run, ends)
		}
		if len(f.ping) > 0 {
			pings.Go(func() { l.ping(ctx, f.ping) })
		}
	}
}

// watchBacks watches the winners that came back after an outcome that rests on silence: who falls silent again would block
// a job without overlap for ever. A run is gone through when it has changed since it was seen, so that one with 10,000
// targets costs something at most once a beat. It gives what is seen now.
func (l *leadership) watchBacks(v View, seen map[uint64]*saltpeter.Run, now time.Duration) map[uint64]*saltpeter.Run {
	var found map[uint64]*saltpeter.Run
	v.Backs(func(r *saltpeter.Run) bool {
		if found == nil {
			found = make(map[uint64]*saltpeter.Run)
		}
		found[r.Num] = r
		if seen[r.Num] == r {
			return true
		}
		v.TargetsOf(r.Num, 0, func(t saltpeter.Target) bool {
			if t.Back {
				l.silence.watchBack(&t, now)
			}
			return true
		})
		return true
	})
	return found
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
