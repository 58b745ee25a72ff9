package scheduler

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// longest is how long the loop sleeps at most: a clock that jumps is noticed within it.
	longest = time.Second
	// replan is the wait before a claim that was refused is planned again.
	replan = 10 * time.Millisecond
)

// waiting is a configuration and who waits for it.
type waiting struct {
	candidate Candidate
	done      chan error // capacity 1
}

// loop is the clock loop. Its goroutine alone owns the planner and the queue of configurations.
type loop struct {
	l       *leadership
	planner *planner
	clock   *clockWatch
	dirty   chan struct{} // capacity 1: jobs, marks or windows changed
	arrived chan waiting
	ended   chan struct{} // closed when the loop has ended
	queue   []waiting

	latest int64     // the latest mark of any job, when jobs were looked at last
	asked  time.Time // when it was asked last whether marks are in the future; zero = they are not

	mu    sync.Mutex // guards known
	known Status     // as of the last turn
}

func newLoop(l *leadership, p *planner) *loop {
	return &loop{
		l: l, planner: p, clock: newClockWatch(l.options, l.log),
		dirty: make(chan struct{}, 1), arrived: make(chan waiting), ended: make(chan struct{}),
	}
}

// jobsChanged has the planner look at all jobs again.
func (o *loop) jobsChanged() {
	select {
	case o.dirty <- struct{}{}:
	default:
	}
}

// apply hands a configuration to the loop and waits for its outcome.
func (o *loop) apply(ctx context.Context, c Candidate) error {
	w := waiting{candidate: c, done: make(chan error, 1)}
	select {
	case o.arrived <- w:
	case <-o.ended:
		return ErrNotLeading
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-w.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run claims until ctx ends.
func (o *loop) run(ctx context.Context) error {
	defer o.close()
	o.sync()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-o.dirty:
			o.sync()
		case w := <-o.arrived:
			o.queue = append(o.queue, w)
		}
		wait, err := o.turn(ctx)
		if err != nil {
			return err
		}
		timer.Reset(wait)
	}
}

// close tells those whose configuration was not applied.
func (o *loop) close() {
	close(o.ended)
	for _, w := range o.queue {
		w.done <- ErrNotLeading
	}
}

// turn does what is due at this instant, and says when to come again.
func (o *loop) turn(ctx context.Context) (time.Duration, error) {
	now, jumped, err := o.clock.read(ctx)
	if ctx.Err() != nil {
		return 0, nil //nolint:nilerr // the end of the leadership is no error
	}
	if err != nil {
		return 0, err
	}
	if jumped {
		o.sync()
	}
	if err := o.pullMarks(ctx, now); err != nil {
		return 0, err
	}
	again, err := o.claim(ctx, now)
	if err != nil {
		return 0, err
	}
	switch {
	case again: // configurations wait until every tick before them is decided
		return replan, nil
	case ctx.Err() == nil && o.enforce(ctx, now):
		return 0, nil
	default:
		return o.sleepFor(), nil
	}
}

// claim proposes everything that is due at now, and says whether something has to be planned again.
func (o *loop) claim(ctx context.Context, now time.Time) (again bool, err error) {
	for ctx.Err() == nil {
		v := o.l.record.View()
		claims := o.planner.due(now, o.l.launcherOf(v.Settings()) != nil)
		if len(claims) == 0 {
			return again, nil
		}
		results, err := o.l.record.Claim(ctx, claims)
		if err != nil {
			return false, fmt.Errorf("claim %d ticks: %w", len(claims), err)
		}
		if len(results) != len(claims) {
			return false, fmt.Errorf("claim %d ticks: %d answers", len(claims), len(results))
		}
		runs, refused := o.planner.settle(o.l.record.View(), claims, results, o.badSchedule)
		o.l.driver.changed(runs)
		if refused {
			return true, nil
		}
	}
	return again, nil
}

// enforce puts the configurations into force whose time has come; every tick up to now is decided. It says whether there
// was one.
func (o *loop) enforce(ctx context.Context, now time.Time) (some bool) {
	rest := o.queue[:0]
	for _, w := range o.queue {
		if w.candidate.At().After(now) {
			rest = append(rest, w)
			continue
		}
		w.done <- o.l.record.ApplyConfig(ctx, w.candidate)
		some = true
	}
	clear(o.queue[len(rest):])
	o.queue = rest
	if some {
		o.sync()
	}
	return some
}

// sleepFor gives the time until the next tick or configuration, at most longest.
func (o *loop) sleepFor() time.Duration {
	wait := longest
	now := o.clock.wall()
	tick, job, ok := o.planner.next()
	if ok {
		wait = min(wait, time.Unix(tick, 0).Sub(now))
	} else {
		tick, job = 0, ""
	}
	for _, w := range o.queue {
		wait = min(wait, w.candidate.At().Sub(now))
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.known = Status{Jobs: len(o.planner.jobs), NextTick: tick, NextJob: job}
	return max(wait, 0)
}

func (o *loop) status(st *Status) {
	o.mu.Lock()
	defer o.mu.Unlock()
	st.Jobs, st.NextTick, st.NextJob, st.Alarm = o.known.Jobs, o.known.NextTick, o.known.NextJob, o.clock.alarmText()
}

// sync looks at all jobs.
func (o *loop) sync() { o.latest = o.planner.sync(o.l.record.View(), o.badSchedule) }

// badSchedule tells of a job in force that can't be scheduled. Configurations are checked before they get into force, so
// this is a difference between two versions of the program.
func (o *loop) badSchedule(job string, err error) {
	o.l.log.Error("compile schedule", "job", job, "err", err)
}

// pullMarks pulls back marks that a wrong clock has left in the future: until then their jobs would not run at all. The
// present clock must be agreed upon.
func (o *loop) pullMarks(ctx context.Context, now time.Time) error {
	first := o.asked.IsZero()
	switch {
	case !time.Unix(o.latest, 0).After(now.Add(ahead)):
		o.asked = time.Time{}
		return nil
	case !first && time.Since(o.asked) < settleTime:
		return nil
	}
	o.asked = time.Now()
	offset, alone, err := o.clock.agreed(ctx)
	switch {
	case err != nil:
		o.l.log.Error("marks lie in the future and no clock is agreed upon", "err", err)
		return nil
	case alone && first: // this clock may be the wrong one: give it time to be set
		return nil
	case !alone && offset.Abs() > agreement:
		return nil
	}
	o.l.log.Warn("marks lie in the future: pull them back", "latest", o.latest, "now", now.Unix())
	if err := o.l.record.PullMarks(ctx, now.Unix()); err != nil {
		return fmt.Errorf("pull back marks: %w", err)
	}
	o.sync()
	return nil
}
