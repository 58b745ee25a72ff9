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

func TestAckOnlyAfterCommit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		commit := make(chan struct{})
		c := serve(t, r, nil).granted("a")
		r.setGate(func() { <-commit })
		c.output(1, "one")
		time.Sleep(time.Second)
		c.wantNothing()
		r.setFault(func(string) (bool, bool) { return true, false }) // committed, but the answer is lost
		give(t, commit)
		time.Sleep(time.Second)
		c.wantNothing()
		r.setFault(nil)
		give(t, commit)
		c.wantAck(2)
		if got := r.targets[testRef].data.String(); got != "one" {
			t.Fatalf("record has %q", got)
		}
	})
}

// An answer that says less than what was sent is believed.
func TestAckIsTheAnswers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		r.change(testRef, func(x *recorded) { x.limit = 2 })
		c := serve(t, r, nil).granted("a")
		commit := make(chan struct{})
		r.setGate(func() { <-commit })
		c.output(1, "one")
		c.output(2, "two")
		time.Sleep(time.Second)
		c.output(3, "three") // waits behind, and would leave a gap
		synctest.Wait()
		close(commit)
		if m := c.want(wire.TypeExpect); m.Next != 2 {
			t.Fatalf("expect %+v", m)
		}
		if m := c.want(wire.TypeAck); m.Next != 2 {
			t.Fatalf("ack %+v", m)
		}
		time.Sleep(time.Second)
		c.wantNothing()
		r.change(testRef, func(x *recorded) { x.limit = 0 })
		c.output(2, "two")
		c.output(3, "three")
		c.wantAck(4)
	})
}

// The record may have more than this session told, of a session that went before it.
func TestAnswerBeyondWhatWasSent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		c := serve(t, r, nil).granted("a")
		r.change(testRef, func(x *recorded) { x.next = 5 })
		c.output(1, "1")
		c.wantAck(5)
		c.output(5, "5")
		c.wantAck(6)
	})
}

// A resume on the session that has the run begins anew at the record's number: what waited is not passed on after it.
func TestResumeDropsWhatWaits(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		n := serve(t, r, nil)
		c := n.granted("a")
		c.output(1, "1")
		c.wantAck(2)
		r.setFault(func(op string) (bool, bool) { return op != "report", op != "report" })
		c.output(2, "2")
		time.Sleep(10 * time.Second)
		r.change(testRef, func(x *recorded) { x.next = 1; x.data.Reset() })
		c.send(resumeOf(testRef, "a"))
		if m := c.want(wire.TypeGrant); m.Next != 1 {
			t.Fatalf("grant %+v", m)
		}
		r.setFault(nil)
		time.Sleep(time.Second)
		c.output(1, "1")
		c.output(2, "2")
		c.wantAck(3)
		if got := r.targets[testRef].data.String(); got != "12" {
			t.Fatalf("record has %q", got)
		}
	})
}

func TestGapIsNotPassedOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		c := serve(t, r, nil).granted("a")
		c.output(1, "1")
		c.wantAck(2)
		c.output(3, "3")
		if m := c.want(wire.TypeExpect); m.Next != 2 {
			t.Fatalf("expect %+v", m)
		}
		c.output(4, "4") // was under way
		c.send(&wire.Message{Type: wire.TypeResult, Seq: 5})
		c.wantNothing()
		c.send(&wire.Message{Type: wire.TypeBeat, N: 1}) // did the wrapper hear us?
		c.want(wire.TypeExpect)
		c.want(wire.TypeBeat)
		for seq := uint64(2); seq <= 4; seq++ {
			c.output(seq, fmt.Sprint(seq))
		}
		c.wantAck(5)
		if x := r.targets[testRef]; x.data.String() != "1234" || x.done {
			t.Fatalf("record %+v", x)
		}
	})
}

func TestRepetitionIsAckedAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		c := serve(t, r, nil).granted("a")
		c.output(1, "1")
		c.output(2, "2")
		c.wantAck(3)
		c.output(1, "1")
		c.wantAck(3)
		if got := r.targets[testRef].data.String(); got != "12" {
			t.Fatalf("record has %q", got)
		}
	})
}

func TestSkipAcrossTheBorder(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		c := serve(t, r, nil).granted("a")
		c.output(1, "1")
		c.output(2, "2")
		c.wantAck(3)
		c.sendFrame(wire.Frame{Kind: wire.FrameSkip, Seq: 2, Covers: 4, Skipped: 10})
		if m := c.want(wire.TypeExpect); m.Next != 3 {
			t.Fatalf("expect %+v", m)
		}
		c.sendFrame(wire.Frame{Kind: wire.FrameSkip, Seq: 3, Covers: 3, Skipped: 10})
		c.wantAck(6)
	})
}

// The record went back (a backup was restored): the wrapper is asked for the number that the record wants, and its answer is
// a skip.
func TestRecordThatWentBack(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		c := serve(t, r, nil).granted("a")
		c.output(1, "1")
		c.output(2, "2")
		c.wantAck(3)
		r.change(testRef, func(x *recorded) { x.next = 1; x.data.Reset() })
		r.tolerate(true)
		c.output(3, "3")
		if m := c.want(wire.TypeExpect); m.Next != 1 {
			t.Fatalf("expect %+v", m)
		}
		c.want(wire.TypeAck)
		r.tolerate(false)
		c.sendFrame(wire.Frame{Kind: wire.FrameSkip, Seq: 1, Covers: 2, Skipped: 2})
		c.output(3, "3")
		c.wantAck(4)
		if x := r.targets[testRef]; x.data.String() != "3" || x.skipped != 2 {
			t.Fatalf("record %+v", x)
		}
	})
}

