package rig

import (
	"bytes"
	"fmt"
	"slices"
	"time"
)

// Evidence is all that the oracle knows.
type Evidence struct {
	jobs    []*Job
	history *History
	end     *Span // the maintenance that ended the chain
	runs    []Run
	Targets map[string][]Target // by run id
	skips   map[string][]skip   // by job
	output  map[Key][]byte
	ledger  map[Key][]Execution
	Crashed map[Key]bool // by launch and machine: this wrapper was to be killed

	nodeEvents map[string][]nodeEvent // by node: what its feed says of nodes; read if one was removed
	takenOf    map[Key]int            // bytes of output that were taken from all nodes
	gaps       map[Key]int            // bytes that are said to be lacking, of those outputs
}

// Size says how much was judged.
func (e *Evidence) Size() string {
	executions, outputs, ticks, states := 0, 0, 0, map[string]int{}
	for _, all := range e.ledger {
		executions += len(all)
	}
	for _, b := range e.output {
		outputs += len(b)
	}
	for _, list := range e.Targets {
		for _, t := range list {
			states[t.State]++
		}
	}
	for _, j := range e.jobs {
		for s := e.history.Seen.Unix() + 1; s < e.end.onSent.Unix(); s++ {
			if j.due(s) {
				ticks++
			}
		}
	}
	size := fmt.Sprintf("%d ticks, %d runs, %d executions, %d KiB of output, machines %v", ticks, len(e.runs), executions, outputs>>10, states)
	if len(e.gaps) > 0 {
		size += fmt.Sprintf(", %d KiB lacking in %d outputs", e.Lacking()>>10, len(e.gaps))
	}
	return size
}

// Lacking counts the bytes that are said to be lacking, of outputs that were taken from all nodes.
func (e *Evidence) Lacking() (n int) {
	for _, k := range e.gaps {
		n += k
	}
	return n
}

// Violation is one broken promise; at says when, so that it can be charged to a case.
type Violation struct {
	Promise string
	At      time.Time
	Text    string
}

// Say tells of a violation in one line.
func (v Violation) Say() string {
	return fmt.Sprintf("%s %s %s", v.Promise, v.At.UTC().Format("15:04:05.000"), v.Text)
}

// oracle judges evidence.
type oracle struct {
	Evidence
	byName  map[string]*Job
	spanned map[string]bool // runs that may have been unfinished when an epoch began
	found   []Violation
}

// restoredText is what a record says that was unfinished in another time.
const restoredText = "restored"

// Judge gives every broken promise.
func Judge(e Evidence) []Violation {
	o := &oracle{Evidence: e, byName: make(map[string]*Job), spanned: make(map[string]bool)}
	for _, j := range e.jobs {
		o.byName[j.Name] = j
	}
	recorded := make(map[Key]bool)
	for i := range e.runs {
		r := &e.runs[i]
		o.spanned[r.ID] = o.restored(r)
		o.run(r)
		for _, t := range e.Targets[r.ID] {
			recorded[Key{r.ID, t.Machine}] = true
		}
	}
	for k, starts := range e.ledger {
		at := time.Unix(0, starts[0].Start.nanos)
		if len(starts) > 1 {
			o.add("G1", at, "%s on %s was started %d times: %v", k.Instance, k.Machine, len(starts), starts)
		}
		if !recorded[k] && !o.forgotten(at, slackOfEpoch) {
			o.add("G4", at, "%s on %s was executed and is not in the record", k.Instance, k.Machine)
		}
	}
	for _, j := range e.jobs {
		o.ticks(j)
		if !j.Overlap {
			o.overlaps(j)
		}
	}
	o.byHand()
	o.closedEpochs()
	o.members()
	for _, s := range e.history.stale {
		o.add("G6", s.at, "start of %s was acknowledged, and %s did not know it afterwards", s.run, s.node)
	}
	slices.SortFunc(o.found, func(a, b Violation) int { return a.At.Compare(b.At) })
	return o.found
}

