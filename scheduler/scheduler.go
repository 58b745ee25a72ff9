package scheduler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/syscollective/saltpeter"
)

// View is what the scheduler reads of the replicated record: an immutable state of it.
type View interface {
	Settings() *saltpeter.Settings
	Job(name string) (saltpeter.JobStatus, bool)
	Jobs(after string, yield func(saltpeter.JobStatus) bool)
	Definition(d saltpeter.Digest) (*saltpeter.Job, bool)
	// Run gives a run; one that has changed is another pointer.
	Run(num uint64) (*saltpeter.Run, bool)
	Unfinished(yield func(*saltpeter.Run) bool)
	// Backs gives the runs with machines whose winner came back after a presumed outcome.
	Backs(yield func(*saltpeter.Run) bool)
	Target(ref saltpeter.TargetRef) (saltpeter.Target, bool)
	TargetsOf(run uint64, from uint32, yield func(saltpeter.Target) bool)
}

// Record is what the scheduler needs of the replicated record. Every method but View proposes one idempotent command
// that is fenced by the leader's term, and returns after its apply, so that View shows it. An outcome that is not known is
// proposed again inside, the same command, until ctx ends.
type Record interface {
	View() View
	// Claim answers each claim in its order.
	Claim(ctx context.Context, claims []saltpeter.Claim) ([]saltpeter.ClaimResult, error)
	// ApplyConfig commits with a time that is not after At: every tick up to At is claimed, later ones are not.
	ApplyConfig(ctx context.Context, c Candidate) error
	// SetTargets brings the machines in drawn order; the first complete list wins.
	SetTargets(ctx context.Context, run uint64, machines []saltpeter.Resolved) error
	// LaunchBatch counts batches from 0. The same batch again gives the same launch; nil means that nothing of the batch is
	// left to launch.
	LaunchBatch(ctx context.Context, run uint64, batch int) (*saltpeter.Launch, error)
	EndTargets(ctx context.Context, run uint64, ends []saltpeter.TargetEnd) error
	// EndRun ends a run that has no targets: RunLaunchFailed or RunNoTargets.
	EndRun(ctx context.Context, run uint64, state saltpeter.RunState, text string) error
	// PullMarks pulls the high-water marks that lie after tick back to it.
	PullMarks(ctx context.Context, tick int64) error
}

// Launcher is what the scheduler needs of what gets wrappers started. Every call ends when its context does.
type Launcher interface {
	// Resolve gives the machines that a job's expression matches, of subset if that is not empty. Up needs to be right only
	// with needUp. No machine and no error means that nothing matches.
	Resolve(ctx context.Context, job saltpeter.Job, subset []string, needUp bool) ([]saltpeter.Resolved, error)
	// Publish has wrappers started under the launch's id on its machines; window is the start window that they are given.
	// It may come again with the same id and fewer machines.
	Publish(ctx context.Context, launch *saltpeter.Launch, job *saltpeter.Job, window time.Duration) error
	// Certain reports whether a Publish without error has certainly started every wrapper. Else it is repeated for machines
	// that stay silent: they may have been down for a moment, or out of reach of the way that was taken.
	Certain() bool
	// Ping asks machines until all have answered or ctx's deadline has come. An error means that it is not known who is up.
	Ping(ctx context.Context, machines []string) (answered []string, err error)
}

// Clocks is what the scheduler needs of the agreement about wall clocks.
type Clocks interface {
	// Agreed compares this node's wall clock with the median of those of a majority: offset is how far it is ahead. Alone
	// says that there is no other node. An error means that no majority agrees.
	Agreed(ctx context.Context) (offset time.Duration, alone bool, err error)
}

// Candidate is a configuration that waits to be put into force; only what makes it knows what is in it.
type Candidate interface {
	// At is the instant at which it is to be in force.
	At() time.Time
}

// Options are what a Scheduler is made of. Record, Launcher and Clocks are required.
type Options struct {
	// Record gives the record for one leadership, fenced by its term.
	Record func(term uint64) Record
	// Launcher gives the launcher that settings name, nil where there is none. It is asked often and must be quick.
	Launcher func(*saltpeter.Settings) Launcher
	Clocks   Clocks
	// Wall is this node's wall clock; nil means time.Now.
	Wall   func() time.Time
	Logger *slog.Logger
}

// Errors of this package.
var (
	// ErrNotLeading says that this node is not the leader, or stopped being it before the request was done.
	ErrNotLeading = &saltpeter.Error{Code: saltpeter.CodeNoLeader, Message: "this node does not lead"}
	// ErrClockApart ends a leadership: this node's wall clock stays away from that of a majority.
	ErrClockApart = errors.New("wall clock stays apart from that of a majority")
)

// Scheduler does a leader's work, one leadership after the other. Its methods may be called at any time from any
// goroutine; except Lead they never block on the record.
type Scheduler struct {
	options   Options
	schedules *schedules
	current   atomic.Pointer[leadership]
}

// New makes a Scheduler. It owns nothing until Lead is called.
func New(o Options) *Scheduler {
	if o.Wall == nil {
		o.Wall = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Scheduler{options: o, schedules: newSchedules(compile)}
}

// Lead does the leader's work in a term until ctx ends, and returns nil then; any other end is an error and means that
// somebody else should lead. The barrier that begins the leadership must have been passed. One Lead at a time.
func (s *Scheduler) Lead(ctx context.Context, term uint64) error {
	l := newLeadership(s, term)
	s.current.Store(l)
	defer s.current.CompareAndSwap(l, nil)
	if err := l.run(ctx); err != nil && ctx.Err() == nil {
		return fmt.Errorf("lead term %d: %w", term, err)
	}
	return nil
}

// Changed tells what an apply has touched: runs, and whether jobs, their marks or windows are among it. It is called
// after every apply, in no particular goroutine, and does not block.
func (s *Scheduler) Changed(runs []uint64, jobsOrWindows bool) {
	if l := s.current.Load(); l != nil {
		l.changed(runs, jobsOrWindows)
	}
}

// Heard tells that the wrapper of a target gave a sign of life: asked, reported, sent a heartbeat.
func (s *Scheduler) Heard(ref saltpeter.TargetRef) {
	if l := s.current.Load(); l != nil {
		l.silence.heard(ref, l.clock.now())
	}
}

// HeardLaunch tells that a wrapper of a launch gave a sign of life on a machine: it said hello, or Salt brought its return.
func (s *Scheduler) HeardLaunch(launch saltpeter.LaunchID, machine string) {
	if l := s.current.Load(); l != nil {
		l.silence.heardLaunch(launch, machine, l.clock.now())
	}
}

// Apply has the loop put a configuration into force, after the claims of every tick up to its time, and waits for that.
func (s *Scheduler) Apply(ctx context.Context, c Candidate) error {
	l := s.current.Load()
	if l == nil {
		return ErrNotLeading
	}
	return l.loop.apply(ctx, c)
}

// Status is what the scheduler is doing, for people.
type Status struct {
	Leading  bool
	Jobs     int    // in force
	NextTick int64  // the next tick of any job; 0 = none
	NextJob  string // one that is due then
	Driven   int    // unfinished runs
	Watched  int    // machines whose silence is watched
	// Alarm says why nothing is claimed at present; empty when all is well.
	Alarm string
}

// Status gives the present state.
func (s *Scheduler) Status() Status {
	l := s.current.Load()
	if l == nil {
		return Status{}
	}
	st := Status{Leading: true, Driven: l.driver.count(), Watched: l.silence.count()}
	l.loop.status(&st)
	return st
}
