package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/syscollective/saltpeter"
)

// driven is one run that is not finished, or of which a machine came back. Its goroutine alone proposes for it, one step at a time, and what the next step is
// follows from the record.
type driven struct {
	l    *leadership
	num  uint64
	seen time.Duration // attentive time at which this leadership saw the run first
	wake chan struct{} // capacity 1

	mu   sync.Mutex // guards ends
	ends []saltpeter.TargetEnd

	pause     time.Duration // after the last error
	failures  int           // of the launcher in a row
	inherited bool          // the targets of batches that others launched are watched
	batches   []*batch
	publish   *publish // of the newest batch
}

func newDriven(l *leadership, num uint64) *driven {
	return &driven{l: l, num: num, seen: l.clock.now(), wake: make(chan struct{}, 1)}
}

func (r *driven) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// end has outcomes proposed.
func (r *driven) end(ends []saltpeter.TargetEnd) {
	r.mu.Lock()
	r.ends = append(r.ends, ends...)
	r.mu.Unlock()
	r.poke()
}

func (r *driven) takeEnds() []saltpeter.TargetEnd {
	r.mu.Lock()
	defer r.mu.Unlock()
	ends := r.ends
	r.ends = nil
	return ends
}

// what comes after a step.
type after int

const (
	again after = iota // look at once
	idle               // look when the record changed
	gone               // nothing is left to do
)

// run drives until the run is finished or ctx ends.
func (r *driven) run(ctx context.Context) {
	defer r.finish()
	for ctx.Err() == nil {
		next, err := r.step(ctx)
		switch {
		case err != nil:
			r.refused(ctx, err)
		case next == gone:
			return
		case next == idle:
			r.pause = 0
			select {
			case <-ctx.Done():
			case <-r.wake:
			}
		}
	}
}

// finish ends what belongs to the run.
func (r *driven) finish() {
	r.publish.stop()
	for _, b := range r.batches {
		r.l.silence.forget(b)
	}
}

// refused waits after a proposal that failed although its outcome is known: something is wrong with this run, and the
// others must not suffer from it.
func (r *driven) refused(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	if _, ok := r.l.record.View().Run(r.num); !ok {
		return // a restored record, which lacks the run, came in between: the next step sees it
	}
	if saltpeter.CodeOf(err) != saltpeter.CodeNoLeader { // else the leadership is about to end, for all runs
		r.l.log.Error("drive run", "run", r.num, "err", err)
	}
	r.pause = min(max(2*r.pause, beat), 30*time.Second)
	sleep(ctx, r.pause)
}

// step does the one thing that the record asks for.
func (r *driven) step(ctx context.Context) (after, error) {
	v := r.l.record.View()
	run, ok := v.Run(r.num)
	if !ok || !toDrive(run) {
		return gone, nil
	}
	if run.State.Final() {
		return r.stepFinished(ctx)
	}
	job, ok := v.Definition(run.Digest)
	if !ok {
		return idle, fmt.Errorf("definition %s of run %s is not in the record", run.Digest, run.ID)
	}
	if run.State == saltpeter.RunClaimed {
		return r.resolve(ctx, run, job)
	}
	if !r.inherited {
		r.watchInherited(v)
	}
	if ends := r.takeEnds(); len(ends) > 0 {
		return again, r.l.record.EndTargets(ctx, r.num, ends)
	}
	c := &run.Counts
	switch {
	case c[saltpeter.Launched] > 0:
		return r.publishBatch(ctx, run, job)
	case c[saltpeter.Granted]+c[saltpeter.Started] > 0:
		r.publish.settled()
		return idle, nil
	case c[saltpeter.Waiting] > 0:
		return r.launch(ctx, run, job)
	default:
		return idle, nil
	}
}

// stepFinished is the step for a finished run of which machines are back: only their silence is left to be proposed.
func (r *driven) stepFinished(ctx context.Context) (after, error) {
	r.publish.stop()
	if ends := r.takeEnds(); len(ends) > 0 {
		return again, r.l.record.EndTargets(ctx, r.num, ends)
	}
	return idle, nil
}

// watchInherited begins to watch the targets that are in progress when this leadership comes to the run.
func (r *driven) watchInherited(v View) {
	r.inherited = true
	type series struct {
		targets  []uint32
		machines []string
	}
	found := make(map[saltpeter.LaunchID]*series)
	v.TargetsOf(r.num, 0, func(t saltpeter.Target) bool {
		if t.State != saltpeter.Waiting && !t.State.Final() {
			s := found[t.Launch]
			if s == nil {
				s = new(series)
				found[t.Launch] = s
			}
			s.targets, s.machines = append(s.targets, t.Ref.Target), append(s.machines, t.Machine)
		}
		return true
	})
	now := r.l.clock.now()
	for id, s := range found {
		b := &batch{launch: id, first: now, published: never}
		r.batches = append(r.batches, b)
		r.l.silence.watch(b, r.num, s.targets, s.machines, now)
	}
}

// launch has the next batch launched; it is published in the next step, as one is that was found launched.
func (r *driven) launch(ctx context.Context, run *saltpeter.Run, job *saltpeter.Job) (after, error) {
	r.publish.stop()
	launch, err := r.l.record.LaunchBatch(ctx, r.num, len(run.Batches))
	if err != nil {
		return again, fmt.Errorf("launch batch %d: %w", len(run.Batches), err)
	}
	if launch == nil { // what was left of the batch ended in that apply
		if now, ok := r.l.record.View().Run(r.num); ok && now.Counts == run.Counts {
			return idle, nil
		}
		return again, nil
	}
	r.begin(ctx, launch, job, false)
	return again, nil
}