func (o *oracle) add(promise string, at time.Time, format string, args ...any) {
	o.found = append(o.found, Violation{promise, at, fmt.Sprintf(format, args...)})
}

// run judges one run: it is finished, and its machines are what the job matches.
func (o *oracle) run(r *Run) {
	j := o.byName[r.Job]
	at := *r.Claimed
	targets := o.Targets[r.ID]
	switch {
	case j == nil:
		o.add("G4", at, "run %s of a job that does not exist", r.ID)
		return
	case r.State == "claimed" || r.State == "running":
		o.add("end", at, "run %s is %s after everything came to rest", r.ID, r.State)
	case r.State == "launch-failed" && r.Text == restoredText && o.restored(r): // before its machines were known, or some
	case r.State == "launch-failed":
		o.add("G4", at, "run %s: launch-failed: %s", r.ID, r.Text)
	case r.State == "no-targets" && j.Machines > 0 && len(targets) == 0:
		o.add("G4", at, "run %s found no machine: %s", r.ID, r.Text)
	case r.State == "killed" && !o.history.killed[r.ID]:
		o.add("G8", at, "run %s was killed by nobody", r.ID)
	case len(targets) != j.Machines && !o.history.killed[r.ID]:
		o.add("G4", at, "run %s has %d machines, the job has %d", r.ID, len(targets), j.Machines)
	}
	if r.Scheduled != nil && at.Before(*r.Scheduled) {
		o.add("G2", at, "run %s was claimed %s before its tick", r.ID, r.Scheduled.Sub(at))
	}
	if o.after(r) {
		o.add("G5", at, "run %s was claimed under maintenance", r.ID)
	}
	for i := range targets {
		o.target(j, r, &targets[i])
	}
}

// after reports whether a run was claimed in a maintenance that was committed before and not yet lifted.
func (o *oracle) after(r *Run) bool {
	for _, s := range o.history.spans {
		if s.covers(r.Job) && s.mustCover(*r.Claimed) {
			return true
		}
	}
	return false
}

// covers reports whether a maintenance is about all of a job.
func (s *Span) covers(job string) bool {
	return s.scope == "all" || s.scope == "job" && s.name == job
}

// target judges the record of one machine by its ledger.
func (o *oracle) target(j *Job, r *Run, t *Target) {
	k := Key{r.ID, t.Machine}
	at := *r.Claimed
	starts := o.ledger[k]
	bad := func(promise, format string, args ...any) {
		o.add(promise, at, "%s on %s is %s: %s (%s)", r.ID, t.Machine, t.State, fmt.Sprintf(format, args...), t.Text)
	}
	if t.TwoHosts {
		bad("G4", "two hosts are said to use the id")
	}
	if r.Scheduled != nil && len(starts) > 0 && starts[0].Start.nanos < r.Scheduled.Add(-o.history.wrongBy(*r.Scheduled)).UnixNano() {
		bad("G2", "it was started before its tick")
	}
	if len(starts) > 0 && o.closed(t.Machine, *r.Claimed, time.Unix(0, starts[0].Start.nanos)) {
		bad("G5", "it was started under the machine's maintenance")
	}
	ended := len(starts) > 0 && starts[0].end != nil
	switch t.State {
	case "ok", "failed":
		switch {
		case !ended:
			bad("G4", "the ledger has no end (%d starts)", len(starts))
		case t.Code == nil || *t.Code != starts[0].end.code || (t.State == "ok") != (*t.Code == 0):
			bad("G4", "the ledger ended with %d", starts[0].end.code)
		}
		o.exact(bad, k, j, t, true)
	case "timeout":
		if j.Timeout == 0 || len(starts) == 0 || ended {
			bad("G4", "its time was not over")
		}
		o.exact(bad, k, j, t, false)
	case "killed":
		if !o.history.killed[r.ID] {
			bad("G8", "nobody killed it")
		}
		o.exact(bad, k, j, t, false)
	case "lost":
		if !o.Crashed[Key{t.Launch, t.Machine}] && !(t.Text == restoredText && t.Presumed && o.restored(r)) {
			bad("G4", "its wrapper was not hurt")
		}
		o.exact(bad, k, j, t, false)
	case "not-started", "unreachable", "maintenance":
		o.notStarted(bad, j, r, t, len(starts))
	default:
		bad("end", "it has no outcome after everything came to rest")
	}
	mayDie := t.State == "killed" || t.State == "timeout" || o.history.killed[r.ID]
	if len(starts) > 0 && !ended && !mayDie {
		bad("G8", "its command was started and never ended")
	}
}

