package config

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

const (
	// maxRepairs bounds how often one file is read again after a syntax error, to find the next one.
	maxRepairs = 20
	// maxSearch bounds the bytes of one file that are parsed again to find the lines of its syntax errors.
	maxSearch = 32 << 20
)

// parse reads the text of one file. After a syntax error the broken part is taken out and the rest read again, so that one slip
// does not hide the other problems of the file. It gives nil where nothing is left.
func parse(src *source, rep *report) *yaml.Node {
	if !checkText(src, rep) {
		return nil
	}
	work, budget := *src, maxSearch
	work.lines = slices.Clone(src.lines)
	for range maxRepairs {
		root, second, err := readYAML(work.text(len(work.lines)))
		if second > 0 {
			rep.errorf(src.place(second, 1, ""), "", "put each document into a file of its own",
				"a second YAML document begins here (the Python program dropped this whole file)")
		}
		if err == nil {
			return root
		}
		line := work.failing(&budget)
		if !work.quoteStar(line, rep) {
			work.explain(line, err, src, rep)
			work.takeOut(line)
		}
	}
	return nil
}

// checkText refuses what no YAML reader takes.
func checkText(src *source, rep *report) bool {
	for i, l := range src.lines {
		if !utf8.ValidString(l) {
			at := len(l) - len(strings.TrimLeft(l, validPrefix(l)))
			rep.errorf(place{src: src, line: i + 1, col: at + 1, length: 1}, "", "save the file as UTF-8", "the file is not UTF-8")
			return false
		}
	}
	return true
}

func validPrefix(s string) string {
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 {
			return s[:i]
		}
		i += n
	}
	return s
}

// readYAML parses a text of one document. second is the line at which a second one begins, 0 if there is none.
func readYAML(text string) (root *yaml.Node, second int, err error) {
	// The library panics on its own inconsistencies; a file must never take the daemon down.
	defer func() {
		if r := recover(); r != nil {
			root, err = nil, fmt.Errorf("parse YAML: %v", r)
		}
	}()
	dec := yaml.NewDecoder(strings.NewReader(text))
	var doc, next yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, 0, nil
	case err != nil:
		return nil, 0, err
	}
	switch err := dec.Decode(&next); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, 0, err
	default:
		second = max(next.Line, 1)
	}
	if len(doc.Content) == 0 {
		return nil, second, nil
	}
	return doc.Content[0], second, nil
}

// failing finds the line at which the text stops being YAML: first the top-level block, then the last line in it up to which the
// text can still be read. (The library's own line is the beginning of the mapping around it, or missing.) Once the budget of bytes
// is used up, the beginning of the block has to do.
func (s *source) failing(budget *int) int {
	starts := s.blocks()
	bad := func(n int) bool {
		text := s.text(n)
		*budget -= len(text)
		_, _, err := readYAML(text)
		return err != nil
	}
	lo, hi := 0, len(starts)-1
	for lo < hi { // the first block that can't be read
		if mid := (lo + hi) / 2; bad(starts[mid+1]) {
			hi = mid
		} else {
			lo = mid + 1
		}
	}
	first, last := 0, len(s.lines)
	if len(starts) > 0 {
		first = starts[lo]
		if lo+1 < len(starts) {
			last = starts[lo+1]
		}
	}
	for n := last - 1; n > first && *budget > 0; n-- {
		if !bad(n) {
			return n + 1
		}
	}
	return first + 1
}

// blocks gives the indices of the lines that begin a top-level entry.
func (s *source) blocks() []int {
	var starts []int
	for i, l := range s.lines {
		if l != "" && !strings.ContainsRune(" \t#]}", rune(l[0])) {
			starts = append(starts, i)
		}
	}
	return starts
}

// starForm is a value, in a mapping or a list, that begins with a star: to YAML an alias.
var (
	starForm  = regexp.MustCompile(`^(\s*(?:- +)*(?:([^\s#'"&*!{}\[\],:][^\s:]*) *:\s+)?)(\*(?:[^\s#]|\S#)*)(\s*(?:#.*)?)$`)
	aliasForm = regexp.MustCompile(`^\*[A-Za-z_.][\w.-]*$`)
)

