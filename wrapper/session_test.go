package wrapper

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

func says(text string, d time.Duration, code int) func(*fakeProcess) int {
	return func(p *fakeProcess) int {
		fmt.Fprint(p.w, text)
		select {
		case <-time.After(d):
		case <-p.signals:
			return 99
		}
		return code
	}
}

func TestRunEndToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, says("hello", 3*time.Second, 7))
		w.start(t)
		w.wait(t, time.Minute)
		r := w.first()
		checkOutput(t, r, []byte("hello"))
		if r.final == nil || r.final.Type != wire.TypeResult || r.final.Code != 7 || r.final.AtMillis != 3000 || r.final.Seq != 2 || r.final.Cause != causeExit {
			t.Errorf("final word %+v", r.final)
		}
		if want := []wire.Type{wire.TypeStarted, wire.TypeResult}; !slices.Equal(r.words, want) {
			t.Errorf("words %v, want %v", r.words, want)
		}
		if w.journal.writes != 1 || w.executor.executed() != 1 {
			t.Errorf("%d journal writes, %d executions", w.journal.writes, w.executor.executed())
		}
	})
}

func TestSeveralRunsOfOneLaunch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := spec1(), spec1()
		b.Run, b.Job = "other_1", "other"
		w := newWorld(t, 1, says("x", time.Second, 0), a, b)
		w.start(t)
		w.wait(t, time.Minute)
		for _, r := range w.rec.targets {
			checkOutput(t, *r, []byte("x"))
			if r.final == nil || r.final.Code != 0 {
				t.Errorf("%s: %+v", r.entry.Run, r.final)
			}
		}
	})
}

// Whatever breaks, the record has every byte once and in order, and the command ran once.
func TestExactThroughBreaks(t *testing.T) {
	seeds := 150
	if testing.Short() {
		seeds = 20
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { breaks(t, rand.New(rand.NewPCG(uint64(seed), 1))) })
		})
	}
}

func breaks(t *testing.T, rnd *rand.Rand) {
	var wrote bytes.Buffer
	pieces, seed := 1+rnd.IntN(60), rnd.Uint64() // drawn here: the script runs beside us
	script := func(p *fakeProcess) int {
		own := rand.New(rand.NewPCG(seed, 2))
		for range pieces {
			b := make([]byte, 1+own.IntN(20000))
			for i := range b {
				b[i] = byte(own.Uint32())
			}
			wrote.Write(b)
			if _, err := p.w.Write(b); err != nil {
				return 98
			}
			time.Sleep(time.Duration(own.IntN(1500)) * time.Millisecond)
		}
		return 5
	}
	spec := spec1()
	spec.OutputLimit = []int64{1 << 20, 1 << 20, 300 << 10, 20 << 10}[rnd.IntN(4)]
	w := newWorld(t, 3, script, spec)
	busy := time.Duration(500+rnd.IntN(4000)) * time.Millisecond
	began := time.Now()
	stop := make(chan struct{})
	stopped := make(chan struct{})
	for _, nd := range w.net {
		nd.slow = time.Duration(rnd.IntN(300)) * time.Millisecond
	}
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(rnd.Int64N(int64(busy)))):
			}
			urls := w.opts.URLs
			nd := w.net[urls[rnd.IntN(len(urls))]]
			calm := time.Since(began) > 2*time.Minute // so that the run ends
			w.change(func() {
				nd.down = !calm && rnd.IntN(4) == 0
				nd.silent = !calm && rnd.IntN(5) == 0
				nd.noLeader = !calm && rnd.IntN(6) == 0
				nd.leaderAge = time.Duration(rnd.IntN(3)) * time.Second
				nd.lossy = []int{0, 0, 3, 10}[rnd.IntN(4)]
				if !calm && rnd.IntN(6) == 0 {
					nd.leaderAge = 20 * time.Second
				}
			})
			if rnd.IntN(3) > 0 && !calm {
				nd.cutAll()
			}
		}
	}()
	w.start(t)
	w.wait(t, 2*time.Hour)
	close(stop)
	<-stopped
	r := w.first()
	dials := 0
	for _, nd := range w.net {
		dials += nd.dials
	}
	t.Logf("%d bytes, %d frames, %d dials, executed %d times", wrote.Len(), r.next-1, dials, w.executor.executed())
	if w.executor.executed() == 0 { // never granted within the window, or the grant came too late
		if r.state != saltpeter.Launched && r.state != saltpeter.NotStarted && r.state != saltpeter.Granted {
			t.Fatalf("not executed, but %v", r.state)
		}
		return
	}
	left := checkOutput(t, r, wrote.Bytes())
	if limit := int(spec.OutputLimit); (left != 0 && wrote.Len() <= limit) || len(r.out) > limit*3/2 {
		t.Errorf("%d bytes of %d are left out with a limit of %d", left, wrote.Len(), limit)
	}
	if r.final == nil || r.final.Code != 5 || w.executor.executed() != 1 || r.started == 0 {
		t.Errorf("final %+v, executed %d, started %d", r.final, w.executor.executed(), r.started)
	}
}

func TestResultIsDeliveredHoursLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, says("hello", time.Hour, 0))
		w.start(t)
		time.Sleep(time.Minute)
		all := func(down bool) {
			for _, nd := range w.net {
				w.change(func() { nd.down = down })
				nd.cutAll()
			}
		}
		all(true)
		time.Sleep(8 * time.Hour)
		if !w.running() {
			t.Fatal("the wrapper gave up")
		}
		w.net["wss://a"].rec.mu.Lock()
		dials := w.node("a").dials
		w.net["wss://a"].rec.mu.Unlock()
		if dials > 10000 {
			t.Errorf("%d dials of a node that is down, in 8 hours", dials)
		}
		all(false)
		before := time.Now()
		w.wait(t, time.Minute)
		if d := time.Since(before); d > 31*time.Second {
			t.Errorf("delivered after %v", d)
		}
		r := w.first()
		checkOutput(t, r, []byte("hello"))
		if r.final == nil || r.final.AtMillis != 3600000 {
			t.Errorf("final %+v", r.final)
		}
	})
}

// A cluster that never comes back doesn't keep its wrappers for ever; the output is in their own log.
func TestClusterNeverComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := spec1()
		spec.LogDir = t.TempDir()
		w := newWorld(t, 1, says("hello", time.Minute, 0), spec)
		w.start(t)
		time.Sleep(30 * time.Second)
		w.change(func() { w.node("a").down = true })
		w.node("a").cutAll()
		began := time.Now()
		w.wait(t, 2*keepResult)
		if d := time.Since(began); d < keepResult {
			t.Errorf("gave up after %v", d)
		}
		b, err := os.ReadFile(filepath.Join(spec.LogDir, "job.log"))
		if err != nil || !strings.Contains(string(b), "Job completed: SUCCESS") {
			t.Errorf("log %q, %v", b, err)
		}
	})
}

// A stopped node accepts connections and stays silent: the next is tried, and an established one is left.
func TestSilentNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, says("hello", time.Minute, 0))
		w.node("a").silent = true
		began := time.Now()
		w.start(t)
		time.Sleep(2 * time.Second)
		if w.executor.executed() != 1 {
			t.Fatalf("not started after %v beside a silent node", time.Since(began))
		}
		w.change(func() { w.node("a").silent, w.node("b").silent = false, true })
		time.Sleep(20 * time.Second)
		w.change(func() {
			if len(w.node("a").links) == 0 {
				t.Error("no other node was tried when the one in use fell silent")
			}
		})
		w.wait(t, 2*time.Minute)
		if r := w.first(); r.final == nil || r.final.Code != 0 {
			t.Errorf("final %+v", r.final)
		}
	})
}

// A node that is cut off from the leader is left for one that is not, and not before that one has accepted.
func TestMovesToAYoungerLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, says("hello", 5*time.Minute, 0))
		w.node("b").down = true
		w.start(t)
		time.Sleep(time.Second)
		w.change(func() { w.node("a").leaderAge = 15 * time.Second })
		time.Sleep(time.Minute)
		synctest.Wait()
		if a := w.Session.cur; a == nil || a.url != "wss://a" {
			t.Fatal("the only node that answers was given up")
		}
		w.change(func() { w.node("b").down, w.node("b").leaderAge = false, 30*time.Second })
		time.Sleep(time.Minute)
		synctest.Wait()
		if w.Session.cur.url != "wss://a" {
			t.Error("moved to a node that is no closer to the leader")
		}
		w.change(func() { w.node("b").leaderAge = time.Second })
		time.Sleep(time.Minute)
		synctest.Wait()
		if w.Session.cur.url != "wss://b" {
			t.Error("did not move to the node that hears the leader")
		}
		w.wait(t, 10*time.Minute)
		checkOutput(t, w.first(), []byte("hello"))
	})
}

