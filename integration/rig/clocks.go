package rig

import "time"

// wrongClock is a time in which the nodes' clocks were ahead.
type wrongClock struct {
	from, to time.Time
	ahead    time.Duration
}

// end is after the last tick that was decided by the wrong clock.
func (w *wrongClock) end() time.Time { return w.to.Add(w.ahead + 2*time.Second) }

// ClocksAhead notes a time in which the nodes' wall clocks were ahead.
func (h *History) ClocksAhead(from, to time.Time, ahead time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clocks = append(h.clocks, wrongClock{from, to, ahead})
}

// AfterClocks is when no tick and no time that a wrong clock gave lies in the future any more.
func (h *History) AfterClocks() (after time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.clocks {
		after = maxTime(after, w.end())
	}
	return after
}

// wrongBy gives how far the clock may have been ahead when a tick was decided.
func (h *History) wrongBy(tick time.Time) (ahead time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, w := range h.clocks {
		if !tick.Before(w.from) && tick.Before(w.end()) {
			ahead = max(ahead, w.ahead)
		}
	}
	return ahead
}
