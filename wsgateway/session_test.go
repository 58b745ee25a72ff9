package wsgateway

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

func TestRunFromHelloToResult(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		n := serve(t, r, nil)
		c := n.dial()
		if c.challenge.Cluster != clusterID || c.challenge.Node != "n1" || len(c.challenge.Challenge) != 32 || *c.challenge.LeaderAge != 42 {
			t.Fatalf("challenge %+v", c.challenge)
		}
		hello := helloOf(testLaunch, "web-1", "a")
		hello.Text = "command may still run: job_0"
		c.send(hello)
		runs := c.want(wire.TypeRuns).Runs
		if len(runs) != 1 || runs[0].RunNum != 7 || runs[0].Target != 3 || runs[0].State != "launched" || runs[0].HeartbeatMS != 5000 || runs[0].StartWindowMS != 60_000 {
			t.Fatalf("runs %+v", runs)
		}
		c.send(&wire.Message{Type: wire.TypeStart, Ask: 4})
		if g := c.want(wire.TypeGrant); g.Ask != 4 || g.Spec == nil || g.Spec.Command != "true" || g.Kill {
			t.Fatalf("grant %+v", g)
		}
		c.send(&wire.Message{Type: wire.TypeStarted, PID: 12})
		if a := c.want(wire.TypeAck); !a.Started || a.Ended {
			t.Fatalf("ack of started: %+v", a)
		}
		c.output(1, "one ")
		c.output(2, "two\xff")
		c.sendFrame(wire.Frame{Kind: wire.FrameSkip, Seq: 3, Covers: 4, Skipped: 99})
		c.send(&wire.Message{Type: wire.TypeRemark, Text: "slow disk"})
		c.send(&wire.Message{Type: wire.TypeResult, Seq: 7, Code: 3, Cause: "exit"})
		if a := c.wantAck(8); !a.Ended {
			t.Fatalf("last ack: %+v", a)
		}
		x := r.targets[testRef]
		if x.data.String() != "one two\xff" || x.skipped != 99 || x.result.Code != 3 || len(x.remarks) != 1 || r.sights[0].Remark != hello.Text {
			t.Fatalf("record %+v", x)
		}
	})
}

func TestHelloIsChecked(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*wire.Message)
		closed websocket.StatusCode // -1 = a final refusal
	}{
		"token of another launch": {func(m *wire.Message) { m.Token = "token of another" }, -1},
		"unknown launch":          {func(m *wire.Message) { m.Machine = "web-2" }, -1},
		"another version":         {func(m *wire.Message) { m.Version = 9 }, websocket.StatusPolicyViolation},
		"no machine":              {func(m *wire.Message) { m.Machine = "" }, websocket.StatusInvalidFramePayloadData},
		"short nonce":             {func(m *wire.Message) { m.Nonce = m.Nonce[:31] }, websocket.StatusInvalidFramePayloadData},
		"launch is no id":         {func(m *wire.Message) { m.Launch = "7" }, websocket.StatusInvalidFramePayloadData},
		"long name":               {func(m *wire.Message) { m.Host = strings.Repeat("x", maxName+1) }, websocket.StatusInvalidFramePayloadData},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := serve(t, oneTarget(t), nil).dial()
				m := helloOf(testLaunch, "web-1", "a")
				tc.change(m)
				c.send(m)
				if tc.closed != -1 {
					c.wantClosed(tc.closed)
					return
				}
				if got := c.want(wire.TypeRefused); !got.Final {
					t.Fatalf("refusal %+v", got)
				}
				c.send(helloOf(testLaunch, "web-1", "a"))
				c.wantClosed(websocket.StatusPolicyViolation)
			})
		})
	}
}

func TestRefusedHelloMayResume(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		r.change(testRef, func(x *recorded) { x.state, x.nonce, x.next = saltpeter.Started, nonceOf("a"), 5 })
		c := serve(t, r, nil).dial()
		m := helloOf(testLaunch, "web-1", "a")
		m.Token = "expired"
		c.send(m)
		c.want(wire.TypeRefused)
		c.send(resumeOf(testRef, "a"))
		if got := c.want(wire.TypeResumed); got.Next != 5 || got.State != "started" {
			t.Fatalf("resumed %+v", got)
		}
	})
}