func TestRecordForgotTheRun(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		c := serve(t, r, nil).granted("a")
		r.change(testRef, func(x *recorded) { x.gone = true })
		c.output(1, "1")
		if m := c.want(wire.TypeRefused); m.Final || m.Text != "unknown run" {
			t.Fatalf("refused %+v", m)
		}
		c.output(2, "2") // was under way: no violation
		c.wantNothing()
		c.send(&wire.Message{Type: wire.TypeBeat})
		c.want(wire.TypeBeat)
		time.Sleep(time.Second)
		if r.heardOf(testRef) != 0 {
			t.Fatal("a session whose words are refused counts as a sign of the winner")
		}
		c.send(resumeOf(testRef, "a"))
		if m := c.want(wire.TypeResumed); m.State != "unknown" {
			t.Fatalf("resumed %+v", m)
		}
	})
}

func TestAnswersThatDontFitAreErrors(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		bad := &misanswering{record: r, bad: true}
		c := serve(t, bad, nil).granted("a")
		c.output(1, "1")
		time.Sleep(time.Second)
		c.wantNothing()
		bad.set(false)
		c.wantAck(2)
	})
}

func TestWordsNeedAWin(t *testing.T) {
	for name, m := range map[string]*wire.Message{
		"started":     {Type: wire.TypeStarted},
		"result":      {Type: wire.TypeResult, Seq: 1},
		"remark":      {Type: wire.TypeRemark, Text: "x"},
		"soft":        {Type: wire.TypeSoft},
		"another run": {Type: wire.TypeStarted, Run: 1},
		"far run":     {Type: wire.TypeStarted, Run: 1 << 40},
		"challenge":   {Type: wire.TypeChallenge},
		"unknown":     {Type: "dance"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := oneTarget(t)
				c := serve(t, r, nil).dial()
				c.send(helloOf(testLaunch, "web-1", "a"))
				c.want(wire.TypeRuns)
				c.send(m)
				c.wantClosed(websocket.StatusPolicyViolation)
				if r.count("report") != 0 {
					t.Fatal("reported")
				}
			})
		})
	}
	t.Run("declined by a stranger", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			c := serve(t, oneTarget(t), nil).dial()
			c.send(&wire.Message{Type: wire.TypeDeclined})
			c.wantClosed(websocket.StatusPolicyViolation)
		})
	})
}

func TestMalformed(t *testing.T) {
	for name, tc := range map[string]struct {
		kind websocket.MessageType
		b    []byte
		code websocket.StatusCode
	}{
		"not JSON":        {websocket.MessageText, []byte("{"), websocket.StatusInvalidFramePayloadData},
		"no type":         {websocket.MessageText, []byte("{}"), websocket.StatusInvalidFramePayloadData},
		"empty frame":     {websocket.MessageBinary, nil, websocket.StatusInvalidFramePayloadData},
		"frame kind":      {websocket.MessageBinary, []byte{9, 0, 1, 0}, websocket.StatusInvalidFramePayloadData},
		"number too big":  {websocket.MessageBinary, wire.AppendFrame(nil, &wire.Frame{Kind: wire.FrameOutput, Seq: maxSeq + 1}), websocket.StatusInvalidFramePayloadData},
		"covers too much": {websocket.MessageBinary, wire.AppendFrame(nil, &wire.Frame{Kind: wire.FrameSkip, Seq: 1, Covers: maxCovers + 1}), websocket.StatusInvalidFramePayloadData},
		"code":            {websocket.MessageText, []byte(`{"type":"result","seq":1,"code":256}`), websocket.StatusInvalidFramePayloadData},
		"cause":           {websocket.MessageText, []byte(`{"type":"result","seq":1,"cause":"boredom"}`), websocket.StatusInvalidFramePayloadData},
		"result's number": {websocket.MessageText, []byte(`{"type":"result"}`), websocket.StatusInvalidFramePayloadData},
		"long text":       {websocket.MessageText, []byte(`{"type":"remark","text":"` + strings.Repeat("x", maxText+1) + `"}`), websocket.StatusInvalidFramePayloadData},
		"too big":         {websocket.MessageBinary, make([]byte, wire.MaxToGateway+1), websocket.StatusMessageTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := oneTarget(t)
				c := serve(t, r, nil).granted("a")
				_ = c.ws.Write(t.Context(), tc.kind, tc.b) // the gateway may close while it is still written
				c.wantClosed(tc.code)
				if r.count("report") != 0 {
					t.Fatal("reported")
				}
			})
		})
	}
}

func TestStrangersMessagesAreSmall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := serve(t, oneTarget(t), nil).dial()
		_ = c.ws.Write(t.Context(), websocket.MessageText, make([]byte, maxHello+1))
		c.wantClosed(websocket.StatusMessageTooBig)
	})
}

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

// While a target's words are in a call, what it tells more waits, though a second call would be free.
func TestOneCallPerTarget(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		c := serve(t, r, nil).granted("a")
		in, out := make(chan struct{}), make(chan struct{})
		r.setGate(func() { in <- struct{}{}; <-out })
		c.output(1, "1")
		take(t, in)
		c.output(2, "2")
		c.output(3, "3")
		time.Sleep(time.Second)
		select {
		case <-in:
			t.Fatal("a second call with the same target")
		default:
		}
		give(t, out)
		take(t, in)
		give(t, out)
		c.wantAck(2)
		if a := c.want(wire.TypeAck); a.Next != 4 {
			t.Fatalf("the two that waited are acked one by one: %+v", a)
		}
	})
}