func TestGrantCountsFromItsAsk(t *testing.T) {
	for _, tt := range []struct {
		name string
		hold time.Duration
		runs bool
	}{{"19 s", 19 * time.Second, true}, {"for ever later than the asks", 45 * time.Second, false}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, says("", time.Second, 0))
				w.node("a").hold = tt.hold
				w.start(t)
				w.wait(t, 30*time.Minute)
				if got := w.executor.executed() == 1; got != tt.runs {
					t.Errorf("executed %v, want %v; final %+v", got, tt.runs, w.first().final)
				}
			})
		})
	}
}

// Where several asks wait for their answers, an old one's grant is not followed, and a younger one's is.
func TestYoungerAskCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, says("", time.Second, 3))
		w.node("a").until = time.Now().Add(22 * time.Second)
		w.start(t)
		w.wait(t, time.Minute)
		if r := w.first(); w.executor.executed() != 1 || r.final == nil || r.final.Code != 3 {
			t.Errorf("executed %d, final %+v", w.executor.executed(), r.final)
		}
	})
}

func TestAsksAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, says("", time.Second, 0))
		w.node("a").deaf = true
		w.start(t)
		time.Sleep(12 * time.Second)
		w.change(func() { w.node("a").deaf = false })
		time.Sleep(askAgain)
		if w.executor.executed() != 1 {
			t.Error("an ask without an answer is not repeated")
		}
		w.wait(t, time.Minute)
	})
}

// A machine that was suspended between ask and grant says that it did not start, also if the record has lost it by then.
func TestSuspendedBeforeGrant(t *testing.T) {
	tests := []struct {
		name   string
		window time.Duration
		state  saltpeter.TargetState
	}{
		{"the window is over", 7 * time.Second, saltpeter.Granted},
		{"the record has lost it", time.Minute, saltpeter.Lost},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, says("", time.Second, 0))
				w.rec.targets[0].entry.StartWindowMS = tt.window.Milliseconds()
				w.node("a").until = time.Now().Add(12 * time.Second)
				w.start(t)
				time.Sleep(11 * time.Second)
				w.skew.Store(int64(90 * time.Second))
				w.change(func() { w.rec.targets[0].state = tt.state })
				w.wait(t, time.Minute)
				if r := w.first(); w.executor.executed() != 0 || r.final == nil || r.final.Type != wire.TypeDeclined {
					t.Errorf("executed %d, final %+v", w.executor.executed(), r.final)
				}
			})
		})
	}
}

// The last frame is lost inside of a node: the result does not go before it is there.
func TestLastFrameIsAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, func(p *fakeProcess) int {
			for range 3 {
				fmt.Fprint(p.w, "x")
				time.Sleep(time.Second)
			}
			return 0
		})
		w.node("a").lose = 3
		w.start(t)
		w.wait(t, 10*time.Second)
		checkOutput(t, w.first(), []byte("xxx"))
	})
}

// A burst goes out as far as the window reaches, and everything arrives.
func TestBurstKeepsTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := spec1()
		spec.OutputLimit = 16 << 20
		wrote := bytes.Repeat([]byte("0123456789abcdef"), 8<<20/16)
		w := newWorld(t, 1, func(p *fakeProcess) int { _, _ = p.w.Write(wrote); return 0 }, spec)
		w.node("a").slow, w.node("a").lossy = 100*time.Millisecond, 50
		w.start(t)
		w.wait(t, 10*time.Minute)
		if left := checkOutput(t, w.first(), wrote); left != 0 {
			t.Errorf("%d bytes are left out", left)
		}
	})
}

// The clock that counts goes on in suspend: a wrapper that was stopped between grant and start starts nothing, and says so.
func TestStoppedAfterGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, says("", time.Second, 0))
		w.Session.parts.Journal = &stoppingJournal{w.journal, w, 90 * time.Second}
		w.start(t)
		w.wait(t, time.Minute)
		r := w.first()
		if w.executor.executed() != 0 || r.final == nil || r.final.Type != wire.TypeDeclined || r.final.Code != codeNotStart {
			t.Errorf("executed %d, final %+v", w.executor.executed(), r.final)
		}
	})
}

