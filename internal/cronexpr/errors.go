package cronexpr

import (
	"fmt"
	"strings"
)

// FieldError is one problem in the text of a schedule.
type FieldError struct {
	// Field is sec, min, hour, dom, mon, dow or year, "schedule" for the short form as a whole, or "timezone".
	Field string `json:"field"`
	// Offset and Len say in bytes where the problem lies: within the field's text after Compile, within the whole expression
	// after Parse.
	Offset int `json:"offset"`
	Len    int `json:"len"`
	// Text is the piece at Offset, shortened where it is very long.
	Text string `json:"text"`
	// Msg says what is wrong, Hint what to write instead.
	Msg  string `json:"message"`
	Hint string `json:"hint"`
}

// Error returns field, text, problem and remedy in one line.
func (e FieldError) Error() string {
	return fmt.Sprintf("%s: %q: %s: %s", e.Field, e.Text, e.Msg, e.Hint)
}

// Errors holds all problems of one schedule, in the order of the fields. It is never empty where it is returned as an error.
type Errors []FieldError

// Error returns all problems, separated by semicolons.
func (e Errors) Error() string {
	texts := make([]string, len(e))
	for i, one := range e {
		texts[i] = one.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap gives errors.As each FieldError.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, one := range e {
		errs[i] = one
	}
	return errs
}

// maxShown bounds the text that an error repeats, in bytes.
const maxShown = 64

func shown(text string) string {
	if len(text) <= maxShown {
		return text
	}
	return strings.ToValidUTF8(text[:maxShown], "") + "…"
}
