package wrapper

import (
	"context"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/syscollective/saltpeter"
)

const (
	execKillWait = time.Second           // for a hanging child, before a kill ends it
	groupPoll    = 50 * time.Millisecond // while a group is being ended
	afterKill    = 2 * time.Second       // for what outlives even KILL, or left its group and holds the output
	chunkSize    = 64 << 10              // read from the command at once
	restLimit    = 1 << 20               // read after the end, where children are not waited for
	defaultGrace = 10 * time.Second      // TERM → KILL
	codeNotStart = 254
	codeKilled   = 143
	causeExit    = "exit"
	causeTimeout = "timeout"
	causeKill    = "kill"
)

// newsKind says what a goroutine beside the loop tells it.
type newsKind int

const (
	newsLock     newsKind = iota // err nil: the job's lock is ours, release gives it back
	newsStarted                  // the command was executed
	newsDeclined                 // it was not and will not be
	newsSoft                     // soft_timeout went by
	newsEnded                    // it ended; all its output was handed over before
)

// news is one such thing, about one target.
type news struct {
	kind    newsKind
	t       *target
	err     error
	release func()
	pid     int
	began   time.Time
	text    string
	code    int
	signal  int
	cause   string
	at      uint64 // ms since the command's start
}

// chunk is a piece of output on its way to the loop, which gives the buffer back.
type chunk struct {
	t    *target
	data []byte
	at   uint64
	back chan<- []byte
}

// execution brings one target from its grant to the end of its command. It runs in a goroutine of its own and ends by
// itself; when the session is torn down, which a session with a running command never is but in tests, it kills.
type execution struct {
	t        *target
	spec     *saltpeter.Spec
	entry    Entry         // without the process
	deadline time.Duration // CLOCK_BOOTTIME
	journal  Journal
	executor Executor
	news     chan<- news
	chunks   chan<- chunk
	kills    chan time.Duration // grace; buffered, one is enough

	began   time.Time
	buf     chan []byte
	reading atomic.Bool // the output is waited for, and not for somebody who takes it
}

// kill asks for the command's end. Asked again it changes nothing.
func (x *execution) kill(grace time.Duration) {
	select {
	case x.kills <- grace:
	default:
	}
}

func (x *execution) tell(ctx context.Context, n news) {
	n.t = x.t
	select {
	case x.news <- n:
	case <-ctx.Done():
	}
}

func (x *execution) run(ctx context.Context) {
	p, err := x.executor.Prepare(ctx, x.spec)
	if err != nil {
		x.tell(ctx, news{kind: newsDeclined, text: err.Error(), code: codeNotStart})
		return
	}
	defer p.Close()
	if n := x.start(ctx, p); n.kind == newsDeclined {
		p.Close() // ends a child that still waits
		p.Wait()
		p.Reap()
		x.forget(&n)
		x.tell(ctx, n)
		return
	}
	x.began = time.Now()
	x.tell(ctx, news{kind: newsStarted, pid: p.PID(), began: x.began})
	cause := x.watch(ctx, p)
	at := x.since()
	status := p.Reap()
	n := news{kind: newsEnded, code: status.ExitStatus(), cause: cause, at: at}
	if status.Signaled() {
		n.signal = int(status.Signal())
		n.code = 128 + n.signal
	}
	x.forget(&n)
	x.tell(ctx, n)
}

// forget takes the entry out of the journal; the error is for the log.
func (x *execution) forget(n *news) {
	if err := x.journal.Remove(x.entry); err != nil {
		n.err = err
	}
}

// start writes the journal and lets the child become the command.
func (x *execution) start(ctx context.Context, p Process) news {
	x.entry.PID, x.entry.Start = p.PID(), p.Start()
	if err := x.journal.Write(x.entry); err != nil {
		return news{kind: newsDeclined, text: err.Error(), code: codeNotStart}
	}
	killed := news{kind: newsDeclined, text: "killed before it started", code: codeKilled, cause: causeKill}
	select {
	case <-x.kills:
		return killed
	case <-ctx.Done():
		return killed
	default:
	}
	done := make(chan error, 1)
	go func() { done <- p.Exec(x.deadline) }()
	err := x.awaitExec(ctx, p, done)
	if err == nil {
		return news{kind: newsStarted}
	}
	n := news{kind: newsDeclined, text: err.Error(), code: codeNotStart}
	select {
	case <-x.kills:
		return killed
	default:
		return n
	}
}

// awaitExec waits for Exec. A child that hangs on its way, in a dead file system say, can be killed; a kill that comes while
// all is well meets the command a moment later.
func (x *execution) awaitExec(ctx context.Context, p Process, done <-chan error) error {
	var kill chan time.Duration = x.kills
	var late <-chan time.Time
	stop := ctx.Done()
	for {
		select {
		case err := <-done:
			return err
		case grace := <-kill:
			x.kill(grace) // for whoever comes next
			kill, late = nil, time.After(execKillWait)
		case <-stop:
			stop, late = nil, time.After(0)
		case <-late:
			p.SignalGroup(syscall.SIGKILL)
		}
	}
}

