// Package apitest is a node in memory for the tests of the API, its client and spctl: enough of the record to be read
// and changed, without raft, files or clocks. A test changes it with the methods that are not in api.Node.
//
// It owns no goroutine. All methods may be called at any time from any goroutine.
package apitest

import (
	"context"
	"io"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
)

// Start is the instant at which a Node's clock stands.
var start = time.Date(2026, 11, 23, 7, 5, 0, 0, time.UTC)

// Node implements api.Node.
type Node struct {
	mu      sync.Mutex
	rec     record
	changed chan struct{}
	status  api.NodeStatus
	failure error // of strong reads and writes
	keys    map[string]string
	actors  []saltpeter.Actor
}

// record is the content of a View.
type record struct {
	index    uint64
	settings saltpeter.Settings
	revision saltpeter.Revision
	jobs     map[string]saltpeter.JobStatus
	runs     []*saltpeter.Run // by number, from 1
	targets  map[uint64][]saltpeter.Target
	outputs  map[saltpeter.TargetRef]*output
	skips    map[string][]saltpeter.Skip
	windows  []saltpeter.Window

	droppedEarly uint64
	events       []saltpeter.Event // by number, from 1
	firstEvent   uint64            // those before it were dropped
	epoch        uint64
	tokens       []saltpeter.Token
}

type output struct {
	data []byte
	gaps []api.Gap
}

// New gives a node alone that leads, without jobs, where no token is asked for.
func New() *Node {
	set := saltpeter.DefaultSettings()
	set.Auth, set.Launcher = "none", saltpeter.LauncherLocal
	n := &Node{
		changed: make(chan struct{}), keys: map[string]string{},
		rec: record{
			index: 1, epoch: 1, settings: set, jobs: map[string]saltpeter.JobStatus{}, targets: map[uint64][]saltpeter.Target{},
			outputs: map[saltpeter.TargetRef]*output{}, skips: map[string][]saltpeter.Skip{},
			revision: saltpeter.Revision{Number: 7, Millis: start.Add(-2 * time.Hour).UnixMilli(), Actor: "sp-1", FilesDigest: "9f2c"},
		},
		status: api.NodeStatus{
			Name: "sp-1", ID: "11111111-2222-3333-4444-555555555555", Version: "0.1.0", Role: "leader", Leader: "sp-1",
			Term: 3, Commit: 1, Applied: 1, Started: start.Add(-26 * time.Hour),
			Members: []api.Member{{Name: "sp-1", ID: "11111111-2222-3333-4444-555555555555", Address: "127.0.0.1:8890", Voter: true, Leader: true, Version: "0.1.0"}},
		},
	}
	return n
}

// Now is the node's clock: it stands still.
func (n *Node) Now() time.Time { return start }

// Change changes the record and wakes who waits for it.
func (n *Node) change(f func(*record)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(&n.rec)
	n.rec.index++
	close(n.changed)
	n.changed = make(chan struct{})
}

// Configure changes the settings in force.
func (n *Node) Configure(f func(*saltpeter.Settings)) { n.change(func(r *record) { f(&r.settings) }) }

// Forget takes the configuration away, as on a node that has just started.
func (n *Node) Forget() {
	n.change(func(r *record) { r.settings, r.revision = saltpeter.DefaultSettings(), saltpeter.Revision{} })
}

// SetStatus changes what the node tells of itself.
func (n *Node) SetStatus(f func(*api.NodeStatus)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f(&n.status)
}

// Fail makes strong reads and all writes fail; nil ends that.
func (n *Node) Fail(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failure = err
}

// Actors lists who wrote so far.
func (n *Node) Actors() []saltpeter.Actor {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.actors)
}

