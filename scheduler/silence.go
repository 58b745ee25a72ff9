package scheduler

import (
	"sync"
	"time"

	"github.com/syscollective/saltpeter"
)

// never is the attentive time of what has not happened.
const never = time.Duration(-1)

// sign is what is known of the wrapper of one launched target. All times are attentive.
type sign struct {
	ref     saltpeter.TargetRef
	machine *machine
	batch   *batch
	last    time.Duration // its last sign of life, or when it began to be watched
	heard   bool          // it gave one
	at      time.Duration // when it is looked at next
	slot    int
}

func (s *sign) before(o *sign) bool { return s.at < o.at }
func (s *sign) place() *int         { return &s.slot }

// machine is what is known of a machine, over all runs.
type machine struct {
	name  string
	last  time.Duration // its last sign of any kind, or never
	signs int           // targets that are watched on it
	ping  ping
}

// ping is the last ping of a machine.
type ping struct {
	running  bool
	began    time.Duration // or never
	ended    time.Duration
	known    bool // the launcher could ask
	answered bool
}

// batch is what is known of a publish.
type batch struct {
	launch    saltpeter.LaunchID
	first     time.Duration // the first attempt to publish; of a batch that is not published by us, when it was found
	published time.Duration // the first success, or never
	err       string        // the launcher's last error while nothing succeeded
	direct    bool          // publishing is executing: there is no start claim to wait for
	back      bool          // of one machine that came back: no batch that anybody drives
	signs     []*sign
}

type hello struct {
	launch  saltpeter.LaunchID
	machine string
}

// silence watches every target between its launch and its outcome, and again when its winner came back after that. A sign only notes its time; the deadline that it moves
// is looked at again when it would have come. So a heartbeat costs two map look-ups, a beat without deadlines nothing.
type silence struct {
	mu       sync.Mutex // guards all below, and what it points to
	signs    map[saltpeter.TargetRef]*sign
	hellos   map[hello]*sign
	machines map[string]*machine
	heap     heap[*sign]
}

func newSilence() *silence {
	return &silence{
		signs: make(map[saltpeter.TargetRef]*sign), hellos: make(map[hello]*sign), machines: make(map[string]*machine),
	}
}

func (t *silence) count() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.signs)
}

func (t *silence) heard(ref saltpeter.TargetRef, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.signs[ref].note(now)
}

func (t *silence) heardLaunch(launch saltpeter.LaunchID, name string, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hellos[hello{launch, name}].note(now)
	if m := t.machines[name]; m != nil {
		m.last = max(m.last, now)
	}
}

// note takes a sign of life; of what is not watched it is nil.
func (s *sign) note(now time.Duration) {
	if s == nil {
		return
	}
	s.last, s.heard = max(s.last, now), true
	s.machine.last = max(s.machine.last, now)
}

// watch begins to watch targets of a batch; now is where their silence begins.
func (t *silence) watch(b *batch, run uint64, targets []uint32, machines []string, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, target := range targets {
		ref := saltpeter.TargetRef{Run: run, Target: target}
		if t.signs[ref] != nil {
			continue
		}
		m := t.machines[machines[i]]
		if m == nil {
			m = &machine{name: machines[i], last: never, ping: ping{began: never}}
			t.machines[m.name] = m
		}
		m.signs++
		s := &sign{ref: ref, machine: m, batch: b, last: now, at: now, slot: -1}
		b.signs = append(b.signs, s)
		t.signs[ref] = s
		t.hellos[hello{b.launch, m.name}] = s
		t.heap.push(s)
	}
}

// watchBack begins to watch a winner that came back. Its silence begins now: what was known of it ended with its outcome.
func (t *silence) watchBack(target *saltpeter.Target, now time.Duration) {
	t.mu.Lock()
	old := t.signs[target.Ref]
	known := old != nil && old.batch.back
	if old != nil && !known {
		t.drop(old)
	}
	t.mu.Unlock()
	if !known {
		b := &batch{launch: target.Launch, first: now, published: never, back: true}
		t.watch(b, target.Ref.Run, []uint32{target.Ref.Target}, []string{target.Machine}, now)
	}
}

// heardOf gives the targets of a batch whose wrappers gave a sign.
func (t *silence) heardOf(b *batch) map[uint32]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	heard := make(map[uint32]bool)
	for _, s := range b.signs {
		if s.heard {
			heard[s.ref.Target] = true
		}
	}
	return heard
}

// forget ends the watch over a batch.
func (t *silence) forget(b *batch) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range b.signs {
		t.drop(s)
	}
	b.signs = nil
}

func (t *silence) drop(s *sign) {
	if t.signs[s.ref] != s {
		return
	}
	delete(t.signs, s.ref)
	if h := (hello{s.batch.launch, s.machine.name}); t.hellos[h] == s {
		delete(t.hellos, h)
	}
	t.heap.remove(s)
	s.machine.signs--
	t.prune(s.machine)
}

func (t *silence) prune(m *machine) {
	if m.signs == 0 && !m.ping.running {
		delete(t.machines, m.name)
	}
}

// published notes how an attempt to publish went.
func (t *silence) published(b *batch, now time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case b.published != never:
	case err != nil:
		b.err = err.Error()
	default:
		b.published, b.err = now, ""
		for _, s := range b.signs { // whether to ping is counted from here
			if s.slot >= 0 {
				s.at = now
				t.heap.push(s)
			}
		}
	}
}

// due takes out the targets that are to be looked at.
func (t *silence) due(now time.Duration) []*sign {
	t.mu.Lock()
	defer t.mu.Unlock()
	var due []*sign
	for {
		s, ok := t.heap.first()
		if !ok || s.at > now {
			return due
		}
		t.heap.remove(s)
		due = append(due, s)
	}
}

// findings are what a sweep found.
type findings struct {
	ends map[uint64][]saltpeter.TargetEnd // by run
	ping []string
}

// sweep looks at every target whose time has come, under the settings and states of a view.
func (t *silence) sweep(v View, now time.Duration) (f findings) {
	due := t.due(now)
	if len(due) == 0 {
		return f
	}
	set := v.Settings()
	found := make([]*saltpeter.Target, len(due)) // nil where the record has none
	for i, s := range due {
		if target, ok := v.Target(s.ref); ok {
			found[i] = &target
		}
	}
	f.ends = make(map[uint64][]saltpeter.TargetEnd)
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, s := range due {
		if t.signs[s.ref] != s { // forgotten meanwhile
			continue
		}
		if found[i] == nil || found[i].State.Final() && !found[i].Back {
			t.drop(s)
			continue
		}
		j := judge(s, found[i].State, set, now)
		if j.end != nil {
			f.ends[s.ref.Run] = append(f.ends[s.ref.Run], *j.end)
		}
		if j.ping {
			s.machine.ping = ping{running: true, began: now}
			f.ping = append(f.ping, s.machine.name)
		}
		s.at = j.at
		t.heap.push(s)
	}
	return f
}

// pinged takes the outcome of a ping.
func (t *silence) pinged(asked []string, answered map[string]bool, known bool, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range asked {
		m := t.machines[name]
		if m == nil {
			continue
		}
		m.ping.running, m.ping.ended, m.ping.known, m.ping.answered = false, now, known, answered[name]
		if m.ping.answered {
			m.last = max(m.last, now)
		}
		t.prune(m)
	}
}
