package wrapper

import (
	"context"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/syscollective/saltpeter"
)

// fakeExecutor runs scripts in place of commands.
type fakeExecutor struct {
	script func(p *fakeProcess) int // gives the exit code
	mu     sync.Mutex
	procs  []*fakeProcess
	boot   func() time.Duration
}

func (e *fakeExecutor) Prepare(context.Context, *saltpeter.Spec) (Process, error) {
	p := &fakeProcess{e: e, gone: make(chan struct{}), signals: make(chan syscall.Signal, 8)}
	p.r, p.w = io.Pipe()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.procs = append(e.procs, p)
	return p, nil
}

func (e *fakeExecutor) executed() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, p := range e.procs {
		if p.executed {
			n++
		}
	}
	return n
}

// fakeProcess is a script that runs, or waits to.
type fakeProcess struct {
	e        *fakeExecutor
	r        *io.PipeReader
	w        *io.PipeWriter
	gone     chan struct{}
	signals  chan syscall.Signal
	executed bool
	code     int
	over     sync.Once
}

func (p *fakeProcess) PID() int      { return 42 }
func (p *fakeProcess) Start() uint64 { return 1 }

func (p *fakeProcess) Exec(deadline time.Duration) error {
	if p.e.boot() > deadline {
		return ErrTooLate
	}
	p.e.mu.Lock()
	p.executed = true
	p.e.mu.Unlock()
	go func() {
		code := p.e.script(p)
		p.w.Close()
		p.end(code)
	}()
	return nil
}

func (p *fakeProcess) end(code int) { p.over.Do(func() { p.code = code; close(p.gone) }) }

func (p *fakeProcess) Read(b []byte) (int, error)   { return p.r.Read(b) }
func (p *fakeProcess) ReadRest([]byte) (int, error) { return 0, io.EOF }
func (p *fakeProcess) StopReading()                 { p.r.Close() }
func (p *fakeProcess) Wait()                        { <-p.gone }
func (p *fakeProcess) Reap() syscall.WaitStatus     { return syscall.WaitStatus(p.code << 8) }

func (p *fakeProcess) SignalGroup(sig syscall.Signal) {
	select {
	case p.signals <- sig:
	default:
	}
}

func (p *fakeProcess) GroupAlive() bool {
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

func (p *fakeProcess) Close() {
	p.r.Close()
	p.e.mu.Lock()
	defer p.e.mu.Unlock()
	if !p.executed {
		p.end(1)
	}
}

// fakeJournal keeps entries in memory.
type fakeJournal struct {
	mu      sync.Mutex
	entries map[saltpeter.TargetRef]Entry
	orphans []Entry
	writes  int
	err     error
}

func (j *fakeJournal) Write(e Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return j.err
	}
	j.writes++
	j.entries[e.ref()] = e
	return nil
}

func (j *fakeJournal) Remove(e Entry) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.entries, e.ref())
	return nil
}

func (j *fakeJournal) Orphans() ([]Entry, error) { return j.orphans, nil }

// fakeLocker gives every lock, or the error that it is given.
type fakeLocker struct {
	err  error
	held *int
	mu   sync.Mutex
}

func (l *fakeLocker) Acquire(context.Context, LockRequest) (func(), error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.err
	}
	*l.held++
	return func() { l.mu.Lock(); *l.held--; l.mu.Unlock() }, nil
}
