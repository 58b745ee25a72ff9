package sim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/wrapper"
)

var errDead = errors.New("this process is gone")

// machine is one managed machine: its wrappers, its commands, its journal and its locks.
type machine struct {
	w    *world
	name string // also its host
	gate gate   // shut while its wrappers are stopped

	mu       sync.Mutex // guards what follows
	down     bool
	boots    int
	began    time.Time // of this boot
	pids     int
	journal  map[saltpeter.TargetRef]journaled
	locks    map[string]*lockHolder
	wrappers []*wrapperProcess
	procs    map[*process]bool
}

type journaled struct {
	entry wrapper.Entry
	by    *wrapperProcess
	proc  *process
}

type lockHolder struct {
	by  *wrapperProcess
	run string
}

func newMachine(w *world, name string) *machine {
	m := &machine{w: w, name: name}
	m.boot()
	return m
}

// boot makes the machine's memory empty.
func (m *machine) boot() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.boots++
	m.down, m.began = false, time.Now()
	m.journal, m.locks, m.procs = map[saltpeter.TargetRef]journaled{}, map[string]*lockHolder{}, map[*process]bool{}
	m.wrappers = nil
}

// bootTime is CLOCK_BOOTTIME as a process of this machine reads it.
func (m *machine) bootTime() time.Duration {
	m.gate.pass()
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Since(m.began) + time.Hour
}

func (m *machine) isUp() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.down
}

// reboot ends everything on the machine; it is back after some time.
func (m *machine) reboot(away time.Duration) {
	m.mu.Lock()
	m.down = true
	wrappers, procs := m.wrappers, m.procs
	m.mu.Unlock()
	m.w.net.Crash(m.name)
	m.gate.open()
	m.w.net.Resume(m.name)
	for p := range procs {
		p.powerOff()
	}
	for _, p := range wrappers {
		m.w.orphan(p)
		p.kill()
	}
	m.w.sleep(away)
	m.boot()
}

// wrapperProcess is one sp_wrapper.
type wrapperProcess struct {
	m      *machine
	id     int
	launch saltpeter.LaunchID
	cancel context.CancelFunc
	gone   chan struct{} // closed when it was killed
	once   sync.Once
	ended  atomic.Bool

	mu    sync.Mutex // guards links
	links []*link
}

func (p *wrapperProcess) dead() bool {
	select {
	case <-p.gone:
		return true
	default:
		return false
	}
}

// kill is kill -9: its connections break, its commands go on.
func (p *wrapperProcess) kill() {
	p.once.Do(func() { close(p.gone) })
	p.mu.Lock()
	links := p.links
	p.mu.Unlock()
	for _, l := range links {
		l.conn.CloseNow()
	}
	p.cancel()
}

// spawn starts a wrapper for a launch, as Salt does.
func (m *machine) spawn(id saltpeter.LaunchID, window time.Duration) {
	w := m.w
	m.gate.pass()
	m.mu.Lock()
	if m.down || w.ctx.Err() != nil {
		m.mu.Unlock()
		return
	}
	ctx, cancel := context.WithCancel(w.ctx)
	p := &wrapperProcess{m: m, id: int(w.serial.Add(1)), launch: id, cancel: cancel, gone: make(chan struct{})}
	m.wrappers = append(m.wrappers, p)
	bootID := fmt.Sprintf("%s-boot-%d", m.name, m.boots)
	m.mu.Unlock()
	opts := &wrapper.Options{Launch: id.String(), Machine: m.name, Cluster: clusterID, Window: window,
		Token: w.ring.StartToken(1, clusterID, id.String()), Pin: w.ring.Pin()}
	for _, n := range w.nodes {
		opts.URLs = append(opts.URLs, "wss://"+n.addr("8889")+"/v1/wrapper")
	}
	session := wrapper.NewSession(opts, wrapper.Parts{
		Dialer: dialer{p}, Locker: locker{p}, Journal: journal{p}, Executor: executor{p}, Boot: m.bootTime,
		Temp: func() (*os.File, error) { return nil, errors.New("no disk here") },
	}, wrapper.About{BootID: bootID, Host: m.name, Build: "sim"}, w.wrapperLogger(m.name, p.id))
	w.wg.Go(func() {
		defer cancel()
		err := session.Run(ctx)
		p.ended.Store(true)
		if !p.dead() && w.ctx.Err() == nil {
			w.hist.note("wrapper %d on %s ended (%v)", p.id, m.name, err)
		}
	})
}

// alive lists the wrappers that run.
func (m *machine) alive() []*wrapperProcess {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []*wrapperProcess
	for _, p := range m.wrappers {
		if !p.ended.Load() && !p.dead() {
			out = append(out, p)
		}
	}
	return out
}

// locker is the kernel's locks: they fall with the process that holds them.
type locker struct{ p *wrapperProcess }

// Acquire implements wrapper.Locker.
func (l locker) Acquire(ctx context.Context, req wrapper.LockRequest) (func(), error) {
	for end := time.Now().Add(5 * time.Second); ; {
		l.p.m.gate.pass()
		if l.p.dead() {
			return nil, errDead
		}
		holder := l.try(req)
		switch {
		case holder == nil:
			return func() { l.release(req.Job) }, nil
		case holder.run == req.Run:
			return nil, wrapper.ErrSameRun
		case time.Now().After(end):
			return nil, &wrapper.HeldError{Job: req.Job, PID: holder.by.id}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// try takes the lock, or gives who has it.
func (l locker) try(req wrapper.LockRequest) *lockHolder {
	m := l.p.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := m.locks[req.Job]; h != nil && !h.by.dead() {
		return h
	}
	m.locks[req.Job] = &lockHolder{l.p, req.Run}
	return nil
}

func (l locker) release(job string) {
	m := l.p.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if h := m.locks[job]; h != nil && h.by == l.p {
		delete(m.locks, job)
	}
}

// journal is the machine's directory of entries.
type journal struct{ p *wrapperProcess }

func refOf(e wrapper.Entry) saltpeter.TargetRef {
	return saltpeter.TargetRef{Run: e.RunNum, Target: e.Target}
}

// Write implements wrapper.Journal.
func (j journal) Write(e wrapper.Entry) error {
	m := j.p.m
	m.gate.pass()
	m.w.disturb()
	if j.p.dead() {
		return errDead
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	rec := journaled{entry: e, by: j.p}
	for proc := range m.procs {
		if proc.pid == e.PID {
			rec.proc = proc
		}
	}
	m.journal[refOf(e)] = rec
	return nil
}

// Remove implements wrapper.Journal.
func (j journal) Remove(e wrapper.Entry) error {
	m := j.p.m
	m.gate.pass()
	if j.p.dead() {
		return errDead
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.journal, refOf(e))
	return nil
}

// Orphans implements wrapper.Journal.
func (j journal) Orphans() ([]wrapper.Entry, error) {
	m := j.p.m
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []wrapper.Entry
	for ref, rec := range m.journal {
		switch {
		case !rec.by.dead() && !rec.by.ended.Load():
		case rec.proc != nil && rec.proc.alive():
			out = append(out, rec.entry)
		default:
			delete(m.journal, ref)
		}
	}
	return out, nil
}
