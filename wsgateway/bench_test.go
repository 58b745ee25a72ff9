package wsgateway

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

// instant is a leader that grants every hello a run of its own and commits everything after a delay.
type instant struct {
	delay time.Duration
	runs  atomic.Uint64
	calls atomic.Uint64

	mu   sync.Mutex
	next map[saltpeter.TargetRef]uint64
}

func newInstant(delay time.Duration) *instant {
	return &instant{delay: delay, next: map[saltpeter.TargetRef]uint64{}}
}

func (l *instant) Hello(context.Context, saltpeter.LaunchSight) ([]saltpeter.LaunchedRun, error) {
	return []saltpeter.LaunchedRun{{Ref: saltpeter.TargetRef{Run: l.runs.Add(1)}, Run: "job_1", Job: "job", State: saltpeter.Launched}}, nil
}

func (l *instant) Start(_ context.Context, ask saltpeter.StartAsk) (saltpeter.StartAnswer, error) {
	return saltpeter.StartAnswer{Granted: true, Spec: &saltpeter.Spec{Ref: ask.Ref, Run: "job_1", Job: "job", Command: "true"}}, nil
}

func (l *instant) Resume(context.Context, saltpeter.ResumeAsk) (saltpeter.ResumeAnswer, error) {
	return saltpeter.ResumeAnswer{Unknown: true}, nil
}

func (l *instant) Report(_ context.Context, reports []saltpeter.Report) ([]saltpeter.ReportAnswer, error) {
	l.calls.Add(1)
	if l.delay > 0 {
		time.Sleep(l.delay)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	answers := make([]saltpeter.ReportAnswer, len(reports))
	for i := range reports {
		r := &reports[i]
		next := max(l.next[r.Ref], 1)
		for j := range r.Words {
			if numbered(r.Words[j].Kind) && r.Words[j].Seq == next {
				next = after(&r.Words[j])
			}
		}
		l.next[r.Ref] = next
		answers[i] = saltpeter.ReportAnswer{Ref: r.Ref, Next: next, Started: true}
	}
	return answers, nil
}

func (l *instant) Lock(context.Context, saltpeter.LockRefusal) error         { return nil }
func (l *instant) Heard(context.Context, []saltpeter.TargetRef) error        { return nil }
func (l *instant) Verify(context.Context, string, *wire.Proof, []byte) error { return nil }

const benchWindow = 16

var benchLine = make([]byte, 200)

// BenchmarkAckedWords is how many words of 200 bytes per second 1,000 sessions get acked with a window of 16, over plain
// loopback, beside a bare echo of the same messages with the same library and window ("bare").
func BenchmarkAckedWords(b *testing.B) {
	const sessions = 1000
	b.Run("gateway", func(b *testing.B) {
		leader := newInstant(time.Millisecond)
		addr := serveTCP(b, leader)
		conns := dialAll(b, addr, sessions, func(c *client) { c.win() })
		drive(b, conns, func(m *wire.Message) uint64 { return m.Next })
		b.ReportMetric(float64(b.N)/float64(leader.calls.Load()), "words/call")
	})
	b.Run("bare", func(b *testing.B) {
		addr := serveEcho(b)
		conns := dialAll(b, addr, sessions, func(*client) {})
		drive(b, conns, nil)
	})
}

func serveTCP(b *testing.B, leader Leader) string {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	g := New(Config{
		Cluster: clusterID, Leader: leader, Tokens: tokens{}, Identity: AnyMachine{}, Contact: noContact,
		Limits: Limits{PerMachine: 1 << 20, Rate: 1e9, Burst: 1e9},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Serve(ctx, ln) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return ln.Addr().String()
}

func serveEcho(b *testing.B) string {
	b.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(bareEcho), ReadHeaderTimeout: time.Second}
	done := make(chan struct{})
	go func() { _ = srv.Serve(ln); close(done) }()
	b.Cleanup(func() { _ = srv.Close(); <-done })
	return ln.Addr().String()
}

// bareEcho is the library as its documentation shows it.
func bareEcho(w http.ResponseWriter, r *http.Request) {
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	ws.SetReadLimit(wire.MaxToGateway)
	ctx := context.Background()
	for {
		kind, msg, err := ws.Read(ctx)
		if err != nil || ws.Write(ctx, kind, msg) != nil {
			return
		}
	}
}

func dialAll(b *testing.B, addr string, sessions int, ready func(*client)) []*client {
	b.Helper()
	clients := make([]*client, sessions)
	for i := range clients {
		ws, err := dialWS(b.Context(), "ws://"+addr, http.DefaultClient)
		if err != nil {
			b.Fatal(err)
		}
		clients[i] = &client{t: b, ws: ws}
		b.Cleanup(clients[i].hangUp)
		ready(clients[i])
	}
	return clients
}

// win goes from the challenge to the grant without a reader of its own.
func (c *client) win() {
	for _, m := range []*wire.Message{nil, helloOf(testLaunch, "web-1", "a"), {Type: wire.TypeStart, Ask: 1}} {
		if m != nil {
			c.send(m)
		}
		if _, err := c.readOne(); err != nil {
			c.t.Fatal(err)
		}
	}
}

// drive has all clients send b.N words together and wait for what comes back; acked reads an ack, nil = one message per word.
func drive(b *testing.B, clients []*client, acked func(*wire.Message) uint64) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	var all sync.WaitGroup
	for i, c := range clients {
		n := uint64(b.N / len(clients))
		if i < b.N%len(clients) {
			n++
		}
		all.Go(func() {
			if err := c.push(n, acked); err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "words/s")
}

func (c *client) push(n uint64, acked func(*wire.Message) uint64) error {
	sent, done := uint64(0), uint64(0)
	var buf []byte
	for done < n {
		for sent < n && sent < done+benchWindow {
			sent++
			buf = wire.AppendFrame(buf[:0], &wire.Frame{Kind: wire.FrameOutput, Seq: sent, AtMillis: 5, Data: benchLine})
			if err := c.ws.Write(context.Background(), websocket.MessageBinary, buf); err != nil {
				return err
			}
		}
		_, r, err := c.ws.Reader(context.Background())
		if err != nil {
			return err
		}
		if acked == nil {
			if _, err := io.Copy(io.Discard, r); err != nil {
				return err
			}
			done++
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		m, err := wire.Decode(b)
		if err != nil {
			return err
		}
		if m.Type != wire.TypeAck {
			return fmt.Errorf("got %+v", m)
		}
		done = max(done, acked(m)-1)
	}
	return nil
}
