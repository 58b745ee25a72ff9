package saltclient

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"strings"
)

// maxText bounds what is taken over of Salt's texts, in bytes.
const maxText = 300

// statusError is an answer that is no success.
type statusError struct {
	class  error
	status int
	text   string // what salt-api says, for people
}

func (e *statusError) Error() string {
	if e.text == "" {
		return fmt.Sprintf("HTTP %d", e.status)
	}
	return fmt.Sprintf("HTTP %d: %s", e.status, e.text)
}

func (e *statusError) Unwrap() error { return e.class }

func isStatus(err error, status int) bool {
	var e *statusError
	return errors.As(err, &e) && e.status == status
}

// denials are the texts by which salt-api says that more than a new login is needed. Status 401 is all it gives for an ended
// session and for a missing right, so this is the one place where text decides, and only over whether to log in again.
var denials = []string{"Authorization error", "Authentication failure of type", "Could not authenticate"}

// sessionEnded reports whether a 401 can mean that the session has ended.
func sessionEnded(err error) bool {
	var e *statusError
	if !errors.As(err, &e) {
		return false
	}
	for _, text := range denials {
		if strings.Contains(e.text, text) {
			return false
		}
	}
	return true
}

// statusErrorOf classifies an answer by its status.
func statusErrorOf(resp *http.Response, body []byte, lost error) error {
	e := &statusError{class: lost, status: resp.StatusCode, text: textOf(body)}
	switch s := resp.StatusCode; {
	case s >= 300 && s < 400:
		e.class = ErrUnreachable
		e.text = fmt.Sprintf("it redirects to %.100q, and redirects are not followed", resp.Header.Get("Location"))
	case s == http.StatusBadRequest, s == http.StatusForbidden, s == http.StatusUnauthorized:
		e.class = ErrDenied
	case s >= 400 && s < 500: // not salt-api's address, or a body that it does not take: nothing was done
		e.class = ErrUnreachable
	}
	return e
}

// textOf gives what an error's body says to people: the first paragraph of a page, or the text in a JSON object.
func textOf(body []byte) string {
	var object struct{ Return string }
	if json.Unmarshal(body, &object) == nil {
		return oneLine(object.Return)
	}
	_, rest, ok := strings.Cut(string(body), "<p>")
	if !ok {
		return ""
	}
	text, _, _ := strings.Cut(rest, "</p>")
	return oneLine(html.UnescapeString(text))
}

// oneLine gives the beginning of a text without control characters: of a traceback, the last line says more.
func oneLine(text string) string {
	if strings.Contains(text, "Traceback") {
		lines := strings.Split(strings.TrimSpace(text), "\n")
		text = lines[len(lines)-1]
	}
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }), " ")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}
