package wsgateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

// pipes is a listener in memory.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), closed: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "pipe"} }

func (p *pipes) dial(ctx context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type tokens struct{}

var errBadToken = errors.New("bad token")

func (tokens) Verify(_ context.Context, launch saltpeter.LaunchID, token string) error {
	if token != "token of "+launch.String() {
		return errBadToken
	}
	return nil
}

const clusterID = "0b7e5c1e-5d5c-4f0e-9a37-1c2f6d1f0a11"

// node is a gateway that serves.
type node struct {
	t    testing.TB
	g    *Gateway
	ln   *pipes
	stop func() error
}

// serve starts a gateway over r; change may alter its configuration. It is stopped at the test's end.
func serve(t testing.TB, r Leader, change func(*Config)) *node {
	t.Helper()
	cfg := Config{
		Cluster: clusterID, Node: "n1", Leader: &watched{Leader: r, t: t, flying: map[saltpeter.TargetRef]int{}}, Tokens: tokens{}, Identity: AnyMachine{},
		Contact: func() (time.Duration, bool) { return 42 * time.Millisecond, true },
	}
	if change != nil {
		change(&cfg)
	}
	n := &node{t: t, g: New(cfg), ln: newPipes()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.g.Serve(ctx, n.ln) }()
	n.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := n.stop(); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return n
}

// client is a wrapper's end of a session.
type client struct {
	t         testing.TB
	ws        *websocket.Conn
	in        chan *wire.Message
	err       error // of the reader, once in is closed
	challenge *wire.Message
}

func (n *node) tryDial() (*client, error) {
	c, err := n.tryDialDeaf()
	if err == nil {
		go c.read()
	}
	return c, err
}

// tryDialDeaf connects a client that reads only what readOne is called for.
func (n *node) tryDialDeaf() (*client, error) {
	hc := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return n.ln.dial(ctx) },
	}}
	ws, err := dialWS(context.Background(), "ws://gateway", hc)
	if err != nil {
		return nil, err
	}
	return &client{t: n.t, ws: ws, in: make(chan *wire.Message, 4096)}, nil
}

// dial connects and takes the challenge.
func (n *node) dial() *client {
	n.t.Helper()
	c, err := n.tryDial()
	if err != nil {
		n.t.Fatalf("dial: %v", err)
	}
	n.t.Cleanup(c.hangUp)
	c.challenge = c.want(wire.TypeChallenge)
	return c
}

func dialWS(ctx context.Context, base string, hc *http.Client) (*websocket.Conn, error) {
	ws, resp, err := websocket.Dial(ctx, base+wire.Path, &websocket.DialOptions{HTTPClient: hc}) //nolint:bodyclose // the library's
	if err != nil {
		if resp != nil {
			return nil, fmt.Errorf("status %d: %w", resp.StatusCode, err)
		}
		return nil, err
	}
	ws.SetReadLimit(wire.MaxToWrapper)
	return ws, nil
}

func (c *client) read() {
	defer close(c.in)
	for {
		m, err := c.readOne()
		if err != nil {
			c.err = err
			return
		}
		c.in <- m
	}
}

func (c *client) readOne() (*wire.Message, error) {
	_, b, err := c.ws.Read(context.Background())
	if err != nil {
		return nil, err
	}
	return wire.Decode(b)
}

func (c *client) hangUp() { _ = c.ws.CloseNow() }

func (c *client) send(m *wire.Message) {
	c.t.Helper()
	b, err := wire.Encode(m)
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.ws.Write(context.Background(), websocket.MessageText, b); err != nil {
		c.t.Fatalf("send %s: %v", m.Type, err)
	}
}

func (c *client) sendFrame(f wire.Frame) {
	c.t.Helper()
	if err := c.ws.Write(context.Background(), websocket.MessageBinary, wire.AppendFrame(nil, &f)); err != nil {
		c.t.Fatalf("send frame %d: %v", f.Seq, err)
	}
}

func (c *client) output(seq uint64, data string) {
	c.t.Helper()
	c.sendFrame(wire.Frame{Kind: wire.FrameOutput, Seq: seq, AtMillis: seq, Data: []byte(data)})
}

// next gives the next message, nil if the session was closed.
func (c *client) next() *wire.Message {
	c.t.Helper()
	select {
	case m := <-c.in:
		return m
	case <-time.After(5 * time.Minute):
		c.t.Fatal("nothing came for five minutes")
		return nil
	}
}

func (c *client) want(kind wire.Type) *wire.Message {
	c.t.Helper()
	m := c.next()
	if m == nil {
		c.t.Fatalf("want %s, session closed: %v", kind, c.err)
	}
	if m.Type != kind {
		c.t.Fatalf("want %s, got %+v", kind, m)
	}
	return m
}

// wantAck reads acks until one says next.
func (c *client) wantAck(next uint64) *wire.Message {
	c.t.Helper()
	for {
		m := c.want(wire.TypeAck)
		if m.Next > next {
			c.t.Fatalf("ack of %d, want %d", m.Next, next)
		}
		if m.Next == next {
			return m
		}
	}
}

// wantNothing says that nothing is on its way once the bubble is idle.
func (c *client) wantNothing() {
	c.t.Helper()
	synctest.Wait()
	select {
	case m, ok := <-c.in:
		if !ok {
			c.t.Fatalf("want nothing, session closed: %v", c.err)
		}
		c.t.Fatalf("want nothing, got %+v", m)
	default:
	}
}

// wantClosed says that the gateway closes the session with a status, dropping messages before that.
func (c *client) wantClosed(code websocket.StatusCode) {
	c.t.Helper()
	for c.next() != nil {
	}
	if got := websocket.CloseStatus(c.err); got != code {
		c.t.Fatalf("closed with %v (%v), want %v", got, c.err, code)
	}
}

var (
	testLaunch = saltpeter.LaunchIDAt(time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC))
	testRef    = saltpeter.TargetRef{Run: 7, Target: 3}
)

func secretOf(who string) []byte { b := sha256.Sum256([]byte("secret of " + who)); return b[:] }

func nonceOf(who string) saltpeter.Nonce { return sha256.Sum256(secretOf(who)) }

func helloOf(launch saltpeter.LaunchID, machine, who string) *wire.Message {
	nonce := nonceOf(who)
	return &wire.Message{
		Type: wire.TypeHello, Version: wire.Version, Launch: launch.String(), Machine: machine, BootID: "boot", Host: "host",
		Build: "test", Nonce: nonce[:], Token: "token of " + launch.String(),
	}
}

func resumeOf(ref saltpeter.TargetRef, who string) *wire.Message {
	return &wire.Message{Type: wire.TypeResume, RunNum: ref.Run, Target: ref.Target, Secret: secretOf(who)}
}

// granted dials, says hello, starts, and gives the client that won testRef.
func (n *node) granted(who string) *client {
	n.t.Helper()
	c := n.dial()
	c.send(helloOf(testLaunch, "web-1", who))
	c.want(wire.TypeRuns)
	c.send(&wire.Message{Type: wire.TypeStart, Ask: 1})
	c.want(wire.TypeGrant)
	return c
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func noContact() (time.Duration, bool) { return 0, false }

// give and take meet somebody at a channel, or fail: a bubble with tickers in it never deadlocks by itself.
func give(t testing.TB, c chan<- struct{}) {
	t.Helper()
	select {
	case c <- struct{}{}:
	case <-time.After(time.Hour):
		t.Fatal("nobody came")
	}
}

func take(t testing.TB, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(time.Hour):
		t.Fatal("nobody came")
	}
}
