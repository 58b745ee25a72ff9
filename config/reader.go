package config

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// reader takes the known keys out of a mapping, one by one, and reports what is wrong with their values. What nobody asked for
// is unknown. An empty value (`key:`) counts as absent.
type reader struct {
	*report
	m    *value
	path string
	used map[string]bool
}

func newReader(rep *report, m *value, path string) *reader {
	return &reader{report: rep, m: m, path: path, used: make(map[string]bool, len(m.fields))}
}

func (r *reader) inner(key string) string { return join(r.path, key) }

// get gives a key's field and marks it as known.
func (r *reader) get(key string) (field, bool) {
	r.used[key] = true
	f, ok := r.m.field(key)
	return f, ok && f.val.kind != kindNull
}

// fail reports an error at a key's value.
func (r *reader) fail(f field, hint, format string, args ...any) {
	r.errorf(f.at(), r.inner(f.name), hint, format, args...)
}

func (r *reader) warn(f field, hint, format string, args ...any) {
	r.warnf(f.at(), r.inner(f.name), hint, format, args...)
}

// unknown calls report for every key that nobody asked for.
func (r *reader) unknown(report func(f field)) {
	for _, f := range r.m.fields {
		if !r.used[f.name] {
			report(f)
		}
	}
}

// text gives a text. Numbers and dates are taken as they are written; booleans are refused, because on and yes are meant as texts
// as often as not.
func (r *reader) text(key, fallback string) string {
	f, ok := r.get(key)
	if !ok {
		return fallback
	}
	switch f.val.kind {
	case kindBool:
		r.fail(f, fmt.Sprintf("write %s: '%s'", key, f.val.text), "%s is a boolean in YAML, a text is wanted", f.val.text)
		return fallback
	case kindList, kindMap:
		r.fail(f, "write one text", "is %s, a text is wanted", f.val.kind)
		return fallback
	}
	if strings.ContainsRune(f.val.text, 0) {
		r.fail(f, "leave it out", "holds a NUL character")
		return fallback
	}
	r.surprise(f)
	s, _ := f.val.asText()
	return s
}

// surprise warns of a number that YAML 1.1 reads otherwise than it looks.
func (r *reader) surprise(f field) {
	if form := f.val.odd(); form != "" {
		s, _ := f.val.asText()
		r.warn(f, fmt.Sprintf("write %s: %s, or '%s' in quotes for the text", f.key.text, s, f.val.text),
			"%s is %s to YAML (%s), as it was to the Python program", f.val.text, s, form)
	}
}

// odd gives the form of an unquoted number that people may read otherwise.
func (v *value) odd() string {
	if v.quoted || (v.kind != kindInt && v.kind != kindFloat) {
		return ""
	}
	return odd(v.text)
}

// flag gives a boolean; 0 and 1 count as such.
func (r *reader) flag(key string, fallback bool) bool {
	f, ok := r.get(key)
	if !ok {
		return fallback
	}
	switch s, _ := f.val.asText(); {
	case f.val.kind == kindBool:
		return f.val.yes
	case f.val.kind == kindInt && (s == "0" || s == "1"):
		return s == "1"
	}
	r.fail(f, "write true or false", "is %s, true or false is wanted", f.val.described())
	return fallback
}

// described names a value in a message: its text, or its kind.
func (v *value) described() string {
	if v.kind == kindList || v.kind == kindMap || v.kind == kindNull {
		return v.kind.String()
	}
	if len(v.text) > 40 {
		return "a text"
	}
	return fmt.Sprintf("%q", v.text)
}

// number gives a whole number from low to high.
func (r *reader) number(key string, fallback, low, high int) int {
	f, ok := r.get(key)
	if !ok {
		return fallback
	}
	if n, ok := f.val.asInt(); ok && n >= int64(low) && n <= int64(high) {
		r.surprise(f)
		return int(n)
	}
	r.fail(f, fmt.Sprintf("allowed is %d to %d", low, high), "is %s, a whole number from %d to %d is wanted", f.val.described(), low, high)
	return fallback
}

