package saltclient

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lineLimit bounds a line of the bridge; it cuts the strings of returns itself.
	lineLimit = 128 << 20
	// queueLimit is how many requests may wait for the bridge to read them; its pipe takes some hundred more.
	queueLimit = 1024
	// endLimit is how long it may take to end by itself.
	endLimit = 2 * time.Second
)

// bridgeProcess is one life of bridge.py. Requests are written by one goroutine and lines read by another, so that a process
// that neither reads nor answers blocks nobody.
type bridgeProcess struct {
	b      *Bridge
	python string
	cmd    *exec.Cmd
	queue  chan *bridgeCall
	ended  chan struct{} // closed when the process has

	mu      sync.Mutex // guards all below
	lastID  uint64
	pending map[uint64]*bridgeCall
	heard   time.Time // the last line
	bus     bool      // the master's event bus is heard
	busy    chan struct{}
	fate    error // why it ended or was ended
}

// bridgeCall is one request.
type bridgeCall struct {
	id       uint64
	line     []byte
	deadline time.Time
	sent     time.Time                   // when it was written; zero before
	part     func(json.RawMessage) error // takes parts of the answer; nil if there are none
	done     chan struct{}               // closed when answer is there
	answer   bridgeLine
	overdue  bool // seen so by the watch once
}

// bridgeLine is what the bridge says.
type bridgeLine struct {
	Event    string          `json:"event"`
	Protocol int             `json:"protocol"`
	Salt     string          `json:"salt"`
	Up       bool            `json:"up"`
	ID       uint64          `json:"id"`
	OK       json.RawMessage `json:"ok"`
	Part     json.RawMessage `json:"part"`
	Error    string          `json:"error"`
	Class    string          `json:"class"`
	JID      string          `json:"jid"`
	minionReturn
}

func newBridgeProcess(b *Bridge, python string) *bridgeProcess {
	return &bridgeProcess{
		b: b, python: python, queue: make(chan *bridgeCall, queueLimit), ended: make(chan struct{}),
		pending: make(map[uint64]*bridgeCall), busy: make(chan struct{}),
	}
}

// run starts the process and stays until it has ended: by itself, by ctx, or killed because it hung. It takes requests from
// the call of ready to that of gone.
func (p *bridgeProcess) run(ctx context.Context, ready, gone func()) (wasReady bool, err error) {
	// The kernel ends the process with the thread that started it, so this goroutine keeps the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	stdin, stdout, stderr, err := p.start()
	if err != nil {
		return false, err
	}
	hello := make(chan struct{})
	said, closed := make(chan struct{}), make(chan struct{})
	var g sync.WaitGroup
	g.Go(func() { defer close(said); p.b.notices.follow(stderr, p.b.o.Name) })
	g.Go(func() { p.write(stdin) })
	g.Go(func() { p.watch(ctx, stdin, hello) })
	g.Go(func() {
		defer close(closed)
		p.read(stdout, func() { wasReady = true; close(hello); ready() })
	})
	<-closed
	p.kill(nil) // one that closed its stdout is of no use
	<-said
	waited := p.cmd.Wait()
	if wasReady {
		gone()
	}
	p.close(cmp.Or(waited, errors.New("ended")))
	g.Wait()
	return wasReady, p.fate
}

// start makes the process, which is given the program by a pipe, so that no file of it lies around and no command line
// holds it.
func (p *bridgeProcess) start() (stdin io.WriteCloser, stdout, stderr io.Reader, err error) {
	program, w, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, err
	}
	defer program.Close()
	p.cmd = exec.Command(p.python, "/dev/fd/3", p.b.o.Config)
	p.cmd.Env, p.cmd.Dir, p.cmd.ExtraFiles = bridgeEnvironment(os.Environ()), "/", []*os.File{program}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	in, err1 := p.cmd.StdinPipe()
	out, err2 := p.cmd.StdoutPipe()
	errs, err3 := p.cmd.StderrPipe()
	if err := cmp.Or(err1, err2, err3); err != nil {
		w.Close()
		return nil, nil, nil, err
	}
	if err := p.cmd.Start(); err != nil {
		w.Close()
		return nil, nil, nil, fmt.Errorf("start bridge to salt with %s: %w", p.python, err)
	}
	// It is smaller than what a pipe holds, so this waits for nobody.
	_, err = io.WriteString(w, p.b.o.program)
	w.Close()
	if err != nil {
		p.kill(fmt.Errorf("give bridge its program: %w", err))
	}
	return in, out, errs, nil
}

