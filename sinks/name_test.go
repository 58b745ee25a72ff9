package sinks

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestFileName(t *testing.T) {
	long := strings.Repeat("/", 128)
	for job, want := range map[string]string{
		"backup":          "backup",
		"Backup 2 (db)":   "Backup 2 (db)",
		"a.log":           "a.log",
		"täglich":         "täglich",
		"a/b":             "a%2Fb",
		"../etc/passwd":   "%2E.%2Fetc%2Fpasswd",
		".":               "%2E",
		"..":              "%2E.",
		".hidden":         "%2Ehidden",
		"100%":            "100%25",
		"%2F":             "%252F",
		"a\nb":            "a%0Ab",
		"a\x7fb":          "a%7Fb",
		"a\xffb":          "a%FFb",
		"":                "%",
		long[:66]:         strings.Repeat("%2F", 66),
		"%saltpeter":      "%25saltpeter", // not the sink's own file
		long:              strings.Repeat("%2F", 55) + "%%-a85b73755224ef42365ed693f4ba95be",
		"\ufffdx":         "\ufffdx",
		"con":             "con",
		"a\\b:c*d?e\"f<g": "a\\b:c*d?e\"f<g",
	} {
		got := fileName(job)
		if got != want {
			t.Errorf("fileName(%q) = %q, want %q", job, got, want)
		}
	}
}

func checkName(t interface{ Fatalf(string, ...any) }, job string) {
	name := fileName(job)
	if name == "" || len(name) > maxName || strings.ContainsAny(name, "/\x00\n") || name[0] == '.' || name == ownName || !utf8.ValidString(name) {
		t.Fatalf("fileName(%q) = %q", job, name)
	}
}

// TestFileNamesDiffer draws pairs that lie near each other: names, their own escapings, long ones that differ at the end.
func TestFileNamesDiffer(t *testing.T) {
	piece := rapid.SampledFrom([]string{"/", "%", ".", "2F", "%2F", "-", "%-", "a", "é", "\xc3", strings.Repeat("/", 40), strings.Repeat("b", 60)})
	rapid.Check(t, func(t *rapid.T) {
		a := strings.Join(rapid.SliceOfN(piece, 0, 8).Draw(t, "a"), "")
		b := rapid.OneOf(
			rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(piece, 0, 8).Draw(t, "pieces"), "") }),
			rapid.Just(fileName(a)),
			rapid.Custom(func(t *rapid.T) string { return a + piece.Draw(t, "more") }),
		).Draw(t, "b")
		checkName(t, a)
		checkName(t, b)
		if a != b && fileName(a) == fileName(b) {
			t.Fatalf("%q and %q are both %q", a, b, fileName(a))
		}
	})
}

func FuzzFileName(f *testing.F) {
	f.Add("a/b", "a%2Fb")
	f.Fuzz(func(t *testing.T, a, b string) {
		checkName(t, a)
		if a != b && fileName(a) == fileName(b) {
			t.Fatalf("%q and %q are both %q", a, b, fileName(a))
		}
	})
}
