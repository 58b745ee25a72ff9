package wsgateway

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
)

var errNoLeader = errors.New("no leader")

// record is a fake leader: one record for all nodes, with the rules of the real one, faults, and an eye on what the gateway
// must not do.
type record struct {
	t testing.TB

	mu sync.Mutex
	// fault may delay a call and says whether it commits and whether the caller hears so; nil = all is well.
	fault func(op string) (commits, heard bool)
	gate  func() // if set, is entered by every Report before it commits
	gaps  bool   // are no error

	targets map[saltpeter.TargetRef]*recorded
	heard   map[saltpeter.TargetRef]int
	calls   map[string]int
	words   int
	locks   []saltpeter.LockRefusal
	sights  []saltpeter.LaunchSight
}

type recorded struct {
	launch  saltpeter.LaunchID
	machine string
	state   saltpeter.TargetState
	nonce   saltpeter.Nonce
	next    uint64
	data    bytes.Buffer
	skipped uint64
	done    bool
	kill    bool
	result  saltpeter.Word
	remarks []string
	gone    bool   // the record forgot it
	limit   uint64 // numbers from here on are not taken; 0 = all are
}

func newRecord(t testing.TB) *record {
	return &record{
		t: t, targets: map[saltpeter.TargetRef]*recorded{}, heard: map[saltpeter.TargetRef]int{}, calls: map[string]int{},
	}
}

// add launches a target.
func (r *record) add(ref saltpeter.TargetRef, launch saltpeter.LaunchID, machine string) *recorded {
	x := &recorded{launch: launch, machine: machine, state: saltpeter.Launched, next: 1}
	r.mu.Lock()
	r.targets[ref] = x
	r.mu.Unlock()
	return x
}

func oneTarget(t testing.TB) *record {
	r := newRecord(t)
	r.add(testRef, testLaunch, "web-1")
	return r
}

func (r *record) enter(op string) (commits, heard bool) {
	r.mu.Lock()
	r.calls[op]++
	fault := r.fault
	r.mu.Unlock()
	if fault == nil {
		return true, true
	}
	return fault(op)
}

func (r *record) setFault(f func(string) (bool, bool)) { r.mu.Lock(); r.fault = f; r.mu.Unlock() }
func (r *record) setGate(f func())                     { r.mu.Lock(); r.gate = f; r.mu.Unlock() }
func (r *record) tolerate(gaps bool)                   { r.mu.Lock(); r.gaps = gaps; r.mu.Unlock() }

func (r *record) heardOf(ref saltpeter.TargetRef) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.heard[ref]
}

func (r *record) count(op string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls[op]
}

