package rig

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
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

// A played wrapper speaks the protocol as sp_wrapper does and executes nothing.

// dialLimit bounds a dial with its handshakes: a machine with all cores busy is slow.
const dialLimit = time.Minute

var errProtocol = errors.New("unexpected answer")

// peer is one played wrapper's connection. One goroutine uses it at a time.
type peer struct {
	ws   *websocket.Conn
	tls  *tls.Conn // nil without TLS
	seq  uint64    // of the last numbered word that was sent
	next uint64    // as the last ack said, 1 before it
	beat uint64
}

// dial connects as a wrapper does; without conf it does so without TLS.
func dial(ctx context.Context, addr string, conf *tls.Config) (*peer, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	p := &peer{next: 1}
	scheme := "wss://"
	if conf == nil {
		scheme = "ws://"
	}
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			raw, err := d.DialContext(ctx, "tcp", addr)
			if err != nil {
				return nil, err
			}
			p.tls = tls.Client(raw, conf)
			if err := p.tls.HandshakeContext(ctx); err != nil {
				return nil, errors.Join(err, raw.Close())
			}
			return p.tls, nil
		}}}
	ws, resp, err := websocket.Dial(ctx, scheme+addr+wire.Path, &websocket.DialOptions{HTTPClient: hc}) //nolint:bodyclose // the library's
	if err != nil {
		if resp != nil {
			return nil, fmt.Errorf("status %d: %w", resp.StatusCode, err)
		}
		return nil, err
	}
	ws.SetReadLimit(wire.MaxToWrapper)
	p.ws = ws
	return p, nil
}

func (p *peer) send(m *wire.Message) error {
	b, err := wire.Encode(m)
	if err != nil {
		return err
	}
	return p.ws.Write(context.Background(), websocket.MessageText, b)
}

func (p *peer) read() (*wire.Message, error) {
	_, b, err := p.ws.Read(context.Background())
	if err != nil {
		return nil, err
	}
	m, err := wire.Decode(b)
	if err == nil && m.Type == wire.TypeAck {
		p.next = max(p.next, m.Next)
	}
	return m, err
}

func (p *peer) want(kind wire.Type) (*wire.Message, error) {
	m, err := p.read()
	if err != nil {
		return nil, err
	}
	if m.Type != kind {
		return nil, fmt.Errorf("%w: want %s, got %+v", errProtocol, kind, m)
	}
	return m, nil
}

// start is what a start claim needs.
type start struct {
	cluster, launch, token, machine string
	key                             ed25519.PrivateKey
}

// win goes from the challenge to the grant.
func (p *peer) win(s *start) error {
	ch, err := p.want(wire.TypeChallenge)
	if err != nil {
		return err
	}
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // never fails
	nonce := sha256.Sum256(secret[:])
	var exporter []byte
	if p.tls != nil {
		state := p.tls.ConnectionState()
		if exporter, err = state.ExportKeyingMaterial(wire.ExporterLabel, nil, 32); err != nil {
			return err
		}
	}
	hello := &wire.Message{Type: wire.TypeHello, Version: wire.Version, Launch: s.launch, Machine: s.machine, BootID: "boot-" + s.machine,
		Host: s.machine, Build: "bench", Nonce: nonce[:], Token: s.token, Proof: &wire.Proof{Kind: "ed25519-file",
			Key:       wire.Bytes(s.key.Public().(ed25519.PublicKey)),
			Signature: ed25519.Sign(s.key, wire.Transcript(s.cluster, s.launch, s.machine, nonce[:], ch.Challenge, exporter))}}
	if err := p.ask(hello, wire.TypeRuns); err != nil {
		return err
	}
	return p.ask(&wire.Message{Type: wire.TypeStart, Ask: 1}, wire.TypeGrant)
}

// ask sends a message until it gets the answer that is wanted: a busy node says "retry".
func (p *peer) ask(m *wire.Message, want wire.Type) error {
	for {
		if err := p.send(m); err != nil {
			return err
		}
		got, err := p.read()
		switch {
		case err != nil:
			return err
		case got.Type == want:
			return nil
		case got.Type != wire.TypeRetry:
			return fmt.Errorf("%w: want %s, got %+v", errProtocol, want, got)
		}
		time.Sleep(time.Duration(got.AfterMS) * time.Millisecond)
		if m.Type == wire.TypeStart {
			m.Ask++
		}
	}
}

// live is a wrapper's whole life for a command that ends at once.
func (p *peer) live(s *start) error {
	if err := p.win(s); err != nil {
		return err
	}
	for _, m := range []*wire.Message{{Type: wire.TypeStarted, PID: 1}, {Type: wire.TypeResult, Seq: 1, Cause: "exit"}} {
		if err := p.send(m); err != nil {
			return err
		}
	}
	for {
		m, err := p.want(wire.TypeAck)
		if err != nil || m.Ended {
			return err
		}
	}
}

// heartbeat keeps an idle session open.
func (p *peer) heartbeat() error {
	p.beat++
	if err := p.send(&wire.Message{Type: wire.TypeBeat, N: p.beat}); err != nil {
		return err
	}
	for {
		m, err := p.read()
		if err != nil || m.Type == wire.TypeBeat {
			return err
		}
	}
}

// output sends the next piece of output.
func (p *peer) output(buf, data []byte) ([]byte, error) {
	p.seq++
	buf = wire.AppendFrame(buf[:0], &wire.Frame{Kind: wire.FrameOutput, Seq: p.seq, AtMillis: p.seq, Data: data})
	return buf, p.ws.Write(context.Background(), websocket.MessageBinary, buf)
}

// push sends output with a window until a time, then waits for what is not acked yet. It gives how many words were acked
// by then and a sample of the times from sending a word to its ack.
func (p *peer) push(until time.Time, size, window int) (acked uint64, sample []time.Duration, err error) {
	data, sent := make([]byte, size), make([]time.Time, window)
	_, _ = rand.Read(data) // never fails
	var buf []byte
	first := p.next
	for {
		open := time.Now().Before(until)
		for open && p.seq+1 < p.next+uint64(window) {
			if buf, err = p.output(buf, data); err != nil {
				return 0, nil, err
			}
			sent[p.seq%uint64(window)] = time.Now()
		}
		if p.seq+1 == p.next && !open {
			return acked, sample, nil
		}
		before := p.next
		if _, err := p.read(); err != nil {
			return 0, nil, err
		}
		if p.next == before {
			continue
		}
		now := time.Now()
		if now.Before(until) {
			acked = p.next - first
		}
		sample = append(sample, now.Sub(sent[before%uint64(window)])) // the oldest of those that were acked
	}
}

// paced sends a word at a time and waits for its ack, until a time. It gives the time of each.
func (p *peer) paced(until time.Time, every time.Duration, size int) (took []time.Duration, err error) {
	data := make([]byte, size)
	_, _ = rand.Read(data) // never fails
	var buf []byte
	for due := time.Now(); due.Before(until); due = due.Add(every) {
		time.Sleep(time.Until(due))
		began := time.Now()
		if buf, err = p.output(buf, data); err != nil {
			return took, err
		}
		for p.next <= p.seq {
			if _, err := p.read(); err != nil {
				return took, err
			}
		}
		took = append(took, time.Since(began))
	}
	return took, nil
}

func pinned(pin string) (*tls.Config, error) {
	parsed, err := keys.ParsePin(pin)
	if err != nil {
		return nil, err
	}
	return keys.PinnedClientTLS(parsed), nil
}
