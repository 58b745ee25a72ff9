// Package cronexpr turns a schedule's texts into a compiled matcher and finds the instants at which it is due.
//
// Its own strict grammar decides what is accepted and says what to write instead of what is not; gronx, asked once per value
// while compiling and never afterwards, decides what an accepted item means. The result is bit sets: finding the next instant is
// a few bit scans, without allocation.
//
// The package starts no goroutine and reads no clock. A Schedule is safe for concurrent use, and every answer is a pure function
// of (texts, options, instant): the one thing inside that changes is a memo of the last looked-up stretch of the time zone.
//
// Invariants: Next(t) is after t; Due(Next(t)) holds; nothing between t and Next(t) is due.
package cronexpr

import (
	"cmp"
	"math"
	"sync/atomic"
	"time"
)

// Fields is a schedule as its seven texts, in the order of the short form. An empty Sec means "0" and an empty Year "*"; the
// others are required.
type Fields struct{ Sec, Min, Hour, Dom, Mon, Dow, Year string }

// Options says how the texts are to be read.
type Options struct {
	// Location is the zone of the wall clock that the fields speak of; nil is UTC.
	Location *time.Location
	// Or is `day_match: or`: where dom and dow are both restricted, either suffices. As in Vixie's cron, a field whose text
	// begins with `*` (or `?`) does not count as restricted, so `*/2` is still ANDed.
	Or bool
	// And is `day_match: and` said in so many words. Both day fields are ANDed without it too, but then with a warning, and
	// Parse refuses the ambiguous forms. Or wins where both are set.
	And bool
}

// Schedule is a compiled schedule. Create it with Compile or Parse; it is safe for concurrent use.
type Schedule struct {
	sec, min uint64
	hour     uint32
	mon      uint16
	years    [3]uint64    // bit y-minYear
	days     [4][7]uint32 // by length of the month less 28 and weekday of its 1st: bit d set where day d matches

	firstOfDay int64 // seconds from midnight to the first matching time of day
	last       int64 // wall seconds of the end of the last matching day; negative where there is none

	loc    *time.Location
	steady bool                    // the zone's offset never changes after 1969 and is offset
	offset int64                   // seconds east of UTC
	fixed  bool                    // a fixed job: see stretch
	memo   atomic.Pointer[stretch] // the stretch of the last miss, only to save the look-up

	fields   Fields
	warnings []string
}

const (
	minYear = 1970
	maxYear = 2099

	daySeconds = 24 * 60 * 60
)

// Compile compiles a schedule given as separate fields. The error is of type Errors and names every problem of every field; the
// offsets in it count from the beginning of the field's text.
func Compile(f Fields, o Options) (*Schedule, error) {
	f.Sec, f.Year = cmp.Or(f.Sec, "0"), cmp.Or(f.Year, "*")
	parsed, errs := parseFields(f)
	if len(errs) > 0 {
		return nil, errs
	}
	s := &Schedule{fields: f, fixed: !isInterval(f)}
	if errs := s.fill(parsed, o.Or); len(errs) > 0 {
		return nil, errs
	}
	if !o.Or && !o.And && ambiguousDays(f) {
		s.warnings = append(s.warnings, "dom and dow are both restricted: the job runs only on days that match both "+
			"(write day_match: and to say so, or day_match: or for days that match either)")
	}
	s.setZone(o.Location)
	s.firstOfDay = int64(s.nextOfDay(0))
	s.last = s.lastWall()
	return s, nil
}

// Next returns the first instant after the given one at which the schedule is due, as a whole second in the schedule's zone. It
// returns false where there is none.
func (s *Schedule) Next(after time.Time) (time.Time, bool) {
	unix, ok := s.NextUnix(after.Unix())
	if !ok {
		return time.Time{}, false
	}
	return time.Unix(unix, 0).In(s.loc), true
}

// Never reports whether the schedule is not due any more at any instant after the given one.
func (s *Schedule) Never(after time.Time) bool {
	_, ok := s.NextUnix(after.Unix())
	return !ok
}

// Warnings returns what is valid but probably not meant, as texts for people. The caller must not change the slice.
func (s *Schedule) Warnings() []string { return s.warnings }

// Fields returns the texts that the schedule was compiled from, with the defaults of Sec and Year filled in.
func (s *Schedule) Fields() Fields { return s.fields }

// Location returns the zone that the schedule is evaluated in.
func (s *Schedule) Location() *time.Location { return s.loc }

func (s *Schedule) setZone(loc *time.Location) {
	s.loc = cmp.Or(loc, time.UTC)
	first := stretchAt(s.loc, -maxSwing)
	s.steady, s.offset = first.end == math.MaxInt64, first.offset
}
