package api

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
)

// Bounds of a page.
const (
	DefaultLimit = 100
	MaxLimit     = 10_000 // a larger limit is taken as this one
)

// params are a request's query parameters, checked to be known and given once.
type params map[string]string

// common are the parameters that every read takes.
var common = []string{"consistency"}

// parseQuery refuses parameters that the endpoint does not have: a filter with a typing error would otherwise be no
// filter at all.
func parseQuery(raw string, allowed []string) (params, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, saltpeter.Errorf(saltpeter.CodeInvalid, "query string: %w", err).WithHint("percent-encode what is not a letter or a digit")
	}
	p := params{}
	for name, given := range values {
		if !slices.Contains(allowed, name) && !slices.Contains(common, name) {
			return nil, saltpeter.Errorf(saltpeter.CodeInvalid, "unknown parameter %q", name).
				WithHint("this resource takes: %s", strings.Join(append(slices.Clone(allowed), common...), ", "))
		}
		if len(given) > 1 {
			return nil, saltpeter.Errorf(saltpeter.CodeInvalid, "parameter %q is given %d times", name, len(given))
		}
		p[name] = given[0]
	}
	return p, nil
}

func badParam(name, value, want string) error {
	return saltpeter.Errorf(saltpeter.CodeInvalid, "parameter %s: %q is not %s", name, value, want)
}

// number gives a whole number in [lo, hi], def where it is not given.
func (p params) number(name string, def, lo, hi int64) (int64, error) {
	text, given := p[name]
	if !given {
		return def, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < lo || n > hi {
		return 0, badParam(name, text, "a whole number from "+strconv.FormatInt(lo, 10)+" to "+strconv.FormatInt(hi, 10))
	}
	return n, nil
}

// limit gives the size of a page.
func (p params) limit() (int, error) {
	n, err := p.number("limit", DefaultLimit, 1, 1<<31)
	return int(min(n, MaxLimit)), err
}

// flag gives a boolean; the bare name means true.
func (p params) flag(name string) (bool, error) {
	switch text, given := p[name]; text {
	case "":
		return given, nil
	case "true", "1", "yes":
		return true, nil
	case "false", "0", "no":
		return false, nil
	default:
		return false, badParam(name, text, "true or false")
	}
}

// instant gives a time, def where it is not given.
func (p params) instant(name string, def time.Time) (time.Time, error) {
	text, given := p[name]
	if !given {
		return def, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return def, badParam(name, text, "a time like 2026-01-02T15:04:05Z")
	}
	return t, nil
}

// word gives one of the allowed words, the first of them where none is given.
func (p params) word(name string, allowed ...string) (string, error) {
	text, given := p[name]
	if !given {
		return allowed[0], nil
	}
	if !slices.Contains(allowed, text) {
		return "", badParam(name, text, "one of "+strings.Join(allowed, ", "))
	}
	return text, nil
}

// states gives a filter of states from a comma list of words. The word "unfinished" stands for all states that are no
// outcome. The filter lets everything pass where none is given.
func states[S interface {
	comparable
	Final() bool
}](p params, parse func(string) (S, bool), all []string) (func(S) bool, error) {
	text, given := p["state"]
	if !given {
		return func(S) bool { return true }, nil
	}
	wanted, unfinished := map[S]bool{}, false
	for word := range strings.SplitSeq(text, ",") {
		if word == "unfinished" {
			unfinished = true
			continue
		}
		s, ok := parse(word)
		if !ok {
			return nil, badParam("state", word, "a state: "+strings.Join(all, ", ")+", unfinished")
		}
		wanted[s] = true
	}
	return func(s S) bool { return wanted[s] || unfinished && !s.Final() }, nil
}
