package sim

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api/client"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/wire"
)

// scenario plays one story without anything random in a bubble; when it has been told, the promises are checked.
func scenario(t *testing.T, nodes int, jobs []job, story func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	dir := fastDir(t)
	ring, keyFile := sharedKey(t)
	synctest.Test(t, func(t *testing.T) {
		p := &plan{nodes: nodes, machines: []string{"m1", "m2"}, jobs: jobs, delay: 5 * time.Millisecond, disturb: time.Millisecond, silence: time.Minute,
			timings: cluster.Timings{Heartbeat: time.Second, RPC: 2 * time.Second, SnapshotLogs: 60, SnapshotEvery: 5 * time.Second, TrailingLogs: 20}}
		w := newWorld(t, p, ring, keyFile, dir)
		w.start()
		w.until(20*time.Second, "the configuration to be in force", func() bool { return w.committed(has(func(*fsm.ApplyConfig) bool { return true })) })
		if !w.hist.failed() {
			story(t, w)
		}
		if !w.hist.failed() && w.rest() {
			w.check()
		}
		w.end()
		w.report()
	})
}

func (w *world) committed(f func(*commit) bool) bool {
	_, ok := w.commits.find(f)
	return ok
}

// byHand is a job that is never due within a scenario.
func byHand(name string, s script, extra ...string) job {
	return job{name: name, seconds: "59", script: s, extra: append([]string{"targets: m1", "timeout: 0"}, extra...)}
}

// startNow starts a job by hand and waits for its command.
func (w *world) startNow(name string) *execution {
	w.operator.startOn(event{kind: "start", x: uint64(w.jobIndex(name))}, w.operator.livingNode)
	var found *execution
	w.until(30*time.Second, "the command of "+name, func() bool {
		for _, e := range w.execsByPlace() {
			if e.spec.Job == name {
				found = e
			}
		}
		return found != nil
	})
	return found
}

func (w *world) jobIndex(name string) int {
	for i, j := range w.plan.jobs {
		if j.name == name {
			return i
		}
	}
	w.t.Fatalf("no job %s", name)
	return 0
}

// targetOf gives what the record says of the one target of the newest run of a job.
func (w *world) targetOf(name string) (t saltpeter.Target, ok bool) {
	for _, f := range w.commits.facts() {
		if f.job == name {
			t, ok = f.last, true
		}
	}
	return t, ok
}

// All nodes lose their power for an hour while a command runs: it goes on, and its result and every byte of its output
// arrive when they are back.
func TestClusterIsOffForAnHour(t *testing.T) {
	long := byHand("long", script{dur: 40 * time.Minute, out: 200_000, code: 3, term: "exit"})
	scenario(t, 3, []job{long}, func(t *testing.T, w *world) {
		if w.startNow("long") == nil {
			return
		}
		w.sleep(time.Minute)
		for _, n := range w.nodes {
			n.kill(false)
		}
		w.sleep(time.Hour)
		for _, n := range w.nodes {
			n.start()
		}
		w.until(time.Minute, "the result", func() bool {
			got, _ := w.targetOf("long")
			return got.State == saltpeter.Failed && got.Code == 3 && got.Stored == 200_000
		})
	})
}

// Leaders die one after the other under a run of several batches.
func TestLeadersDieUnderARun(t *testing.T) {
	batches := job{name: "batches", seconds: "59", script: script{dur: 8 * time.Second, out: 5000, term: "exit"},
		extra: []string{"targets: 'm*'", "batch_size: 1", "timeout: 0"}}
	scenario(t, 3, []job{batches}, func(t *testing.T, w *world) {
		if w.startNow("batches") == nil {
			return
		}
		for range 3 {
			leader := w.leads.Load()
			leader.kill(false)
			w.sleep(4 * time.Second)
			leader.start()
			w.sleep(2 * time.Second)
		}
		w.until(time.Minute, "both machines to be done", func() bool {
			done := 0
			for _, f := range w.commits.facts() {
				if f.last.State == saltpeter.OK && f.last.Stored == 5000 {
					done++
				}
			}
			return done == 2
		})
	})
}

// A wrapper that is stopped for 90 s right after its grant does not execute; when it is back, its word takes the place of
// the presumed outcome.
func TestStoppedAfterTheGrant(t *testing.T) {
	scenario(t, 3, []job{byHand("late", script{dur: time.Second, term: "exit"})}, func(t *testing.T, w *world) {
		var once atomic.Bool
		stop := func(p *wrapperProcess) {
			if once.CompareAndSwap(false, true) {
				p.m.gate.close()
				w.net.Pause(p.m.name)
			}
		}
		w.onGrant.Store(&stop)
		w.operator.start(event{kind: "start"})
		w.sleep(90 * time.Second)
		if got, ok := w.targetOf("late"); !ok || got.State != saltpeter.Lost || !got.Presumed {
			t.Errorf("after 90 s: %+v", got)
		}
		w.net.Resume("m1")
		w.machine("m1").gate.open()
		w.until(30*time.Second, "the wrapper's word", func() bool {
			got, _ := w.targetOf("late")
			return got.State == saltpeter.NotStarted && !got.Presumed && got.Replaced
		})
		if n := len(w.execsByPlace()); n != 0 {
			t.Errorf("%d commands were executed", n)
		}
	})
}

