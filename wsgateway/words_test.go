package wsgateway

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

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
