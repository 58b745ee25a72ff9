package wsgateway

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

// Without a leader the session stays, its heartbeats are answered, and what it told arrives once there is one again.
func TestNoLeaderForAMinute(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		n := serve(t, r, nil)
		c := n.granted("a")
		r.setFault(func(string) (bool, bool) { return false, false })
		for seq := uint64(1); seq <= 32; seq++ {
			c.output(seq, strings.Repeat("x", 32<<10))
		}
		for range 12 {
			time.Sleep(5 * time.Second)
			c.send(&wire.Message{Type: wire.TypeBeat, N: 1})
			c.want(wire.TypeBeat)
		}
		if s := n.g.Sessions(); s.QueuedWords != 32 || s.QueuedBytes != 32*(32<<10+wordOverhead) {
			t.Fatalf("stats %+v", s)
		}
		if calls := r.count("report"); calls > 60*2*1000/100+20 {
			t.Fatalf("%d Report calls in a minute", calls)
		}
		r.setFault(nil)
		c.wantAck(33)
		if got := r.targets[testRef].data.Len(); got != 1<<20 {
			t.Fatalf("record has %d bytes", got)
		}
		synctest.Wait()
		if s := n.g.Sessions(); s.QueuedWords != 0 || s.QueuedBytes != 0 || n.g.batch.readyWords.Load() != 0 || n.g.batch.readyBytes.Load() != 0 {
			t.Fatalf("left behind: %+v", s)
		}
	})
}

// What a session told before it broke is reported once more, then it is the wrapper's again.
func TestWordsOfALostSession(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		n := serve(t, r, nil)
		c := n.granted("a")
		release := make(chan struct{})
		r.setGate(func() { <-release })
		c.output(1, "1")
		time.Sleep(100 * time.Millisecond)
		c.output(2, "2")
		synctest.Wait()
		c.hangUp()
		synctest.Wait()
		give(t, release)
		give(t, release)
		synctest.Wait()
		if got := r.targets[testRef].data.String(); got != "12" {
			t.Fatalf("record has %q", got)
		}
		c = n.dial()
		r.setGate(nil)
		c.send(resumeOf(testRef, "a"))
		if m := c.want(wire.TypeGrant); m.Next != 3 {
			t.Fatalf("grant %+v", m)
		}
		r.setFault(func(op string) (bool, bool) { return false, false })
		c.output(3, "3")
		synctest.Wait()
		c.hangUp()
		time.Sleep(time.Second)
		synctest.Wait()
		calls := r.count("report")
		time.Sleep(time.Minute)
		if s := n.g.Sessions(); s.QueuedWords != 0 || s.QueuedBytes != 0 || r.count("report") != calls {
			t.Fatalf("still tried: %+v", s)
		}
	})
}

func TestBackPressure(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRecord(t)
		refs := []saltpeter.TargetRef{{Run: 1}, {Run: 2}}
		r.add(refs[0], testLaunch, "web-1")
		r.add(refs[1], testLaunch, "web-2")
		n := serve(t, r, func(c *Config) { c.Limits.SessionWords = 10 })
		greedy, modest := n.dial(), n.dial()
		for i, c := range []*client{greedy, modest} {
			c.send(helloOf(testLaunch, []string{"web-1", "web-2"}[i], "a"))
			c.want(wire.TypeRuns)
			c.send(&wire.Message{Type: wire.TypeStart, Ask: 1})
			c.want(wire.TypeGrant)
		}
		blocked := make(chan struct{})
		open := make(chan struct{})
		r.setGate(func() { <-open })
		go func() {
			defer close(blocked)
			for seq := uint64(1); seq <= 100; seq++ {
				greedy.output(seq, "x")
			}
		}()
		synctest.Wait()
		if s := n.g.Sessions(); s.QueuedWords != 11 {
			t.Fatalf("stats %+v", s)
		}
		modest.output(1, "x")
		synctest.Wait()
		if s := n.g.Sessions(); s.QueuedWords != 12 {
			t.Fatalf("a session that is held back holds up another: %+v", s)
		}
		close(open)
		modest.wantAck(2)
		greedy.wantAck(101)
		<-blocked
	})
}