// AddJob puts a job in force, hourly unless f says otherwise.
func (n *Node) AddJob(name string, f func(*saltpeter.JobStatus)) {
	job := &saltpeter.Job{
		Name: name, Group: "main", Command: "true", Targets: []string{"*"}, TargetType: "glob", UseWrapper: true,
		Schedule:  saltpeter.Schedule{Sec: "0", Min: "0", Hour: "*", Dom: "*", Mon: "*", Dow: "*", Year: "*"},
		KillGrace: 10 * time.Second, MisfireGrace: time.Minute, OutputLimit: 1 << 20, Start: saltpeter.StartClaim, Source: "main.yaml:1",
	}
	s := saltpeter.JobStatus{Job: job, Digest: saltpeter.DigestOf([]byte(name)), Revision: 7}
	if f != nil {
		f(&s)
	}
	n.change(func(r *record) { r.jobs[name] = s })
}

// AddSkips adds skips of a job.
func (n *Node) AddSkips(job string, skips ...saltpeter.Skip) {
	n.change(func(r *record) { r.skips[job] = append(r.skips[job], skips...) })
}

// AddWindow adds a window as the configuration files would.
func (n *Node) AddWindow(w saltpeter.Window) {
	n.change(func(r *record) { r.windows = append(r.windows, w) })
}

// AddRun claims the run of a tick, on machines that wait.
func (n *Node) AddRun(job string, tick time.Time, machines ...string) *saltpeter.Run {
	var run *saltpeter.Run
	n.change(func(r *record) {
		run = r.claim(job, tick.Unix())
		run.Tick, run.Actor, run.Origin, run.Cause = tick.Unix(), "schedule", "node sp-1", "tick"
		run.ClaimedMillis = tick.UnixMilli() + 3
		r.draw(run, machines)
	})
	return run
}

func (r *record) claim(job string, second int64) *saltpeter.Run {
	run := &saltpeter.Run{
		Num: uint64(len(r.runs) + 1), ID: job + "_" + strconv.FormatInt(second, 10), Job: job, Term: 3,
		Digest: r.jobs[job].Digest, Group: "main",
	}
	r.runs = append(r.runs, run)
	return run
}

func (r *record) draw(run *saltpeter.Run, machines []string) {
	for i, m := range machines {
		ref := saltpeter.TargetRef{Run: run.Num, Target: uint32(i)}
		r.targets[run.Num] = append(r.targets[run.Num], saltpeter.Target{Ref: ref, Machine: m})
		r.outputs[ref] = &output{}
	}
	if len(machines) > 0 {
		run.State = saltpeter.RunRunning
		run.Counts[saltpeter.Waiting] = uint32(len(machines))
	}
}

// Draw gives a claimed run its machines.
func (n *Node) Draw(num uint64, machines ...string) {
	n.changeRun(num, func(r *record, run *saltpeter.Run) { r.draw(run, machines) })
}

// changeRun changes a copy of a run, so that older views stay as they are.
func (n *Node) changeRun(num uint64, f func(*record, *saltpeter.Run)) {
	n.change(func(r *record) {
		run := *r.runs[num-1]
		r.runs = slices.Clone(r.runs)
		r.runs[num-1] = &run
		r.targets[num] = slices.Clone(r.targets[num])
		f(r, &run)
	})
}

// Target changes one machine of a run; the run's counts and state follow.
func (n *Node) Target(num uint64, at int, f func(*saltpeter.Target)) {
	n.changeRun(num, func(r *record, run *saltpeter.Run) {
		f(&r.targets[num][at])
		run.Counts = saltpeter.Counts{}
		for _, t := range r.targets[num] {
			run.Counts[t.State]++
			if t.StartedMillis != 0 && run.StartedMillis == 0 {
				run.StartedMillis = t.StartedMillis
			}
		}
		if run.Counts.Unfinished() > 0 {
			return
		}
		run.State = saltpeter.RunFailed
		for _, t := range r.targets[num] {
			run.EndedMillis = max(run.EndedMillis, t.EndedMillis)
		}
		if int(run.Counts[saltpeter.OK]) == run.Counts.Counted() {
			run.State = saltpeter.RunOK
		}
		if run.KilledBy != "" {
			run.State = saltpeter.RunKilled
		}
	})
}