// A spec may bound the time between ask and start more closely: it follows lost_after of the cluster.
func TestExecWithinOfTheSpec(t *testing.T) {
	for within, runs := range map[time.Duration]bool{2 * time.Second: false, 10 * time.Second: true, time.Hour: true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, 1, says("", time.Second, 0))
			w.rec.targets[0].spec.ExecWithin = within
			w.Session.parts.Journal = &stoppingJournal{w.journal, w, 5 * time.Second}
			w.start(t)
			w.wait(t, time.Minute)
			if got := w.executor.executed() == 1; got != runs {
				t.Errorf("within %s, stopped for 5 s: executed %v", within, got)
			}
		})
	}
}

// stoppingJournal is where a machine is suspended.
type stoppingJournal struct {
	Journal
	w   *world
	nap time.Duration
}

func (j *stoppingJournal) Write(e Entry) error {
	j.w.skew.Add(int64(j.nap))
	return j.Journal.Write(e)
}

// A grant that names no ask says nothing about time: it is not followed.
func TestGrantWithoutAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, says("", time.Second, 0))
		w.node("a").askless = true
		w.start(t)
		time.Sleep(30 * time.Second)
		if w.executor.executed() != 0 {
			t.Fatal("executed on a grant that answers no ask")
		}
		w.change(func() { w.node("a").askless = false })
		w.wait(t, 2*time.Minute)
		if w.executor.executed() != 1 {
			t.Error("not executed on a grant that answers one")
		}
	})
}

func TestStartWindow(t *testing.T) {
	tests := []struct {
		name     string
		set      func(*world)
		min, max time.Duration
	}{
		{"runs while a leader is near", func(w *world) { w.node("a").noLeader = true }, 55 * time.Second, 70 * time.Second},
		{"stands still while none is", func(w *world) { w.node("a").noLeader, w.node("a").leaderAge = true, 11*time.Second }, 15 * time.Minute, 15*time.Minute + 30*time.Second},
		{"stands still without a node", func(w *world) { w.node("a").down = true }, 15 * time.Minute, 15*time.Minute + 30*time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, says("", time.Second, 0))
				tt.set(w)
				began := time.Now()
				w.start(t)
				w.wait(t, time.Hour)
				if d := time.Since(began); d < tt.min || d > tt.max || w.executor.executed() != 0 {
					t.Errorf("gave up after %v, want %v to %v; executed %d", d, tt.min, tt.max, w.executor.executed())
				}
			})
		})
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name string
		set  func(*world)
		word wire.Type
	}{
		{"start is refused", func(w *world) { w.node("a").refuse = "killed" }, ""},
		{"hello is refused", func(w *world) { w.node("a").refuseAll = "token" }, ""},
		{"another wrapper won", func(w *world) { w.rec.targets[0].state = saltpeter.Granted }, ""},
		{"the lock is held", func(w *world) {
			w.rec.targets[0].entry.AllowOverlap = false
			w.locker.err = &HeldError{"job", 7}
		}, wire.TypeLocked},
		{"the same run has the lock", func(w *world) {
			w.rec.targets[0].entry.AllowOverlap = false
			w.locker.err = ErrSameRun
		}, ""},
		{"a command outlived its wrapper", func(w *world) {
			w.rec.targets[0].entry.AllowOverlap = false
			w.journal.orphans = []Entry{{Run: "job_0", Job: "job", PID: 9}}
		}, wire.TypeLocked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, says("", time.Second, 0))
				tt.set(w)
				w.start(t)
				w.wait(t, 10*time.Second)
				var want []wire.Type
				if tt.word != "" {
					want = []wire.Type{tt.word}
				}
				if r := w.first(); w.executor.executed() != 0 || !slices.Equal(r.words, want) {
					t.Errorf("executed %d, words %v, want %v", w.executor.executed(), r.words, want)
				}
			})
		})
	}
}