// behind is a node that does not know yet which tokens are good.
type behind struct{}

func (behind) Verify(context.Context, saltpeter.LaunchID, string) error { return ErrTokenUnchecked }

// A node that has not caught up must not refuse for good: the wrapper may hold a grant that it has not heard of.
func TestTokenThatCannotBeCheckedYet(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := serve(t, oneTarget(t), func(c *Config) { c.Tokens = behind{} })
		c := n.dial()
		c.send(helloOf(testLaunch, "web-1", "a"))
		if m := c.want(wire.TypeRetry); m.AfterMS <= 0 {
			t.Fatalf("retry %+v", m)
		}
		n.g.cfg.Tokens = tokens{}
		c.send(helloOf(testLaunch, "web-1", "a"))
		c.want(wire.TypeRuns)
	})
}

func TestNobodyAsksTheLeaderUnchecked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		n := serve(t, r, func(c *Config) { c.Identity = refusing{ErrIdentityRefused} })
		c := n.dial()
		c.send(helloOf(testLaunch, "web-1", "a"))
		c.want(wire.TypeRefused)
		if r.count("hello") != 0 {
			t.Fatal("the leader was asked before the identity was known")
		}
		n.g.cfg.Identity = refusing{ErrIdentityUnavailable}
		c = n.dial()
		c.send(helloOf(testLaunch, "web-1", "a"))
		if m := c.want(wire.TypeRefused); m.Final {
			t.Fatalf("refusal %+v", m)
		}
		c.send(helloOf(testLaunch, "web-1", "a")) // here it is not looked up again
		c.wantClosed(websocket.StatusPolicyViolation)
		if r.count("hello")+r.count("start") != 0 {
			t.Fatal("the leader was asked before the identity was known")
		}
	})
}

type refusing struct{ err error }

func (r refusing) Verify(context.Context, string, *wire.Proof, []byte) error { return r.err }

func TestSilenceBeforeHello(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := serve(t, oneTarget(t), nil).dial()
		began := time.Now()
		c.send(&wire.Message{Type: wire.TypeBeat, N: 1}) // does not lengthen the patience with strangers
		c.wantClosed(websocket.StatusPolicyViolation)
		if took := time.Since(began); took != 10*time.Second {
			t.Fatalf("closed after %v", took)
		}
	})
}

func TestSilenceAfterHello(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := serve(t, oneTarget(t), nil)
		c := n.granted("a")
		for range 60 {
			time.Sleep(5 * time.Second)
			c.send(&wire.Message{Type: wire.TypeBeat, N: 9})
			if m := c.want(wire.TypeBeat); m.N != 9 || *m.LeaderAge != 42 {
				t.Fatalf("beat %+v", m)
			}
		}
		began := time.Now()
		c.wantClosed(websocket.StatusPolicyViolation)
		if took := time.Since(began); took < 60*time.Second || took > 90*time.Second {
			t.Fatalf("closed after %v", took)
		}
		synctest.Wait()
		if s := n.g.Sessions(); s != (Stats{}) {
			t.Fatalf("left behind: %+v", s)
		}
	})
}

// A grant is never the gateway's own: each ask reaches the leader, and without the leader there is none.
func TestGrantIsTheLeadersAnswer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		n := serve(t, r, nil)
		c := n.granted("a")
		c.send(&wire.Message{Type: wire.TypeStart, Ask: 2})
		if m := c.want(wire.TypeGrant); m.Ask != 2 || r.count("start") != 2 {
			t.Fatalf("grant %+v after %d starts", m, r.count("start"))
		}
		r.setFault(func(string) (bool, bool) { return true, false })
		c.send(&wire.Message{Type: wire.TypeStart, Ask: 3})
		c.want(wire.TypeRetry)
		c.send(resumeOf(testRef, "a"))
		c.want(wire.TypeRetry)
		r.setFault(nil)
		r.change(testRef, func(x *recorded) { x.state = saltpeter.Started })
		c.send(&wire.Message{Type: wire.TypeStart, Ask: 4})
		if m := c.want(wire.TypeRefused); !m.Final {
			t.Fatalf("refusal %+v", m)
		}
	})
}

func TestSecondWrapperIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		n := serve(t, r, nil)
		winner := n.granted("a")
		loser := n.dial()
		loser.send(helloOf(testLaunch, "web-1", "b"))
		loser.want(wire.TypeRuns)
		loser.send(&wire.Message{Type: wire.TypeStart, Ask: 1})
		if m := loser.want(wire.TypeRefused); !m.Final || m.Text == "" {
			t.Fatalf("refusal %+v", m)
		}
		// Its heartbeats are no sign of the winner.
		loser.send(&wire.Message{Type: wire.TypeBeat, N: 1})
		loser.want(wire.TypeBeat)
		time.Sleep(2 * time.Second)
		if r.heardOf(testRef) != 0 {
			t.Fatal("the loser's heartbeat counts for the winner")
		}
		winner.send(&wire.Message{Type: wire.TypeBeat, N: 1})
		winner.want(wire.TypeBeat)
		time.Sleep(2 * time.Second)
		if got := r.heardOf(testRef); got != 1 {
			t.Fatalf("heard %d times", got)
		}
		loser.output(1, "mine")
		loser.wantClosed(websocket.StatusPolicyViolation)
		winner.output(1, "mine")
		winner.wantAck(2)
	})
}

func TestResume(t *testing.T) {
	secret := secretOf("a")
	nonce := nonceOf("a")
	for name, tc := range map[string]struct {
		state  saltpeter.TargetState
		done   bool
		gone   bool
		kill   bool
		ask    *wire.Message
		want   wire.Message
		closed bool // words after it are a violation
	}{
		"started":               {state: saltpeter.Started, want: wire.Message{Type: wire.TypeResumed, State: "started", Next: 5}},
		"granted":               {state: saltpeter.Granted, want: wire.Message{Type: wire.TypeGrant, State: "granted", Next: 5, Ask: 8}},
		"granted, killed":       {state: saltpeter.Granted, kill: true, want: wire.Message{Type: wire.TypeGrant, State: "granted", Next: 5, Ask: 8, Kill: true}},
		"back after 253":        {state: saltpeter.Lost, want: wire.Message{Type: wire.TypeResumed, State: "lost", Next: 5}},
		"final word is known":   {state: saltpeter.OK, done: true, want: wire.Message{Type: wire.TypeResumed, State: "ok", Next: 5, Done: true}},
		"unknown":               {gone: true, want: wire.Message{Type: wire.TypeResumed, State: "unknown"}, closed: true},
		"launched":              {state: saltpeter.Launched, want: wire.Message{Type: wire.TypeResumed, State: "launched"}, closed: true},
		"nonce in place of it":  {state: saltpeter.Started, ask: &wire.Message{Secret: nonce[:]}, want: wire.Message{Type: wire.TypeRefused, Final: true}, closed: true},
		"another secret":        {state: saltpeter.Granted, ask: &wire.Message{Secret: secretOf("b")}, want: wire.Message{Type: wire.TypeRefused, Final: true}, closed: true},
		"another's final state": {state: saltpeter.Killed, ask: &wire.Message{Secret: secretOf("b")}, want: wire.Message{Type: wire.TypeRefused, Final: true}, closed: true},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := oneTarget(t)
				r.change(testRef, func(x *recorded) {
					x.state, x.done, x.gone, x.kill, x.nonce, x.next = tc.state, tc.done, tc.gone, tc.kill, nonce, 5
				})
				c := serve(t, r, nil).dial()
				m := &wire.Message{Type: wire.TypeResume, RunNum: testRef.Run, Target: testRef.Target, Secret: secret, Ask: 8}
				if tc.ask != nil {
					m.Secret = tc.ask.Secret
				}
				c.send(m)
				got := c.want(tc.want.Type)
				got.Spec, got.Text = nil, ""
				if g, w := encoded(t, got), encoded(t, &tc.want); g != w {
					t.Fatalf("got %s, want %s", g, w)
				}
				c.output(5, "x")
				if tc.closed {
					c.wantClosed(websocket.StatusPolicyViolation)
					return
				}
				if a := c.want(wire.TypeAck); !tc.done && a.Next != 6 {
					t.Fatalf("ack %+v", a)
				}
			})
		})
	}
}