// quoteStar reports an unquoted star and quotes it, so that the file can be read on. An alias whose anchor is missing is no such star.
func (s *source) quoteStar(line int, rep *report) bool {
	m := starForm.FindStringSubmatchIndex(s.line(line))
	if m == nil {
		return false
	}
	text := s.line(line)
	key, star := "", text[m[6]:m[7]]
	if m[4] >= 0 {
		key = text[m[4]:m[5]]
	}
	if aliasForm.MatchString(star) {
		return false
	}
	example := "'" + strings.ReplaceAll(star, "'", "''") + "'"
	hint := "write " + example
	if key != "" {
		hint = "write " + key + ": " + example
	}
	rep.errorf(place{src: s, line: line, col: m[6] + 1, length: len(star)}, s.pathOf(line, key), hint,
		"unquoted * starts a YAML alias (the Python program dropped this whole file)")
	s.lines[line-1] = text[:m[6]] + example + text[m[7]:]
	return true
}

// pathOf guesses the path of a key in a block mapping from the top-level key above it.
func (s *source) pathOf(line int, key string) string {
	for i := line - 1; i >= 0; i-- {
		l := s.lines[i]
		if l == "" || strings.ContainsRune(" \t#-", rune(l[0])) {
			continue
		}
		if name, _, ok := strings.Cut(l, ":"); ok && i != line-1 {
			return join(strings.Trim(name, `'" `), key)
		}
		break
	}
	return key
}

// explain reports the syntax error of a line in words for people.
func (s *source) explain(line int, err error, original *source, rep *report) {
	text := s.line(line)
	body := strings.TrimLeft(text, " ")
	p := place{src: original, line: line, col: len(text) - len(body) + 1, length: len(strings.TrimRight(body, " \t"))}
	if name, ok := s.missingAnchor(line); ok {
		if strings.Contains(original.text(len(original.lines)), "&"+name) {
			return // it stood in a part that was taken out, and that has been reported
		}
		rep.errorf(p, "", "anchors are known in their own file only, below the line that has &"+name, "the anchor %s is not defined above this line", name)
		return
	}
	message, hint := diagnose(body)
	if message == "" {
		message, hint = libraryText(err), "look at indentation, quotes and brackets here and above"
	}
	rep.errorf(p, "", hint, "this is not YAML: %s", message)
}

var aliasUse = regexp.MustCompile(`(?:^|[\s\[{,])\*([^\s,\]}]+)`)

// missingAnchor gives the first alias of a line whose anchor does not stand in front of it.
func (s *source) missingAnchor(line int) (string, bool) {
	before := s.text(line)
	for _, m := range aliasUse.FindAllStringSubmatch(s.line(line), -1) {
		if aliasForm.MatchString("*"+m[1]) && !strings.Contains(before, "&"+m[1]) {
			return m[1], true
		}
	}
	return "", false
}

// diagnose knows the usual slips by the look of the line.
func diagnose(body string) (message, hint string) {
	_, val, ok := strings.Cut(body, ": ")
	val = strings.TrimLeft(val, " ")
	switch {
	case strings.HasPrefix(body, "\t"):
		return "a tab indents this line", "indent with spaces"
	case ok && val != "" && strings.ContainsRune("@`%", rune(val[0])):
		return fmt.Sprintf("a value can't begin with %s", val[:1]), "put the value into quotes"
	case ok && val != "" && !strings.ContainsRune(`'"|>{[`, rune(val[0])) && strings.Contains(val, ": "):
		return `": " inside a value that is not quoted`, "put the whole value into quotes"
	case ok && len(val) > 1 && (val[0] == '"' || val[0] == '\'') && strings.Count(val, val[:1])%2 == 1:
		return "a quote is opened and not closed, or the other way round", "inside '…' write '' for a quote, inside \"…\" write \\\""
	}
	return "", ""
}

// libraryText gives the library's words without its prefix and line, which is not the one that we show.
func libraryText(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if _, what, ok := strings.Cut(rest, ": "); ok {
			return what
		}
	}
	return text
}

// takeOut empties the top-level block that holds a line; the lines keep their numbers.
func (s *source) takeOut(line int) {
	first, last := 0, len(s.lines)
	for _, start := range s.blocks() {
		if start < line {
			first = start
		} else {
			last = start
			break
		}
	}
	for i := first; i < last; i++ {
		s.lines[i] = ""
	}
}
