package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/cronexpr"
)

// fieldNames are the keys of a schedule; all but sec and year must be written.
var fieldNames = []string{"sec", "min", "hour", "dom", "mon", "dow", "year"}

var requiredFields = []string{"min", "hour", "dom", "mon", "dow"}

// compiler compiles schedules and remembers them for the time of one load: many jobs share a schedule, and all share a few zones.
type compiler struct {
	zones map[string]*time.Location
	done  map[compileKey]compiled
}

type compileKey struct {
	expr    string
	fields  cronexpr.Fields
	zone    string
	or, and bool
}

type compiled struct {
	fields   cronexpr.Fields
	warnings []string
	never    bool
	err      error
}

func newCompiler() *compiler {
	return &compiler{zones: make(map[string]*time.Location), done: make(map[compileKey]compiled)}
}

func (c *compiler) zone(name string) (*time.Location, error) {
	if loc, ok := c.zones[name]; ok {
		return loc, nil
	}
	loc, err := cronexpr.LoadLocation(name)
	if err != nil {
		return nil, err
	}
	c.zones[name] = loc
	return loc, nil
}

func (c *compiler) compile(key compileKey, loc *time.Location) compiled {
	if known, ok := c.done[key]; ok {
		return known
	}
	options := cronexpr.Options{Location: loc, Or: key.or, And: key.and}
	var out compiled
	var s *cronexpr.Schedule
	if key.expr != "" {
		out.fields, s, out.err = cronexpr.Parse(key.expr, options)
	} else {
		s, out.err = cronexpr.Compile(key.fields, options)
	}
	if out.err == nil {
		out.fields, out.warnings, out.never = s.Fields(), s.Warnings(), s.Never(time.Unix(-1, 0))
	}
	c.done[key] = out
	return out
}

// scheduleReader reads the keys of one job's schedule.
type scheduleReader struct {
	*reader
	*compiler
	fields map[string]field // those that are there, by the name under which cronexpr reports
	bad    bool
}

// readSchedule reads the schedule of a job. What is wrong is reported, and then the result is not meant for use.
func readSchedule(r *reader, c *compiler) saltpeter.Schedule {
	s := &scheduleReader{reader: r, compiler: c, fields: make(map[string]field, 9)}
	var key compileKey
	written := s.short(&key)
	if !written {
		key.fields = cronexpr.Fields{Sec: s.text("sec"), Min: s.text("min"), Hour: s.text("hour"), Dom: s.text("dom"),
			Mon: s.text("mon"), Dow: s.text("dow"), Year: s.text("year")}
	}
	key.zone = r.text("timezone", "")
	s.dayMatch(&key)
	f, _ := r.get("timezone")
	s.fields["timezone"] = f
	loc, err := c.zone(key.zone)
	if err != nil {
		s.report(err)
	}
	if written && key.expr == "" {
		return saltpeter.Schedule{}
	}
	return s.compiled(key, c.compile(key, loc)) // also where a key was refused: the others may have problems too
}

// compiled turns what came out of the compiler into the job's schedule.
func (s *scheduleReader) compiled(key compileKey, out compiled) saltpeter.Schedule {
	if out.err != nil {
		s.report(out.err)
	}
	if s.bad {
		return saltpeter.Schedule{}
	}
	for _, w := range out.warnings {
		s.warn(s.first("dom", "schedule"), "", "%s", w)
	}
	if out.never {
		s.warn(s.first("dom", "schedule"), "", "the job is never due: no day matches all of dom, mon, dow and year")
	}
	f := out.fields
	return saltpeter.Schedule{Sec: f.Sec, Min: f.Min, Hour: f.Hour, Dom: f.Dom, Mon: f.Mon, Dow: f.Dow, Year: f.Year,
		Timezone: key.zone, MatchAny: key.or, Written: key.expr}
}

