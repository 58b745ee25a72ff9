package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// Server-sent events (the HTML standard, section 9.2): a client that was cut off presents the last id that it saw, on any
// node, and goes on after it.

// keepAlive is how often a stream in which nothing happens says that it lives.
const keepAlive = 15 * time.Second

// eventStream is the answer to a request for events.
type eventStream struct {
	c   *call
	rc  *http.ResponseController
	buf bytes.Buffer // not sent yet
}

// startEvents begins the answer.
func startEvents(c *call) *eventStream {
	s := &eventStream{c: c, rc: http.NewResponseController(c.w)}
	h := c.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // proxies in front must not hold it back
	c.w.WriteHeader(http.StatusOK)
	s.buf.WriteString("retry: 1000\n\n")
	return s
}

// put adds one event to what is sent next; without an id the client keeps the one that it has.
func (s *eventStream) put(kind, id string, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		s.c.s.log.Error("encode event", "err", err) // no shape has a field that could fail
		return
	}
	fmt.Fprintf(&s.buf, "event: %s\n", kind)
	if id != "" {
		fmt.Fprintf(&s.buf, "id: %s\n", id)
	}
	fmt.Fprintf(&s.buf, "data: %s\n\n", body)
}

// flush sends what was put, and reports whether the client is still there.
func (s *eventStream) flush() bool {
	if s.buf.Len() == 0 {
		return true
	}
	ok := s.c.send(s.rc, s.buf.Bytes())
	s.buf.Reset()
	return ok && ignoreUnsupported(s.rc.Flush()) == nil
}

// pause waits for something new, saying now and then that the stream lives, and reports whether to go on.
func (s *eventStream) pause(news <-chan struct{}) bool {
	alive := time.NewTimer(keepAlive)
	defer alive.Stop()
	select {
	case <-news:
	case <-alive.C:
		s.buf.WriteString(": still here\n\n")
	case <-s.c.r.Context().Done():
		return false
	case <-s.c.stopping():
		return false
	}
	return !s.c.ended()
}
