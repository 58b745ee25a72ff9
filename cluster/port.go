package cluster

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/syscollective/saltpeter/internal/keys"
)

// First bytes of a connection between nodes, inside TLS.
const (
	speakRaft = 'R'
	speakLink = 'F'
	speakJoin = 'J'

	prefaceVersion = 1
	maxHandshakes  = 64 // connections that have not said who they are
)

// errRefused is in the chain of what a connection is refused with.
var errRefused = errors.New("connection refused")

// port is the one TCP port between nodes, both sides of it: Raft and the forwarding link, told apart by the first byte, both
// inside mutual TLS. It takes connections from members of the Raft configuration only, but for those who ask to become one.
type port struct {
	self, cluster string
	advertise     string
	listener      net.Listener
	dial          func(ctx context.Context, addr string) (net.Conn, error)
	tls           *keys.NodeTLS
	timings       Timings
	members       func() []Member
	serve         func(ctx context.Context, conn net.Conn, peer string) // the link's side of a connection
	apply         func(ctx context.Context, conn net.Conn, peer string) // an applicant's connection
	log           *slog.Logger
	metrics       *metrics

	toRaft chan net.Conn
	closed chan struct{}
	once   sync.Once

	mu    sync.Mutex // guards conns
	conns map[*portConn]bool
}

// portConn is a connection that the port can close from its side.
type portConn struct {
	net.Conn
	port *port
	once sync.Once
	free func() // gives back what the connection counts against
}

func (c *portConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() {
		c.port.mu.Lock()
		delete(c.port.conns, c)
		c.port.mu.Unlock()
		if c.free != nil {
			c.free()
		}
	})
	return err
}

// track makes conn one that Close closes. It is closed at once if the port is.
func (p *port) track(conn net.Conn, free func()) (*portConn, error) {
	c := &portConn{Conn: conn, port: p, free: free}
	p.mu.Lock()
	closed := p.conns == nil
	if !closed {
		p.conns[c] = true
	}
	p.mu.Unlock()
	if closed {
		return nil, errors.Join(ErrClosed, c.Close())
	}
	return c, nil
}

// run accepts connections until ctx ends.
func (p *port) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { p.listener.Close() })
	defer stop()
	var group sync.WaitGroup
	defer group.Wait()
	open := make(chan struct{}, p.timings.MaxConnections)
	shaking := make(chan struct{}, maxHandshakes)
	for {
		conn, err := p.listener.Accept()
		if ctx.Err() != nil {
			if err == nil {
				conn.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("accept on the node port: %w", err)
			}
			p.log.Warn("accept on the node port", "err", err) // too many open files, mostly
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
			}
			continue
		}
		if !tryTake(open) {
			p.refuse(conn, "too_many", fmt.Errorf("%w: more than %d connections", errRefused, cap(open)))
			continue
		}
		if !tryTake(shaking) {
			<-open
			p.refuse(conn, "too_many", fmt.Errorf("%w: more than %d handshakes at a time", errRefused, cap(shaking)))
			continue
		}
		group.Go(func() { p.accept(ctx, conn, func() { <-open }, func() { <-shaking }) })
	}
}

func tryTake(slots chan struct{}) bool {
	select {
	case slots <- struct{}{}:
		return true
	default:
		return false
	}
}

func (p *port) refuse(conn net.Conn, reason string, err error) {
	p.metrics.refused.WithLabelValues(reason).Inc()
	p.log.Debug("connection on the node port refused", "remote", conn.RemoteAddr().String(), "err", err)
	conn.Close()
}

// accept shakes hands and hands the connection to Raft, or serves it as a link until it ends.
func (p *port) accept(ctx context.Context, raw net.Conn, free, shaken func()) {
	tracked, err := p.track(raw, func() { free(); p.metrics.conns.Dec() })
	if err != nil {
		free()
		shaken()
		return
	}
	p.metrics.conns.Inc()
	conn, kind, peer, err := p.handshake(ctx, tracked)
	shaken()
	if err != nil {
		p.refuse(tracked, "handshake", err)
		return
	}
	switch kind {
	case speakLink:
		p.serve(ctx, conn, peer)
		conn.Close()
		return
	case speakJoin:
		p.apply(ctx, conn, peer)
		conn.Close()
		return
	}
	select {
	case p.toRaft <- conn:
	case <-ctx.Done():
		conn.Close()
	case <-p.closed:
		conn.Close()
	}
}

// handshake authenticates an accepted connection within the time for it.
func (p *port) handshake(ctx context.Context, tracked *portConn) (conn net.Conn, kind byte, peer string, err error) {
	if err := tracked.SetDeadline(time.Now().Add(p.timings.Handshake)); err != nil {
		return nil, 0, "", err
	}
	conn = tracked
	proved := ""
	if p.tls != nil {
		secured := tls.Server(tracked, p.tls.Server())
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, 0, "", fmt.Errorf("%w: %w", errRefused, err)
		}
		if proved, err = p.tls.PeerID(secured.ConnectionState()); err != nil {
			return nil, 0, "", fmt.Errorf("%w: %w", errRefused, err)
		}
		conn = secured
	}
	said, err := readPreface(conn)
	if err != nil {
		return nil, 0, "", err
	}
	if err := p.checkPreface(said, proved); err != nil {
		return nil, 0, "", err
	}
	return conn, said.kind, said.from, conn.SetDeadline(time.Time{})
}