func (r *record) Hello(_ context.Context, sight saltpeter.LaunchSight) ([]saltpeter.LaunchedRun, error) {
	if commits, heard := r.enter("hello"); !commits || !heard {
		return nil, errNoLeader
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sights = append(r.sights, sight)
	var runs []saltpeter.LaunchedRun
	for ref, x := range r.targets {
		if x.launch == sight.Launch && x.machine == sight.Machine {
			runs = append(runs, saltpeter.LaunchedRun{Ref: ref, Run: "job_1", Job: "job", State: x.state, Heartbeat: 5 * time.Second, StartWindow: time.Minute})
		}
	}
	if len(runs) == 0 {
		return nil, saltpeter.Errorf(saltpeter.CodeNotFound, "no such launch")
	}
	return runs, nil
}

func (r *record) Start(_ context.Context, ask saltpeter.StartAsk) (saltpeter.StartAnswer, error) {
	commits, heard := r.enter("start")
	r.mu.Lock()
	defer r.mu.Unlock()
	var a saltpeter.StartAnswer
	if commits {
		a = r.start(ask)
	}
	if !commits || !heard {
		return saltpeter.StartAnswer{}, errNoLeader
	}
	return a, nil
}

func (r *record) start(ask saltpeter.StartAsk) saltpeter.StartAnswer {
	x := r.targets[ask.Ref]
	switch {
	case x == nil || x.gone:
		return saltpeter.StartAnswer{Refusal: "no such target"}
	case x.state == saltpeter.Launched && !x.kill:
		x.state, x.nonce = saltpeter.Granted, ask.Nonce
	case x.state == saltpeter.Granted && x.nonce == ask.Nonce:
	default:
		return saltpeter.StartAnswer{Refusal: "the target is " + x.state.String()}
	}
	return saltpeter.StartAnswer{Granted: true, Kill: x.kill, Spec: &saltpeter.Spec{Ref: ask.Ref, Run: "job_1", Job: "job", Command: "true"}}
}

func (r *record) Resume(_ context.Context, ask saltpeter.ResumeAsk) (saltpeter.ResumeAnswer, error) {
	if commits, heard := r.enter("resume"); !commits || !heard {
		return saltpeter.ResumeAnswer{}, errNoLeader
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	x := r.targets[ask.Ref]
	if x == nil || x.gone {
		return saltpeter.ResumeAnswer{Unknown: true}, nil
	}
	a := saltpeter.ResumeAnswer{State: x.state}
	if x.state >= saltpeter.Granted && x.nonce == ask.Nonce {
		a.Winner, a.Done, a.Next, a.Kill = true, x.done, x.next, x.kill && !x.done
		if x.state == saltpeter.Granted {
			a.Spec = &saltpeter.Spec{Ref: ask.Ref, Run: "job_1", Job: "job", Command: "true"}
		}
	}
	return a, nil
}

// Report commits, or not, and tells so, or not.
func (r *record) Report(_ context.Context, reports []saltpeter.Report) ([]saltpeter.ReportAnswer, error) {
	r.mu.Lock()
	gate := r.gate
	r.mu.Unlock()
	if gate != nil {
		gate()
	}
	commits, heard := r.enter("report")
	r.mu.Lock()
	defer r.mu.Unlock()
	answers := make([]saltpeter.ReportAnswer, len(reports))
	if commits {
		for i := range reports {
			answers[i] = r.take(&reports[i])
		}
	}
	if !commits || !heard {
		return nil, errNoLeader
	}
	return answers, nil
}

func (r *record) take(report *saltpeter.Report) saltpeter.ReportAnswer {
	a := saltpeter.ReportAnswer{Ref: report.Ref}
	x := r.targets[report.Ref]
	switch {
	case x == nil || x.gone:
		a.Refused = "unknown run"
		return a
	case x.nonce != report.Nonce || x.nonce == (saltpeter.Nonce{}):
		a.Refused = "not the winner"
		return a
	}
	for i := range report.Words {
		r.word(x, &report.Words[i])
	}
	a.Next, a.Started, a.Done, a.Kill = x.next, x.state == saltpeter.Started || x.done, x.done, x.kill && !x.done
	return a
}

func (r *record) word(x *recorded, w *saltpeter.Word) {
	r.words++
	if numbered(w.Kind) {
		if w.Seq > x.next && !r.gaps {
			r.t.Errorf("a gap was passed on: word %d, the record wants %d", w.Seq, x.next)
		}
		if w.Seq != x.next || x.limit > 0 && w.Seq >= x.limit {
			return
		}
		x.next = after(w)
	}
	switch w.Kind {
	case saltpeter.WordStarted:
		if x.state == saltpeter.Granted {
			x.state = saltpeter.Started
		}
	case saltpeter.WordOutput:
		x.data.Write(w.Data)
	case saltpeter.WordSkip:
		x.skipped += w.Skipped
	case saltpeter.WordResult:
		x.done, x.result, x.state = true, *w, saltpeter.OK
	case saltpeter.WordDeclined:
		x.done, x.result, x.state = true, *w, saltpeter.NotStarted
	case saltpeter.WordRemark:
		x.remarks = append(x.remarks, w.Text)
	}
}

func (r *record) Lock(_ context.Context, refusal saltpeter.LockRefusal) error {
	if commits, heard := r.enter("lock"); !commits || !heard {
		return errNoLeader
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.locks = append(r.locks, refusal)
	return nil
}

func (r *record) Heard(_ context.Context, refs []saltpeter.TargetRef) error {
	if commits, heard := r.enter("heard"); !commits || !heard {
		return errNoLeader
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ref := range refs {
		r.heard[ref]++
	}
	return nil
}

// nextOf is the record's expected number.
func (r *record) nextOf(ref saltpeter.TargetRef) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.targets[ref].next
}

// change alters a target's record.
func (r *record) change(ref saltpeter.TargetRef, f func(*recorded)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r.targets[ref])
}

// outages makes faults of all kinds, from a seed: refusals, commits whose answer is lost, delays, and times without a
// leader.
func outages(seed uint64) func(string) (bool, bool) {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 1))
	var down time.Time
	return func(string) (commits, heard bool) {
		mu.Lock()
		die, delay := rng.IntN(100), time.Duration(rng.IntN(20))*time.Millisecond
		if die == 0 {
			down = time.Now().Add(time.Duration(rng.IntN(1500)) * time.Millisecond)
		}
		dark := time.Now().Before(down)
		mu.Unlock()
		time.Sleep(delay)
		switch {
		case dark, die < 8:
			return false, false
		case die < 20:
			return true, false
		}
		return true, true
	}
}

// misanswering is a leader whose answers don't fit the reports.
type misanswering struct {
	*record
	mu  sync.Mutex
	bad bool
}

func (m *misanswering) set(bad bool) {
	m.mu.Lock()
	m.bad = bad
	m.mu.Unlock()
}

func (m *misanswering) Report(ctx context.Context, reports []saltpeter.Report) ([]saltpeter.ReportAnswer, error) {
	m.mu.Lock()
	bad := m.bad
	m.mu.Unlock()
	answers, err := m.record.Report(ctx, reports)
	if bad && err == nil {
		return append(answers, answers...), nil
	}
	return answers, err
}

// watched is a node's view of the leader. It checks what a gateway promises of its Report calls.
type watched struct {
	Leader
	t testing.TB

	mu      sync.Mutex
	flying  map[saltpeter.TargetRef]int
	inCalls int
}

func (w *watched) Report(ctx context.Context, reports []saltpeter.Report) ([]saltpeter.ReportAnswer, error) {
	w.takeOff(reports)
	defer w.land(reports)
	return w.Leader.Report(ctx, reports)
}

func (w *watched) takeOff(reports []saltpeter.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.inCalls++; w.inCalls > reporters {
		w.t.Errorf("%d Report calls in flight", w.inCalls)
	}
	words, weight := 0, int64(0)
	for i := range reports {
		// Two are right while a session's last words and those of the session that follows it are under way.
		if w.flying[reports[i].Ref]++; w.flying[reports[i].Ref] > 2 {
			w.t.Errorf("target %v in three calls", reports[i].Ref)
		}
		words += len(reports[i].Words)
		weight += reportOverhead
		for j := range reports[i].Words {
			weight += weigh(&reports[i].Words[j])
		}
	}
	if words > 1024 || weight > 192<<10 || words == 0 {
		w.t.Errorf("call of %d words, %d bytes", words, weight)
	}
}

func (w *watched) land(reports []saltpeter.Report) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.inCalls--
	for i := range reports {
		w.flying[reports[i].Ref]--
	}
}
