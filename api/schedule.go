package api

import (
	"sync"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/cronexpr"
)

// maxSchedules bounds the memory of compiled schedules; beyond it they are forgotten and compiled anew.
const maxSchedules = 20_000

// schedules remembers compiled schedules: to compile one costs as much as the rest of a job's JSON.
type schedules struct {
	knownMu sync.Mutex
	known   map[saltpeter.Schedule]*matcher
}

// matcher is a compiled schedule with its words.
type matcher struct {
	schedule *cronexpr.Schedule // nil if it does not compile here: it is then not due here
	words    string
}

// of gives the matcher of a schedule in force.
func (c *schedules) of(s *saltpeter.Schedule) *matcher {
	c.knownMu.Lock()
	m := c.known[*s]
	c.knownMu.Unlock()
	if m != nil {
		return m
	}
	m = compile(s)
	c.knownMu.Lock()
	defer c.knownMu.Unlock()
	if c.known == nil || len(c.known) >= maxSchedules {
		c.known = map[saltpeter.Schedule]*matcher{}
	}
	c.known[*s] = m
	return m
}

func compile(s *saltpeter.Schedule) *matcher {
	loc, err := cronexpr.LoadLocation(s.Timezone)
	if err != nil {
		return &matcher{}
	}
	c, err := cronexpr.Compile(
		cronexpr.Fields{Sec: s.Sec, Min: s.Min, Hour: s.Hour, Dom: s.Dom, Mon: s.Mon, Dow: s.Dow, Year: s.Year},
		cronexpr.Options{Location: loc, Or: s.MatchAny, And: !s.MatchAny})
	if err != nil {
		return &matcher{}
	}
	return &matcher{c, c.Words()}
}
