package config

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/syscollective/saltpeter"
)

// Format gives problems as plain text for a terminal: the place and what is wrong, then the line with a caret under the part that
// is meant, and what to write instead.
func Format(problems []saltpeter.Problem) string {
	var b strings.Builder
	for _, p := range problems {
		formatOne(&b, p)
	}
	return b.String()
}

func formatOne(b *strings.Builder, p saltpeter.Problem) {
	if p.Line == 0 || p.Source == "" || p.Col < 1 || p.Col > len(p.Source)+1 {
		b.WriteString(printable(p.String()) + "\n")
		return
	}
	head := p
	head.Hint = ""
	b.WriteString(printable(head.String()) + "\n")
	fmt.Fprintf(b, "%5d | %s\n", p.Line, printable(p.Source))
	fmt.Fprintf(b, "      | %s%s", padding(p.Source[:p.Col-1]), strings.Repeat("^", caretWidth(p)))
	if p.Hint != "" {
		b.WriteString("   " + printable(p.Hint))
	}
	b.WriteByte('\n')
}

// caretWidth gives the number of characters to underline.
func caretWidth(p saltpeter.Problem) int {
	end := min(p.Col-1+p.Len, len(p.Source))
	return max(1, utf8.RuneCountInString(p.Source[p.Col-1:end]))
}

// padding gives blanks as wide as the text before a caret.
func padding(before string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, before)
}

// printable keeps what a file holds from steering the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, s)
}

// Summary gives one line: "412 jobs in 37 files: 2 errors, 1 warning, 1 note".
func (r *Result) Summary() string {
	c := r.Counts
	var found []string
	for _, part := range []struct {
		n    int
		word string
	}{{c.Errors, "error"}, {c.Warnings, "warning"}, {c.Notes, "note"}} {
		if part.n > 0 {
			found = append(found, plural(part.n, part.word))
		}
	}
	if len(found) == 0 {
		found = []string{"no problems"}
	}
	return fmt.Sprintf("%s in %s: %s", plural(c.Jobs, "job"), plural(c.Files, "file"), strings.Join(found, ", "))
}

func plural(n int, word string) string {
	if n != 1 {
		word += "s"
	}
	return fmt.Sprintf("%d %s", n, word)
}

// String gives all problems and the summary, as `spctl config check` prints them.
func (r *Result) String() string { return Format(r.Problems) + r.Summary() + "\n" }