// bridgeEnvironment is what Salt is run with: not this node's own settings, and not who used sudo, which Salt would ask for
// rights of their own.
func bridgeEnvironment(all []string) []string {
	env := slices.DeleteFunc(slices.Clone(all), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return name == "NOTIFY_SOCKET" || name == "PYTHONSTARTUP" || name == "LANG" || strings.HasPrefix(name, "SUDO_") || strings.HasPrefix(name, "SALTPETER_") ||
			strings.HasPrefix(name, "SPCTL_") || strings.HasPrefix(name, "LC_")
	})
	return append(env, "LANG=C.UTF-8", "PYTHONUNBUFFERED=1", "PYTHONWARNINGS=ignore")
}

// kill ends the process at once. The first reason stands.
func (p *bridgeProcess) kill(why error) {
	p.mu.Lock()
	p.fate = cmp.Or(p.fate, why)
	p.mu.Unlock()
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
}

// close ends all calls that are left; the process has ended.
func (p *bridgeProcess) close(why error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fate = cmp.Or(p.fate, why)
	for id, c := range p.pending {
		c.answer = bridgeLine{Error: "the bridge ended: " + p.fate.Error(), Class: classGone}
		if c.sent.IsZero() {
			c.answer.Class = "unreachable"
		}
		delete(p.pending, id)
		close(c.done)
	}
	close(p.ended)
}

// write passes requests on, those that nobody wants any more left out.
func (p *bridgeProcess) write(stdin io.WriteCloser) {
	defer stdin.Close()
	for {
		select {
		case <-p.ended:
			return
		case c := <-p.queue:
			p.mu.Lock()
			_, wanted := p.pending[c.id]
			if wanted {
				c.sent = time.Now()
			}
			p.mu.Unlock()
			if !wanted {
				continue
			}
			if _, err := stdin.Write(c.line); err != nil {
				return // its stdout ends too
			}
		}
	}
}

// read takes lines until there are no more.
func (p *bridgeProcess) read(stdout io.Reader, ready func()) {
	lines := bufio.NewScanner(stdout)
	lines.Buffer(make([]byte, 64<<10), lineLimit)
	welcomed := false
	for lines.Scan() {
		var l bridgeLine
		if err := json.Unmarshal(bytes.TrimSpace(lines.Bytes()), &l); err != nil {
			p.b.notices.say(p.b.o.Name, "not a line of the bridge: "+lines.Text())
			continue
		}
		switch {
		case l.Event == "fatal":
			p.kill(errors.New(l.Error))
		case l.Event == "hello" && l.Protocol != bridgeProtocol:
			p.kill(fmt.Errorf("the bridge speaks protocol %d, this node %d", l.Protocol, bridgeProtocol))
		case l.Event == "hello" && !welcomed:
			welcomed = true
			p.b.o.Logger.Info("bridge to salt is ready", "master", p.b.o.Name, "salt", l.Salt, "python", p.python)
			ready()
		default:
			p.take(&l)
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, os.ErrClosed) {
		p.kill(fmt.Errorf("read from bridge: %w", err))
	}
}

// take acts on one line.
func (p *bridgeProcess) take(l *bridgeLine) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heard = time.Now()
	switch l.Event {
	case "return":
		p.b.returns.add(l.JID, l.minionReturn)
		return
	case "bus":
		p.bus = l.Up
		close(p.busy)
		p.busy = make(chan struct{})
		return
	}
	c := p.pending[l.ID]
	if c == nil {
		return // nobody wants it any more
	}
	if l.Part != nil {
		if c.part != nil {
			_ = c.part(l.Part)
		}
		return
	}
	c.answer = *l
	delete(p.pending, l.ID)
	close(c.done)
}