// A command that says nothing is taken for lost while its machine is cut off, and counts for overlap again by its wrapper's
// heartbeat. When the machine then dies, it counts until the silence is long enough, and no longer.
func TestBackAndGoneAgain(t *testing.T) {
	scenario(t, 3, []job{byHand("again", script{dur: time.Hour, term: "exit"})}, func(t *testing.T, w *world) {
		if w.startNow("again") == nil {
			return
		}
		w.sleep(10 * time.Second) // its "started" is taken
		m := w.machine("m1")
		target := func() saltpeter.Target { got, _ := w.targetOf("again"); return got }
		w.cutMachine(m, w.net.CutBoth)
		w.until(2*time.Minute, "silence to become an outcome", func() bool { return target().State == saltpeter.Lost })
		w.net.HealAll()
		if !w.until(time.Minute, "its wrapper to be back", func() bool { return target().Back }) {
			return
		}
		w.operator.start(event{kind: "start"})
		if n := w.runs("again"); n != 1 {
			t.Errorf("%d runs while the first may still run", n)
		}
		w.sleep(2 * time.Minute)
		if !target().Back {
			t.Error("back no more, though it is heard")
		}
		m.reboot(time.Second)
		died := time.Now()
		w.until(90*time.Second, "its silence to be noticed", func() bool { return !target().Back })
		if d := time.Since(died); d < 50*time.Second || target().State != saltpeter.Lost || !target().Presumed {
			t.Errorf("after %s: %+v", d, target())
		}
		w.operator.start(event{kind: "start"})
		w.until(30*time.Second, "another run", func() bool { return w.runs("again") == 2 && target().State == saltpeter.Started })
		w.operator.kill(event{y: 1})
	})
}

// The outcome of a start by hand is unknown to the one who proposed it, although it was committed: it is proposed again,
// and it is the same run.
func TestUnknownOutcomeStartsOnce(t *testing.T) {
	scenario(t, 1, []job{byHand("once", script{dur: time.Second, term: "exit"}, "allow_overlap: 'i know what i am doing!'")}, func(t *testing.T, w *world) {
		var unknown atomic.Int32
		forget := func(cmd fsm.Command) error {
			if _, ok := cmd.(*fsm.StartRun); ok && unknown.Add(1) <= 3 {
				return fmt.Errorf("%w: for this test", cluster.ErrUnknown)
			}
			return nil
		}
		w.onPropose.Store(&forget)
		if w.startNow("once") == nil {
			return
		}
		w.sleep(5 * time.Second)
		if n := w.runs("once"); n != 1 || unknown.Load() < 4 {
			t.Errorf("%d runs after %d proposals", n, unknown.Load())
		}
	})
}

// runs counts a job's runs on the leader.
func (w *world) runs(job string) (n int) {
	w.leads.Load().life.Load().machine.View().RunsOfJob(job, 0, func(*saltpeter.Run) bool { n++; return true })
	return n
}

// Maintenance that stands in the files is that of the revision in force, whoever leads: a leader whose own files lag behind
// starts nothing under it.
func TestMaintenanceOfTheFilesIsReplicated(t *testing.T) {
	every := job{name: "every", seconds: "*/3", script: script{dur: time.Second, term: "exit"}, extra: []string{"targets: m1"}}
	scenario(t, 3, []job{every}, func(t *testing.T, w *world) {
		leader := w.leads.Load()
		w.files.maintenance = "m1"
		w.files.write(leader)
		inForce := has(func(c *fsm.ApplyConfig) bool { return len(c.Maintenance.Machines) == 1 })
		if !w.until(30*time.Second, "the maintenance to be in force", func() bool { return w.committed(inForce) }) {
			return
		}
		w.sleep(5 * time.Second)
		leader.stop() // its files are the only ones that say so
		before := len(w.execsByPlace())
		w.sleep(20 * time.Second)
		if n := len(w.execsByPlace()) - before; n != 0 || w.leads.Load() == leader {
			t.Errorf("%d commands were executed under %s", n, w.leads.Load().name)
		}
		leader.start()
	})
}

