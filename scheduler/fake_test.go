package scheduler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/syscollective/saltpeter"
)

// model is a tiny honest state machine: claims, targets, launches and ends decide from its own state alone, in the order
// in which they come, and only the commands of the present term count.
type model struct {
	wall func() time.Time

	mu       sync.Mutex
	term     uint64
	settings saltpeter.Settings
	jobs     map[string]*modelJob
	defs     map[saltpeter.Digest]*saltpeter.Job
	runs     map[uint64]*modelRun
	order    []uint64
	launches int
	ledger   []string
	mute     bool // no ledger
	began    time.Time
	told     func(runs []uint64, jobs bool) // the change notification
	fail     func(what string) error        // of a proposal, before it is applied
	gate     chan struct{}                  // closed = open; else this process stands still
	revision int
}

type modelJob struct {
	job    *saltpeter.Job
	digest saltpeter.Digest
	mark   int64
	paused bool
	ticks  map[int64]uint64 // runs by tick
	skips  []saltpeter.Skip
}

type modelRun struct {
	saltpeter.Run
	targets []saltpeter.Target
	by      []*saltpeter.Launch
}

func newModel(wall func() time.Time) *model {
	m := &model{
		wall: wall, settings: saltpeter.DefaultSettings(), jobs: map[string]*modelJob{}, defs: map[saltpeter.Digest]*saltpeter.Job{},
		runs: map[uint64]*modelRun{}, began: time.Now(), told: func([]uint64, bool) {}, gate: make(chan struct{}),
	}
	close(m.gate)
	return m
}

// put puts a definition in force, as a configuration does: a new or rescheduled job starts now.
func (m *model) put(j *saltpeter.Job, now int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	enc, _ := j.Encode()
	d := saltpeter.DigestOf(enc)
	m.defs[d] = j
	old := m.jobs[j.Name]
	if old == nil {
		old = &modelJob{mark: now, ticks: map[int64]uint64{}}
		m.jobs[j.Name] = old
	} else if old.job.Schedule != j.Schedule {
		old.mark = max(old.mark, now)
	}
	old.job, old.digest = j, d
}

func (m *model) note(format string, args ...any) {
	if !m.mute {
		m.ledger = append(m.ledger, fmt.Sprintf("%+.3fs ", time.Since(m.began).Seconds())+fmt.Sprintf(format, args...))
	}
}

func (m *model) noteLocked(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note(format, args...)
}

// take gives the ledger since the last call. Lines of one instant have no order among goroutines.
func (m *model) take() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	lines := m.ledger
	m.ledger = nil
	instant := func(s string) string { return s[:strings.IndexByte(s, ' ')] }
	for i := 0; i < len(lines); {
		j := i
		for j < len(lines) && instant(lines[j]) == instant(lines[i]) {
			j++
		}
		slices.Sort(lines[i:j])
		i = j
	}
	return lines
}

// apply runs a command of a term, and tells what it changed.
func (m *model) apply(term uint64, what string, f func() (runs []uint64, jobs bool)) error {
	<-m.open()
	m.mu.Lock()
	if term != m.term {
		m.mu.Unlock()
		return ErrNotLeading
	}
	if m.fail != nil {
		if err := m.fail(what); err != nil {
			m.mu.Unlock()
			return err
		}
	}
	runs, jobs := f()
	told := m.told
	m.mu.Unlock()
	told(runs, jobs)
	return nil
}

func (m *model) open() chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gate
}

// change applies what does not come from the scheduler.
func (m *model) change(f func() (runs []uint64, jobs bool)) {
	m.mu.Lock()
	runs, jobs := f()
	told := m.told
	m.mu.Unlock()
	told(runs, jobs)
}

// record is the model under one term.
type record struct {
	m    *model
	term uint64
}

func (r record) View() View {
	<-r.m.open()
	return view{r.m}
}

