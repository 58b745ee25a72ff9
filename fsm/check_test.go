package fsm

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"bufio"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/outlog"
)

// failer is what checkers need of *testing.T and *rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// stateBytes gives a state as a snapshot's records, without the manifests: they are another on a node that lacks segments.
func stateBytes(t failer, s *state) []byte {
	t.Helper()
	var buf bytes.Buffer
	sw := &snapshotWriter{w: bufio.NewWriter(&buf), sum: sha256.New()}
	(&snapshot{state: s}).records(sw)
	if err := sw.w.Flush(); err != nil || sw.err != nil {
		t.Fatalf("write state: %v, %v", err, sw.err)
	}
	return buf.Bytes()
}

// checkConsistent compares what the state keeps with what follows from its runs.
func checkConsistent(t failer, s *state) {
	t.Helper()
	active := make(map[string]int)
	runs := make(map[string][]uint64)
	refs := make(map[saltpeter.Digest]int)
	targets, empty, finished, unfinished, launches := 0, 0, 0, 0, 0
	var output uint64
	for _, r := range s.runs.Values() {
		checkRun(t, r)
		targets += int(r.size())
		for i := range r.size() {
			output += r.at(i).stored
		}
		runs[r.Job] = append(runs[r.Job], r.Num)
		refs[r.Digest]++
		if r.counts() {
			active[r.Job]++
		}
		num, ok := s.finished.Get(r.endOrder)
		if _, back := s.backs.Get(r.Num); back != (r.Backs > 0) {
			t.Fatalf("run %d with %d machines back is found as one: %t", r.Num, r.Backs, back)
		}
		_, open := s.unfinished.Get(r.Num)
		if r.State.Final() == open || r.State.Final() != (ok && num == r.Num) {
			t.Fatalf("run %d in state %s: unfinished %t, finished %t", r.Num, r.State, open, ok)
		}
		if r.State.Final() {
			finished++
			if r.size() == 0 {
				empty++
			}
		} else {
			unfinished++
		}
		if num, ok := s.runIDs.Get(r.ID); !ok || num != r.Num {
			t.Fatalf("run %d is not found as %s", r.Num, r.ID)
		}
		for i, b := range r.Batches {
			if ref, ok := s.launches.Get(int64(b.Launch)); !ok || ref != (launchRef{r.Num, i}) {
				t.Fatalf("launch %d of run %d is not found", b.Launch, r.Num)
			}
			launches++
		}
	}
	if s.targets != targets || s.empty != empty || s.output != output || s.finished.Len() != finished || s.unfinished.Len() != unfinished ||
		s.launches.Len() != launches || s.runIDs.Len() != s.runs.Len() {
		t.Fatalf("targets %d want %d, empty %d want %d, output %d want %d, finished %d want %d, unfinished %d want %d, launches %d want %d",
			s.targets, targets, s.empty, empty, s.output, output, s.finished.Len(), finished, s.unfinished.Len(), unfinished, s.launches.Len(), launches)
	}
	for _, jd := range s.revision.Jobs {
		refs[jd.Digest]++
	}
	for _, d := range s.defs.Values() {
		if d.refs != refs[d.digest] {
			t.Fatalf("definition %s has %d references, want %d", d.digest, d.refs, refs[d.digest])
		}
		delete(refs, d.digest)
	}
	if len(refs) > 0 {
		t.Fatalf("missing definitions: %v", refs)
	}
	checkJobs(t, s, active, runs)
}

func checkRun(t failer, r *run) {
	t.Helper()
	var counts saltpeter.Counts
	presumed, backs, seen := 0, 0, make(map[string]bool)
	for i := range r.size() {
		tg := r.at(i)
		counts[tg.state]++
		presumed += btoi(tg.has(flagPresumed))
		backs += btoi(tg.has(flagBack))
		checkTarget(t, r, i)
		if m := tg.machine.Value(); seen[m] {
			t.Fatalf("run %d has machine %q twice", r.Num, m)
		} else if at, ok := r.find(m); !ok || at != i {
			t.Fatalf("machine %q of run %d is found at %d, want %d", m, r.Num, at, i)
		} else {
			seen[m] = true
		}
	}
	if counts != r.Counts || presumed != r.presumed || backs != r.Backs {
		t.Fatalf("run %d: counts %v want %v, presumed %d want %d, backs %d want %d", r.Num, r.Counts, counts, r.presumed, presumed, r.Backs, backs)
	}
	if r.State == saltpeter.RunRunning && counts.Unfinished() == 0 || r.State.Final() && counts.Unfinished() > 0 {
		t.Fatalf("run %d is %s with %d unfinished targets", r.Num, r.State, counts.Unfinished())
	}
	if r.State.Final() && r.State != saltpeter.RunLaunchFailed && r.size() > 0 && r.State != r.outcome() {
		t.Fatalf("run %d is %s, its targets make it %s", r.Num, r.State, r.outcome())
	}
	for i := range r.cursor {
		if r.at(i).state == saltpeter.Waiting {
			t.Fatalf("run %d: target %d waits before the cursor %d", r.Num, i, r.cursor)
		}
	}
}