func (x *execution) since() uint64 { return uint64(max(0, time.Since(x.began).Milliseconds())) }

// ending is the state of a command that is being ended.
type ending struct {
	cause string
	late  string      // what came when the command had ended by itself already
	kill  *time.Timer // when KILL follows TERM
	last  *time.Timer // when whatever is left is not waited for any more
	due   time.Time   // when last is to fire, for what came late
	poll  *time.Ticker
}

// watch waits for the command's end and ends it at its timeout or on a kill. The end is the end of the process, of its
// output where children are waited for, and of its whole group where we ended it. It gives the cause.
func (x *execution) watch(ctx context.Context, p Process) string {
	read, gone := make(chan struct{}), make(chan struct{})
	x.buf = make(chan []byte, 2)
	x.buf <- make([]byte, chunkSize)
	x.buf <- make([]byte, chunkSize)
	go func() { defer close(read); x.read(ctx, p) }()
	go func() { defer close(gone); p.Wait() }()
	timeout, soft := timerFor(x.spec.Timeout), timerFor(x.spec.SoftTimeout)
	e := ending{cause: causeExit, kill: timerFor(0), last: timerFor(0), poll: time.NewTicker(time.Hour)}
	defer stopTimers(timeout, soft, e.kill, e.last)
	defer e.poll.Stop()
	readEnded, procEnded, stop := false, false, ctx.Done()
	for groupEnded := false; !readEnded || !procEnded || (e.cause != causeExit && !groupEnded); {
		select {
		case <-read:
			read, readEnded = nil, true
		case <-gone:
			gone, procEnded = nil, true
			if !x.spec.WaitForChildren {
				p.StopReading()
			}
		case <-soft.C:
			x.tell(ctx, news{kind: newsSoft})
		case <-timeout.C:
			x.end(p, &e, causeTimeout, x.spec.KillGrace)
		case grace := <-x.kills:
			x.end(p, &e, causeKill, grace)
		case <-stop:
			stop = nil
			x.end(p, &e, causeKill, time.Nanosecond)
		case <-e.kill.C:
			p.SignalGroup(syscall.SIGKILL)
			e.last.Reset(afterKill)
		case <-e.poll.C:
			if e.cause != causeExit && procEnded && !groupEnded && !p.GroupAlive() {
				groupEnded = true
				e.kill.Stop()
				e.last.Reset(afterKill)
			}
		case <-e.last.C:
			if e.cause == causeExit {
				if !readEnded && x.unsure(p, &e) {
					e.wait()
					continue
				}
				e.cause = e.late
			}
			groupEnded = true
			p.StopReading()
		}
	}
	return e.cause
}

// end begins to end the command. Once begun, it goes its way: a kill during a timeout's grace changes nothing.
func (x *execution) end(p Process, e *ending, cause string, grace time.Duration) {
	if grace <= 0 {
		grace = x.spec.KillGrace
	}
	if grace <= 0 {
		grace = defaultGrace
	}
	if e.cause != causeExit || e.late != "" {
		return
	}
	// Where nothing of its group runs any more it has ended by itself, perhaps while this process was stopped: what it left
	// is read, and only if somebody outside its group goes on holding its output does the cause count.
	if p.GroupAlive() {
		e.cause = cause
		e.poll.Reset(groupPoll)
	} else {
		e.late = cause
		e.wait()
	}
	p.SignalGroup(syscall.SIGTERM)
	e.kill.Reset(grace)
}

// wait gives what is left of a command that ended by itself some time to be read.
func (e *ending) wait() {
	e.due = time.Now().Add(afterKill)
	e.last.Reset(afterKill)
}

// unsure reports whether it says nothing about who holds the output that its end was not read yet: what was read before is
// not taken, or this process was stopped meanwhile and finds that end and the deadline together. The look at the group is one
// that a stopped process can't make.
func (x *execution) unsure(p Process, e *ending) bool {
	return !x.reading.Load() || p.GroupAlive() || time.Since(e.due) > groupPoll
}

// read hands the output to the loop until it ends, or until StopReading; then what lies in the pipe at that moment.
func (x *execution) read(ctx context.Context, p Process) {
	rest := 0
	next := p.Read
	for {
		var buf []byte
		select {
		case buf = <-x.buf:
		case <-ctx.Done():
			return
		}
		x.reading.Store(true)
		n, err := next(buf)
		x.reading.Store(false)
		if n > 0 {
			select {
			case x.chunks <- chunk{x.t, buf[:n], x.since(), x.buf}:
			case <-ctx.Done():
				return
			}
		} else {
			x.buf <- buf
		}
		if rest > 0 {
			rest += n
		}
		if err != nil && rest > 0 || rest > restLimit {
			return
		}
		if err != nil {
			next, rest = p.ReadRest, 1
		}
	}
}

// timerFor gives a timer that fires after d, never if d is 0.
func timerFor(d time.Duration) *time.Timer {
	if d > 0 {
		return time.NewTimer(d)
	}
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

func stopTimers(timers ...*time.Timer) {
	for _, t := range timers {
		t.Stop()
	}
}