func encoded(t *testing.T, m *wire.Message) string {
	t.Helper()
	b, err := wire.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestResumeWithoutSecretIsMalformed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		n := serve(t, r, nil)
		for _, secret := range [][]byte{nil, {}, make([]byte, minSecret-1), make([]byte, maxSecret+1)} {
			c := n.dial()
			c.send(&wire.Message{Type: wire.TypeResume, RunNum: 7, Target: 3, Secret: secret})
			c.wantClosed(websocket.StatusInvalidFramePayloadData)
		}
		if r.count("resume") != 0 {
			t.Fatal("the leader was asked")
		}
	})
}

func TestStrangersCantResumeForEver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		c := serve(t, r, func(c *Config) { c.Limits.Runs = 8 }).dial()
		for range 9 {
			c.send(&wire.Message{Type: wire.TypeResume, RunNum: 99, Secret: secretOf("x")})
		}
		c.wantClosed(websocket.StatusPolicyViolation)
		if got := r.count("resume"); got != 9 {
			t.Fatalf("%d resumes", got)
		}
	})
}

func TestNewerSessionTakesOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		n := serve(t, r, nil)
		first := n.granted("a")
		first.output(1, "one")
		first.wantAck(2)
		second := n.dial()
		second.send(resumeOf(testRef, "a"))
		second.want(wire.TypeGrant)
		first.wantClosed(websocket.StatusNormalClosure)
		second.output(2, "two")
		second.wantAck(3)
		n.g.Kill(testRef, time.Second)
		if m := second.want(wire.TypeKill); m.GraceMS != 1000 {
			t.Fatalf("kill %+v", m)
		}
		if s := n.g.Sessions(); s.Targets != 1 || s.Sessions != 1 {
			t.Fatalf("stats %+v", s)
		}
	})
}

func TestStartAfterResume(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		r.change(testRef, func(x *recorded) { x.state, x.nonce = saltpeter.Granted, nonceOf("a") })
		c := serve(t, r, nil).dial()
		m := resumeOf(testRef, "a")
		m.Launch, m.Machine = testLaunch.String(), "web-1"
		c.send(m)
		if g := c.want(wire.TypeGrant); g.Ask != 0 {
			t.Fatalf("grant %+v", g)
		}
		c.send(&wire.Message{Type: wire.TypeStart, Ask: 3})
		if g := c.want(wire.TypeGrant); g.Ask != 3 {
			t.Fatalf("grant %+v", g)
		}
	})
}

func TestDeclinedAfterRefusal(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		r.change(testRef, func(x *recorded) { x.state, x.nonce = saltpeter.Lost, nonceOf("a") })
		n := serve(t, r, nil)
		for who, ended := range map[string]bool{"a": true, "b": false} {
			c := n.dial()
			c.send(helloOf(testLaunch, "web-1", who))
			c.want(wire.TypeRuns)
			c.send(&wire.Message{Type: wire.TypeStart, Ask: 1})
			c.want(wire.TypeRefused)
			c.send(&wire.Message{Type: wire.TypeDeclined, Code: 254, Text: "too late"})
			if m := c.next(); ended != (m.Type == wire.TypeAck && m.Ended) || !ended && m.Type != wire.TypeRefused {
				t.Fatalf("%s: %+v", who, m)
			}
		}
	})
}

