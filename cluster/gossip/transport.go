package gossip

import (
	"errors"
	"io"
	"log"
	"net"
	"sync"

	"github.com/hashicorp/memberlist"
)

const (
	// maxStreams bounds the TCP connections that are served at one time.
	maxStreams = 16
	// maxStream bounds the bytes read from one: memberlist would take 20 MiB from anybody, before it has seen a key. The state of
	// a hundred members takes less.
	maxStream = 128 << 10
)

var errStreamTooLong = errors.New("more bytes than a node has to say")

// transport is memberlist's own with bounds on what strangers may cost.
type transport struct {
	*memberlist.NetTransport
	streams chan net.Conn
	places  chan struct{}
	end     chan struct{}
	once    sync.Once
	group   sync.WaitGroup
}

// newTransport opens the port and begins to accept; Shutdown ends it.
func newTransport(host string, port int, logger *log.Logger) (*transport, error) {
	inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{BindAddrs: []string{host}, BindPort: port, Logger: logger})
	if err != nil {
		return nil, err
	}
	t := &transport{NetTransport: inner, streams: make(chan net.Conn), places: make(chan struct{}, maxStreams), end: make(chan struct{})}
	t.group.Go(t.pass)
	return t, nil
}

// pass hands on the connections for which there is a place, and closes the others.
func (t *transport) pass() {
	for {
		select {
		case conn := <-t.NetTransport.StreamCh():
			select {
			case t.places <- struct{}{}:
			default:
				_ = conn.Close()
				continue
			}
			bounded := &stream{Conn: conn, left: maxStream, closed: sync.OnceFunc(func() { <-t.places })}
			select {
			case t.streams <- bounded:
			case <-t.end:
				_ = bounded.Close()
				return
			}
		case <-t.end:
			return
		}
	}
}

// StreamCh gives the connections to serve.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown closes the port.
func (t *transport) Shutdown() error {
	// The inner transport waits for its accepting goroutine, which may wait for pass.
	err := t.NetTransport.Shutdown()
	t.once.Do(func() { close(t.end) })
	t.group.Wait()
	return err
}

// stream is an accepted connection of which only so much is read.
type stream struct {
	net.Conn
	left   int
	closed func()
}

// Read reads up to the bound.
func (s *stream) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, errors.Join(errStreamTooLong, io.ErrUnexpectedEOF)
	}
	n, err := s.Conn.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

// Close closes it and gives its place to another.
func (s *stream) Close() error {
	s.closed()
	return s.Conn.Close()
}
