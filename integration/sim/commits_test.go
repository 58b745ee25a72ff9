package sim

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/entry"
	"github.com/syscollective/saltpeter/internal/wire"
)

// commit is one entry of the log as it was applied first.
type commit struct {
	index, term uint64
	at          time.Time // of the first apply anywhere: at or just after the commit
	data        []byte
	envs        []fsm.Envelope
	cmds        []fsm.Command
	results     []any
}

// facts are what the record said of one target over time.
type facts struct {
	ref     saltpeter.TargetRef
	run     string
	machine string
	job     string
	last    saltpeter.Target
	changes []change
}

type change struct {
	at       time.Time
	index    uint64
	state    saltpeter.TargetState
	presumed bool
}

// stateAt is the state as it was committed at an instant.
func (f *facts) stateAt(t time.Time) (c change, ok bool) {
	for _, x := range f.changes {
		if !x.at.After(t) {
			c, ok = x, true
		}
	}
	return c, ok
}

// commits is the log as the nodes applied it.
type commits struct {
	w *world

	mu      sync.Mutex // guards what follows
	byIndex map[uint64]*commit
	targets map[saltpeter.TargetRef]*facts
	acked   map[saltpeter.TargetRef]uint64 // the highest number that a wrapper was told
}

func newCommits(w *world) *commits {
	return &commits{w: w, byIndex: map[uint64]*commit{}, targets: map[saltpeter.TargetRef]*facts{}, acked: map[saltpeter.TargetRef]uint64{}}
}