// TestTurnedAwayAfterAGrantOnItsWay: a start was granted, and a break kept the wrapper from hearing it. Whatever turns it
// away after that, its secret brings it to its target: it executes while it may, and else says that it never did.
func TestTurnedAwayAfterAGrantOnItsWay(t *testing.T) {
	lost := func(w *world) { w.rec.targets[0].state = saltpeter.Lost }
	tests := []struct {
		name string
		set  func(*world)
		want wire.Type // its last word
	}{
		{"hello is refused", func(w *world) { w.node("a").refuseAll = "token" }, wire.TypeResult},
		{"hello is refused, and it was taken for lost", func(w *world) { w.node("a").refuseAll = "token"; lost(w) }, wire.TypeDeclined},
		{"start is refused, for it was taken for lost", lost, wire.TypeDeclined},
		{"hello is refused, and the record has forgotten it", func(w *world) { w.node("a").refuseAll = "token"; w.rec.targets[0].unknown = true }, ""},
		{"another wrapper won", func(w *world) { w.rec.targets[0].nonce[0]++ }, ""},
		{"hello is refused, and another wrapper won", func(w *world) { w.node("a").refuseAll = "token"; w.rec.targets[0].nonce[0]++ }, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, says("", time.Second, 0))
				w.node("a").hold = time.Hour
				w.start(t)
				time.Sleep(time.Second)
				w.change(func() {
					if w.rec.targets[0].state != saltpeter.Granted {
						t.Error("not granted yet")
					}
					w.node("a").hold = 0
					tt.set(w)
				})
				w.node("a").cutAll()
				w.wait(t, 20*time.Second)
				got := w.first()
				if tt.want == "" {
					if len(got.words) > 0 {
						t.Errorf("said %v", got.words)
					}
				} else if got.final == nil || got.final.Type != tt.want {
					t.Errorf("said %v, want %s", got.words, tt.want)
				}
				if n := w.executor.executed(); (n == 1) != (tt.want == wire.TypeResult) {
					t.Errorf("executed %d times", n)
				}
			})
		})
	}
}

func TestOverlapAllowedNeedsNoLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, says("", time.Second, 0))
		w.locker.err = &HeldError{"job", 7}
		w.journal.orphans = []Entry{{Run: "job_0", Job: "job", PID: 9}}
		w.start(t)
		w.wait(t, time.Minute)
		if w.executor.executed() != 1 {
			t.Error("not executed")
		}
	})
}

// The lock is free again before the record hears of the end.
func TestLockGoesBeforeTheResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, says("", time.Second, 0))
		w.rec.targets[0].entry.AllowOverlap = false
		w.start(t)
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		if w.held != 1 {
			t.Fatalf("%d locks are held while the command runs", w.held)
		}
		w.node("a").cutAll()
		w.change(func() { w.node("a").down = true })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if w.held != 0 {
			t.Error("the lock is held while the result waits")
		}
		w.change(func() { w.node("a").down = false })
		w.wait(t, time.Minute)
	})
}

func TestKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, says("", time.Hour, 0))
		w.start(t)
		time.Sleep(5 * time.Second)
		w.change(func() { w.node("a").links[0].send(wire.Message{Type: wire.TypeKill, GraceMS: 1000}) })
		w.wait(t, time.Minute)
		if r := w.first(); r.final == nil || r.final.Cause != causeKill || r.final.Code != 99 {
			t.Errorf("final %+v", r.final)
		}
	})
}

func TestKillEscalates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []syscall.Signal
		w := newWorld(t, 1, func(p *fakeProcess) int {
			for sig := range p.signals {
				got = append(got, sig)
				if sig == syscall.SIGKILL {
					return 97
				}
			}
			return 0
		})
		w.start(t)
		time.Sleep(5 * time.Second)
		w.change(func() { w.node("a").links[0].send(wire.Message{Type: wire.TypeKill}) })
		began := time.Now()
		w.wait(t, time.Minute)
		if d := time.Since(began); d < 10*time.Second || d > 12*time.Second {
			t.Errorf("ended after %v, want the grace of 10 s", d)
		}
		if !slices.Equal(got, []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}) {
			t.Errorf("signals %v", got)
		}
	})
}

func TestRecordForgetsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		spec := spec1()
		spec.LogDir = dir
		w := newWorld(t, 1, func(p *fakeProcess) int {
			fmt.Fprintln(p.w, "before")
			time.Sleep(10 * time.Second)
			fmt.Fprintln(p.w, "after")
			time.Sleep(10 * time.Second)
			return 0
		}, spec)
		w.start(t)
		time.Sleep(time.Second)
		w.change(func() { w.rec.targets[0].unknown = true })
		w.node("a").cutAll()
		w.wait(t, time.Minute)
		if w.executor.procs[0].code != 0 {
			t.Error("the command did not go on to its end")
		}
		b, err := os.ReadFile(filepath.Join(dir, "job.log"))
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		for _, want := range []string{"[job_1] Starting job\n", "--- OUTPUT START ---\nafter\n\n--- OUTPUT END ---\n", "[job_1] Job completed: SUCCESS\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in the log:\n%s", want, text)
			}
		}
	})
}

// A log directory that can't be written is a remark; the job is none the worse.
func TestLogDirNotWritable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spec := spec1()
		spec.LogDir = "/proc/no-such-directory"
		w := newWorld(t, 1, says("x", time.Second, 0), spec)
		w.start(t)
		w.wait(t, time.Minute)
		r := w.first()
		checkOutput(t, r, []byte("x"))
		if want := []wire.Type{wire.TypeStarted, wire.TypeRemark, wire.TypeResult}; !slices.Equal(r.words, want) || r.final.Code != 0 {
			t.Errorf("words %v, want %v", r.words, want)
		}
	})
}

func TestJournalNotWritable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, says("x", time.Second, 0))
		w.journal.err = errors.New("disk full")
		w.start(t)
		w.wait(t, time.Minute)
		if r := w.first(); w.executor.executed() != 0 || r.final == nil || r.final.Type != wire.TypeDeclined || !strings.Contains(r.final.Text, "disk full") {
			t.Errorf("executed %d, final %+v", w.executor.executed(), r.final)
		}
	})
}

// After a restored backup the record wants numbers that were forgotten long ago: they come as a skip that counts their bytes.
func TestRecordGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var wrote bytes.Buffer
		w := newWorld(t, 1, func(p *fakeProcess) int {
			for i := range 20 {
				b := bytes.Repeat([]byte{byte('a' + i)}, 100*(i+1))
				wrote.Write(b)
				if _, err := p.w.Write(b); err != nil {
					return 98
				}
				time.Sleep(time.Second)
			}
			return 0
		})
		w.start(t)
		time.Sleep(10*time.Second + 500*time.Millisecond)
		var lost int
		w.change(func() {
			r := w.rec.targets[0]
			keep := 100 + 200 + 300
			lost = len(r.out) - keep
			r.next, r.out, r.seen = 4, r.out[:keep], map[uint64][]byte{}
		})
		w.node("a").cutAll()
		w.wait(t, time.Minute)
		if left := checkOutput(t, w.first(), wrote.Bytes()); left != uint64(lost) {
			t.Errorf("%d bytes are counted as left out, want %d", left, lost)
		}
	})
}

func TestStopEndsOnlyTheAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan os.Signal, 1)
		w := newWorld(t, 1, says("", time.Minute, 0))
		w.Session.parts.Stop = stop
		w.start(t)
		time.Sleep(time.Second)
		stop <- syscall.SIGTERM
		w.wait(t, 2*time.Minute)
		if r := w.first(); r.final == nil || r.final.AtMillis != 60000 {
			t.Errorf("a running command was given up: %+v", r.final)
		}
		asking := newWorld(t, 1, says("", time.Minute, 0))
		asking.Session.parts.Stop = stop
		asking.node("a").down = true
		asking.start(t)
		time.Sleep(time.Second)
		stop <- syscall.SIGTERM
		asking.wait(t, time.Second)
	})
}

func TestHelloIsSigned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, says("", time.Second, 0))
		w.journal.orphans = []Entry{{Run: "old_1", Job: "old", PID: 9}}
		m := func() *wire.Message {
			w.Session.remark = w.Session.orphans()
			return w.Session.hello(&link{Link: &fakeLink{}, challenge: &wire.Message{Challenge: []byte("c")}})
		}()
		if m.Proof != nil || m.Text != "command may still run: old_1 (PID 9)" || m.Token != "token" || len(m.Nonce) != 32 {
			t.Errorf("hello %+v", m)
		}
	})
}
