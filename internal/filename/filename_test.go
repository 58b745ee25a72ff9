package filename

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestOf(t *testing.T) {
	long := strings.Repeat("/", 128)
	for name, want := range map[string]string{
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
		"%saltpeter":      "%25saltpeter", // the log of what concerns no job is named %saltpeter
		long:              strings.Repeat("%2F", 55) + "%%-a85b73755224ef42365ed693f4ba95be",
		"\ufffdx":         "\ufffdx",
		"con":             "con",
		"a\\b:c*d?e\"f<g": "a\\b:c*d?e\"f<g",
	} {
		got := Of(name)
		if got != want {
			t.Errorf("Of(%q) = %q, want %q", name, got, want)
		}
	}
}

func checkName(t interface{ Fatalf(string, ...any) }, in string) {
	name := Of(in)
	if name == "" || len(name) > Max || strings.ContainsAny(name, "/\x00\n") || name[0] == '.' || !utf8.ValidString(name) {
		t.Fatalf("Of(%q) = %q", in, name)
	}
}

// TestNobodyForgesALongName: what a long name becomes is no other name's own.
func TestNobodyForgesALongName(t *testing.T) {
	for _, long := range []string{strings.Repeat("a", 128) + strings.Repeat("/", 40), strings.Repeat("%", 100), strings.Repeat("é", 120)} {
		got := Of(long)
		if len(got) > Max {
			t.Errorf("%q has %d bytes", got, len(got))
		}
		for _, forged := range []string{got, strings.ReplaceAll(got, "%2F", "/"), strings.ReplaceAll(got, "%-", "-"), long + "x", long[:len(long)-1]} {
			if Of(forged) == got {
				t.Errorf("%q and %q are both %q", long, forged, got)
			}
		}
	}
}

// TestNamesDiffer draws pairs that lie near each other: names, their own escapings, long ones that differ at the end.
func TestNamesDiffer(t *testing.T) {
	piece := rapid.SampledFrom([]string{"/", "%", ".", "2F", "%2F", "-", "%-", "a", "é", "\xc3", strings.Repeat("/", 40), strings.Repeat("b", 60)})
	rapid.Check(t, func(t *rapid.T) {
		a := strings.Join(rapid.SliceOfN(piece, 0, 8).Draw(t, "a"), "")
		b := rapid.OneOf(
			rapid.Custom(func(t *rapid.T) string { return strings.Join(rapid.SliceOfN(piece, 0, 8).Draw(t, "pieces"), "") }),
			rapid.Just(Of(a)),
			rapid.Custom(func(t *rapid.T) string { return a + piece.Draw(t, "more") }),
		).Draw(t, "b")
		checkName(t, a)
		checkName(t, b)
		if a != b && Of(a) == Of(b) {
			t.Fatalf("%q and %q are both %q", a, b, Of(a))
		}
	})
}

func FuzzOf(f *testing.F) {
	f.Add("a/b", "a%2Fb")
	f.Fuzz(func(t *testing.T, a, b string) {
		checkName(t, a)
		if a != b && Of(a) == Of(b) {
			t.Fatalf("%q and %q are both %q", a, b, Of(a))
		}
	})
}