// applied is told of every apply of every node, replays after a restart included.
func (c *commits) applied(l *life, log *raft.Log, out any) {
	results, ok := out.([]any)
	if !ok {
		err, _ := out.(error)
		if !l.off.Load() && !l.n.failing.Load() {
			c.w.hist.broken("apply", "node %s at %d: %v", l.n.name, log.Index, err)
		}
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.byIndex[log.Index]
	if known == nil {
		c.learn(l, log, results)
		return
	}
	if known.term != log.Term || !bytes.Equal(known.data, log.Data) {
		c.w.hist.broken("log", "node %s has another entry at %d", l.n.name, log.Index)
	} else if !reflect.DeepEqual(known.results, results) {
		c.w.hist.broken("apply", "node %s made something else of entry %d: %+v, not %+v", l.n.name, log.Index, results, known.results)
	}
}

// learn takes up an entry that is applied for the first time.
func (c *commits) learn(l *life, log *raft.Log, results []any) {
	k := &commit{index: log.Index, term: log.Term, at: time.Now(), data: bytes.Clone(log.Data), results: results}
	cmds, err := entry.Split(k.data)
	for _, cmd := range cmds {
		env, body, e := fsm.Decode(cmd)
		err = errors.Join(err, e)
		k.envs, k.cmds = append(k.envs, env), append(k.cmds, body)
	}
	if err != nil {
		c.w.hist.broken("log", "entry %d can't be read: %v", log.Index, err)
	}
	c.byIndex[log.Index] = k
	if len(k.cmds) == 0 {
		return
	}
	v := l.machine.View()
	for _, num := range k.runs() {
		c.look(k, v, num)
	}
	c.checkOverlap(k, v)
	c.tell(l, k)
}

// checkOverlap: a job that doesn't allow it has one run at a time, whoever asks for another.
func (c *commits) checkOverlap(k *commit, v *fsm.View) {
	for _, j := range c.w.plan.jobs {
		if j.overlaps() {
			continue
		}
		var active []string
		v.RunsOfJob(j.name, 0, func(r *saltpeter.Run) bool {
			if !r.State.Final() {
				active = append(active, r.ID)
			}
			return true
		})
		if len(active) > 1 {
			c.w.hist.broken("overlap", "at %d %v are active together", k.index, active)
		}
	}
}

// tell puts what matters into the history.
func (c *commits) tell(l *life, k *commit) {
	for i, cmd := range k.cmds {
		switch x := cmd.(type) {
		case *fsm.Retain, *fsm.SetNode, *fsm.PutDefinitions, *fsm.Report, *fsm.InitCluster:
		case *fsm.StartTarget:
			c.w.hist.note("#%d term %d (%s) %T run %d.%d on %s → %+v", k.index, k.term, l.n.name, cmd, x.Ask.Ref.Run, x.Ask.Ref.Target, x.Ask.Sight.Machine, k.results[i])
		case *fsm.LaunchBatch:
			launch := saltpeter.LaunchID(0)
			if r, ok := k.results[i].(fsm.BatchLaunched); ok && r.Launch != nil {
				launch = r.Launch.ID
			}
			c.w.hist.note("#%d term %d (%s) %T %+v → %s", k.index, k.term, l.n.name, cmd, cmd, launch)
		case *fsm.ApplyConfig:
			c.w.hist.note("#%d term %d (%s) %T of %s → %+v", k.index, k.term, l.n.name, cmd, k.envs[i].Actor, k.results[i])
		default:
			c.w.hist.note("#%d term %d (%s) %T %+v → %+v", k.index, k.term, l.n.name, cmd, cmd, k.results[i])
		}
	}
}

// runs lists the runs that an entry may have changed.
func (k *commit) runs() []uint64 {
	var nums []uint64
	add := func(num uint64) {
		if num != 0 && !slices.Contains(nums, num) {
			nums = append(nums, num)
		}
	}
	for _, cmd := range k.cmds {
		switch x := cmd.(type) {
		case *fsm.SetTargets:
			add(x.Run)
		case *fsm.LaunchBatch:
			add(x.Run)
		case *fsm.StartTarget:
			add(x.Ask.Ref.Run)
		case *fsm.RefuseLock:
			add(x.Refusal.Ref.Run)
		case *fsm.Report:
			for _, r := range x.Reports {
				add(r.Ref.Run)
			}
		case *fsm.EndTargets:
			add(x.Run)
		case *fsm.Kill:
			add(x.Run)
		}
	}
	return nums
}

// look compares a run's targets with what they were.
func (c *commits) look(k *commit, v *fsm.View, num uint64) {
	r, ok := v.Run(num)
	if !ok {
		return
	}
	v.TargetsOf(num, 0, func(t saltpeter.Target) bool {
		f := c.targets[t.Ref]
		if f == nil {
			f = &facts{ref: t.Ref, run: r.ID, machine: t.Machine, job: r.Job, last: saltpeter.Target{State: saltpeter.Waiting}}
			c.targets[t.Ref] = f
			f.changes = []change{{k.at, k.index, t.State, t.Presumed}}
		} else if t.State != f.last.State || t.Presumed != f.last.Presumed || t.Back != f.last.Back {
			if t.State != f.last.State || t.Presumed != f.last.Presumed {
				c.checkStep(k, f, &t)
			}
			f.changes = append(f.changes, change{k.at, k.index, t.State, t.Presumed})
			c.w.hist.note("#%d %s on %s: %s → %s code %d presumed %v back %v %q", k.index, f.run, f.machine, f.last.State, t.State, t.Code, t.Presumed, t.Back, t.Text)
		}
		if f.last.Done && !t.Done || f.last.State.Final() && !f.last.Presumed && (t.Code != f.last.Code || t.State != f.last.State) {
			c.w.hist.broken("G4", "%s on %s: a witnessed outcome changed at %d: %+v, was %+v", f.run, f.machine, k.index, t, f.last)
		}
		if t.NextSeq < f.last.NextSeq || t.Stored < f.last.Stored {
			c.w.hist.broken("G3", "%s on %s: output went back at %d", f.run, f.machine, k.index)
		}
		f.last = t
		return true
	})
}

// steps are the changes of state that the design allows, written down a second time.
var steps = map[saltpeter.TargetState][]saltpeter.TargetState{
	saltpeter.Waiting:  {saltpeter.Launched, saltpeter.Killed, saltpeter.NotStarted, saltpeter.Unreachable, saltpeter.InMaintenance},
	saltpeter.Launched: {saltpeter.Granted, saltpeter.Killed, saltpeter.NotStarted, saltpeter.Unreachable, saltpeter.InMaintenance},
	saltpeter.Granted: {saltpeter.Started, saltpeter.Lost, saltpeter.NotStarted, saltpeter.Killed,
		saltpeter.OK, saltpeter.Failed, saltpeter.TimedOut}, // one entry may hold "started" and the result
	saltpeter.Started: {saltpeter.OK, saltpeter.Failed, saltpeter.TimedOut, saltpeter.Killed, saltpeter.Lost},
	saltpeter.Lost:    {saltpeter.OK, saltpeter.Failed, saltpeter.TimedOut, saltpeter.Killed, saltpeter.NotStarted},
}

func (c *commits) checkStep(k *commit, f *facts, t *saltpeter.Target) {
	if !slices.Contains(steps[f.last.State], t.State) {
		c.w.hist.broken("G4", "%s on %s: %s became %s at %d", f.run, f.machine, f.last.State, t.State, k.index)
	}
	if f.last.State == saltpeter.Lost && (!f.last.Presumed || t.Presumed || !t.Replaced) {
		c.w.hist.broken("G4", "%s on %s: lost became %s without being marked, at %d", f.run, f.machine, t.State, k.index)
	}
}

// checkAck holds an ack against what is committed at its arrival.
func (c *commits) checkAck(ref saltpeter.TargetRef, m *wire.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.targets[ref]
	if f == nil || m.Next > f.last.NextSeq {
		c.w.hist.broken("G3", "run %d.%d: acked up to %d before it was committed", ref.Run, ref.Target, m.Next)
		return
	}
	if m.Ended && !f.last.State.Final() && m.Next > 0 {
		c.w.hist.broken("G3", "%s on %s: the end was acked before it was committed", f.run, f.machine)
	}
	c.acked[ref] = max(c.acked[ref], m.Next)
}

// checkGrant holds a grant against what is committed at its arrival: somebody won before.
func (c *commits) checkGrant(ref saltpeter.TargetRef, p *wrapperProcess) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.targets[ref]
	if f == nil || f.last.GrantedMillis == 0 {
		c.w.hist.broken("G1", "run %d.%d: wrapper %d has a grant that is not committed", ref.Run, ref.Target, p.id)
	}
}