// short reads the short form and reports whether the job is written with it.
func (s *scheduleReader) short(key *compileKey) bool {
	f, ok := s.get("schedule")
	if !ok {
		return false
	}
	s.fields["schedule"] = f
	for _, name := range fieldNames {
		if other, ok := s.get(name); ok {
			s.bad = true
			s.fail(other, "keep one of the two forms", "%s stands beside schedule:", name)
		}
	}
	text, isText := f.val.asText()
	if !isText || f.val.kind == kindBool || strings.TrimSpace(text) == "" {
		s.bad = true
		s.fail(f, `write such as schedule: "*/5 * * * *"`, "is %s, a line of 5 to 7 fields or a macro is wanted", f.val.described())
		return true
	}
	key.expr = text
	return true
}

func (s *scheduleReader) dayMatch(key *compileKey) {
	f, ok := s.get("day_match")
	if !ok {
		return
	}
	word, _ := f.val.asText()
	key.or, key.and = word == "or", word == "and"
	if !key.or && !key.and {
		s.fail(f, "allowed: and, or", "is %s", f.val.described())
	}
}

// text gives the text of one field as the Python program saw it. What YAML 1.1 read as another number than it looks is refused with
// both readings. A refused or missing field stands as a star, so that the others can be compiled.
func (s *scheduleReader) text(name string) string {
	f, ok := s.get(name)
	if !ok {
		if !slices.Contains(requiredFields, name) {
			return ""
		}
		if f, ok := s.m.field(name); ok {
			s.refuse(f, fmt.Sprintf("write %s: '*' for every value", name), "is empty")
		}
		return "*"
	}
	s.fields[name] = f
	text, _ := f.val.asText()
	if s.refused(f, text) {
		return "*"
	}
	return text
}

// refused reports what YAML made of a field and what can't be its text.
func (s *scheduleReader) refused(f field, text string) bool {
	name := f.name
	switch form := f.val.odd(); {
	case form != "":
		s.refuse(f, fmt.Sprintf("write %s: %s or %s: '%s'", name, text, name, otherReading(f.val.text)),
			"%s is %s to the Python program (YAML reads it as %s) and %s to people", f.val.text, text, form, otherReading(f.val.text))
	case f.val.kind == kindBool:
		s.refuse(f, fmt.Sprintf("write %s: '*', or such as '1-5'", name), "%s is a boolean in YAML", f.val.text)
	case f.val.kind == kindFloat:
		s.refuse(f, "write whole numbers, lists in quotes: '1,5'", "%s is a number with a fraction", f.val.text)
	case f.val.kind == kindList:
		s.refuse(f, fmt.Sprintf("write %s: '%s'", name, joinList(f.val.list)), "is a YAML list")
	case f.val.kind == kindMap:
		s.refuse(f, "write a text such as '*/5'", "is a mapping")
	case text == "":
		s.refuse(f, fmt.Sprintf("write %s: '*' for every value", name), "is empty")
	default:
		return false
	}
	return true
}

func (s *scheduleReader) refuse(f field, hint, format string, args ...any) {
	s.bad = true
	s.fail(f, hint, format, args...)
}

func joinList(list []*value) string {
	var parts []string
	for _, v := range list {
		t, _ := v.asText()
		parts = append(parts, t)
	}
	return strings.Join(parts, ",")
}

// first gives the first of some keys that is written.
func (s *scheduleReader) first(names ...string) field {
	for _, n := range names {
		if f, ok := s.fields[n]; ok {
			return f
		}
	}
	return field{name: names[0], key: s.m, val: s.m}
}

// report places the problems of the schedule's texts in the file.
func (s *scheduleReader) report(err error) {
	s.bad = true
	if one, ok := errors.AsType[cronexpr.FieldError](err); ok && !errors.As(err, new(cronexpr.Errors)) {
		err = cronexpr.Errors{one}
	}
	all, ok := errors.AsType[cronexpr.Errors](err)
	if !ok {
		s.fail(s.first("schedule", "min"), "", "%v", err)
		return
	}
	for _, e := range all {
		f := s.first(e.Field, "schedule", "min")
		p := f.at()
		if p.hit && e.Len > 0 {
			p.col += e.Offset
			p.length = e.Len
		}
		message := e.Msg
		if e.Text != "" {
			message = fmt.Sprintf("%q: %s", e.Text, e.Msg)
		}
		s.errorf(p, s.inner(f.name), e.Hint, "%s", message)
	}
}
