package wrapper

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/syscollective/saltpeter/internal/keys"
	"github.com/syscollective/saltpeter/internal/wire"
)

// Link is what a session needs of a connection to a gateway. One goroutine may send while another receives.
type Link interface {
	Send(ctx context.Context, m *wire.Message) error
	SendFrame(ctx context.Context, f *wire.Frame) error
	// Recv gives the next control message.
	Recv(ctx context.Context) (*wire.Message, error)
	// Exporter gives the bytes that bind a proof to this connection, nil if it has none.
	Exporter() []byte
	// Close cuts the connection at once.
	Close()
}

// Dialer is what a session needs to reach a gateway.
type Dialer interface {
	Dial(ctx context.Context, url string) (Link, error)
}

// exporterSize is how many bytes of the TLS exporter enter a proof.
const exporterSize = 32

// webSocketDialer dials gateways whose certificates come from the pinned authority.
type webSocketDialer struct {
	tls  *tls.Config
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

func newDialer(pin keys.Pin) *webSocketDialer {
	d := &net.Dialer{KeepAlive: 15 * time.Second}
	return &webSocketDialer{tls: keys.PinnedClientTLS(pin), dial: d.DialContext}
}

// Dial implements Dialer.
func (d *webSocketDialer) Dial(ctx context.Context, url string) (Link, error) {
	var exporter []byte
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, bytes, err := d.handshake(ctx, network, addr)
			exporter = bytes
			return conn, err
		},
	}
	conn, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{ //nolint:bodyclose // the library owns the body
		HTTPClient:      &http.Client{Transport: transport},
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, fmt.Errorf("dial gateway: %w", err)
	}
	conn.SetReadLimit(wire.MaxToWrapper)
	return &webSocketLink{conn: conn, exporter: exporter}, nil
}

// handshake makes the TLS connection itself, for its exporter.
func (d *webSocketDialer) handshake(ctx context.Context, network, addr string) (net.Conn, []byte, error) {
	raw, err := d.dial(ctx, network, addr)
	if err != nil {
		return nil, nil, err
	}
	conn := tls.Client(raw, d.tls)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, nil, err
	}
	state := conn.ConnectionState()
	exporter, err := state.ExportKeyingMaterial(wire.ExporterLabel, nil, exporterSize)
	if err != nil {
		raw.Close()
		return nil, nil, fmt.Errorf("export keying material: %w", err)
	}
	return conn, exporter, nil
}

// webSocketLink is a Link over a WebSocket.
type webSocketLink struct {
	conn     *websocket.Conn
	exporter []byte
	frame    []byte // reused by SendFrame
}

// Exporter implements Link.
func (l *webSocketLink) Exporter() []byte { return l.exporter }

// Close implements Link. What it could say of a connection that is given up is of no use to anybody.
func (l *webSocketLink) Close() { _ = l.conn.CloseNow() }

// Send implements Link.
func (l *webSocketLink) Send(ctx context.Context, m *wire.Message) error {
	b, err := wire.Encode(m)
	if err != nil {
		return err
	}
	return l.conn.Write(ctx, websocket.MessageText, b)
}

// SendFrame implements Link.
func (l *webSocketLink) SendFrame(ctx context.Context, f *wire.Frame) error {
	l.frame = wire.AppendFrame(l.frame[:0], f)
	return l.conn.Write(ctx, websocket.MessageBinary, l.frame)
}

// Recv implements Link.
func (l *webSocketLink) Recv(ctx context.Context) (*wire.Message, error) {
	kind, b, err := l.conn.Read(ctx)
	if err != nil {
		return nil, err
	}
	if kind != websocket.MessageText {
		return nil, errors.New("receive: a gateway sent a binary frame")
	}
	return wire.Decode(b)
}