// Who doesn't know the winner's secret can't speak for a run, on any node.
func TestResumeNeedsTheSecret(t *testing.T) {
	scenario(t, 3, []job{byHand("mine", script{dur: 30 * time.Second, out: 100, term: "exit"})}, func(t *testing.T, w *world) {
		if w.startNow("mine") == nil {
			return
		}
		w.sleep(time.Second)
		target, _ := w.targetOf("mine")
		for _, n := range w.nodes {
			stranger := &wrapperProcess{m: w.machine("m2"), gone: make(chan struct{}), launch: target.Launch}
			l, err := dialer{stranger}.Dial(w.ctx, "wss://"+n.addr("8889")+wire.Path)
			if err != nil {
				t.Fatal(err)
			}
			answer := resume(t, w.ctx, l.(*link), target)
			if answer.Type != wire.TypeRefused || !answer.Final {
				t.Errorf("node %s answers a stranger: %+v", n.name, answer)
			}
			l.Close()
		}
	})
}

// A kill reaches the command at once, through whichever node it was asked for; where the machine is cut off, when it is
// back.
func TestKillReachesTheCommand(t *testing.T) {
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("cut off %v", cut), func(t *testing.T) {
			scenario(t, 3, []job{byHand("long", script{dur: time.Hour, term: "exit"})}, func(t *testing.T, w *world) {
				if w.startNow("long") == nil {
					return
				}
				w.operator.maintainOn("all", "", client.Span{}) // what runs goes on
				m := w.machine("m1")
				if cut {
					w.cutMachine(m, w.net.CutBoth)
					w.cutMachine(m, w.net.Reset) // so that it must come back by its secret
				}
				asked := time.Now()
				w.operator.kill(event{y: 1})
				if cut {
					w.sleep(45 * time.Second)
					w.net.HealAll()
				}
				limit := 2 * time.Second
				if cut {
					limit = time.Minute + 30*time.Second // it tries other nodes now and then
				}
				w.until(limit+time.Second, "the end of the command", func() bool {
					got, _ := w.targetOf("long")
					return got.State == saltpeter.Killed && got.Code == 143 && !got.Presumed
				})
				for _, e := range w.execsByPlace() {
					if d := e.ended.Sub(asked); e.by != "timeout or kill" || d > limit {
						t.Errorf("it ended by %s, %s after the kill", e.by, d)
					}
				}
			})
		})
	}
}

// resume presents a secret that is not the winner's and gives the answer.
func resume(t *testing.T, ctx context.Context, l *link, target saltpeter.Target) *wire.Message {
	t.Helper()
	send := func(m *wire.Message) {
		b, err := wire.Encode(m)
		if err == nil {
			err = l.conn.Write(ctx, websocket.MessageText, b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	send(&wire.Message{Type: wire.TypeResume, Version: wire.Version, Launch: target.Launch.String(), Machine: target.Machine,
		BootID: "m1-boot-1", RunNum: target.Ref.Run, Target: target.Ref.Target, Secret: make([]byte, 32)})
	for {
		m, err := l.Recv(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if m.Type != wire.TypeChallenge && m.Type != wire.TypeBeat {
			return m
		}
	}
}

func (w *world) answers(n *node) bool {
	return w.operator.on(n, patience, func(ctx context.Context, c *client.Client) error {
		_, err := c.Maintenance(ctx)
		return err
	}) == nil
}

// A write that any node acknowledged is seen by a strong read on every other node, also while nodes come and go.
func TestAnyNodeShowsWhatAnyAcknowledged(t *testing.T) {
	scenario(t, 3, []job{byHand("x", script{term: "exit"})}, func(t *testing.T, w *world) {
		for i := range 12 {
			if i%4 == 3 {
				leader := w.leads.Load()
				leader.kill(i%8 == 3)
				w.sleep(3 * time.Second)
				leader.start()
				w.until(20*time.Second, "the node to know its configuration", func() bool { return w.answers(leader) })
			}
			on := i%2 == 0
			n := w.nodes[i%3]
			err := w.operator.on(n, patience, func(ctx context.Context, c *client.Client) (err error) {
				if on {
					_, err = c.MaintenanceOn(ctx, "machine", "m2", client.Span{Reason: fmt.Sprintf("window-%d", i)})
				} else {
					_, err = c.MaintenanceOff(ctx, "machine", "m2")
				}
				return err
			})
			if err != nil {
				t.Errorf("write %d on %s: %v", i, n.name, err)
				return
			}
			for _, other := range w.nodes {
				err := w.operator.on(other, patience, func(ctx context.Context, c *client.Client) error {
					l, err := c.Maintenance(ctx)
					if err == nil && (len(l.Items) == 1) != on {
						t.Errorf("write %d (on: %v) on %s: %s shows %d windows", i, on, n.name, other.name, len(l.Items))
					}
					return err
				})
				if err != nil {
					t.Errorf("read %d on %s: %v", i, other.name, err)
				}
			}
		}
	})
}
