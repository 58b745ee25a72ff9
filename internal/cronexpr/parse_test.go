package cronexpr

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestParse checks what the short forms stand for.
func TestParse(t *testing.T) {
	for _, c := range []struct {
		expr string
		o    Options
		want Fields
	}{
		{"*/5 2 * jan 1-5", Options{}, Fields{"0", "*/5", "2", "*", "jan", "1-5", "*"}},
		{"30 0 2 * * *", Options{}, Fields{"30", "0", "2", "*", "*", "*", "*"}},
		{"0 0 0 1 1 * 2027", Options{}, Fields{"0", "0", "0", "1", "1", "*", "2027"}},
		{"\t0 \t 2  * *\t* \n", Options{}, Fields{"0", "0", "2", "*", "*", "*", "*"}},
		{"0 0 13 * 5", Options{Or: true}, Fields{"0", "0", "0", "13", "*", "5", "*"}},
		{"0 0 13 * 5", Options{And: true}, Fields{"0", "0", "0", "13", "*", "5", "*"}},
		{"0 0 */2 * 1", Options{}, Fields{"0", "0", "0", "*/2", "*", "1", "*"}},
		{"0 0 13 * ?", Options{}, Fields{"0", "0", "0", "13", "*", "?", "*"}},
		{"0 0 0 13 * 5 *", Options{}, Fields{"0", "0", "0", "13", "*", "5", "*"}},
		{"@yearly", Options{}, Fields{"0", "0", "0", "1", "1", "*", "*"}},
		{"@monthly", Options{}, Fields{"0", "0", "0", "1", "*", "*", "*"}},
		{"@weekly", Options{}, Fields{"0", "0", "0", "*", "*", "0", "*"}},
		{"@daily", Options{}, Fields{"0", "0", "0", "*", "*", "*", "*"}},
		{" @midnight ", Options{}, Fields{"0", "0", "0", "*", "*", "*", "*"}},
		{"@hourly", Options{}, Fields{"0", "0", "*", "*", "*", "*", "*"}},
	} {
		got, s, err := Parse(c.expr, c.o)
		if err != nil {
			t.Errorf("%q: %v", c.expr, err)
			continue
		}
		if got != c.want || s.Fields() != c.want {
			t.Errorf("%q: got %+v and %+v, want %+v", c.expr, got, s.Fields(), c.want)
		}
	}
}

// TestParseRefused checks where in the expression the problem is said to be.
func TestParseRefused(t *testing.T) {
	for _, c := range []struct{ expr, field, at, hint string }{
		{"", "schedule", "", "5 (min hour dom mon dow)"},
		{"* * * *", "schedule", "* * * *", "5 (min hour dom mon dow)"},
		{"* * * * * * * *", "schedule", "* * * * * * * *", "5 (min hour dom mon dow)"},
		{" @DAILY", "schedule", "@DAILY", `write "@daily"`},
		{"@annually", "schedule", "@annually", `write "@yearly"`},
		{"@reboot", "schedule", "@reboot", "@hourly"},
		{"@every 5m", "schedule", "@every 5m", "@hourly"},
		{"0 0 13 * 5", "schedule", "13 * 5", "day_match"},
		{"0 0 0 13 * 5", "schedule", "13 * 5", "day_match"},
		{" 0  25 * * *", "hour", "25", `write "23" or less`},
		{"0 0 0 1 1 * 2027,1969", "year", "1969", `write "1970" or more`},
		{"*/60 * * * *", "min", "*/60", `write "0"`},
		{strings.Repeat("1", maxExpr+1), "schedule", strings.Repeat("1", maxExpr+1), "ranges"},
	} {
		_, _, err := Parse(c.expr, Options{})
		var errs Errors
		if !errors.As(err, &errs) || len(errs) != 1 {
			t.Errorf("%q: want one problem, got %v", c.expr, err)
			continue
		}
		e := errs[0]
		if e.Field != c.field || c.expr[e.Offset:e.Offset+e.Len] != c.at || !strings.Contains(e.Hint, c.hint) {
			t.Errorf("%q: got %v at %d+%d, want %s at %q with %q", c.expr, e, e.Offset, e.Len, c.field, c.at, c.hint)
		}
	}
	_, _, err := Parse("60 0 13 * 9", Options{})
	if errs, _ := err.(Errors); len(errs) != 3 {
		t.Errorf("want three problems at once, got %v", err)
	}
}