func (r record) Claim(_ context.Context, claims []saltpeter.Claim) (out []saltpeter.ClaimResult, err error) {
	err = r.m.apply(r.term, "claim", func() (runs []uint64, _ bool) {
		for i := range claims {
			res := r.m.claim(&claims[i])
			if res.Outcome == saltpeter.ClaimRun {
				runs = append(runs, res.Run)
			}
			out = append(out, res)
		}
		return runs, false
	})
	return out, err
}

func (m *model) claim(c *saltpeter.Claim) saltpeter.ClaimResult {
	at := time.Unix(c.Tick, 0).UTC().Format("15:04:05")
	j := m.jobs[c.Job]
	last := max(c.Tick, c.Last)
	switch {
	case j == nil || j.digest != c.Digest:
		m.note("claim %s %s: stale", c.Job, at)
		return saltpeter.ClaimResult{Outcome: saltpeter.ClaimStale}
	case j.ticks[c.Tick] != 0:
		return saltpeter.ClaimResult{Outcome: saltpeter.ClaimRun, Run: j.ticks[c.Tick]}
	case c.Tick <= j.mark:
		m.note("claim %s %s: decided", c.Job, at)
		return saltpeter.ClaimResult{Outcome: saltpeter.ClaimDecided}
	case time.Unix(last, 0).After(m.wall()):
		m.note("claim %s %s: early", c.Job, at)
		return saltpeter.ClaimResult{Outcome: saltpeter.ClaimEarly}
	}
	j.mark = last
	why := c.Skip
	if why == 0 && j.paused {
		why = saltpeter.SkipPaused
	}
	if why != 0 {
		j.skips = append(j.skips, saltpeter.Skip{Reason: why, First: c.Tick, Last: last, Count: max(c.Count, 1)})
		m.note("skip %s %s..%s %d %s", c.Job, at, time.Unix(last, 0).UTC().Format("15:04:05"), max(c.Count, 1), why)
		return saltpeter.ClaimResult{Outcome: saltpeter.ClaimSkipped, Skip: why}
	}
	num := m.begin(j, c.Tick, c.Cause)
	j.ticks[c.Tick] = num
	m.note("claim %s %s: run %d (%s)", c.Job, at, num, c.Cause)
	return saltpeter.ClaimResult{Outcome: saltpeter.ClaimRun, Run: num}
}

func (m *model) begin(j *modelJob, tick int64, cause string) uint64 {
	num := uint64(len(m.order) + 1)
	m.order = append(m.order, num)
	m.runs[num] = &modelRun{Run: saltpeter.Run{
		Num: num, ID: fmt.Sprintf("%s_%d", j.job.Name, tick), Job: j.job.Name, Digest: j.digest, Tick: tick, Cause: cause,
	}}
	return num
}

func (r record) ApplyConfig(_ context.Context, c Candidate) error {
	return r.m.apply(r.term, "config", func() ([]uint64, bool) {
		r.m.revision++
		r.m.note("config %d", r.m.revision)
		if f, ok := c.(candidate); ok && f.apply != nil {
			r.m.mu.Unlock()
			f.apply()
			r.m.mu.Lock()
		}
		return nil, true
	})
}

type candidate struct {
	at    time.Time
	apply func()
}

func (c candidate) At() time.Time { return c.at }

func (r record) SetTargets(_ context.Context, num uint64, found []saltpeter.Resolved) error {
	return r.m.apply(r.term, "targets", func() ([]uint64, bool) {
		run := r.m.runs[num]
		if run.State != saltpeter.RunClaimed {
			return nil, false
		}
		job, taken := r.m.defs[run.Digest], 0
		for _, f := range found {
			t := saltpeter.Target{Ref: saltpeter.TargetRef{Run: num, Target: uint32(len(run.targets))}, Machine: f.Machine}
			switch {
			case !f.Up:
				t.State = saltpeter.Unreachable
			case job.NumberOfTargets > 0 && taken == job.NumberOfTargets:
				continue
			default:
				taken++
			}
			run.targets = append(run.targets, t)
		}
		run.State = saltpeter.RunRunning
		run.count()
		r.m.note("targets of %d: %d, %d down", num, len(run.targets), run.Counts[saltpeter.Unreachable])
		return []uint64{num}, false
	})
}