// checkPreface refuses whoever is of another cluster, meant another node, is not the node of its certificate, or no member.
func (p *port) checkPreface(said preface, proved string) error {
	switch {
	case said.kind != speakRaft && said.kind != speakLink && said.kind != speakJoin:
		return fmt.Errorf("%w: it speaks %q", errRefused, said.kind)
	case said.kind != speakJoin && said.cluster != p.cluster:
		return fmt.Errorf("%w: it is of cluster %q", errRefused, said.cluster)
	case said.to != "" && said.to != p.self:
		return fmt.Errorf("%w: it dialed node %q", errRefused, said.to)
	case p.tls != nil && said.from != proved:
		return fmt.Errorf("%w: it says it is node %q, its certificate is %q's", errRefused, said.from, proved)
	}
	if said.kind == speakJoin { // the leader says why it is refused
		return nil
	}
	members := p.members()
	if len(members) == 0 && p.cluster != "" {
		return nil // a node that was admitted takes its first configuration from whoever is of its cluster
	}
	for _, m := range members {
		if m.ID == said.from {
			return nil
		}
	}
	return fmt.Errorf("%w: node %q is not a member", errRefused, said.from)
}

// connect dials a node and says what will be spoken. to may be empty if only the address is known.
func (p *port) connect(ctx context.Context, kind byte, to, addr string) (net.Conn, error) {
	raw, err := p.dial(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	tracked, err := p.track(raw, nil)
	if err != nil {
		return nil, err
	}
	conn, err := p.introduce(ctx, tracked, kind, to)
	if err != nil {
		tracked.Close()
		return nil, fmt.Errorf("dial %s: %w", addr, err)
	}
	return conn, nil
}

func (p *port) introduce(ctx context.Context, tracked *portConn, kind byte, to string) (net.Conn, error) {
	if err := tracked.SetDeadline(time.Now().Add(p.timings.Handshake)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = tracked.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var conn net.Conn = tracked
	if p.tls != nil {
		secured := tls.Client(tracked, p.tls.Client(to))
		if err := secured.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		conn = secured
	}
	hello := preface{kind: kind, cluster: p.cluster, from: p.self, to: to}
	if _, err := conn.Write(hello.encode()); err != nil {
		return nil, fmt.Errorf("write preface: %w", err)
	}
	if !stop() {
		return nil, ctx.Err()
	}
	return conn, conn.SetDeadline(time.Time{})
}

// preface is the first thing said on a connection, by the side that dialed.
type preface struct {
	kind              byte
	cluster, from, to string // to is empty if only the address was known
}

func (h preface) encode() []byte {
	out := []byte{h.kind, prefaceVersion}
	for _, s := range []string{h.cluster, h.from, h.to} {
		s = s[:min(len(s), 255)]
		out = append(append(out, byte(len(s))), s...)
	}
	return out
}

func readPreface(r io.Reader) (preface, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return preface{}, fmt.Errorf("%w: read preface: %w", errRefused, err)
	}
	if head[1] != prefaceVersion {
		return preface{}, fmt.Errorf("%w: preface version %d (known: %d)", errRefused, head[1], prefaceVersion)
	}
	h := preface{kind: head[0]}
	for _, field := range []*string{&h.cluster, &h.from, &h.to} {
		var size [1]byte
		if _, err := io.ReadFull(r, size[:]); err != nil {
			return preface{}, fmt.Errorf("%w: read preface: %w", errRefused, err)
		}
		text := make([]byte, size[0])
		if _, err := io.ReadFull(r, text); err != nil {
			return preface{}, fmt.Errorf("%w: read preface: %w", errRefused, err)
		}
		*field = string(text)
	}
	return h, nil
}

// close closes the listener and every connection, accepted and dialed.
func (p *port) close() error {
	p.once.Do(func() { close(p.closed) })
	err := p.listener.Close()
	if errors.Is(err, net.ErrClosed) {
		err = nil
	}
	p.mu.Lock()
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	for c := range conns {
		c.Close()
	}
	return err
}

// raftLayer is the port as Raft's transport sees it.
type raftLayer struct{ *port }

// Accept implements net.Listener.
func (l raftLayer) Accept() (net.Conn, error) {
	select {
	case conn := <-l.toRaft:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l raftLayer) Close() error { return l.port.close() }

// Addr implements net.Listener: the address under which this node is in the configuration.
func (l raftLayer) Addr() net.Addr { return nodeAddr(l.advertise) }

// Dial implements raft.StreamLayer.
func (l raftLayer) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	to := ""
	for _, m := range l.members() {
		if m.Addr == string(addr) {
			to = m.ID
		}
	}
	return l.connect(ctx, speakRaft, to, string(addr))
}

type nodeAddr string

func (nodeAddr) Network() string  { return "tcp" }
func (a nodeAddr) String() string { return string(a) }
