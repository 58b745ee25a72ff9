package sim

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/wrapper"
)

// script is what a command does. It stands in the job's command as "sim dur=3s out=4000 code=2 term=ignore".
type script struct {
	dur  time.Duration
	out  int // bytes, spread over dur
	code int
	// term says what SIGTERM does: "exit" ends the command at once, "slow" after 1.5 s, "ignore" not at all.
	term string
}

func (s script) String() string {
	return fmt.Sprintf("sim dur=%s out=%d code=%d term=%s", s.dur, s.out, s.code, s.term)
}

func parseScript(command string) (s script, err error) {
	fields := strings.Fields(command)
	if len(fields) == 0 || fields[0] != "sim" {
		return s, fmt.Errorf("command %q is no script", command)
	}
	for _, f := range fields[1:] {
		key, value, _ := strings.Cut(f, "=")
		switch key {
		case "dur":
			s.dur, err = time.ParseDuration(value)
		case "out":
			s.out, err = strconv.Atoi(value)
		case "code":
			s.code, err = strconv.Atoi(value)
		case "term":
			s.term = value
		default:
			err = fmt.Errorf("unknown key %q", key)
		}
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

// execution is what the ledger says of one command. The ledger's mutex guards it.
type execution struct {
	run, machine string
	launch       saltpeter.LaunchID
	wrapper      int
	at, ended    time.Time // ended is zero while it runs
	code, signal int
	by           string // what ended it: "itself", "timeout or kill", "power"
	wrote        []byte
	spec         *saltpeter.Spec
	orphan       bool // its wrapper was killed
	signals      []signalled
}

type signalled struct {
	sig syscall.Signal
	at  time.Time
}

// ledger is written by the commands themselves: it is what really happened.
type ledger struct {
	mu    sync.Mutex // guards what follows
	execs []*execution
}

func (l *ledger) begin(e *execution) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.execs = append(l.execs, e)
}

// executor makes processes that play scripts.
type executor struct{ p *wrapperProcess }

// Prepare implements wrapper.Executor.
func (x executor) Prepare(_ context.Context, spec *saltpeter.Spec) (wrapper.Process, error) {
	m := x.p.m
	m.gate.pass()
	if x.p.dead() {
		return nil, errDead
	}
	s, err := parseScript(spec.Command)
	if err != nil {
		return nil, err
	}
	p := &process{by: x.p, spec: spec, script: s, gone: make(chan struct{}), off: make(chan struct{}), signals: make(chan syscall.Signal, 16)}
	p.r, p.w = io.Pipe()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pids++
	p.pid = 1000*m.boots + m.pids
	m.procs[p] = true
	return p, nil
}

// process is a command, or the child that waits to become it.
type process struct {
	by     *wrapperProcess
	spec   *saltpeter.Spec
	script script
	pid    int
	r      *io.PipeReader
	w      *io.PipeWriter

	gone    chan struct{} // closed at its end
	off     chan struct{} // closed when the machine loses its power
	offOnce sync.Once
	signals chan syscall.Signal

	mu   sync.Mutex // guards what follows
	exec *execution // nil while it waits
	over bool
	code int
	sig  int
}

// PID implements wrapper.Process.
func (p *process) PID() int { return p.pid }

// Start implements wrapper.Process.
func (p *process) Start() uint64 { return uint64(p.pid) }

// Exec implements wrapper.Process: the child looks at the clock as its last act.
func (p *process) Exec(deadline time.Duration) error {
	m := p.by.m
	m.w.disturb()
	if m.bootTime() > deadline {
		return wrapper.ErrTooLate
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || p.by.dead() {
		return errDead
	}
	w := m.w
	p.exec = &execution{run: p.spec.Run, machine: p.spec.Machine, launch: p.by.launch, wrapper: p.by.id, at: time.Now(), spec: p.spec}
	w.ledger.begin(p.exec)
	w.hist.note("EXEC %s on %s by wrapper %d: %s", p.spec.Run, p.spec.Machine, p.by.id, p.script)
	w.wg.Go(p.play)
	return nil
}

// play is the command.
func (p *process) play() {
	const step = 250 * time.Millisecond
	h := fnv.New64a()
	h.Write([]byte(p.spec.Run + " " + p.spec.Machine))
	bytes := rand.New(rand.NewPCG(h.Sum64(), 0))
	steps := max(1, int(p.script.dur/step))
	var last <-chan time.Time // after a SIGTERM
	end := time.Now().Add(p.script.dur)
	for i := 0; ; {
		wait := min(step, time.Until(end))
		select {
		case <-time.After(wait):
			i++
			p.print(bytes, p.script.out*min(i, steps)/steps)
			if !time.Now().Before(end) {
				p.finish("itself", p.script.code, 0)
				return
			}
		case sig := <-p.signals:
			switch {
			case sig == syscall.SIGKILL, sig == syscall.SIGTERM && p.script.term == "exit":
				p.finish("timeout or kill", 128+int(sig), int(sig))
				return
			case sig == syscall.SIGTERM && p.script.term == "slow" && last == nil:
				last = time.After(1500 * time.Millisecond)
			}
		case <-last:
			p.finish("timeout or kill", 128+int(syscall.SIGTERM), int(syscall.SIGTERM))
			return
		case <-p.off:
			p.finish("power", 0, 0)
			return
		case <-p.by.m.w.ctx.Done():
			p.finish("the end of the simulation", 0, 0)
			return
		}
	}
}

// print writes until so many bytes were written; what nobody reads any more is thrown away.
func (p *process) print(bytes *rand.Rand, upTo int) {
	l := &p.by.m.w.ledger
	l.mu.Lock()
	n := upTo - len(p.exec.wrote)
	l.mu.Unlock()
	if n <= 0 {
		return
	}
	buf := make([]byte, n)
	for i := range buf {
		buf[i] = byte(bytes.Uint32())
	}
	l.mu.Lock() // before the write: what is read meanwhile is already in the ledger
	p.exec.wrote = append(p.exec.wrote, buf...)
	l.mu.Unlock()
	p.w.Write(buf)
}

func (p *process) finish(by string, code, sig int) {
	l := &p.by.m.w.ledger
	l.mu.Lock()
	p.exec.ended, p.exec.by, p.exec.code, p.exec.signal = time.Now(), by, code, sig
	l.mu.Unlock()
	p.by.m.w.hist.note("END %s on %s by %s, code %d", p.spec.Run, p.spec.Machine, by, code)
	p.w.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.code, p.sig = code, sig
	p.endLocked()
}

func (p *process) endLocked() {
	if !p.over {
		p.over = true
		close(p.gone)
	}
}

func (p *process) powerOff() {
	p.offOnce.Do(func() { close(p.off) })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exec == nil {
		p.endLocked()
	}
}

// Read implements wrapper.Process.
func (p *process) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.by.m.gate.pass()
	return n, err
}

// ReadRest implements wrapper.Process.
func (p *process) ReadRest([]byte) (int, error) { return 0, io.EOF }

// StopReading implements wrapper.Process.
func (p *process) StopReading() {
	p.by.m.gate.pass()
	p.r.Close()
}

// Wait implements wrapper.Process. A wrapper that was killed waits for nothing.
func (p *process) Wait() {
	select {
	case <-p.gone:
	case <-p.by.gone:
		p.r.Close()
	}
	p.by.m.gate.pass()
}

// Reap implements wrapper.Process.
func (p *process) Reap() syscall.WaitStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sig != 0 {
		return syscall.WaitStatus(p.sig)
	}
	return syscall.WaitStatus(p.code << 8)
}

// SignalGroup implements wrapper.Process.
func (p *process) SignalGroup(sig syscall.Signal) {
	w := p.by.m.w
	p.by.m.gate.pass()
	if p.by.dead() || w.ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || p.exec == nil {
		return
	}
	w.ledger.mu.Lock()
	p.exec.signals = append(p.exec.signals, signalled{sig, time.Now()})
	w.ledger.mu.Unlock()
	w.hist.note("SIGNAL %v to %s on %s", sig, p.spec.Run, p.spec.Machine)
	select {
	case p.signals <- sig:
	default:
	}
}

// GroupAlive implements wrapper.Process.
func (p *process) GroupAlive() bool {
	p.by.m.gate.pass()
	return p.alive()
}

func (p *process) alive() bool {
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// Close implements wrapper.Process.
func (p *process) Close() {
	p.r.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exec == nil {
		p.endLocked()
	}
}
