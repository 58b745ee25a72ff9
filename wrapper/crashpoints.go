//go:build crashpoints

package wrapper

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

// The points at which a test build can end or stop this process, each with .before and .after:
//
//	claim    the message start is written
//	grant    a grant is handed to the session
//	journal  the journal entry is written
//	exec     the waiting child is let go
//	result   the message result is written
//
// SP_CRASHPOINT is "name[:n]:action": at the n-th hit (default 1) of the point, kill or stop (SIGKILL or SIGSTOP to itself).
// SP_CRASHLOG is a file that gets a line "name n action pid" just before.
const (
	crashVariable    = "SP_CRASHPOINT"
	crashLogVariable = "SP_CRASHLOG"
)

// compose puts crash points around the parts.
func compose(p Parts) Parts {
	c := parseCrash(os.Getenv(crashVariable), os.Getenv(crashLogVariable))
	p.Dialer = crashDialer{p.Dialer, c}
	p.Journal = crashJournal{p.Journal, c}
	p.Executor = crashExecutor{p.Executor, c}
	return p
}

// crash is the one point that is set.
type crash struct {
	name   string
	at     int
	signal syscall.Signal
	log    string

	mu   sync.Mutex
	hits int
}

// parseCrash reads a setting; one that can't be read sets nothing, which a harness sees as a point with no hit.
func parseCrash(setting, log string) *crash {
	parts := strings.Split(setting, ":")
	c := &crash{name: parts[0], at: 1, log: log}
	switch parts[len(parts)-1] {
	case "kill":
		c.signal = syscall.SIGKILL
	case "stop":
		c.signal = syscall.SIGSTOP
	default:
		c.name = ""
	}
	if len(parts) == 3 {
		n, err := strconv.Atoi(parts[1])
		if err != nil {
			c.name = ""
		}
		c.at = n
	}
	return c
}

// hit acts if this is the set point's turn.
func (c *crash) hit(name string) {
	if name != c.name {
		return
	}
	c.mu.Lock()
	c.hits++
	turn := c.hits == c.at
	c.mu.Unlock()
	if !turn {
		return
	}
	c.record()
	// A signal reaches a process of many threads some time after it was sent: go no further before it did.
	awake := make(chan os.Signal, 1)
	signal.Notify(awake, syscall.SIGCONT)
	defer signal.Stop(awake)
	_ = syscall.Kill(os.Getpid(), c.signal)
	<-awake // never, after SIGKILL
}

func (c *crash) record() {
	if c.log == "" {
		return
	}
	f, err := os.OpenFile(c.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return
	}
	defer f.Close()
	action := map[syscall.Signal]string{syscall.SIGKILL: "kill", syscall.SIGSTOP: "stop"}[c.signal]
	fmt.Fprintf(f, "%s %d %s %d\n", c.name, c.at, action, os.Getpid())
	_ = f.Sync()
}

type crashDialer struct {
	Dialer
	c *crash
}

func (d crashDialer) Dial(ctx context.Context, url string) (Link, error) {
	l, err := d.Dialer.Dial(ctx, url)
	if err != nil {
		return nil, err
	}
	return &crashLink{Link: l, c: d.c}, nil
}

// crashLink has the points of what is sent and received.
type crashLink struct {
	Link
	c       *crash
	granted bool // the last message received was a grant
}

func (l *crashLink) Send(ctx context.Context, m *wire.Message) error {
	point := map[wire.Type]string{wire.TypeStart: "claim", wire.TypeResult: "result"}[m.Type]
	if point == "" {
		return l.Link.Send(ctx, m)
	}
	l.c.hit(point + ".before")
	err := l.Link.Send(ctx, m)
	l.c.hit(point + ".after")
	return err
}

// Recv hits grant.after when the session has taken the grant and its reader comes back for more.
func (l *crashLink) Recv(ctx context.Context) (*wire.Message, error) {
	if l.granted {
		l.c.hit("grant.after")
	}
	m, err := l.Link.Recv(ctx)
	l.granted = err == nil && m.Type == wire.TypeGrant
	if l.granted {
		l.c.hit("grant.before")
	}
	return m, err
}

type crashJournal struct {
	Journal
	c *crash
}

func (j crashJournal) Write(e Entry) error {
	j.c.hit("journal.before")
	err := j.Journal.Write(e)
	j.c.hit("journal.after")
	return err
}

type crashExecutor struct {
	Executor
	c *crash
}

func (e crashExecutor) Prepare(ctx context.Context, spec *saltpeter.Spec) (Process, error) {
	p, err := e.Executor.Prepare(ctx, spec)
	if err != nil {
		return nil, err
	}
	return crashProcess{p, e.c}, nil
}

type crashProcess struct {
	Process
	c *crash
}

func (p crashProcess) Exec(deadline time.Duration) error {
	p.c.hit("exec.before")
	err := p.Process.Exec(deadline)
	p.c.hit("exec.after")
	return err
}