// watch ends the process with ctx, when it doesn't begin, and when it hangs.
func (p *bridgeProcess) watch(ctx context.Context, stdin io.Closer, hello chan struct{}) {
	begin := time.NewTimer(p.b.o.limits.start)
	defer begin.Stop()
	tick := time.NewTicker(p.b.o.limits.hung / 5)
	defer tick.Stop()
	done := ctx.Done()
	var end <-chan time.Time
	for {
		select {
		case <-p.ended:
			return
		case <-hello:
			begin.Stop()
			hello = nil
		case <-begin.C:
			p.kill(fmt.Errorf("salt did not load within %s", p.b.o.limits.start))
		case <-done:
			done = nil
			_ = stdin.Close()
			end = time.After(endLimit)
		case <-end:
			p.kill(ctx.Err())
		case <-tick.C:
			if why := p.hung(time.Now()); why != nil {
				p.kill(why)
			}
		}
	}
}

// hung says what shows that the process hangs: a call that should have been refused long ago. It must be seen so twice, as
// this process itself may have been stopped, with answers waiting.
func (p *bridgeProcess) hung(now time.Time) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.pending {
		late := now.Sub(c.deadline)
		silent := p.heard.Before(c.sent)
		if c.sent.IsZero() || late < p.b.o.limits.hung || !silent && late < p.b.o.limits.stuck {
			continue
		}
		if c.overdue {
			return fmt.Errorf("hangs: no answer %s after a call's deadline", late.Round(time.Millisecond))
		}
		c.overdue = true
	}
	return nil
}

// call sends a request and waits for its answer. The context must have a deadline, at which the bridge drops it too.
func (p *bridgeProcess) call(ctx context.Context, op string, fields map[string]any, part func(json.RawMessage) error) (bridgeLine, error) {
	deadline, _ := ctx.Deadline()
	c := &bridgeCall{deadline: deadline, part: part, done: make(chan struct{})}
	expires, ok := fields["expires"].(time.Time)
	if !ok || expires.After(deadline) {
		expires = deadline
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return bridgeLine{}, fmt.Errorf("read clock: %w", err)
	}
	fields["op"], fields["expires"] = op, (time.Duration(now.Nano()) + time.Until(expires)).Seconds()
	if err := p.enter(c, fields); err != nil {
		return bridgeLine{}, err
	}
	select {
	case <-c.done:
		return c.answer, nil
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.sent.IsZero() { // it will not be
		delete(p.pending, c.id)
		return bridgeLine{}, fmt.Errorf("%w: the bridge reads no requests: %w", ErrUnreachable, ctx.Err())
	}
	c.part = nil
	return bridgeLine{Error: "no answer in time", Class: classLate}, nil
}

func (p *bridgeProcess) enter(c *bridgeCall, fields map[string]any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.ended:
		return fmt.Errorf("%w: %w", ErrUnreachable, p.fate)
	default:
	}
	p.lastID++
	c.id, fields["id"] = p.lastID, p.lastID
	line, err := json.Marshal(fields)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	line = append(line, '\n')
	c.line = line
	select {
	case p.queue <- c:
		p.pending[c.id] = c
		return nil
	default:
		return fmt.Errorf("%w: %d requests wait for the bridge", ErrUnreachable, queueLimit)
	}
}

// awaitBus waits until the master's event bus is heard.
func (p *bridgeProcess) awaitBus(ctx context.Context) error {
	for {
		p.mu.Lock()
		up, busy := p.bus, p.busy
		p.mu.Unlock()
		if up {
			return nil
		}
		select {
		case <-busy:
		case <-p.ended:
			return fmt.Errorf("%w: the bridge ended", ErrUnreachable)
		case <-ctx.Done():
			return fmt.Errorf("%w: the master's event bus is silent", ErrUnreachable)
		}
	}
}
