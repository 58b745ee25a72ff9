package api

import (
	"net"
	"net/http"
	"sync"
)

// silent holds the connections on which nothing was asked yet. At the end they are closed at once: the server would give
// each of them five seconds.
type silent struct {
	mu    sync.Mutex // guards what follows
	conns map[net.Conn]bool
	over  bool
}

// note is the server's ConnState hook.
func (s *silent) note(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case state != http.StateNew:
		delete(s.conns, conn)
	case s.over:
		conn.Close()
	default:
		if s.conns == nil {
			s.conns = map[net.Conn]bool{}
		}
		s.conns[conn] = true
	}
}

func (s *silent) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for conn := range s.conns {
		conn.Close()
	}
}