func (r record) LaunchBatch(_ context.Context, num uint64, n int) (launch *saltpeter.Launch, err error) {
	err = r.m.apply(r.term, "launch", func() ([]uint64, bool) {
		run := r.m.runs[num]
		if n < len(run.by) {
			launch = run.by[n]
			return nil, false
		}
		if run.State != saltpeter.RunRunning || n > len(run.by) {
			return nil, false
		}
		job := r.m.defs[run.Digest]
		r.m.launches++ // the id is of the run, so that ledgers don't depend on who comes first
		launch = &saltpeter.Launch{ID: saltpeter.LaunchID(10*int(num) + len(run.by)), Run: num, RunID: run.ID, Job: run.Job, AllMatched: job.Batch.Size == 0}
		for i := range run.targets {
			t := &run.targets[i]
			if t.State != saltpeter.Waiting || len(launch.Targets) == job.Batch.Of(len(run.targets)) {
				continue
			}
			t.State, t.Launch = saltpeter.Launched, launch.ID
			if job.Start == saltpeter.StartDirect {
				t.State = saltpeter.Granted
			}
			launch.Machines, launch.Targets = append(launch.Machines, t.Machine), append(launch.Targets, t.Ref.Target)
		}
		if len(launch.Targets) == 0 {
			launch = nil
			return nil, false
		}
		run.by = append(run.by, launch)
		run.Batches = append(slices.Clone(run.Batches), saltpeter.RunBatch{Launch: launch.ID, Targets: launch.Targets})
		run.count()
		r.m.note("launch %d of run %d: %d machines", launch.ID, num, len(launch.Targets))
		return []uint64{num}, false
	})
	return launch, err
}

func (r record) EndTargets(_ context.Context, num uint64, ends []saltpeter.TargetEnd) error {
	return r.m.apply(r.term, "ends", func() ([]uint64, bool) {
		run := r.m.runs[num]
		for _, e := range ends {
			t := &run.targets[e.Target]
			if t.State != e.From || !e.From.CanBecome(e.State) {
				r.m.note("end %d %s refused: is %s", num, t.Machine, t.State)
				continue
			}
			t.State, t.Code, t.Text, t.Presumed = e.State, e.State.Code(), e.Text, true
			r.m.note("end %d %s %d: %s", num, t.Machine, t.Code, e.Text)
		}
		run.count()
		r.m.noteEnd(run)
		return []uint64{num}, false
	})
}

func (r record) EndRun(_ context.Context, num uint64, state saltpeter.RunState, text string) error {
	return r.m.apply(r.term, "end run", func() ([]uint64, bool) {
		run := r.m.runs[num]
		if run.State != saltpeter.RunClaimed {
			return nil, false
		}
		run.State, run.Text = state, text
		r.m.note("run %d %s: %s", num, state, text)
		return []uint64{num}, false
	})
}

func (r record) PullMarks(_ context.Context, tick int64) error {
	return r.m.apply(r.term, "pull", func() ([]uint64, bool) {
		for _, j := range r.m.jobs {
			j.mark = min(j.mark, tick)
		}
		r.m.note("pull marks to %s", time.Unix(tick, 0).UTC().Format("15:04:05"))
		return nil, true
	})
}

// count counts the targets and finishes the run after its last.
func (r *modelRun) count() {
	r.Counts = saltpeter.Counts{}
	for i := range r.targets {
		r.Counts[r.targets[i].State]++
	}
	if r.State != saltpeter.RunRunning || r.Counts.Unfinished() > 0 {
		return
	}
	r.State = saltpeter.RunOK
	if int(r.Counts[saltpeter.OK]) < r.Counts.Counted() {
		r.State = saltpeter.RunFailed
	}
}

func (m *model) noteEnd(r *modelRun) {
	if r.State.Final() {
		m.note("run %d %s", r.Num, r.State)
	}
}

