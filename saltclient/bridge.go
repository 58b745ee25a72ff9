package saltclient

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

//go:embed bridge.py
var bridgeProgram string

const (
	// bridgeProtocol is the version of the lines that are spoken with bridge.py.
	bridgeProtocol = 1
	// bridgeStartLimit is how long Salt may take to load; it needs 0.2 s once its files are in memory.
	bridgeStartLimit = 30 * time.Second
	// hungGrace is how long after a call's deadline a bridge that has said nothing since the call may live on.
	hungGrace = 5 * time.Second
	// stuckGrace is the same for one that goes on saying other things.
	stuckGrace = 30 * time.Second
	// restartLongest is the longest wait between two starts.
	restartLongest = 30 * time.Second
	// bridgeCallLimit bounds calls whose context has no deadline.
	bridgeCallLimit = 15 * time.Second
)

// BridgeOptions are what a Bridge is made of. Only Logger is required.
type BridgeOptions struct {
	Name   string // of the master; default this host's name
	Python string // Salt's interpreter; default: what the programs of an installed Salt are run by (FindPython)
	Config string // directory of the file "master"; default /etc/salt
	Logger *slog.Logger

	program string // in place of bridge.py, in tests
	limits  bridgeLimits
}

// bridgeLimits are shorter in tests.
type bridgeLimits struct{ start, hung, stuck, pause time.Duration }

// Bridge is the master on this host, reached by Salt's own Python: a small program of ours that it runs. It needs no salt-api
// and no rights but those of root or of the master's user.
//
// Run owns the process and the goroutines that talk to it. The methods of Master may be called at any time; while the
// process is not there they fail at once, except that they wait for its first start and for a start after it ended
// unexpectedly.
type Bridge struct {
	o       BridgeOptions
	returns *returns
	notices *notices

	mu      sync.Mutex // guards all below
	current *bridgeProcess
	failed  error         // why the last start came to nothing
	changed chan struct{} // closed at every change of the two
}

var _ Master = (*Bridge)(nil)

// NewBridge makes a Bridge; nothing runs yet.
func NewBridge(o BridgeOptions) *Bridge {
	if o.Name == "" {
		o.Name, _ = os.Hostname()
	}
	o.Name = cmp.Or(o.Name, "local")
	o.Config = cmp.Or(o.Config, "/etc/salt")
	o.program = cmp.Or(o.program, bridgeProgram)
	l := &o.limits
	l.start, l.hung = cmp.Or(l.start, bridgeStartLimit), cmp.Or(l.hung, hungGrace)
	l.stuck, l.pause = cmp.Or(l.stuck, stuckGrace), cmp.Or(l.pause, 250*time.Millisecond)
	return &Bridge{o: o, returns: newReturns(), notices: newNotices(o.Logger), changed: make(chan struct{})}
}

// Name gives the master's name.
func (b *Bridge) Name() string { return b.o.Name }

// Run keeps the bridge's process running until ctx ends: it starts it, again after it ended or was killed because it hung,
// with growing pauses while that fails.
func (b *Bridge) Run(ctx context.Context) error {
	defer b.set(nil, errors.New("the bridge to salt has ended"))
	pause, said := b.o.limits.pause, ""
	for ctx.Err() == nil {
		began := time.Now()
		ready, err := b.live(ctx)
		if ctx.Err() != nil {
			break
		}
		switch {
		case ready: // it worked: those who call wait for the next one
			said = ""
			b.o.Logger.Warn("bridge to salt ended, starting it again", "master", b.o.Name, "ran", time.Since(began).Round(time.Millisecond), "err", err)
			if time.Since(began) > restartLongest {
				pause = b.o.limits.pause
			}
		default:
			b.set(nil, err)
			if said != err.Error() {
				said = err.Error()
				b.o.Logger.Error("bridge to salt can't be started, trying on", "master", b.o.Name, "err", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, restartLongest)
	}
	return nil
}

// live runs one process from start to end and reports whether it ever was ready.
func (b *Bridge) live(ctx context.Context) (ready bool, err error) {
	python := b.o.Python
	if python == "" {
		if python, err = FindPython(ctx); err != nil {
			return false, err
		}
	}
	p := newBridgeProcess(b, python)
	return p.run(ctx, func() { b.set(p, nil) }, func() { b.set(nil, nil) })
}

// set says which process takes calls, or why there is none.
func (b *Bridge) set(p *bridgeProcess, failed error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.current, b.failed = p, failed
	close(b.changed)
	b.changed = make(chan struct{})
}

// process gives the one that takes calls.
func (b *Bridge) process(ctx context.Context) (*bridgeProcess, error) {
	for {
		b.mu.Lock()
		p, failed, changed := b.current, b.failed, b.changed
		b.mu.Unlock()
		switch {
		case p != nil:
			return p, nil
		case failed != nil:
			return nil, fmt.Errorf("%w: %w", ErrUnreachable, failed)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: the bridge has not started yet: %w", ErrUnreachable, ctx.Err())
		}
	}
}
