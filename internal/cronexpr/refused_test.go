package cronexpr

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

// with returns a schedule in which one field has the text and the others "*" ("0" in sec).
func with(field, text string) Fields {
	f := Fields{Sec: "0", Min: "*", Hour: "*", Dom: "*", Mon: "*", Dow: "*", Year: "*"}
	switch field {
	case "sec":
		f.Sec = text
	case "min":
		f.Min = text
	case "hour":
		f.Hour = text
	case "dom":
		f.Dom = text
	case "mon":
		f.Mon = text
	case "dow":
		f.Dow = text
	case "year":
		f.Year = text
	}
	return f
}

// refused lists what is refused: the piece that the error points at, and a part of what it says to write instead.
var refused = []struct{ field, text, at, hint string }{
	{"hour", "22-2", "22-2", `write "22-23,0-2"`},
	{"hour", "22-2/2", "22-2/2", `write "22,0,2"`},
	{"min", "55-5", "55-5", `write "55-59,0-5"`},
	{"dow", "fri-mon", "fri-mon", `write "5-6,0-1"`},
	{"dow", "7-1", "7-1", `write "0-1"`},
	{"dow", "6-5/3", "6-5/3", `write "6,2,5"`},
	{"mon", "nov-feb", "nov-feb", `write "11-12,1-2"`},
	{"dom", "28-3", "28-3", `write "28-31,1-3"`},
	{"year", "2030-2027", "2030-2027", `write "2027-2030"`},
	{"dow", "0-0", "0-0", `"0" for Sunday`},
	{"dow", "sun-sun", "sun-sun", `"0" for Sunday`},
	{"dow", "0-sun/2", "0-sun", `"0" for Sunday`},
	{"dow", "L0-0", "0-0", `"0" for Sunday`},
	{"dow", "L4-2", "4-2", `write "L4-6,L0-2"`},
	{"dow", "4-2L", "4-2", `write "L4-6,L0-2"`},
	{"dow", "tue-4L", "tue-4L", `write "L2-4"`},
	{"min", "*/0", "0", "step from 1"},
	{"min", "*/60", "*/60", `write "0"`},
	{"min", "59/2", "59/2", `write "59"`},
	{"min", "5-10/59", "5-10/59", `write "5"`},
	{"hour", "*/24", "*/24", `write "0"`},
	{"hour", "23/1", "23/1", `write "23"`},
	{"mon", "*/12", "*/12", `write "1"`},
	{"dom", "*/31", "*/31", `write "1"`},
	{"dom", "*/32", "*/32", `write "1"`},
	{"year", "2096/4", "2096/4", `write "2096"`},
	{"year", "*/130", "*/130", `write "1970"`},
	{"dow", "7/1", "7/1", `write "7"`},
	{"dow", "*/8", "*/8", `write "0"`},
	{"dom", "0/5", "0", `write "1" or more`},
	{"mon", "0/5", "0", `write "1" or more`},
	{"dom", "0", "0", `write "1" or more`},
	{"dom", "32", "32", `write "31" or less`},
	{"dow", "8", "8", `write "7" or less`},
	{"hour", "24", "24", `write "0" for midnight`},
	{"min", "60", "60", `full hour`},
	{"sec", "60", "60", `full minute`},
	{"year", "1969", "1969", `write "1970" or more`},
	{"year", "10000", "10000", `write "2099" or less`},
	{"min", "99999999999999999999", "99999999999999999999", `write "59" or less`},
	{"min", "+5", "+5", `write "5"`},
	{"min", "-5", "-5", "from 0 to 59"},
	{"min", "5-", "5-", "from 0 to 59"},
	{"min", "*/+5", "+5", "digits"},
	{"min", "*/-5", "-5", "digits"},
	{"min", "*/", "", "digits"},
	{"min", "1/2/3", "2/3", "digits"},
	{"min", "1-2-3", "1-2-3", `"1-3"`},
	{"min", "*,99", "99", `write "59" or less`},
	{"min", "99,*", "99", `write "59" or less`},
	{"min", ",1", "", "comma"},
	{"min", "1,,2", "", "comma"},
	{"min", "1, 2", "1, 2", `write "1,2"`},
	{"min", "1e1", "1e1", "decimal"},
	{"min", "0x5", "0x5", "decimal"},
	{"min", "1.5", "1.5", "decimal"},
	{"min", "1_0", "1_0", "decimal"},
	{"min", "**", "**", `"*/n"`},
	{"min", "*5", "*5", `"*/n"`},
	{"min", "*-5", "*", `"*/n"`},
	{"min", "?", "?", `write "*"`},
	{"dom", "?/2", "?", `"*" before a step`},
	{"min", "H", "H", "from 0 to 59"},
	{"min", "5\u00a0", "5\u00a0", "0-9"},
	{"min", "\u0665", "\u0665", "0-9"},
	{"min", "1\u20135", "1\u20135", "0-9"},
	{"min", "", "", `write "*"`},
	{"min", "@daily", "@daily", `schedule: "@daily"`},
	{"min", "L", "L", `"L" is the last day`},
	{"min", "5#2", "5#2", "dow"},
	{"hour", "fri", "fri", `write "fri" in dow`},
	{"dow", "jul", "jul", `write "jul" in mon`},
	{"dow", "jan", "jan", `write "jan" in mon`},
	{"dow", "april", "april", `write "apr" in mon`},
	{"mon", "SUN", "SUN", `write "sun" in dow`},
	{"dom", "wed", "wed", `write "wed" in dow`},
	{"mon", "JANUARY", "JANUARY", `write "jan"`},
	{"dow", "Fridays", "Fridays", "one of sun-sat"},
	{"dow", "Friday", "Friday", `write "fri"`},
	{"mon", "JANFEB", "JANFEB", "one of jan-dec"},
	{"dom", "W", "W", `"15W"`},
	{"dom", "LW", "LW", `"Z1"`},
	{"dom", "L-4W", "L-4W", `"Z1"`},
	{"dom", "L-3", "L-3", `write "Z3"`},
	{"dom", "32W", "32", `write "31" or less`},
	{"dom", "1-5W", "1-5W", `"15W"`},
	{"dom", "Z8", "Z8", `"Z3"`},
	{"dom", "Z", "Z", `"Z3"`},
	{"dom", "Z3-1", "Z3-1", `write "Z1-3"`},
	{"dow", "L", "L", `"5L"`},
	{"dow", "L8", "8", `write "7" or less`},
	{"dow", "Lfri", "Lfri", `"5L"`},
	{"dow", "5LX", "5LX", "from 0 to 7"},
	{"dow", "5L/2", "5L", "sun-sat"},
	{"min", "/2", "", "from 0 to 59"},
	{"dow", "#1", "#1", `"5#2"`},
	{"dow", "5#0", "5#0", `"5#2"`},
	{"dow", "5#6", "5#6", `"5#2"`},
	{"dow", "5#1#2", "5#1#2", `"5#2"`},
	{"dow", "8#1", "8", `write "7" or less`},
	{"min", strings.Repeat("1,", 128) + "1", strings.Repeat("1,", 128) + "1", "ranges"},
}

