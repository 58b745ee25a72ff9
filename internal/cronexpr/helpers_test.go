package cronexpr

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"
)

// seven reads an expression of exactly seven fields as the separate fields, which gives no error for ambiguous days.
func seven(expr string) (Fields, bool) {
	f := strings.Fields(expr)
	if len(f) != 7 {
		return Fields{}, false
	}
	return Fields{f[0], f[1], f[2], f[3], f[4], f[5], f[6]}, true
}

func mustCompile(t testing.TB, expr string, o Options) *Schedule {
	t.Helper()
	f, ok := seven(expr)
	if !ok {
		t.Fatalf("%q has not seven fields", expr)
	}
	s, err := Compile(f, o)
	if err != nil {
		t.Fatalf("Compile(%q): %v", expr, err)
	}
	return s
}

func mustZone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func mustTime(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func readLines[T any](t testing.TB, path string) (all []T) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		var one T
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, one)
	}
	return all
}
