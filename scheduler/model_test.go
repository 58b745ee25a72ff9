package scheduler

import (
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

	maintenance map[string]bool // machines
	ledger      []string
	mute        bool // no ledger
	began       time.Time
	told        func(runs []uint64, jobs bool) // the change notification
	fail        func(what string) error        // of a proposal, before it is applied
	gate        chan struct{}                  // closed = open; else this process stands still
	revision    int
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
		maintenance: map[string]bool{},
		runs:        map[uint64]*modelRun{}, began: time.Now(), told: func([]uint64, bool) {}, gate: make(chan struct{}),
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