// notStarted judges an outcome that says that the command did not start.
func (o *oracle) notStarted(bad func(promise, format string, args ...any), j *Job, r *Run, t *Target, starts int) {
	if starts > 0 {
		bad("G4", "it was started")
	}
	switch {
	case o.Crashed[Key{t.Launch, t.Machine}]:
	case t.State == "maintenance" && o.machineCovered(t.Machine, r):
	case o.restored(r): // its token was of another epoch
	case t.State == "not-started" && !j.Overlap && o.locked(j.Name, t.Machine, r):
	case t.State == "not-started" && j.Lockfile != "":
	case t.State == "not-started" && !j.Overlap && o.hurt(j.Name, t.Machine): // its lock is held by a command without a wrapper
	default:
		bad("start", "nothing kept it from starting")
	}
}

func (o *oracle) machineCovered(machine string, r *Run) bool {
	for _, s := range o.history.spans {
		if s.scope == "machine" && s.name == machine && s.onSent.Before(r.endOr(time.Now())) && s.mayCover(maxTime(*r.Claimed, s.onSent)) {
			return true
		}
	}
	return false
}

// closed reports whether a machine was under maintenance, for sure, all the time between two instants.
func (o *oracle) closed(machine string, from, to time.Time) bool {
	return slices.ContainsFunc(o.history.spans, func(s *Span) bool {
		return s.scope == "machine" && s.name == machine && s.mustCover(from) && s.mustCover(to)
	})
}

func (r *Run) endOr(t time.Time) time.Time {
	if r.Ended != nil {
		return *r.Ended
	}
	return t
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// hurt reports whether a wrapper of this job was to be killed on this machine.
func (o *oracle) hurt(job, machine string) bool {
	for i := range o.runs {
		if o.runs[i].Job != job {
			continue
		}
		for _, t := range o.Targets[o.runs[i].ID] {
			if t.Machine == machine && o.Crashed[Key{t.Launch, machine}] {
				return true
			}
		}
	}
	return false
}

// exact judges the stored output: all that the command writes, or the beginning of it where it was cut off.
func (o *oracle) exact(bad func(promise, format string, args ...any), k Key, j *Job, t *Target, whole bool) {
	want, got := Output(k.Instance, k.Machine, j.Bytes), o.output[k]
	switch {
	case o.gaps[k] > 0 && (t.LeftOut == 0 || o.spanned[k.Instance]): // no node has all of it any more
		if n := len(got) + o.gaps[k]; o.gaps[k] > o.takenOf[k]+t.LeftOut || n > len(want) || whole && n != len(want) || !inPieces(want, got) {
			bad("G3", "%d bytes of output and %d said to be lacking, the command wrote %d, %d were taken and %d left out", len(got), o.gaps[k], len(want), o.takenOf[k], t.LeftOut)
		}
	case t.LeftOut != 0 && o.spanned[k.Instance]: // what the record that was brought in force lacked
		if n := len(got) + t.LeftOut; n > len(want) || whole && n != len(want) || !inPieces(want, got) {
			bad("G3", "%d bytes of output and %d left out, the command wrote %d", len(got), t.LeftOut, len(want))
		}
	case t.LeftOut != 0:
		bad("G3", "%d bytes were left out", t.LeftOut)
	case whole && !bytes.Equal(got, want), !bytes.HasPrefix(want, got):
		bad("G3", "%d bytes of output, the command wrote %d; the first %d are right", len(got), len(want), commonPrefix(got, want))
	}
}

func commonPrefix(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
