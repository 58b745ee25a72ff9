package fsm

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
)

// TestStatesDoc holds docs/states.md to the code: what stands between its markers is written by this test (-update).
func TestStatesDoc(t *testing.T) {
	const file = "../docs/states.md"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	doc := string(b)
	for name, table := range map[string]string{"runs": runTable(), "targets": targetTable(), "silence": silenceTable()} {
		begin, end := "<!-- "+name+": written by go test ./fsm -update -->\n", "<!-- end of "+name+" -->"
		before, rest, ok := strings.Cut(doc, begin)
		_, after, ok2 := strings.Cut(rest, end)
		if !ok || !ok2 {
			t.Fatalf("%s has no markers of %s", file, name)
		}
		doc = before + begin + table + end + after
	}
	switch {
	case doc == string(b):
	case *update:
		if err := os.WriteFile(file, []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s differs from the code: run go test ./fsm -update", file)
	}
}

func runTable() string {
	var out strings.Builder
	out.WriteString("| state | final |\n|---|---|\n")
	for s := saltpeter.RunClaimed; s <= saltpeter.RunNoTargets; s++ {
		fmt.Fprintf(&out, "| %s | %s |\n", s, yes(s.Final()))
	}
	return out.String()
}

func targetTable() string {
	var out strings.Builder
	out.WriteString("| state | final | code | may be followed by |\n|---|---|---|---|\n")
	for _, s := range saltpeter.TargetStates() {
		code := ""
		if s.Final() {
			code = fmt.Sprint(s.Code())
		}
		if s == saltpeter.Failed {
			code = "the command's"
		}
		fmt.Fprintf(&out, "| %s | %s | %s | %s |\n", s, yes(s.Final()), code, words(s.Nexts()))
	}
	return out.String()
}

func silenceTable() string {
	var out strings.Builder
	out.WriteString("| silence in | may be recorded as |\n|---|---|\n")
	for _, from := range saltpeter.TargetStates() {
		if from.Final() {
			continue
		}
		to := slices.DeleteFunc(saltpeter.TargetStates(), func(s saltpeter.TargetState) bool { return !maySilence(from, s) })
		fmt.Fprintf(&out, "| %s | %s |\n", from, words(to))
	}
	return out.String()
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func words(states []saltpeter.TargetState) string {
	var list []string
	for _, s := range states {
		list = append(list, s.String())
	}
	return strings.Join(list, ", ")
}

// TestTableOfStates holds what must be true of the table, whatever it says in detail.
func TestTableOfStates(t *testing.T) {
	for _, s := range saltpeter.TargetStates() {
		if s.Final() != (len(s.Nexts()) == 0) {
			t.Errorf("%s: final %t, followed by %v", s, s.Final(), s.Nexts())
		}
		for _, next := range s.Nexts() {
			if !s.CanBecome(next) || next <= s {
				t.Errorf("%s may not become %s", s, next)
			}
		}
		if got, ok := saltpeter.ParseTargetState(s.String()); !ok || got != s {
			t.Errorf("%s is not read back", s)
		}
		for _, to := range saltpeter.TargetStates() {
			if maySilence(s, to) && !s.CanBecome(to) {
				t.Errorf("silence may bring %s from %s, which the table forbids", to, s)
			}
		}
	}
	if saltpeter.Waiting.CanBecome(saltpeter.Granted) || reachable(saltpeter.NotStarted, saltpeter.Granted) {
		t.Error("a start is granted without a launch")
	}
}
