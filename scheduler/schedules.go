package scheduler

import (
	"fmt"
	"sync"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/cronexpr"
)

// ticks is a compiled schedule: the first due instant strictly after another, in Unix seconds, false if there is none.
// It is immutable.
type ticks interface {
	NextUnix(after int64) (int64, bool)
}

// compile turns a schedule's texts into ticks.
func compile(s saltpeter.Schedule) (ticks, error) {
	o := cronexpr.Options{Or: s.MatchAny}
	if s.Timezone != "" {
		loc, err := cronexpr.LoadLocation(s.Timezone)
		if err != nil {
			return nil, fmt.Errorf("load timezone %q: %w", s.Timezone, err)
		}
		o.Location = loc
	}
	f := cronexpr.Fields{Sec: s.Sec, Min: s.Min, Hour: s.Hour, Dom: s.Dom, Mon: s.Mon, Dow: s.Dow, Year: s.Year}
	c, err := cronexpr.Compile(f, o)
	if err != nil {
		return nil, fmt.Errorf("compile schedule: %w", err)
	}
	return c, nil
}

// keepSchedules bounds the number of compiled schedules that are kept.
const keepSchedules = 20_000

// schedules keeps compiled schedules: thousands of jobs share a few texts, and a new leader needs them all at once.
type schedules struct {
	compile func(saltpeter.Schedule) (ticks, error)

	mu    sync.Mutex // guards known
	known map[saltpeter.Schedule]ticks
}

func newSchedules(compile func(saltpeter.Schedule) (ticks, error)) *schedules {
	return &schedules{compile: compile, known: make(map[saltpeter.Schedule]ticks)}
}

// get gives the compiled form of s.
func (c *schedules) get(s saltpeter.Schedule) (ticks, error) {
	s.Written = "" // only how it was written
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.known[s]; ok {
		return t, nil
	}
	t, err := c.compile(s)
	if err != nil {
		return nil, err
	}
	if len(c.known) >= keepSchedules { // most are of configurations long gone; whoever uses one holds it
		clear(c.known)
	}
	c.known[s] = t
	return t, nil
}