func checkTarget(t failer, r *run, i uint32) {
	t.Helper()
	tg := r.at(i)
	final := tg.state.Final()
	bad := ""
	switch {
	case final != (tg.ended != 0):
		bad = "has an end without an outcome, or the reverse"
	case tg.has(flagPresumed) && !final, tg.has(flagBack) && !tg.has(flagPresumed), tg.has(flagReplaced) && (tg.has(flagPresumed) || !final):
		bad = "has flags that contradict each other"
	case tg.has(flagDone) && (!final || tg.has(flagPresumed) || tg.nonce != nil):
		bad = "is done and yet awaits a word"
	case tg.nonce != nil && tg.granted == 0, (tg.state == saltpeter.Granted || tg.state == saltpeter.Started) && tg.nonce == nil:
		bad = "has a winner without a grant, or the reverse"
	case tg.has(flagKilling) && tg.nonce == nil:
		bad = "is to be killed, and nobody runs it"
	case tg.state == saltpeter.Waiting && tg.batch >= 0, tg.state == saltpeter.Launched && tg.batch < 0, tg.granted != 0 && tg.batch < 0:
		bad = "has a batch that does not fit its state"
	case final && tg.state != saltpeter.Failed && int(tg.code) != tg.state.Code(), !final && tg.code != 0:
		bad = fmt.Sprintf("has code %d", tg.code)
	case final && (tg.state == saltpeter.Lost || tg.state == saltpeter.Unreachable) != tg.has(flagPresumed) && tg.state != saltpeter.NotStarted:
		bad = "rests on the wrong thing"
	}
	if bad != "" {
		t.Fatalf("target %d of run %d (%s) %s: %+v", i, r.Num, tg.state, bad, *tg)
	}
}

func checkJobs(t failer, s *state, active map[string]int, runs map[string][]uint64) {
	t.Helper()
	for _, j := range s.jobs.Values() {
		if j.active != active[j.name] || !slices.Equal(j.runs, runs[j.name]) {
			t.Fatalf("job %s: active %d want %d, runs %v want %v", j.name, j.active, active[j.name], j.runs, runs[j.name])
		}
		if _, noted := s.overfull.Get(j.name); len(j.runs) > s.revision.Settings.HistoryRuns && !noted {
			t.Fatalf("job %s has %d runs and is not noted as overfull", j.name, len(j.runs))
		}
		if _, gone := s.gone.Get(j.name); gone != (!j.inForce && len(j.runs) == 0) {
			t.Fatalf("job %s: gone %t, in force %t, runs %v", j.name, gone, j.inForce, j.runs)
		}
		delete(active, j.name)
		for _, sk := range j.skips {
			if sk.First > sk.Last || sk.Count == 0 || sk.Count > uint64(sk.Last-sk.First)+1 {
				t.Fatalf("job %s: series %+v", j.name, sk)
			}
		}
		for _, num := range []uint64{j.lastOK, j.lastFail, j.lastEnd} {
			if r, ok := s.runs.Get(num); num != 0 && (!ok || r.Job != j.name || !r.State.Final()) {
				t.Fatalf("job %s remembers run %d", j.name, num)
			}
		}
	}
	for name, n := range active {
		if n > 0 {
			t.Fatalf("%d active runs of job %s, which is not in the record", n, name)
		}
	}
}

// history is what a checker remembers of all states that it has seen.
type history struct {
	granted map[saltpeter.TargetRef]saltpeter.Nonce
	ticks   map[string]uint64 // job@tick → run
	targets map[saltpeter.TargetRef]target
	marks   map[string]int64
	ends    map[uint64]int64 // run → its end
	lastRun uint64
	launch  saltpeter.LaunchID
}

func newHistory() *history {
	return &history{granted: make(map[saltpeter.TargetRef]saltpeter.Nonce), ticks: make(map[string]uint64),
		targets: make(map[saltpeter.TargetRef]target), marks: make(map[string]int64), ends: make(map[uint64]int64)}
}