// publishBatch sees to it that the newest batch is published, or was.
func (r *driven) publishBatch(ctx context.Context, run *saltpeter.Run, job *saltpeter.Job) (after, error) {
	newest := len(run.Batches) - 1
	if newest < 0 || r.publish != nil && r.publish.launch.ID == run.Batches[newest].Launch {
		return idle, nil
	}
	launch, err := r.l.record.LaunchBatch(ctx, r.num, newest)
	if err != nil {
		return again, fmt.Errorf("launch batch %d again: %w", newest, err)
	}
	if launch != nil {
		r.begin(ctx, launch, job, true)
	}
	return idle, nil
}

// begin watches a launch and starts to publish it.
func (r *driven) begin(ctx context.Context, launch *saltpeter.Launch, job *saltpeter.Job, found bool) {
	b := r.batchOf(launch.ID)
	b.direct = job.Start == saltpeter.StartDirect || !job.UseWrapper
	r.l.silence.watch(b, r.num, launch.Targets, launch.Machines, b.first)
	r.publish.stop()
	r.publish = &publish{run: r, launch: launch, job: job, batch: b}
	if found && b.direct {
		return // it may have been published, and publishing is executing
	}
	r.publish.start(ctx)
}

func (r *driven) batchOf(id saltpeter.LaunchID) *batch {
	for _, b := range r.batches {
		if b.launch == id {
			return b
		}
	}
	b := &batch{launch: id, first: r.l.clock.now(), published: never}
	r.batches = append(r.batches, b)
	return b
}

// resolve asks the launcher what the targets are, and brings them into the record.
func (r *driven) resolve(ctx context.Context, run *saltpeter.Run, job *saltpeter.Job) (after, error) {
	set := r.l.record.View().Settings()
	some := job.NumberOfTargets > 0 || job.Batch.Size > 0
	machines, err := r.ask(ctx, set, job, run.Machines, some)
	if now, ok := r.l.record.View().Run(r.num); !ok || now.State != saltpeter.RunClaimed {
		return again, nil // killed meanwhile
	}
	left := r.seen + set.ResolveRetry - r.l.clock.now()
	switch {
	case ctx.Err() != nil:
		return gone, nil //nolint:nilerr // the end of the leadership is no error of the run
	case err != nil && left > 0:
		r.failures++
		r.l.log.Log(ctx, levelOf(r.failures), "resolve targets", "run", run.ID, "err", err)
		sleep(ctx, min(backOff(r.failures, r.num), left))
		return again, nil
	case err != nil:
		err = r.l.record.EndRun(ctx, r.num, saltpeter.RunLaunchFailed, "resolve targets: "+err.Error())
		return again, r.unclaimed(err)
	case len(machines) == 0:
		return again, r.unclaimed(r.l.record.EndRun(ctx, r.num, saltpeter.RunNoTargets, matchedNothing(run, job)))
	}
	if some {
		rand.Shuffle(len(machines), func(i, j int) { machines[i], machines[j] = machines[j], machines[i] })
	}
	r.inherited = true // nothing is launched yet
	return again, r.unclaimed(r.l.record.SetTargets(ctx, r.num, machines))
}

// unclaimed holds a proposal to having ended the state "claimed": the launcher must not be asked in a circle.
func (r *driven) unclaimed(err error) error {
	if err != nil {
		return err
	}
	if now, ok := r.l.record.View().Run(r.num); ok && now.State == saltpeter.RunClaimed {
		return errors.New("run is still without targets after they were set")
	}
	return nil
}

// ask bounds one question to the launcher, so that one that hangs leaves time for another.
func (r *driven) ask(ctx context.Context, set *saltpeter.Settings, job *saltpeter.Job, subset []string, needUp bool) ([]saltpeter.Resolved, error) {
	launcher := r.l.launcherOf(set)
	if launcher == nil {
		return nil, errNoLauncher
	}
	limit := set.ResolveRetry / 3
	if needUp {
		limit = max(limit, set.PingTimeout+span)
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	found, err := launcher.Resolve(ctx, *job, subset, needUp)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		return nil, fmt.Errorf("no answer within %s", limit)
	}
	if err != nil {
		return nil, err
	}
	return candidates(found, needUp), nil
}

// candidates drops machines that come twice: a machine is in a run once. Where nobody asked who is up, nobody is down.
func candidates(found []saltpeter.Resolved, needUp bool) []saltpeter.Resolved {
	seen := make(map[string]bool, len(found))
	kept := make([]saltpeter.Resolved, 0, len(found))
	for _, f := range found {
		if !seen[f.Machine] {
			seen[f.Machine] = true
			f.Up = f.Up || !needUp
			kept = append(kept, f)
		}
	}
	return kept
}

func matchedNothing(run *saltpeter.Run, job *saltpeter.Job) string {
	text := fmt.Sprintf("no machine matches %s %q", job.TargetType, strings.Join(job.Targets, ","))
	if len(run.Machines) > 0 {
		text += fmt.Sprintf(" among the %d asked for", len(run.Machines))
	}
	return text
}

// backOff gives the wait after the nth failure in a row: from 250-500 ms to 4-8 s, different for each run, so that
// thousands that failed together do not come back together.
func backOff(n int, run uint64) time.Duration {
	d := beat << min(n-1, 4)
	spread := (run*2654435761 + uint64(n)*40503) % 1024
	return d + d*time.Duration(spread)/1024
}

// levelOf gives the level for the nth failure in a row: the first is news, and where a launcher is down for thousands of
// runs the others would bury it.
func levelOf(n int) slog.Level {
	if n > 1 {
		return slog.LevelDebug
	}
	return slog.LevelWarn
}

// sleep waits, or less if ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