// set moves one target, or with "*" all that can be, as a wrapper's word does.
func (m *model) set(num uint64, name string, state saltpeter.TargetState) (moved []saltpeter.TargetRef) {
	m.change(func() ([]uint64, bool) {
		run := m.runs[num]
		for i := range run.targets {
			if t := &run.targets[i]; (t.Machine == name || name == "*") && t.State.CanBecome(state) && t.State != saltpeter.Waiting {
				t.State = state
				moved = append(moved, t.Ref)
			}
		}
		run.count()
		m.noteEnd(run)
		return []uint64{num}, false
	})
	return moved
}

func (m *model) kill(num uint64) {
	m.change(func() ([]uint64, bool) {
		run := m.runs[num]
		for i := range run.targets {
			if s := run.targets[i].State; s == saltpeter.Waiting || s == saltpeter.Launched {
				run.targets[i].State = saltpeter.Killed
			}
		}
		run.count()
		if run.State == saltpeter.RunClaimed || run.State == saltpeter.RunFailed {
			run.State = saltpeter.RunKilled
		}
		m.noteEnd(run)
		return []uint64{num}, false
	})
}

// view reads the model as it is.
type view struct{ m *model }

func (v view) Settings() *saltpeter.Settings {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	set := v.m.settings
	return &set
}

func (j *modelJob) status() saltpeter.JobStatus {
	return saltpeter.JobStatus{Job: j.job, Digest: j.digest, Mark: j.mark}
}

func (v view) Job(name string) (saltpeter.JobStatus, bool) {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	j := v.m.jobs[name]
	if j == nil {
		return saltpeter.JobStatus{}, false
	}
	return j.status(), true
}

func (v view) Jobs(after string, yield func(saltpeter.JobStatus) bool) {
	v.m.mu.Lock()
	all := make([]saltpeter.JobStatus, 0, len(v.m.jobs))
	for _, j := range v.m.jobs {
		if j.job.Name > after {
			all = append(all, j.status())
		}
	}
	v.m.mu.Unlock()
	slices.SortFunc(all, func(a, b saltpeter.JobStatus) int { return cmp.Compare(a.Job.Name, b.Job.Name) })
	for _, st := range all {
		if !yield(st) {
			return
		}
	}
}

func (v view) Definition(d saltpeter.Digest) (*saltpeter.Job, bool) {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	j, ok := v.m.defs[d]
	return j, ok
}

func (v view) Run(num uint64) (*saltpeter.Run, bool) {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	r := v.m.runs[num]
	if r == nil {
		return nil, false
	}
	c := r.Run
	return &c, true
}

func (v view) Unfinished(yield func(*saltpeter.Run) bool) {
	v.m.mu.Lock()
	var all []*saltpeter.Run
	for _, num := range v.m.order {
		if r := v.m.runs[num]; !r.State.Final() {
			c := r.Run
			all = append(all, &c)
		}
	}
	v.m.mu.Unlock()
	for _, r := range all {
		if !yield(r) {
			return
		}
	}
}

func (v view) Target(ref saltpeter.TargetRef) (saltpeter.Target, bool) {
	v.m.mu.Lock()
	defer v.m.mu.Unlock()
	r := v.m.runs[ref.Run]
	if r == nil || int(ref.Target) >= len(r.targets) {
		return saltpeter.Target{}, false
	}
	return r.targets[ref.Target], true
}

func (v view) TargetsOf(run uint64, from uint32, yield func(saltpeter.Target) bool) {
	v.m.mu.Lock()
	var all []saltpeter.Target
	if r := v.m.runs[run]; r != nil && int(from) < len(r.targets) {
		all = slices.Clone(r.targets[from:])
	}
	v.m.mu.Unlock()
	for _, t := range all {
		if !yield(t) {
			return
		}
	}
}

// launcher is a fake: what it answers is set, what it was asked is in the model's ledger.
type launcher struct {
	m        *model
	mu       sync.Mutex
	machines []string
	down     map[string]bool
	resolve  string // "", "hang", or an error
	publish  string
	ping     string
	asked    int // questions so far
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
