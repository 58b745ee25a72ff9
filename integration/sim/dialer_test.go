package sim

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/coder/websocket"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/keys"
	"github.com/syscollective/saltpeter/internal/wire"
	"github.com/syscollective/saltpeter/wrapper"
)

// dialer dials gateways over the network in memory, with or without TLS.
type dialer struct{ p *wrapperProcess }

// Dial implements wrapper.Dialer.
func (d dialer) Dial(ctx context.Context, url string) (wrapper.Link, error) {
	m := d.p.m
	m.gate.pass()
	if d.p.dead() {
		return nil, errDead
	}
	var exporter []byte
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			return m.w.net.Host(m.name).Dial(ctx, addr)
		},
	}
	if m.w.plan.tls {
		transport.DialTLSContext = func(ctx context.Context, _, addr string) (conn net.Conn, err error) {
			conn, exporter, err = d.handshake(ctx, addr)
			return conn, err
		}
	} else {
		url = strings.Replace(url, "wss://", "ws://", 1)
	}
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: transport}, CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, fmt.Errorf("dial gateway: %w", err)
	}
	conn.SetReadLimit(wire.MaxToWrapper)
	l := &link{p: d.p, conn: conn, exporter: exporter, seats: map[int]saltpeter.TargetRef{}}
	d.p.mu.Lock()
	d.p.links = append(d.p.links, l)
	d.p.mu.Unlock()
	if d.p.dead() {
		conn.CloseNow()
		return nil, errDead
	}
	return l, nil
}

func (d dialer) handshake(ctx context.Context, addr string) (net.Conn, []byte, error) {
	w := d.p.m.w
	raw, err := w.net.Host(d.p.m.name).Dial(ctx, addr)
	if err != nil {
		return nil, nil, err
	}
	conn := tls.Client(raw, keys.PinnedClientTLS(w.ring.Pin()))
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, nil, err
	}
	state := conn.ConnectionState()
	exporter, err := state.ExportKeyingMaterial(wire.ExporterLabel, nil, 32)
	return conn, exporter, err
}

// link is a connection to a gateway. It holds every ack and grant against what is committed at that moment.
type link struct {
	p        *wrapperProcess
	conn     *websocket.Conn
	exporter []byte

	mu    sync.Mutex // guards seats
	seats map[int]saltpeter.TargetRef
}

// Exporter implements wrapper.Link.
func (l *link) Exporter() []byte { return l.exporter }

// Close implements wrapper.Link.
func (l *link) Close() { l.conn.CloseNow() }

// Send implements wrapper.Link.
func (l *link) Send(ctx context.Context, m *wire.Message) error {
	l.p.m.gate.pass()
	if l.p.dead() {
		return errDead
	}
	if m.Type == wire.TypeResume {
		l.seat(m.Run, saltpeter.TargetRef{Run: m.RunNum, Target: m.Target})
	}
	b, err := wire.Encode(m)
	if err != nil {
		return err
	}
	return l.conn.Write(ctx, websocket.MessageText, b)
}

// SendFrame implements wrapper.Link.
func (l *link) SendFrame(ctx context.Context, f *wire.Frame) error {
	l.p.m.gate.pass()
	if l.p.dead() {
		return errDead
	}
	return l.conn.Write(ctx, websocket.MessageBinary, wire.AppendFrame(nil, f))
}

// Recv implements wrapper.Link.
func (l *link) Recv(ctx context.Context) (*wire.Message, error) {
	kind, b, err := l.conn.Read(ctx)
	l.p.m.gate.pass()
	switch {
	case err != nil:
		return nil, err
	case l.p.dead():
		return nil, errDead
	case kind != websocket.MessageText:
		return nil, fmt.Errorf("a gateway sent a binary frame")
	}
	m, err := wire.Decode(b)
	if err == nil {
		l.watch(m)
		l.p.m.gate.pass()
	}
	return m, err
}

func (l *link) seat(run int, ref saltpeter.TargetRef) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seats[run] = ref
}

func (l *link) watch(m *wire.Message) {
	for i, r := range m.Runs {
		l.seat(i, saltpeter.TargetRef{Run: r.RunNum, Target: r.Target})
	}
	l.mu.Lock()
	ref := l.seats[m.Run]
	l.mu.Unlock()
	switch m.Type {
	case wire.TypeAck:
		l.p.m.w.commits.checkAck(ref, m)
	case wire.TypeGrant:
		l.p.m.w.commits.checkGrant(ref, l.p)
		if f := l.p.m.w.onGrant.Load(); f != nil {
			(*f)(l.p)
		}
	}
}
