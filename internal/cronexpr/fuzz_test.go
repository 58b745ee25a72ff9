package cronexpr

import (
	"errors"
	"testing"
	"time"
	"unicode/utf8"
)

// FuzzParse: no panic; problems lie inside the expression; what is accepted compiles again from its fields to the same, and
// answers quickly, also where it never comes.
func FuzzParse(f *testing.F) {
	for _, v := range readLines[nextVector](f, "testdata/next.jsonl") {
		f.Add(v.Expr, false, int64(1_800_000_000))
	}
	for _, v := range readLines[validVector](f, "testdata/valid.jsonl") {
		f.Add(v.Expr, true, int64(-1))
	}
	for _, c := range refused {
		f.Add(with(c.field, c.text).short(), false, int64(0))
	}
	loc := mustZone(f, "America/New_York")
	f.Fuzz(func(t *testing.T, expr string, or bool, after int64) {
		fields, s, err := Parse(expr, Options{Or: or, Location: loc})
		if err != nil {
			checkErrors(t, expr, err)
			return
		}
		again, err := Compile(fields, Options{Or: or, Location: loc})
		if err != nil {
			t.Fatalf("%q is accepted, its fields %+v are not: %v", expr, fields, err)
		}
		begun := time.Now()
		next, ok := s.NextUnix(after)
		if took := time.Since(begun); took > time.Second {
			t.Fatalf("%q: next took %v", expr, took)
		}
		if ok && (next <= after || !s.Due(next)) {
			t.Fatalf("%q: next after %d is %d, due %v", expr, after, next, s.Due(next))
		}
		if next2, ok2 := again.NextUnix(after); next2 != next || ok2 != ok {
			t.Fatalf("%q: %d %v, compiled from its fields %d %v", expr, next, ok, next2, ok2)
		}
		if s.Words() == "" {
			t.Fatalf("%q: no words", expr)
		}
	})
}

func checkErrors(t *testing.T, expr string, err error) {
	var errs Errors
	if !errors.As(err, &errs) || len(errs) == 0 {
		t.Fatalf("%q: the error is %T", expr, err)
	}
	for _, e := range errs {
		if e.Offset < 0 || e.Len < 0 || e.Offset+e.Len > len(expr) || e.Msg == "" || e.Hint == "" || e.Field == "" {
			t.Fatalf("%q: %+v", expr, e)
		}
		if at := expr[e.Offset : e.Offset+e.Len]; shown(at) != e.Text {
			t.Fatalf("%q: %q stands at %d+%d, not %q", expr, at, e.Offset, e.Len, e.Text)
		}
		if utf8.ValidString(expr) && !utf8.ValidString(e.Error()) {
			t.Fatalf("%q: the error is not UTF-8: %q", expr, e.Error())
		}
	}
}
