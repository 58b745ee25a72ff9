package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/syscollective/saltpeter"
)

// codes is the one table of what HTTP makes of an error's code.
var codes = map[saltpeter.ErrorCode]struct {
	status int
	title  string
	retry  bool // the same request may succeed a moment later, here or on another node
}{
	saltpeter.CodeInvalid:         {http.StatusBadRequest, "The request is not valid", false},
	saltpeter.CodeNotFound:        {http.StatusNotFound, "Not found", false},
	saltpeter.CodeConflict:        {http.StatusConflict, "Refused in the present state", false},
	saltpeter.CodeMismatch:        {http.StatusUnprocessableEntity, "The idempotency key belongs to another request", false},
	saltpeter.CodeUnauthenticated: {http.StatusUnauthorized, "Not authenticated", false},
	saltpeter.CodeForbidden:       {http.StatusForbidden, "Forbidden", false},
	saltpeter.CodeTooLarge:        {http.StatusRequestEntityTooLarge, "The request is too large", false},
	saltpeter.CodeTooMany:         {http.StatusTooManyRequests, "Too many requests", true},
	saltpeter.CodeNoLeader:        {http.StatusServiceUnavailable, "The cluster has no leader", true},
	saltpeter.CodeUnavailable:     {http.StatusServiceUnavailable, "The node can't serve this now", true},
	saltpeter.CodeTimeout:         {http.StatusGatewayTimeout, "The request took too long", true},
	saltpeter.CodeConfig:          {http.StatusUnprocessableEntity, "The configuration is not valid", false},
	saltpeter.CodeInternal:        {http.StatusInternalServerError, "Internal error", false},
}

// Problem is an error as the API tells it: RFC 9457 with a code, a hint, whether to try again, and details.
type Problem struct {
	Type      string              `json:"type"` // "urn:saltpeter:error:" and the code
	Title     string              `json:"title"`
	Status    int                 `json:"status"`
	Detail    string              `json:"detail"`
	Instance  string              `json:"instance,omitempty"` // path of the request
	Code      saltpeter.ErrorCode `json:"code"`
	Hint      string              `json:"hint,omitempty"`
	Retryable bool                `json:"retryable"`
	Errors    []ProblemDetail     `json:"errors,omitempty"`
	RequestID string              `json:"request_id,omitempty"`
}

// ProblemDetail is one of several things that are wrong, with its place in the request's body or in a file.
type ProblemDetail struct {
	Pointer string `json:"pointer,omitempty"` // JSON pointer into the body, or path in the configuration
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Col     int    `json:"col,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// NewProblem gives an error's public form. Of an error without a code nothing but that is told.
func NewProblem(err error) Problem {
	e, ok := errors.AsType[*saltpeter.Error](err)
	switch {
	case ok:
	case errors.Is(err, context.DeadlineExceeded):
		e = saltpeter.Errorf(saltpeter.CodeTimeout, "no answer in time").WithHint("whether it was done is not known: look before you repeat it")
	default:
		e = saltpeter.Errorf(saltpeter.CodeInternal, "internal error").WithHint("the node's log tells more under the request id")
	}
	c, ok := codes[e.Code]
	if !ok {
		c = codes[saltpeter.CodeInternal]
	}
	p := Problem{
		Type: "urn:saltpeter:error:" + string(e.Code), Title: c.title, Status: c.status, Detail: e.Message,
		Code: e.Code, Hint: e.Hint, Retryable: c.retry,
	}
	for _, d := range e.Problems {
		p.Errors = append(p.Errors, ProblemDetail{Pointer: d.Path, File: d.File, Line: d.Line, Col: d.Col, Message: d.Message, Hint: d.Hint})
	}
	return p
}

// Err is the inverse of NewProblem: the error that a client shows.
func (p Problem) Err() *saltpeter.Error {
	e := &saltpeter.Error{Code: p.Code, Message: p.Detail, Hint: p.Hint}
	if e.Message == "" {
		e.Message = p.Title
	}
	for _, d := range p.Errors {
		e.Problems = append(e.Problems, saltpeter.Problem{
			File: d.File, Line: d.Line, Col: d.Col, Path: d.Pointer, Level: "error", Message: d.Message, Hint: d.Hint,
		})
	}
	return e
}

// Retryable reports whether the same request may succeed a moment later.
func Retryable(code saltpeter.ErrorCode) bool { return codes[code].retry }

// fail answers with an error. Headers that only make sense with a body of the right kind are replaced.
func (c *call) fail(err error) {
	if c.r.Context().Err() != nil && errors.Is(err, context.Canceled) {
		return // nobody is listening any more
	}
	p := NewProblem(err)
	if over, ok := errors.AsType[*statusError](err); ok {
		p.Status = over.status
	}
	p.Instance, p.RequestID = c.r.URL.EscapedPath(), c.by.Request
	if p.Code == saltpeter.CodeInternal {
		c.s.log.Error("request failed", "request", c.by.Request, "method", c.r.Method, "path", p.Instance, "err", err)
	}
	h := c.w.Header()
	h.Del("Etag")
	h.Set("Content-Type", "application/problem+json")
	if p.Retryable {
		h.Set("Retry-After", retryAfter(err))
	}
	if p.Code == saltpeter.CodeUnauthenticated {
		h.Set("WWW-Authenticate", challenge(c.r))
	}
	body, err := encode(p)
	if err != nil {
		body = []byte("{}\n")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(p.Status)
	c.write(body)
}

// retryAfter gives the whole seconds after which to come back.
func retryAfter(err error) string {
	seconds := 1
	if slow, ok := errors.AsType[*slowDown](err); ok {
		seconds += int(slow.wait / time.Second)
	}
	return strconv.Itoa(seconds)
}

// challenge says how to authenticate, and, as RFC 6750 has it, whether that was tried.
func challenge(r *http.Request) string {
	if r.Header.Get("Authorization") == "" {
		return `Bearer realm="saltpeter"`
	}
	return `Bearer realm="saltpeter", error="invalid_token"`
}

// statusError gives an error another HTTP status than the table does, for what only HTTP knows (405, 415).
type statusError struct {
	status int
	err    *saltpeter.Error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// encode gives JSON as the API writes it: one line, without escapes for HTML.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