// End ends a run without machines.
func (n *Node) End(num uint64, state saltpeter.RunState, text string) {
	n.changeRun(num, func(_ *record, run *saltpeter.Run) {
		run.State, run.Text, run.EndedMillis = state, text, start.UnixMilli()
	})
}

// Print appends output of a machine.
func (n *Node) Print(num uint64, at int, data []byte) {
	n.Target(num, at, func(t *saltpeter.Target) { t.Stored += uint64(len(data)) })
	n.change(func(r *record) {
		o := r.outputs[saltpeter.TargetRef{Run: num, Target: uint32(at)}]
		o.data = append(o.data, data...)
	})
}

// LeaveOut records that bytes of output are missing from here on.
func (n *Node) LeaveOut(num uint64, at int, bytes uint64) {
	n.Target(num, at, func(t *saltpeter.Target) { t.LeftOut += bytes })
	n.change(func(r *record) {
		o := r.outputs[saltpeter.TargetRef{Run: num, Target: uint32(at)}]
		o.gaps = append(o.gaps, api.Gap{Offset: int64(len(o.data)), Bytes: bytes})
	})
}

// Emit adds events to the change feed; their numbers are given here.
func (n *Node) Emit(events ...saltpeter.Event) {
	n.change(func(r *record) {
		for _, e := range events {
			e.Seq = uint64(len(r.events)) + 1
			r.events = append(r.events, e)
		}
	})
}

// DropEvents takes the oldest events away, those before number first.
func (n *Node) DropEvents(first uint64) { n.change(func(r *record) { r.firstEvent = first }) }

// BeginEpoch begins the next epoch, whose feed is empty.
func (n *Node) BeginEpoch() {
	n.change(func(r *record) { r.epoch, r.events, r.firstEvent = r.epoch+1, nil, 0 })
}

// Events implements api.Node.
func (n *Node) Events() api.Feed { return feed{n} }

type feed struct{ n *Node }

func (f feed) Bounds() (first, next uint64) {
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	return max(f.n.rec.firstEvent, 1), uint64(len(f.n.rec.events)) + 1
}

func (f feed) Events(from uint64, yield func(saltpeter.Event) bool) error {
	f.n.mu.Lock()
	events, first := f.n.rec.events, max(from, f.n.rec.firstEvent, 1)
	f.n.mu.Unlock()
	for _, e := range events {
		if e.Seq >= first && !yield(e) {
			break
		}
	}
	return nil
}

func (f feed) Moved() <-chan struct{} { return f.n.Changed() }

// Contact implements api.Node.
func (n *Node) Contact() api.Contact {
	n.mu.Lock()
	defer n.mu.Unlock()
	return api.Contact{Name: n.status.Name, Leader: n.status.Leader, Age: 40 * time.Millisecond, Known: true, Working: n.status.Forming == ""}
}

// Changed implements api.Node.
func (n *Node) Changed() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changed
}

// Status implements api.Node.
func (n *Node) Status(context.Context) api.NodeStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.status
}

// Output implements api.Node.
func (n *Node) Output(_ context.Context, ref saltpeter.TargetRef) (api.Output, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.rec.outputs[ref] == nil {
		return nil, saltpeter.Errorf(saltpeter.CodeNotFound, "no output of run %d, target %d", ref.Run, ref.Target)
	}
	return &reader{n, ref}, nil
}

type reader struct {
	n   *Node
	ref saltpeter.TargetRef
}

func (r *reader) ReadAt(p []byte, off int64) (int, error) {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	data := r.n.rec.outputs[r.ref].data
	if off >= int64(len(data)) {
		return 0, io.EOF
	}
	n := copy(p, data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (r *reader) Size() int64 {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	return int64(len(r.n.rec.outputs[r.ref].data))
}

func (r *reader) Gaps() []api.Gap {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	return slices.Clone(r.n.rec.outputs[r.ref].gaps)
}

func (r *reader) Final() bool {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	t := r.n.rec.targets[r.ref.Run][r.ref.Target]
	return t.State.Final() && !t.Back
}

func (r *reader) More() <-chan struct{} { return r.n.Changed() }