// TestDayMatch follows the three ways to combine dom and dow.
func TestDayMatch(t *testing.T) {
	f, _ := seven("0 0 0 13 * 5 *")
	after := mustTime(t, "2026-02-27T12:00:00Z")
	for _, c := range []struct {
		o        Options
		next     string
		warnings int
	}{
		{Options{}, "2026-03-13", 1},
		{Options{And: true}, "2026-03-13", 0},
		{Options{Or: true}, "2026-03-06", 0},
	} {
		s, err := Compile(f, c.o)
		if err != nil {
			t.Fatal(err)
		}
		next, _ := s.Next(after)
		if got := next.Format(time.DateOnly); got != c.next || len(s.Warnings()) != c.warnings {
			t.Errorf("%+v: next %s, warnings %q; want %s and %d", c.o, got, s.Warnings(), c.next, c.warnings)
		}
	}
	star := mustCompile(t, "0 0 0 */2 * 5 *", Options{Or: true})
	if next, _ := star.Next(after); next.Format(time.DateOnly) != "2026-03-13" {
		t.Errorf("a day field that begins with * is ANDed by Vixie's rule; next %v", next)
	}
}

func TestNever(t *testing.T) {
	now := mustTime(t, "2026-11-23T05:00:00Z")
	for expr, want := range map[string]bool{
		"0 0 0 30 2 * *":     true,
		"0 0 0 * * * 2020":   true,
		"0 0 5 23 11 * 2026": true, // due now, and never after it
		"0 1 5 23 11 * 2026": false,
		"0 0 0 31W 4 * *":    true,
	} {
		if got := mustCompile(t, expr, Options{}).Never(now); got != want {
			t.Errorf("%q: never is %v", expr, got)
		}
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct{ expr, zone, want string }{
		{"*/10 * * * * * *", "", "every 10 s"},
		{"* * * * * * *", "", "every 1 s"},
		{"*/7 * * * * * *", "", "*/7 * * * * *"},
		{"0 * * * * * *", "", "every 1 min"},
		{"0 */5 * * * * *", "", "every 5 min"},
		{"0 0 * * * * *", "", "every 1 h"},
		{"0 15 * * * * *", "", "every 1 h at :15"},
		{"0 0 */6 * * * *", "", "every 6 h"},
		{"0 30 */6 * * * *", "", "every 6 h at :30"},
		{"0 0 */5 * * * *", "", "0 */5 * * *"},
		{"0 0 2 * * * *", "", "02:00 daily"},
		{"0 0 2 * * * *", "Europe/Bucharest", "02:00 daily (Europe/Bucharest)"},
		{"5 0 2 ? * ? *", "", "02:00:05 daily"},
		{"0 30 4 * * 1 *", "", "Mon 04:30"},
		{"0 30 4 * * mon-fri *", "Asia/Tokyo", "Mon-Fri 04:30 (Asia/Tokyo)"},
		{"0 30 4 * * 0,6 *", "", "Sat,Sun 04:30"},
		{"0 30 4 * * 0,1,2,3,6 *", "", "Mon-Wed,Sat,Sun 04:30"},
		{"0 30 4 * * 0-6 *", "", "Mon-Sun 04:30"},
		{"0 */5 * * * 6-7 *", "", "Sat,Sun every 5 min"},
		{"0 0 0 1 * * *", "", "day 1 00:00"},
		{"0 0 0 L * * *", "", "last day 00:00"},
		{"0 0 0 * * 5L *", "", "0 0 * * 5L"},
		{"0 0 0 1 1 * *", "", "0 0 1 1 *"},
		{"0 0 0 1 1 * 2027", "", "0 0 0 1 1 * 2027"},
		{"0,30 0 0 1 1 * *", "", "0,30 0 0 1 1 *"},
		{"0 0 0,12 * * * *", "", "0 0,12 * * *"},
		{"0 0 0 13 * 5 *", "", "0 0 13 * 5"},
	} {
		if got := mustCompile(t, c.expr, Options{Location: mustZone(t, c.zone)}).Words(); got != c.want {
			t.Errorf("%q in %q: %q, want %q", c.expr, c.zone, got, c.want)
		}
	}
}

func TestExplainJSON(t *testing.T) {
	after := mustTime(t, "2026-03-28T00:00:00Z")
	for _, c := range []struct {
		expr, zone string
		n          int
		want       string
	}{
		{"0 2 * * *", "", 2, `{"valid":true,"never":false,"next":["2026-03-28T02:00:00Z","2026-03-29T02:00:00Z"],"warnings":[]}`},
		{"30 3 * * *", "Europe/Bucharest", 2, `{"valid":true,"never":false,"next":["2026-03-28T01:30:00Z","2026-03-29T01:00:00Z"],"warnings":[]}`},
		{"0 0 0 1 1 * 2020", "", 5, `{"valid":true,"never":true,"next":[],"warnings":[]}`},
		{"0 2 * * *", "", 0, `{"valid":true,"never":false,"next":[],"warnings":[]}`},
		{"0 2 * * *", "", -1, `{"valid":true,"never":false,"next":[],"warnings":[]}`},
		{"*/60 * * * *", "", 1, `{"valid":false,"errors":[{"field":"min","offset":0,"len":4,"text":"*/60",` +
			`"message":"the step is larger than the field's maximum 59","hint":"write \"0\", the only value that it could match"}]}`},
	} {
		got, err := json.Marshal(Explain(c.expr, c.zone, false, after, c.n))
		if err != nil || string(got) != c.want {
			t.Errorf("%q: %v\n got  %s\n want %s", c.expr, err, got, c.want)
		}
	}
	if e := Explain("0 99 * * *", "Mars/Olympus", false, after, 1); e.Valid || len(e.Errors) != 2 {
		t.Errorf("a bad expression in a bad zone: %+v, want both problems", e)
	}
	if e := Explain("* * * * * *", "", false, after, 1e9); len(e.Next) != maxExplained {
		t.Errorf("%d instants, want %d", len(e.Next), maxExplained)
	}
}

func TestLoadLocation(t *testing.T) {
	for _, name := range []string{"", "UTC"} {
		if loc, err := LoadLocation(name); err != nil || loc != time.UTC {
			t.Errorf("%q: %v, %v", name, loc, err)
		}
	}
	for name, hint := range map[string]string{
		"Local": "IANA", "localtime": "IANA", "right/Europe/Paris": "IANA", "utc": `"UTC"`, "Europe/Bukarest": "IANA",
		"europe/bucharest": `write "Europe/Bucharest"`, "America/new york": `write "America/New_York"`, "+02:00": "Etc/GMT-2",
		"GMT+3:30": "Etc/GMT-2", "../etc/passwd": "IANA", "/etc/localtime": "IANA", "Europe": "IANA", "Köln": "IANA", "PDT": "IANA",
	} {
		loc, err := LoadLocation(name)
		var e FieldError
		if !errors.As(err, &e) || loc != nil || !strings.Contains(e.Hint, hint) || e.Field != "timezone" {
			t.Errorf("%q: %v, %v; want a hint with %s", name, loc, err, hint)
		}
	}
}

// TestNoAllocation: the hot path doesn't allocate.
func TestNoAllocation(t *testing.T) {
	for _, zone := range []string{"UTC", "Europe/Bucharest", "Asia/Tokyo"} {
		s := mustCompile(t, "0 */5 * * * * *", Options{Location: mustZone(t, zone)})
		at := int64(benchStart)
		if n := testing.AllocsPerRun(1000, func() { at, _ = s.NextUnix(at); s.Due(at) }); n != 0 {
			t.Errorf("%s: %v allocations", zone, n)
		}
	}
}

// TestConcurrentUse shares one schedule between goroutines that are in different years.
func TestConcurrentUse(t *testing.T) {
	s := mustCompile(t, "0 30 3 * * * *", Options{Location: mustZone(t, "Europe/Bucharest")})
	alone := func(from int64) (sum int64) {
		for at, i := from, 0; i < 400; i++ {
			at, _ = s.NextUnix(at)
			sum += at
		}
		return sum
	}
	var wg sync.WaitGroup
	for year := 2000; year < 2008; year++ {
		from := daysBefore(year, 1) * daySeconds
		want := alone(from)
		wg.Go(func() {
			if got := alone(from); got != want {
				t.Errorf("from %d: %d, alone %d", from, got, want)
			}
		})
	}
	wg.Wait()
}

// TestExtremes: instants far outside the years of the grammar, which begin and end on the wall clock.
func TestExtremes(t *testing.T) {
	for zone, first := range map[string]int64{"UTC": 0, "Europe/Bucharest": -7200, "Asia/Tokyo": -32400, "America/New_York": 18000} {
		s := mustCompile(t, "0 0 0 * * * *", Options{Location: mustZone(t, zone)})
		for _, at := range []int64{-1 << 63, -1 << 40} {
			if next, ok := s.NextUnix(at); !ok || next != first {
				t.Errorf("%s: next after %d is %d %v, want %d", zone, at, next, ok, first)
			}
		}
		for _, at := range []int64{1 << 40, 1<<63 - 1} {
			if next, ok := s.NextUnix(at); ok {
				t.Errorf("%s: next after %d is %d", zone, at, next)
			}
		}
		for _, at := range []int64{-1 << 63, -1 << 40, 1 << 40, 1<<63 - 1} {
			if s.Due(at) {
				t.Errorf("%s: due at %d", zone, at)
			}
		}
	}
}