// A kill that meets the wrapper before it executes is declined, and the record has to learn that it was a kill.
func TestDeclinedForAKill(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		c := serve(t, r, nil).granted("a")
		c.send(&wire.Message{Type: wire.TypeDeclined, Code: 143, Cause: "kill", Text: "killed before it started"})
		if m := c.want(wire.TypeAck); !m.Ended {
			t.Fatalf("ack %+v", m)
		}
		r.change(testRef, func(x *recorded) {
			if x.result.Kind != saltpeter.WordDeclined || x.result.Cause != saltpeter.EndKill || x.result.Code != 143 {
				t.Errorf("the record was told %+v", x.result)
			}
		})
	})
}

func TestLocked(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := oneTarget(t)
		n := serve(t, r, nil)
		c := n.dial()
		c.send(helloOf(testLaunch, "web-1", "a"))
		c.want(wire.TypeRuns)
		r.setFault(func(string) (bool, bool) { return false, false })
		c.send(&wire.Message{Type: wire.TypeLocked, Text: "held by job_0"})
		c.want(wire.TypeRetry)
		r.setFault(nil)
		c.send(&wire.Message{Type: wire.TypeLocked, Text: "held by job_0"})
		if m := c.want(wire.TypeAck); !m.Ended {
			t.Fatalf("ack %+v", m)
		}
		if len(r.locks) != 1 || r.locks[0].Ref != testRef || r.locks[0].Text != "held by job_0" || r.locks[0].Sight.Machine != "web-1" {
			t.Fatalf("locks %+v", r.locks)
		}
		stranger := n.dial()
		stranger.send(&wire.Message{Type: wire.TypeLocked})
		stranger.wantClosed(websocket.StatusPolicyViolation)
	})
}

func TestKill(t *testing.T) {
	t.Run("pushed to the winner", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			n := serve(t, oneTarget(t), nil)
			c := n.granted("a")
			n.g.Kill(saltpeter.TargetRef{Run: 8}, time.Second)
			c.wantNothing()
			n.g.Kill(testRef, 2*time.Second)
			if m := c.want(wire.TypeKill); m.GraceMS != 2000 {
				t.Fatalf("kill %+v", m)
			}
		})
	})
	t.Run("while the start claim is under way", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := oneTarget(t)
			n := serve(t, r, nil)
			c := n.dial()
			c.send(helloOf(testLaunch, "web-1", "a"))
			c.want(wire.TypeRuns)
			r.setFault(func(string) (bool, bool) { n.g.Kill(testRef, 0); return true, true })
			c.send(&wire.Message{Type: wire.TypeStart, Ask: 1})
			if m := c.want(wire.TypeGrant); !m.Kill {
				t.Fatalf("grant %+v", m)
			}
		})
	})
	t.Run("by the answer to a report, once", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := oneTarget(t)
			c := serve(t, r, nil).granted("a")
			r.change(testRef, func(x *recorded) { x.kill = true })
			c.output(1, "x")
			c.want(wire.TypeKill)
			c.wantAck(2)
			c.output(2, "x")
			c.wantAck(3)
		})
	})
	t.Run("again at a resume", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			r := oneTarget(t)
			n := serve(t, r, nil)
			n.granted("a").hangUp()
			r.change(testRef, func(x *recorded) { x.state, x.kill = saltpeter.Started, true })
			for range 2 {
				c := n.dial()
				c.send(resumeOf(testRef, "a"))
				c.want(wire.TypeResumed)
				c.want(wire.TypeKill)
			}
		})
	})
}

func TestStopClosesSessions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := serve(t, oneTarget(t), nil)
		c, stranger := n.granted("a"), n.dial()
		began := time.Now()
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Fatalf("took %v", took)
		}
		c.wantClosed(websocket.StatusGoingAway)
		stranger.wantClosed(websocket.StatusGoingAway)
		if s := n.g.Sessions(); s != (Stats{}) {
			t.Fatalf("left behind: %+v", s)
		}
	})
}