var advice = regexp.MustCompile(`^write "([^"]+)"( for [a-zS ]+| or (more|less).*|, the only.*)?$`)

// TestRefused checks that each text is refused at the right place, that the error says what to write instead, and that this,
// where it is a text, is accepted.
func TestRefused(t *testing.T) {
	for _, c := range refused {
		_, err := Compile(with(c.field, c.text), Options{})
		var errs Errors
		if !errors.As(err, &errs) || len(errs) != 1 {
			t.Errorf("%s %q: want one problem, got %v", c.field, c.text, err)
			continue
		}
		e := errs[0]
		if e.Field != c.field || e.Offset < 0 || e.Offset+e.Len > len(c.text) || c.text[e.Offset:e.Offset+e.Len] != c.at {
			t.Errorf("%s %q: points at %d+%d (%q), want %q", c.field, c.text, e.Offset, e.Len, e.Text, c.at)
		}
		if !strings.Contains(e.Hint, c.hint) || e.Hint == "" || e.Msg == "" {
			t.Errorf("%s %q: %v, want a hint with %s", c.field, c.text, e, c.hint)
		}
		if m := advice.FindStringSubmatch(e.Hint); m != nil {
			if _, err := Compile(with(c.field, m[1]), Options{}); err != nil {
				t.Errorf("%s %q: the advice %q is refused itself: %v", c.field, c.text, m[1], err)
			}
		}
	}
}

// TestAllProblemsAtOnce: every problem of every field is named, at its place.
func TestAllProblemsAtOnce(t *testing.T) {
	_, err := Compile(Fields{Sec: "61", Min: "5,99,*/0", Hour: "", Dom: "1-", Mon: "x", Dow: "fri-mon", Year: "1"}, Options{})
	var errs Errors
	if !errors.As(err, &errs) {
		t.Fatal(err)
	}
	want := []FieldError{
		{Field: "sec", Len: 2}, {Field: "min", Offset: 2, Len: 2}, {Field: "min", Offset: 7, Len: 1}, {Field: "hour"},
		{Field: "dom", Offset: 0, Len: 2}, {Field: "mon", Len: 1}, {Field: "dow", Len: 7}, {Field: "year", Len: 1},
	}
	if len(errs) != len(want) {
		t.Fatalf("got %d problems, want %d: %v", len(errs), len(want), errs)
	}
	for i, w := range want {
		if got := errs[i]; got.Field != w.Field || got.Offset != w.Offset || got.Len != w.Len {
			t.Errorf("problem %d: %s at %d+%d, want %s at %d+%d", i, got.Field, got.Offset, got.Len, w.Field, w.Offset, w.Len)
		}
	}
	var one FieldError
	if !errors.As(err, &one) || one.Field != "sec" {
		t.Errorf("errors.As finds %v", one)
	}
}
