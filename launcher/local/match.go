package local

import (
	"regexp"
	"slices"
	"strings"

	"github.com/syscollective/saltpeter"
)

// matcher gives the test for a target expression, as Salt reads it: a glob matches the whole id, a pcre its beginning.
func matcher(kind string, targets []string) (func(machine string) bool, error) {
	expr := strings.Join(targets, ",")
	switch kind {
	case "list":
		names := strings.Split(expr, ",")
		for i := range names {
			names[i] = strings.TrimSpace(names[i])
		}
		return func(m string) bool { return slices.Contains(names, m) }, nil
	case "glob", "":
		return compile(kind, expr, `^(?:`+globPattern(expr)+`)$`)
	case "pcre":
		return compile(kind, expr, `^(?:`+expr+`)`)
	default:
		return nil, saltpeter.Errorf(saltpeter.CodeInvalid, "the local launcher can't match target_type %s", kind).
			WithHint("it knows glob, list and pcre; the others need Salt")
	}
}

func compile(kind, expr, pattern string) (func(string) bool, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, saltpeter.Errorf(saltpeter.CodeInvalid, "targets %q are no %s: %w", expr, kind, err)
	}
	return re.MatchString, nil
}

// globPattern turns a glob of Python's fnmatch into a regular expression: * and ? match any character, also a slash, and
// [!…] is the complement. A bracket that is never closed stands for itself.
func globPattern(glob string) string {
	var b strings.Builder
	for i := 0; i < len(glob); i++ {
		switch c := glob[i]; c {
		case '*':
			b.WriteString(`(?s:.*)`)
		case '?':
			b.WriteString(`(?s:.)`)
		case '[':
			class, n := bracket(glob[i:])
			b.WriteString(class)
			i += n - 1
		default:
			b.WriteString(regexp.QuoteMeta(string(c)))
		}
	}
	return b.String()
}

// bracket translates the class that s begins with and gives how many bytes of s it took.
func bracket(s string) (string, int) {
	from := 1
	if from < len(s) && s[from] == '!' {
		from++
	}
	// A bracket that closes at once belongs to the class.
	end := strings.IndexByte(s[min(from+1, len(s)):], ']')
	if end < 0 {
		return `\[`, 1
	}
	end += from + 1
	body := strings.NewReplacer(`\`, `\\`, `[`, `\[`, `]`, `\]`, `^`, `\^`).Replace(s[from:end])
	if from == 2 {
		return "[^" + body + "]", end + 1
	}
	return "[" + body + "]", end + 1
}
