package saltpeter

import (
	"errors"
	"fmt"
	"strings"
)

// ErrorCode classes an error that a person sees. One table in package api maps it to an HTTP status, one in spctl to an
// exit code.
type ErrorCode string

// The codes.
const (
	CodeInvalid         ErrorCode = "invalid" // the request can't be understood or is not allowed by itself
	CodeNotFound        ErrorCode = "not-found"
	CodeConflict        ErrorCode = "conflict"   // refused in the present state: maintenance, overlap, finished
	CodeMismatch        ErrorCode = "key-reused" // an idempotency key came with another request
	CodeUnauthenticated ErrorCode = "unauthenticated"
	CodeForbidden       ErrorCode = "forbidden"
	CodeTooLarge        ErrorCode = "too-large"
	CodeTooMany         ErrorCode = "too-many"
	CodeNoLeader        ErrorCode = "no-leader"
	CodeUnavailable     ErrorCode = "unavailable"
	CodeTimeout         ErrorCode = "timeout"
	CodeConfig          ErrorCode = "invalid-config"
	CodeInternal        ErrorCode = "internal"
)

// Error is an error for people: what is wrong, and what to do.
type Error struct {
	Code     ErrorCode
	Message  string // one sentence, lower case, without a full stop
	Hint     string // the next step, or what is allowed; may be empty
	Problems []Problem
	Err      error // the cause, may be nil
}

// Error gives the message.
func (e *Error) Error() string { return e.Message }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error; what a %w in the format names becomes its cause.
func Errorf(code ErrorCode, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// WithHint gives a copy with a hint.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// CodeOf gives the code of the first Error in err's chain, CodeInternal if there is none.
func CodeOf(err error) ErrorCode {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// Problem is one thing that is wrong, or remarkable, in the configuration files.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`           // from 1; 0 = the whole file
	Col     int    `json:"col"`            // from 1, in bytes
	Len     int    `json:"len,omitempty"`  // bytes to underline
	Path    string `json:"path,omitempty"` // "backup.min"
	Level   string `json:"level"`          // "error", "warning" or "note"
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`   // what is allowed, or what to write instead
	Source  string `json:"source,omitempty"` // the line's text, for the caret
}

// String gives "file:line:col: level: path: message (hint)".
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.File)
	if p.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", p.Line, max(p.Col, 1))
	}
	fmt.Fprintf(&b, ": %s: ", p.Level)
	if p.Path != "" {
		b.WriteString(p.Path + ": ")
	}
	b.WriteString(p.Message)
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}
	return b.String()
}
