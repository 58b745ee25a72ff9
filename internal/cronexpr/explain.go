package cronexpr

import (
	"encoding/json"
	"errors"
	"time"
)

// Explanation says what an expression means: the JSON shape is
// {"valid":true,"never":false,"next":["2026-01-01T00:00:00Z"],"warnings":[]} or {"valid":false,"errors":[…]}.
type Explanation struct {
	Valid    bool        `json:"valid"`
	Never    bool        `json:"never"`    // not due any more after the given instant
	Next     []time.Time `json:"next"`     // the next due instants, in UTC
	Warnings []string    `json:"warnings"` // texts for people
	Errors   Errors      `json:"errors"`
}

// maxExplained bounds how many instants an explanation lists.
const maxExplained = 1000

// Explain parses the short form and lists the next n due instants after the given one (at most 1,000, fewer where the schedule
// ends). The zone is an IANA name, "" for UTC; or is `day_match: or`.
func Explain(expr, zone string, or bool, after time.Time, n int) Explanation {
	loc, zoneErr := LoadLocation(zone)
	_, s, err := Parse(expr, Options{Location: loc, Or: or})
	if err := errors.Join(err, zoneErr); err != nil {
		return Explanation{Errors: flatten(err)}
	}
	e := Explanation{Valid: true, Never: s.Never(after), Next: []time.Time{}, Warnings: append([]string{}, s.Warnings()...)}
	for range min(n, maxExplained) {
		next, ok := s.Next(after)
		if !ok {
			break
		}
		e.Next = append(e.Next, next.UTC())
		after = next
	}
	return e
}

// flatten gathers the FieldErrors of a joined error.
func flatten(err error) (errs Errors) {
	if one, ok := err.(FieldError); ok { //nolint:errorlint // what is joined is taken apart here
		return Errors{one}
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range many.Unwrap() {
			errs = append(errs, flatten(one)...)
		}
	}
	return errs
}

// MarshalJSON writes only the keys that belong to a valid or to an invalid expression.
func (e Explanation) MarshalJSON() ([]byte, error) {
	if !e.Valid {
		return json.Marshal(struct {
			Valid  bool   `json:"valid"`
			Errors Errors `json:"errors"`
		}{false, e.Errors})
	}
	type valid struct {
		Valid    bool        `json:"valid"`
		Never    bool        `json:"never"`
		Next     []time.Time `json:"next"`
		Warnings []string    `json:"warnings"`
	}
	return json.Marshal(valid{true, e.Never, e.Next, e.Warnings})
}
