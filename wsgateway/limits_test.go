package wsgateway

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/syscollective/saltpeter/internal/wire"
)

func TestTooManySessions(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := serve(t, oneTarget(t), func(c *Config) { c.Limits.Sessions = 2 })
		first := n.dial()
		n.dial()
		if _, err := n.tryDial(); err == nil || !strings.Contains(err.Error(), "status 503") {
			t.Fatalf("third session: %v", err)
		}
		first.hangUp()
		synctest.Wait()
		n.dial()
	})
}

func TestTooManySessionsOfOneMachine(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := serve(t, oneTarget(t), func(c *Config) { c.Limits.PerMachine = 1 })
		first := n.granted("a")
		second := n.dial()
		second.send(helloOf(testLaunch, "web-1", "b"))
		second.wantClosed(websocket.StatusTryAgainLater)
		first.hangUp()
		synctest.Wait()
		n.granted("a")
	})
}

func TestHandshakesAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := serve(t, oneTarget(t), func(c *Config) { c.Limits.Handshakes = 2 })
		for range 2 {
			c, err := n.ln.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
		}
		synctest.Wait()
		if s := n.g.Sessions(); s.Handshakes != 2 {
			t.Fatalf("stats %+v", s)
		}
		began := time.Now()
		n.dial() // waits until the silent ones are dropped
		if took := time.Since(began); took != 10*time.Second {
			t.Fatalf("served after %v", took)
		}
	})
}

func TestOnlyOnePath(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := serve(t, oneTarget(t), nil)
		for request, want := range map[string]int{
			"GET / HTTP/1.1\r\nHost: x\r\n\r\n":                                                   http.StatusNotFound,
			"GET " + wire.Path + " HTTP/1.1\r\nHost: x\r\n\r\n":                                   http.StatusUpgradeRequired,
			"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 4*maxHeader) + "\r\n\r\n":    http.StatusRequestHeaderFieldsTooLarge,
			"GET " + wire.Path + " HTTP/1.1\r\nHost: x\r\nOrigin: http://evil\r\n" + upgradeLines: http.StatusForbidden,
		} {
			c, err := n.ln.dial(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			go func() { _, _ = c.Write([]byte(request)) }()
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != want {
				t.Errorf("%.40q: status %d, want %d", request, resp.StatusCode, want)
			}
			c.Close()
		}
		time.Sleep(time.Second) // net/http waits before it closes on a header that it did not read
		synctest.Wait()
		if s := n.g.Sessions(); s != (Stats{}) {
			t.Fatalf("left behind: %+v", s)
		}
	})
}

const upgradeLines = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"

func TestOrdinals(t *testing.T) {
	other := testRef
	other.Target++
	for name, steps := range map[string][]*wire.Message{
		"two targets under one number": {resumeOf(testRef, "a"), resumeOf(other, "a")},
		"one target under two numbers": {resumeOf(testRef, "a"), {Type: wire.TypeResume, Run: 1, RunNum: testRef.Run, Target: testRef.Target, Secret: secretOf("a")}},
		"number out of range":          {{Type: wire.TypeResume, Run: 1 << 20, RunNum: 1, Secret: secretOf("a")}},
		"start of a resumed stranger":  {resumeOf(other, "b"), {Type: wire.TypeStart, Ask: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := serve(t, oneTarget(t), nil).dial()
				for _, m := range steps {
					c.send(m)
				}
				c.wantClosed(websocket.StatusPolicyViolation)
			})
		})
	}
}

func TestServeNeedsItsParts(t *testing.T) {
	if err := New(Config{}).Serve(t.Context(), newPipes()); !errors.Is(err, errConfig) {
		t.Fatalf("got %v", err)
	}
}

func TestListenerThatFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := New(Config{Leader: newRecord(t), Tokens: tokens{}, Identity: AnyMachine{}, Contact: noContact})
		ln := newPipes()
		done := make(chan error)
		go func() { done <- g.Serve(context.Background(), ln) }()
		n := &node{t: t, g: g, ln: ln}
		c := n.dial()
		if *c.challenge.LeaderAge != -1 {
			t.Fatalf("challenge %+v", c.challenge)
		}
		_ = ln.Close()
		if err := <-done; err == nil {
			t.Fatal("no error")
		}
		c.wantClosed(websocket.StatusGoingAway)
		if err := g.Serve(t.Context(), newPipes()); !errors.Is(err, errServed) {
			t.Fatalf("second time: %v", err)
		}
	})
}

func TestMetricsFitTogether(t *testing.T) {
	bubble(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		c := serve(t, oneTarget(t), func(c *Config) { c.Registerer = reg }).granted("a")
		c.output(1, "x")
		c.wantAck(2)
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]float64{}
		for _, f := range families {
			if m := f.GetMetric()[0]; m.GetCounter() != nil {
				got[f.GetName()] = m.GetCounter().GetValue()
			}
		}
		if got["saltpeter_wsgateway_words_total"] != 1 || got["saltpeter_wsgateway_asks_total"] != 1 {
			t.Fatalf("metrics %v", got)
		}
	})
}

func TestPings(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := serve(t, oneTarget(t), func(c *Config) { c.Limits.Rate, c.Limits.Burst = 0.001, 3 }).dial()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 3 {
			if err := c.ws.Ping(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.ws.Ping(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("a ping beyond the rate: %v", err)
		}
	})
}

func TestAppendNextIsEncode(t *testing.T) {
	for _, m := range []wire.Message{
		{Type: wire.TypeAck},
		{Type: wire.TypeAck, Run: 3, Next: 1 << 60, Started: true, Ended: true},
		{Type: wire.TypeAck, Next: 5, Ended: true},
		{Type: wire.TypeExpect, Run: 1, Next: 1},
	} {
		want, err := wire.Encode(&m)
		if err != nil {
			t.Fatal(err)
		}
		if got := appendNext(nil, m.Type, m.Run, m.Next, m.Started, m.Ended); string(got) != string(want) {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