func TestHeldBackForTooLong(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"own words": func(c *Config) { c.Limits.SessionWords = 4 },
		"all words": func(c *Config) { c.Limits.QueuedBytes = 1 }, // is raised to one word's
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := oneTarget(t)
				n := serve(t, r, change)
				c := n.granted("a")
				r.setFault(func(string) (bool, bool) { return false, false })
				for seq := uint64(1); seq <= 5; seq++ {
					c.output(seq, strings.Repeat("x", 16<<10))
				}
				began := time.Now()
				c.wantClosed(websocket.StatusTryAgainLater)
				if took := time.Since(began); took != 90*time.Second {
					t.Fatalf("closed after %v", took)
				}
				time.Sleep(time.Second)
				if s := n.g.Sessions(); s.QueuedBytes != 0 || !n.g.budget.TryAcquire(n.g.lim.QueuedBytes) {
					t.Fatalf("left behind: %+v", s)
				}
			})
		})
	}
}

func TestRate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		c := serve(t, r, func(c *Config) { c.Limits.Rate, c.Limits.Burst = 10, 10 }).granted("a")
		began := time.Now()
		for seq := uint64(1); seq <= 108; seq++ {
			c.output(seq, "x")
		}
		c.wantAck(109)
		if took := time.Since(began); took < 10*time.Second || took > 12*time.Second {
			t.Fatalf("108 messages at 10 a second took %v", took)
		}
	})
}

// A peer that does not read is closed after the write deadline, and nobody waits for it.
func TestPeerThatDoesNotRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRecord(t)
		r.add(saltpeter.TargetRef{Run: 1}, testLaunch, "web-1")
		r.add(saltpeter.TargetRef{Run: 2}, testLaunch, "web-2")
		n := serve(t, r, nil)
		deaf, err := n.tryDialDeaf()
		if err != nil {
			t.Fatal(err)
		}
		defer deaf.hangUp()
		if _, err := deaf.readOne(); err != nil {
			t.Fatal(err)
		}
		deaf.send(helloOf(testLaunch, "web-1", "a"))
		other := n.dial()
		other.send(helloOf(testLaunch, "web-2", "b"))
		other.want(wire.TypeRuns)
		other.send(&wire.Message{Type: wire.TypeStart, Ask: 1})
		other.want(wire.TypeGrant)
		began := time.Now()
		for seq := uint64(1); seq <= 100; seq++ {
			other.output(seq, "x")
			other.wantAck(seq + 1)
		}
		if took := time.Since(began); took > time.Second {
			t.Fatalf("100 words took %v", took)
		}
		time.Sleep(11 * time.Second)
		if s := n.g.Sessions(); s.Sessions != 1 {
			t.Fatalf("stats %+v", s)
		}
	})
}

func TestFairShares(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRecord(t)
		n := serve(t, r, nil)
		var clients []*client
		for i := range 4 {
			machine := fmt.Sprint("web-", i)
			r.add(saltpeter.TargetRef{Run: uint64(i + 1)}, testLaunch, machine)
			c := n.dial()
			c.send(helloOf(testLaunch, machine, machine))
			c.want(wire.TypeRuns)
			c.send(&wire.Message{Type: wire.TypeStart, Ask: 1})
			c.want(wire.TypeGrant)
			clients = append(clients, c)
		}
		open := make(chan struct{})
		r.setGate(func() { <-open })
		big := bytes.Repeat([]byte("x"), wire.MaxOutput)
		for _, c := range clients[:3] {
			for seq := uint64(1); seq <= 20; seq++ {
				c.sendFrame(wire.Frame{Kind: wire.FrameOutput, Seq: seq, Data: big})
			}
			synctest.Wait()
		}
		clients[3].output(1, "x")
		synctest.Wait()
		// Two calls are under way already; the small one must be in the next but one at the latest.
		for range 4 {
			give(t, open)
			time.Sleep(10 * time.Millisecond)
		}
		clients[3].wantAck(2)
		close(open)
		for _, c := range clients[:3] {
			c.wantAck(21)
		}
	})
}