// asInt gives a whole number, also one in quotes.
func (v *value) asInt() (int64, bool) {
	if v.kind == kindInt && v.num.IsInt64() {
		return v.num.Int64(), true
	}
	if v.kind == kindText && v.text != "" && strings.Trim(v.text, "0123456789") == "" && len(v.text) < 18 {
		n := int64(0)
		for _, c := range v.text {
			n = n*10 + int64(c-'0')
		}
		return n, true
	}
	return 0, false
}

// duration gives a duration from low to high.
func (r *reader) duration(key string, fallback, low, high time.Duration) time.Duration {
	f, ok := r.get(key)
	if !ok {
		return fallback
	}
	s, _ := f.val.asText()
	if f.val.kind == kindBool || f.val.kind == kindList || f.val.kind == kindMap || f.val.kind == kindDate {
		r.fail(f, durationHint, "is %s, a duration is wanted", f.val.described())
		return fallback
	}
	r.surprise(f)
	switch d, err := parseDuration(s); {
	case err != nil:
		r.fail(f, durationHint, "%v", err)
	case d < low || d > high:
		r.fail(f, fmt.Sprintf("allowed is %s to %s", showDuration(low), showDuration(high)), "%s is out of range", s)
	default:
		return d
	}
	return fallback
}

// size gives a number of bytes from low to high.
func (r *reader) size(key string, fallback, low, high int64) int64 {
	f, ok := r.get(key)
	if !ok {
		return fallback
	}
	s, _ := f.val.asText()
	if f.val.kind != kindInt && f.val.kind != kindText && f.val.kind != kindFloat {
		r.fail(f, sizeHint, "is %s, a size is wanted", f.val.described())
		return fallback
	}
	r.surprise(f)
	switch n, err := parseSize(s); {
	case err != nil:
		r.fail(f, sizeHint, "%v", err)
	case n < low || n > high:
		r.fail(f, fmt.Sprintf("allowed is %s to %s", showSize(low), showSize(high)), "%s is out of range", s)
	default:
		return n
	}
	return fallback
}

// choice gives one of some words; the first is the default.
func (r *reader) choice(key string, words ...string) string {
	s := r.text(key, words[0])
	for _, w := range words {
		if s == w {
			return w
		}
	}
	f, _ := r.get(key)
	hint := "allowed: " + strings.Join(words, ", ")
	if near := didYouMean(strings.ToLower(s), words); near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	r.fail(f, hint, "%s is not known here", cmp.Or(f.val.described(), s))
	return words[0]
}

// texts gives a list of non-empty texts; a single one counts as a list of one where oneOK.
func (r *reader) texts(key string, oneOK bool) []string {
	f, ok := r.get(key)
	if !ok {
		return nil
	}
	items := f.val.list
	if f.val.kind != kindList {
		if !oneOK || f.val.kind == kindMap {
			r.fail(f, fmt.Sprintf("write %s: [a, b]", key), "is %s, a list is wanted", f.val.described())
			return nil
		}
		items = []*value{f.val}
	}
	var out []string
	seen := make(map[string]bool, len(items))
	for i, v := range items {
		e := field{fmt.Sprintf("%s[%d]", key, i), f.key, v}
		s, scalar := v.asText()
		switch {
		case !scalar || v.kind == kindNull || v.kind == kindBool || strings.TrimSpace(s) == "":
			r.fail(e, "write a text", "is %s, a text is wanted", v.described())
		case strings.ContainsFunc(s, isControl):
			r.fail(e, "leave it out", "holds a control character")
		case seen[s]:
			r.warn(e, "leave one out", "%s is there twice", s)
		default:
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

func isControl(c rune) bool { return c < 0x20 || (c >= 0x7f && c < 0xa0) }
