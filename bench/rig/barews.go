package rig

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/syscollective/saltpeter/internal/keys"
	"github.com/syscollective/saltpeter/internal/wire"
)

// BareReady is where a bare prototype listens.
type BareReady struct{ Addr, Pin string }

// bareServer is coder/websocket under the gateway's kind of certificate, used as its documentation shows.
type bareServer struct {
	srv  *http.Server
	done sync.WaitGroup // the server and what it upgraded

	connMu sync.Mutex
	conns  map[*websocket.Conn]bool
}

func (b *bareServer) serve(talk func(ws *websocket.Conn)) (BareReady, error) {
	ring, err := keys.NewRing(keys.Generate())
	if err != nil {
		return BareReady{}, err
	}
	conf, err := ring.WrapperTLS()
	if err != nil {
		return BareReady{}, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return BareReady{}, err
	}
	b.srv = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer b.track(ws)()
		ws.SetReadLimit(wire.MaxToGateway)
		talk(ws)
	})}
	b.conns = make(map[*websocket.Conn]bool)
	b.done.Go(func() { _ = b.srv.Serve(tls.NewListener(ln, conf)) }) // it ends with its close
	return BareReady{Addr: ln.Addr().String(), Pin: ring.Pin().String()}, nil
}

// track remembers a connection, which the server forgets once it is upgraded.
func (b *bareServer) track(ws *websocket.Conn) (forget func()) {
	b.done.Add(1)
	b.connMu.Lock()
	b.conns[ws] = true
	b.connMu.Unlock()
	return func() {
		b.connMu.Lock()
		delete(b.conns, ws)
		b.connMu.Unlock()
		_ = ws.CloseNow() // it may be closed
		b.done.Done()
	}
}

func (b *bareServer) close() error {
	if b.srv == nil {
		return nil
	}
	err := b.srv.Close()
	b.connMu.Lock()
	for ws := range b.conns {
		_ = ws.CloseNow() // its reader ends
	}
	b.connMu.Unlock()
	b.done.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// bareWS is the role of the bare library: every message is answered with an ack of its number.
type bareWS struct{ bareServer }

func (b *bareWS) begin(json.RawMessage, teller) (any, error) {
	return b.serve(func(ws *websocket.Conn) {
		ctx := context.Background()
		for {
			_, msg, err := ws.Read(ctx)
			if err != nil {
				return
			}
			f, err := wire.ParseFrame(msg)
			if err != nil || ws.Write(ctx, websocket.MessageText, bareAck(f.Seq+1)) != nil {
				return
			}
		}
	})
}

// bareAck is a cumulative ack as a prototype would write it.
func bareAck(next uint64) []byte {
	b, err := json.Marshal(struct {
		Type string `json:"type"`
		Next uint64 `json:"next"`
	}{"ack", next})
	if err != nil {
		return nil // of a string and a number
	}
	return b
}

func (b *bareWS) ops() map[string]op { return common() }
func (b *bareWS) end() error         { return b.close() }