// check compares a state with what was seen before, now being a tick. mayFall says that marks may have been pulled back.
func (h *history) check(t failer, s *state, now int64, mayFall bool) {
	t.Helper()
	for _, r := range s.runs.Values() {
		if r.Tick != 0 {
			key := fmt.Sprintf("%s@%d", r.Job, r.Tick)
			if num, ok := h.ticks[key]; ok && num != r.Num {
				t.Fatalf("%s has runs %d and %d", key, num, r.Num)
			}
			h.ticks[key] = r.Num
		}
		if end, ok := h.ends[r.Num]; ok && end != r.EndedMillis {
			t.Fatalf("run %d ended at %d, now at %d", r.Num, end, r.EndedMillis)
		}
		if r.State.Final() {
			h.ends[r.Num] = r.EndedMillis
		}
		for i := range r.size() {
			h.checkTarget(t, saltpeter.TargetRef{Run: r.Num, Target: i}, *r.at(i))
		}
	}
	for name, mark := range h.marks {
		if _, ok := s.jobs.Get(name); !ok && mark >= now-keepGone {
			t.Fatalf("job %s was forgotten at once", name)
		} else if !ok {
			delete(h.marks, name)
		}
	}
	for _, j := range s.jobs.Values() {
		if !mayFall && j.mark < h.marks[j.name] {
			t.Fatalf("mark of %s fell from %d to %d", j.name, h.marks[j.name], j.mark)
		}
		h.marks[j.name] = j.mark
	}
	if s.lastRun < h.lastRun || s.lastLaunch < h.launch {
		t.Fatalf("run numbers or launch ids fell")
	}
	h.lastRun, h.launch = s.lastRun, s.lastLaunch
}

func (h *history) checkTarget(t failer, ref saltpeter.TargetRef, now target) {
	t.Helper()
	if now.nonce != nil {
		if first, ok := h.granted[ref]; ok && first != *now.nonce {
			t.Fatalf("%v was granted to two", ref)
		}
		h.granted[ref] = *now.nonce
	}
	was, ok := h.targets[ref]
	h.targets[ref] = now
	if !ok {
		return
	}
	switch {
	case was.state.Final() && !was.has(flagPresumed):
		if now.state != was.state || now.code != was.code || now.has(flagPresumed) || now.ended != was.ended {
			t.Fatalf("the witnessed outcome of %v changed: %+v, %+v", ref, was, now)
		}
	case was.state.Final() && (now.state != was.state || !now.has(flagPresumed)):
		if was.granted == 0 || now.has(flagPresumed) || !now.has(flagReplaced) || now.ended != was.ended {
			t.Fatalf("the presumed outcome of %v changed: %+v, %+v", ref, was, now)
		}
	case !reachable(was.state, now.state):
		t.Fatalf("%v went from %s to %s", ref, was.state, now.state)
	}
	if now.nextSeq < was.nextSeq || now.stored < was.stored || now.leftOut < was.leftOut {
		t.Fatalf("output of %v shrank: %+v, %+v", ref, was, now)
	}
	if was.granted != 0 && now.granted != was.granted {
		t.Fatalf("%v was granted twice", ref)
	}
}

// reachable reports whether the table of states leads from one to the other.
func reachable(from, to saltpeter.TargetState) bool {
	return from == to || slices.ContainsFunc(from.Nexts(), func(s saltpeter.TargetState) bool { return reachable(s, to) })
}

// checkOutput compares the store with what was taken.
func checkOutput(t failer, m *Machine, taken map[saltpeter.TargetRef][]byte) {
	t.Helper()
	for ref, want := range taken {
		if _, ok := m.state.runs.Get(ref.Run); !ok {
			if st, ok := m.Output().Stat(outKey(ref)); ok {
				t.Fatalf("output of %v, which was dropped, is there: %+v", ref, st)
			}
			continue
		}
		got := make([]byte, len(want)+1)
		key, _ := m.View().OutputKey(ref)
		n, err := m.Output().ReadAt(key, got, 0)
		if !bytes.Equal(got[:n], want) || len(want) > 0 && errors.Is(err, outlog.ErrNoOutput) {
			t.Fatalf("output of %v is %q, want %q (%v)", ref, got[:n], want, err)
		}
	}
}

// checkSameTargets compares targets as they are in memory: what a snapshot doesn't write, its bytes don't show.
func checkSameTargets(t failer, a, b *state) {
	t.Helper()
	for _, r := range a.runs.Values() {
		other, ok := b.runs.Get(r.Num)
		if !ok || other.size() != r.size() {
			t.Fatalf("run %d is another", r.Num)
		}
		for i := range r.size() {
			x, y := *r.at(i), *other.at(i)
			if (x.nonce == nil) != (y.nonce == nil) || x.nonce != nil && *x.nonce != *y.nonce {
				t.Fatalf("target %d of run %d has another winner", i, r.Num)
			}
			if x.nonce, y.nonce = nil, nil; x != y {
				t.Fatalf("target %d of run %d: %+v and %+v", i, r.Num, x, y)
			}
		}
	}
}
