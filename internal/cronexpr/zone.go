package cronexpr

import (
	"math"
	"time"
)

// stretch is a span of instants [start, end) in unix seconds over which a zone's offset does not change.
//
// An *interval job* (the text of sec, min or hour begins with `*`) runs at every instant whose wall clock matches. A *fixed job*
// runs once where an interval job would run never or twice because the offset changes by at most maxShift: wall times that the
// change skips and that match give one run at the change, and wall times that occurred before the change do not match again.
// Larger changes (a zone that skips a date) leave the wall clock as it is.
type stretch struct {
	start, end       int64 // math.MinInt64 and math.MaxInt64 where there is no change on that side
	offset, previous int64 // seconds east of UTC in the stretch, and just before start
}

const (
	maxShift = 3 * 60 * 60
	// maxSwing is more than any two offsets ever differ by (they lie within 16 hours of UTC), in seconds.
	maxSwing = 32 * 60 * 60
)

// NextUnix returns the first due instant after the given one, both in unix seconds, or false where there is none. It does not
// allocate, except when it meets a new stretch of the zone.
func (s *Schedule) NextUnix(after int64) (int64, bool) {
	if after > s.last+maxSwing {
		return 0, false
	}
	c := max(after, -maxSwing) + 1
	if s.steady {
		w, ok := s.nextWall(c + s.offset)
		return w - s.offset, ok
	}
	for z := s.stretchFor(c); ; z = stretchAt(s.loc, c) {
		if s.fixed {
			if c == z.start && s.gapMatches(z) {
				return c, true
			}
			c = max(c, z.start+z.repeated())
		}
		w, ok := s.nextWall(c + z.offset)
		if ok && w-z.offset < z.end {
			return w - z.offset, true
		}
		if z.end == math.MaxInt64 {
			return 0, false
		}
		if z.end-c <= maxSwing {
			c = z.end
			continue
		}
		// From the end on the clock shows only times after c: what matches there is w, at the earliest.
		if !ok {
			return 0, false
		}
		c = max(z.end, w-maxSwing)
	}
}

// Due reports whether the schedule is due at an instant in unix seconds.
func (s *Schedule) Due(unix int64) bool {
	if unix > s.last+maxSwing || unix < -maxSwing {
		return false
	}
	if s.steady {
		return s.wallMatches(unix + s.offset)
	}
	z := s.stretchFor(unix)
	if s.fixed {
		if unix == z.start && s.gapMatches(z) {
			return true
		}
		if unix < z.start+z.repeated() {
			return false
		}
	}
	return s.wallMatches(unix + z.offset)
}

// gapMatches reports whether a wall time that was skipped at the start of z matches.
func (s *Schedule) gapMatches(z stretch) bool {
	if shift := z.offset - z.previous; shift <= 0 || shift > maxShift {
		return false
	}
	w, ok := s.nextWall(z.start + z.previous)
	return ok && w < z.start+z.offset
}

// repeated returns for how many seconds from its start the clock shows times that it showed before.
func (z stretch) repeated() int64 {
	if back := z.previous - z.offset; back > 0 && back <= maxShift {
		return back
	}
	return 0
}

// stretchFor is stretchAt with a memo.
func (s *Schedule) stretchFor(unix int64) stretch {
	if z := s.memo.Load(); z != nil && z.start <= unix && unix < z.end {
		return *z
	}
	z := stretchAt(s.loc, unix)
	s.memo.Store(&z)
	return z
}

// stretchAt returns a stretch that holds the instant. Its ends need not be changes of the offset: the time package also ends one
// at the turn of the year and where only the zone's name changes.
func stretchAt(loc *time.Location, unix int64) stretch {
	t := time.Unix(unix, 0).In(loc)
	start, end := t.ZoneBounds()
	z := stretch{start: math.MinInt64, end: math.MaxInt64}
	z.offset = offsetAt(loc, unix)
	z.previous = z.offset
	if !start.IsZero() {
		z.start = start.Unix()
		z.previous = offsetAt(loc, z.start-1)
	}
	if !end.IsZero() {
		z.end = end.Unix()
	}
	if z.end <= unix {
		// Beyond its table the time package takes every year for 365 days long when it names the end.
		z.end = (unix/daySeconds + 1) * daySeconds
	}
	return z
}

func offsetAt(loc *time.Location, unix int64) int64 {
	_, offset := time.Unix(unix, 0).In(loc).Zone()
	return int64(offset)
}
