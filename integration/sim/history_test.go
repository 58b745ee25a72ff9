package sim

import (
	"fmt"
	"sync"
	"time"
)

// history is what happened, line by line, for whoever looks for the cause of a failure.
type history struct {
	began time.Time

	mu    sync.Mutex // guards what follows
	lines []string
	bad   []string
	kinds map[string]int // of faults
}

func newHistory() *history { return &history{began: time.Now(), kinds: map[string]int{}} }

func (h *history) note(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.add(format, args...)
}

func (h *history) add(format string, args ...any) {
	h.lines = append(h.lines, fmt.Sprintf("%9.3f ", time.Since(h.began).Seconds())+fmt.Sprintf(format, args...))
}

// fault notes a fault and counts it by kind.
func (h *history) fault(kind, format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kinds[kind]++
	h.add("FAULT "+kind+" "+format, args...)
}

// count counts something that is no fault, by kind.
func (h *history) count(kind string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kinds[kind]++
}

// broken notes that a promise was broken.
func (h *history) broken(rule, format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	text := rule + ": " + fmt.Sprintf(format, args...)
	h.bad = append(h.bad, text)
	h.add("BROKEN %s", text)
}

// verdict gives what is broken, and all that happened.
func (h *history) verdict() (bad, lines []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.bad, h.lines
}

func (h *history) failed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.bad) > 0
}

// gate stops whoever passes while a process or machine is stopped.
type gate struct {
	mu   sync.Mutex // guards shut
	shut chan struct{}
}

// pass waits while the gate is shut.
func (g *gate) pass() {
	for {
		g.mu.Lock()
		c := g.shut
		g.mu.Unlock()
		if c == nil {
			return
		}
		<-c
	}
}

// close shuts the gate; it says whether it was open.
func (g *gate) close() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		return false
	}
	g.shut = make(chan struct{})
	return true
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}

// clock gives an instant as the history writes it.
func (h *history) clock(t time.Time) string { return fmt.Sprintf("%.3f", t.Sub(h.began).Seconds()) }
