package wrapper

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

// lateProcess ends by itself before its timeout, but the end of its output is read only later: as a wrapper finds it that
// was stopped meanwhile. forever means that somebody outside its group goes on holding the output.
type lateProcess struct {
	*fakeProcess
	eof     time.Duration
	forever bool
	stopped chan struct{}
}

func (p *lateProcess) Read([]byte) (int, error) {
	var end <-chan time.Time
	if !p.forever {
		end = time.After(p.eof)
	}
	select {
	case <-end:
	case <-p.stopped:
	}
	return 0, io.EOF
}

func (p *lateProcess) StopReading() { close(p.stopped) }

// GroupAlive implements Process: it has ended.
func (p *lateProcess) GroupAlive() bool { return false }

// A command that ended by itself keeps its own outcome, however late its wrapper comes to see it.
func TestOwnEndBeforeAnOverdueTimeout(t *testing.T) {
	for _, c := range []struct {
		name    string
		forever bool
		kill    bool
		cause   string
	}{
		{"timeout", false, false, causeExit},
		{"kill", false, true, causeExit},
		{"output is held beyond the timeout", true, false, causeTimeout},
		{"output is held beyond a kill", true, true, causeKill},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &lateProcess{fakeProcess: &fakeProcess{gone: make(chan struct{})}, eof: 3 * time.Second, forever: c.forever, stopped: make(chan struct{})}
				x := &execution{spec: &saltpeter.Spec{Timeout: 2 * time.Second, KillGrace: time.Second, WaitForChildren: true}, kills: make(chan time.Duration, 1)}
				if c.kill {
					x.spec.Timeout = 0
					time.AfterFunc(2*time.Second, func() { x.kill(time.Second) })
				}
				x.began = time.Now()
				p.end(7) // it has ended, and nobody has looked yet
				if got := x.watch(t.Context(), p); got != c.cause {
					t.Errorf("the cause is %q, not %q", got, c.cause)
				}
			})
		})
	}
}

// slowProcess ended by itself and left output; a look at its group takes a while when this process is stopped in it.
type slowProcess struct {
	*fakeProcess
	left   int
	pauses []time.Duration // of the looks
	pause  time.Duration   // of each read
}

func (p *slowProcess) Read(b []byte) (int, error) {
	time.Sleep(p.pause)
	if p.left--; p.left < 0 {
		return 0, io.EOF
	}
	return copy(b, "x"), nil
}

func (p *slowProcess) StopReading() {}

// GroupAlive implements Process: it has ended.
func (p *slowProcess) GroupAlive() bool {
	if len(p.pauses) > 0 {
		time.Sleep(p.pauses[0])
		p.pauses = p.pauses[1:]
	}
	return false
}

// That the end of the output is not read yet says that somebody holds it only where nothing else keeps it from being read.
func TestOwnEndBehindASlowSession(t *testing.T) {
	for name, c := range map[string]struct {
		process *slowProcess
		taken   time.Duration // how long the session takes for a piece
	}{
		"the session takes nothing for a while": {&slowProcess{left: 3}, 7 * time.Second},
		"this process is stopped, and again":    {&slowProcess{pause: 10 * time.Second, pauses: []time.Duration{3 * time.Second, 4 * time.Second}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := c.process
				p.fakeProcess = &fakeProcess{gone: make(chan struct{})}
				chunks := make(chan chunk)
				x := &execution{spec: &saltpeter.Spec{Timeout: 2 * time.Second, KillGrace: time.Second, WaitForChildren: true},
					kills: make(chan time.Duration, 1), chunks: chunks}
				x.began = time.Now()
				p.end(7)
				ctx, cancel := context.WithCancel(t.Context())
				var session sync.WaitGroup
				defer session.Wait()
				defer cancel()
				session.Go(func() {
					for {
						time.Sleep(c.taken)
						select {
						case k := <-chunks:
							k.back <- k.data[:cap(k.data)]
						case <-ctx.Done():
							return
						}
					}
				})
				if got := x.watch(t.Context(), p); got != causeExit {
					t.Errorf("the cause is %q", got)
				}
			})
		})
	}
}

// A grant that came too late to be followed is declined when the asking ends, also if nothing was answered after it: what
// was granted and not declined stays in the record as a command that may run.
func TestStaleGrantIsDeclinedWhenTheWindowIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, says("", time.Second, 0))
		w.node("a").hold = time.Second
		w.start(t)
		time.Sleep(500 * time.Millisecond) // the ask is on its way
		w.skew.Add(int64(30 * time.Second))
		time.Sleep(700 * time.Millisecond) // its grant has come
		w.change(func() { w.node("a").down = true })
		w.node("a").cutAll()
		time.Sleep(20 * time.Minute) // all asking is over
		w.change(func() { w.node("a").down = false })
		w.wait(t, time.Minute)
		if r := w.first(); w.executor.executed() != 0 || r.final == nil || r.final.Type != wire.TypeDeclined {
			t.Errorf("executed %d, final %+v", w.executor.executed(), r.final)
		}
	})
}
