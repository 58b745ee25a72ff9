package scheduler

import (
	"sync"
	"time"
)

const (
	// beat is how often the attentive clock is advanced and the deadlines are swept.
	beat = 250 * time.Millisecond
	// span is the most that one beat may count.
	span = time.Second
)

// attention is a clock that counts only the time in which this process was there to hear signs. It begins at 0 with
// the leadership, whose barrier was just passed. A process that was stopped for a minute and a half finds the wrappers'
// signs unread behind it; what it must not do is take its own absence for their silence.
type attention struct {
	mu   sync.Mutex // guards both
	base time.Duration
	last time.Time // of the last beat, with its monotonic reading
}

func newAttention() *attention { return &attention{last: time.Now()} }

// now gives the attentive time since the leadership began.
func (a *attention) now() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.base + a.since()
}

// beat advances the clock.
func (a *attention) beat() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.base += a.since()
	a.last = time.Now()
	return a.base
}

func (a *attention) since() time.Duration { return min(time.Since(a.last), span) }
