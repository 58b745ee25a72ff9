package scheduler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/syscollective/saltpeter"
)

// publish brings one launch to its machines: until it succeeded once, the start window is over, or nobody is waited for.
type publish struct {
	run    *driven
	launch *saltpeter.Launch
	job    *saltpeter.Job
	batch  *batch
	cancel context.CancelFunc // nil if it was not started
	done   chan struct{}
}

func (p *publish) start(ctx context.Context) {
	ctx, p.cancel = context.WithCancel(ctx)
	p.done = make(chan struct{})
	go func() {
		defer close(p.done)
		p.attempts(ctx)
	}()
}

// stop ends the attempts and waits for that; there may be none.
func (p *publish) stop() {
	if p == nil || p.cancel == nil {
		return
	}
	p.cancel()
	<-p.done
}

// settled ends attempts that nobody waits for: each wrapper of the batch has come. Where publishing is executing the one
// attempt goes on.
func (p *publish) settled() {
	if p != nil && !p.batch.direct {
		p.stop()
	}
}

// repeats are the pauses, in multiples of the silence that makes a machine be pinged, after which a launch that got through
// is published again for those that gave no sign, where the launcher can't be certain that they got it.
var repeats = [...]time.Duration{1, 2, 4}

func (p *publish) attempts(ctx context.Context) {
	l := p.run.l
	repeated := 0
	for n := 1; ctx.Err() == nil; n++ {
		set := l.record.View().Settings()
		now := l.clock.now()
		launch := p.missing()
		if launch == nil || now >= p.batch.first+set.StartWindow {
			return
		}
		certain, err := p.attempt(ctx, set, launch)
		if ctx.Err() != nil {
			return
		}
		l.silence.published(p.batch, l.clock.now(), err)
		switch {
		case p.batch.direct, err == nil && (certain || repeated == len(repeats)):
			return
		case err == nil:
			sleep(ctx, repeats[repeated]*set.SilenceToPing)
			repeated++
			continue
		}
		l.log.Log(ctx, levelOf(n), "publish", "run", launch.RunID, "launch", launch.ID.String(), "err", err)
		sleep(ctx, backOff(n, launch.Run))
	}
}

// attempt publishes once. A third of the window bounds it, so that one that hangs leaves time for another.
func (p *publish) attempt(ctx context.Context, set *saltpeter.Settings, launch *saltpeter.Launch) (certain bool, err error) {
	launcher := p.run.l.launcherOf(set)
	if launcher == nil {
		return false, errNoLauncher
	}
	limit := set.StartWindow / 3
	if p.batch.direct { // it is not repeated, so there is nothing to leave time for
		limit = set.StartWindow
	}
	attempt, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = launcher.Publish(attempt, launch, p.job, set.StartWindow)
	if errors.Is(err, context.DeadlineExceeded) && attempt.Err() != nil {
		err = fmt.Errorf("no answer within %s", limit.Round(time.Millisecond))
	}
	return launcher.Certain(), err
}

// missing gives the launch for the machines of which no wrapper was heard, nil if there are none. It keeps its id.
func (p *publish) missing() *saltpeter.Launch {
	v, heard := p.run.l.record.View(), p.run.l.silence.heardOf(p.batch)
	left := *p.launch
	left.Machines, left.Targets = nil, nil
	for i, target := range p.launch.Targets {
		t, ok := v.Target(saltpeter.TargetRef{Run: p.launch.Run, Target: target})
		if ok && !heard[target] && (t.State == saltpeter.Launched || p.batch.direct && !t.State.Final()) {
			left.Machines = append(left.Machines, p.launch.Machines[i])
			left.Targets = append(left.Targets, target)
		}
	}
	switch len(left.Targets) {
	case 0:
		return nil
	case len(p.launch.Targets):
		return p.launch
	default:
		left.AllMatched = false
		return &left
	}
}
