package wsgateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"

	"github.com/coder/websocket"

	"github.com/syscollective/saltpeter/internal/wire"
)

// maxHeader bounds the upgrade request: a wrapper sends a few hundred bytes.
const maxHeader = 8 << 10

type connKey struct{}

// httpServer upgrades connections. net/http bounds the TLS handshake and the request's header each by ReadHeaderTimeout.
func (g *Gateway) httpServer() *http.Server {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler: http.HandlerFunc(g.upgrade), ReadHeaderTimeout: g.lim.Handshake, MaxHeaderBytes: maxHeader, Protocols: &protocols,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
		ConnState:   g.connState,
		ErrorLog:    slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
	}
}

// listener puts TLS and the limit on handshakes around ln.
func (g *Gateway) listener(ln net.Listener) net.Listener {
	limited := &slotListener{Listener: ln, slots: g.slots, stopping: g.stopping}
	if g.cfg.TLS == nil {
		return limited
	}
	return tls.NewListener(limited, g.cfg.TLS)
}

// slotListener accepts only while a slot is free: a herd of wrappers that reconnects waits in the kernel's backlog instead
// of in our memory.
type slotListener struct {
	net.Listener
	slots    chan struct{}
	stopping <-chan struct{}
}

func (l *slotListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.stopping:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
	}
	return c, err
}

// connState counts the connections that net/http holds. StateNew comes in the accept loop, before Serve of the server can
// return, so that pending never grows while it is waited for. A hijacked connection is counted out by upgrade.
func (g *Gateway) connState(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		g.pending.Add(1)
		g.shaking.Add(1)
	case http.StateClosed:
		g.handedOver()
	}
}

func (g *Gateway) handedOver() {
	<-g.slots
	g.shaking.Add(-1)
	g.pending.Done()
}

// upgrade turns a request into a session, which goes to Serve; the handler's goroutine ends here.
func (g *Gateway) upgrade(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != wire.Path {
		http.NotFound(w, r)
		return
	}
	if g.open.Add(1) > int64(g.lim.Sessions) {
		g.open.Add(-1)
		g.stats.turnedAway.Inc()
		w.Header().Set("Retry-After", "1")
		w.Header().Set("Connection", "close")
		http.Error(w, "too many sessions: try another node", http.StatusServiceUnavailable)
		return
	}
	nc, ok := r.Context().Value(connKey{}).(net.Conn)
	if !ok {
		g.open.Add(-1)
		http.Error(w, "no connection", http.StatusInternalServerError)
		return
	}
	s := newSession(g, nc)
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled, OnPingReceived: s.ping})
	if err != nil { // answered by Accept
		g.open.Add(-1)
		return
	}
	defer g.handedOver()
	s.ws = ws
	g.stats.sessions.Inc()
	select {
	case g.fresh <- s:
	case <-g.stopping:
		s.hangUp()
	}
}

// newBuffer makes what the pool of message buffers holds; most messages are small.
func newBuffer() any { return bytes.NewBuffer(make([]byte, 0, 2<<10)) }
