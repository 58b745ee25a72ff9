package rig

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// bareHTTP is the role of a handler that writes the same bytes to everybody.
type bareHTTP struct {
	srv  *http.Server
	done sync.WaitGroup
}

func (b *bareHTTP) begin(raw json.RawMessage, _ teller) (any, error) {
	var body []byte
	if err := json.Unmarshal(raw, &body); err != nil {
		return nil, err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b.srv = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body) // who reads may be gone
	})}
	b.done.Go(func() { _ = b.srv.Serve(ln) }) // it ends with its close
	return "http://" + ln.Addr().String(), nil
}

func (b *bareHTTP) ops() map[string]op { return common() }

func (b *bareHTTP) end() error {
	if b.srv == nil {
		return nil
	}
	err := b.srv.Close()
	b.done.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