// fact gives what is known of one target at this moment.
func (c *commits) fact(ref saltpeter.TargetRef) (f facts, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.targets[ref]; known != nil {
		f, ok = *known, true
	}
	return f, ok
}

// became gives the state that an entry gave a target; Waiting if it changed nothing.
func (c *commits) became(ref saltpeter.TargetRef, index uint64) saltpeter.TargetState {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f := c.targets[ref]; f != nil {
		for _, x := range f.changes {
			if x.index == index {
				return x.state
			}
		}
	}
	return saltpeter.Waiting
}

// find gives the index of the first commit that f accepts.
func (c *commits) find(f func(*commit) bool) (uint64, bool) {
	for _, k := range c.all() {
		if f(k) {
			return k.index, true
		}
	}
	return 0, false
}

// all lists the commits in their order.
func (c *commits) all() []*commit {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]*commit, 0, len(c.byIndex))
	for _, k := range c.byIndex {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b *commit) int { return int(a.index) - int(b.index) })
	return out
}

// has gives a test for a command of a type that was not refused.
func has[C fsm.Command](want func(C) bool) func(*commit) bool {
	return func(k *commit) bool {
		for i, cmd := range k.cmds {
			if _, refused := k.results[i].(*fsm.Refusal); refused {
				continue
			}
			if x, ok := cmd.(C); ok && want(x) {
				return true
			}
		}
		return false
	}
}

func startOf(key string) func(*commit) bool {
	return has(func(c *fsm.StartRun) bool { return c.Request.Key == key })
}

func killOf(run uint64) func(*commit) bool {
	return has(func(c *fsm.Kill) bool { return c.Run == run })
}

func windowOf(reason string) func(*commit) bool {
	return has(func(c *fsm.SetWindow) bool { return c.Window.Reason == reason })
}

func notFound(err error) bool {
	return saltpeter.CodeOf(err) == saltpeter.CodeNotFound
}
