package cronexpr

import (
	"strings"
	"testing"
	"time"
)

type nextVector struct {
	Expr, TZ, After, Cls string
	Next                 []string
	Contested, Exhausted bool
	Alt                  map[string][]string
}

// TestNextVectors compares the next instants with recorded ones. Programs disagree on those that are marked as contested; each
// that is not followed stands in nextExceptions.
func TestNextVectors(t *testing.T) {
	used := map[string]bool{}
	for _, v := range readLines[nextVector](t, "testdata/next.jsonl") {
		key := v.Expr + " | " + v.TZ + " | " + v.After
		e, excepted := nextExceptions[key]
		got, why := follow(t, v, v.Next)
		switch {
		case why != "" && !excepted:
			t.Errorf("%s (%s, contested %v): %s\n got  %v\n want %v", key, v.Cls, v.Contested, why, got, v.Next)
		case why == "" && excepted:
			t.Errorf("%s: the exception is not needed any more", key)
		case excepted && !v.Contested:
			t.Errorf("%s: an exception from what nobody contests", key)
		case excepted && strings.Join(got, " ") != e.got:
			t.Errorf("%s: got %q, the exception says %q (%s)", key, got, e.got, e.reason)
		}
		used[key] = true
	}
	for key := range nextExceptions {
		if !used[key] {
			t.Errorf("%s: the exception belongs to no vector", key)
		}
	}
}

// follow returns the instants that follow v.After and how they differ from want.
func follow(t *testing.T, v nextVector, want []string) (got []string, why string) {
	t.Helper()
	f, ok := seven(v.Expr)
	if !ok {
		t.Fatalf("%q has not seven fields", v.Expr)
	}
	s, err := Compile(f, Options{Location: mustZone(t, v.TZ)})
	if err != nil {
		return nil, err.Error()
	}
	at := mustTime(t, v.After)
	for _, w := range want {
		next, ok := s.Next(at)
		if !ok {
			return got, "ends too early"
		}
		got = append(got, next.Format(time.RFC3339))
		if !next.Equal(mustTime(t, w)) {
			return got, "differs"
		}
		at = next
	}
	if next, ok := s.Next(at); ok && v.Exhausted {
		return append(got, next.Format(time.RFC3339)), "doesn't end"
	}
	return got, ""
}

// exception is a contested vector that is not followed: what is returned up to the first difference, and why.
type exception struct{ got, reason string }

const (
	whyStep  = "only a text that begins with * makes an interval job; this program takes a/n for one too"
	whyRange = "only a text that begins with * makes an interval job; this program takes a-b for one too"
	whyFixed = "a fixed job doesn't repeat wall times that have already occurred"
	whyWrap  = "a range that runs over the field's end is refused with the list to write instead"
	whyForm  = "this form is not in the grammar"
	whyYears = "years end at 2099"
)

var nextExceptions = map[string]exception{
	"0 0 0 * 2 1#5 * | UTC | 1999-12-31T23:59:59Z":                        {"2016-02-29T00:00:00Z 2044-02-29T00:00:00Z 2072-02-29T00:00:00Z", whyYears},
	"0 0 22-2 * * * * | UTC | 2026-07-04T17:59:59Z":                       {"", whyWrap},
	"0 0 0 28-3 * * * | UTC | 2026-01-30T23:59:59Z":                       {"", whyWrap},
	"0 30 0/1 * * * * | America/New_York | 2016-11-06T01:30:00-04:00":     {"2016-11-06T02:30:00-05:00", whyStep},
	"0 30 1-9 * * * * | America/New_York | 2016-11-06T01:58:59-04:00":     {"2016-11-06T02:30:00-05:00", whyRange},
	"0 30 1-9 * * * * | America/New_York | 2016-11-06T01:30:00-04:00":     {"2016-11-06T02:30:00-05:00", whyRange},
	"0 0/30 1 * * * * | America/New_York | 2016-11-06T01:58:59-04:00":     {"2016-11-07T01:00:00-05:00", whyStep},
	"0 0/30 1 * * * * | America/New_York | 2016-11-06T01:19:59-05:00":     {"2016-11-07T01:00:00-05:00", whyStep},
	"0 0/30 1 * * * * | America/New_York | 2016-11-06T01:00:00-05:00":     {"2016-11-07T01:00:00-05:00", whyStep},
	"0 0-30 1 * * * * | America/New_York | 2016-11-06T01:58:59-04:00":     {"2016-11-07T01:00:00-05:00", whyRange},
	"0/30 0 1 * * * * | America/New_York | 2016-11-06T01:00:00-05:00":     {"2016-11-07T01:00:00-05:00", whyStep},
	"0 30 0/1 * * * * | Australia/Lord_Howe | 2017-04-02T01:58:59+11:00":  {"2017-04-02T02:30:00+10:30", whyStep},
	"0 30 1-9 * * * * | Australia/Lord_Howe | 2017-04-02T01:58:59+11:00":  {"2017-04-02T02:30:00+10:30", whyRange},
	"0 0/30 1 * * * * | Australia/Lord_Howe | 2017-04-02T01:58:59+11:00":  {"2017-04-03T01:00:00+10:30", whyStep},
	"0/30 30 1 * * * * | Australia/Lord_Howe | 2017-04-02T01:30:30+11:00": {"2017-04-03T01:30:00+10:30", whyStep},
	"* * * L-4W * * * | America/New_York | 2016-12-31T23:59:59-05:00":     {"", whyForm},
	"0 30 1 4 Nov ? * | America/New_York | 2012-11-04T01:45:00-04:00":     {"2013-11-04T01:30:00-05:00", whyFixed},
}

type validVector struct {
	Expr   string
	Accept bool
}

// TestValidVectors compares acceptance with that of the Python program's parser.
func TestValidVectors(t *testing.T) {
	used := map[string]bool{}
	for _, v := range readLines[validVector](t, "testdata/valid.jsonl") {
		_, _, err := Parse(v.Expr, Options{})
		_, excepted := validExceptions[v.Expr]
		switch {
		case (err == nil) != v.Accept && !excepted:
			t.Errorf("%q: accept %v, got %v", v.Expr, v.Accept, err)
		case (err == nil) == v.Accept && excepted:
			t.Errorf("%q: the exception is not needed any more", v.Expr)
		}
		used[v.Expr] = true
	}
	for expr := range validExceptions {
		if !used[expr] {
			t.Errorf("%q: the exception belongs to no vector", expr)
		}
	}
}

var validExceptions = map[string]string{
	"0 0 0 15W * * *":   "nW is in our grammar",
	"0 0 0 * * 5L *":    "nL is in our grammar",
	"0 0 0 * * FRI#2 *": "n#k is in our grammar",
	"0 0 0 * * 0-0 *":   "every day to the Python program, Sunday elsewhere: refused with an explanation",
}
