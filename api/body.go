package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/syscollective/saltpeter"
)

// Limits of what clients send, in bytes unless said otherwise.
const (
	maxBody     = 1 << 20
	maxNote     = 1024
	maxKey      = 255
	maxMachine  = 255
	maxMachines = 10_000 // names
)

// fields maps the keys that a body may have to where their values go.
type fields map[string]any

// body decodes the request's body, a JSON object or nothing, into fields. It reports all problems at once.
func (c *call) body(into fields) error {
	raw, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, maxBody))
	if over, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return saltpeter.Errorf(saltpeter.CodeTooLarge, "the body has more than %d bytes", over.Limit)
	}
	if err != nil {
		return saltpeter.Errorf(saltpeter.CodeInvalid, "read body: %w", err)
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return nil
	}
	if err := checkType(c.r.Header.Get("Content-Type")); err != nil {
		return err
	}
	return decodeObject(raw, into)
}

// checkType lets only JSON pass, which browsers do not send to other origins without asking.
func checkType(contentType string) error {
	media, _, err := mime.ParseMediaType(contentType)
	if err == nil && media == "application/json" {
		return nil
	}
	return &statusError{http.StatusUnsupportedMediaType, saltpeter.Errorf(saltpeter.CodeInvalid, "content type %q is not taken", contentType).
		WithHint("send JSON with the header Content-Type: application/json")}
}

func decodeObject(raw []byte, into fields) error {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil {
		return malformed(raw, err)
	}
	e := saltpeter.Errorf(saltpeter.CodeInvalid, "the body is not what this resource takes")
	for _, key := range slices.Sorted(maps.Keys(object)) {
		target, known := into[key]
		if !known {
			e.Problems = append(e.Problems, saltpeter.Problem{
				Path: "/" + pointer(key), Message: "unknown key", Hint: "allowed: " + strings.Join(slices.Sorted(maps.Keys(into)), ", "),
			})
			continue
		}
		if err := json.Unmarshal(object[key], target); err != nil {
			e.Problems = append(e.Problems, saltpeter.Problem{Path: "/" + pointer(key), Message: wrongValue(err)})
		}
	}
	if len(e.Problems) > 0 {
		return e
	}
	return nil
}

// malformed tells where the JSON is broken.
func malformed(raw []byte, err error) error {
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		before := raw[:min(max(syntax.Offset, 0), int64(len(raw)))]
		line := 1 + bytes.Count(before, []byte("\n"))
		col := len(before) - (bytes.LastIndexByte(before, '\n') + 1)
		e := saltpeter.Errorf(saltpeter.CodeInvalid, "the body is not valid JSON: %w", err)
		e.Problems = []saltpeter.Problem{{Line: line, Col: max(col, 1), Message: err.Error()}}
		return e
	}
	return saltpeter.Errorf(saltpeter.CodeInvalid, "the body is not a JSON object")
}

// wrongValue tells what is expected without naming Go's types.
func wrongValue(err error) string {
	wrong, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok {
		return err.Error()
	}
	want := map[string]string{"string": "a text", "bool": "true or false", "slice": "a list of texts"}[wrong.Type.Kind().String()]
	if want == "" {
		want = "a number"
	}
	return fmt.Sprintf("want %s, not %s", want, wrong.Value)
}

// pointer escapes a key for a JSON pointer.
func pointer(key string) string {
	return strings.NewReplacer("~", "~0", "/", "~1").Replace(key)
}

// checkText says what is wrong with a text that people wrote.
func checkText(key, text string, most int) error {
	switch {
	case len(text) > most:
		return fieldError(key, fmt.Sprintf("has %d bytes", len(text)), fmt.Sprintf("at most %d", most))
	case !utf8.ValidString(text):
		return fieldError(key, "is not UTF-8", "")
	case strings.ContainsFunc(text, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }):
		return fieldError(key, "has a control character", "only line feeds and tabs are allowed")
	}
	return nil
}

// checkMachines says what is wrong with a list of machine names, and drops those that are named twice.
func checkMachines(names []string) ([]string, error) {
	if len(names) > maxMachines {
		return nil, fieldError("machines", fmt.Sprintf("has %d names", len(names)), fmt.Sprintf("at most %d", maxMachines))
	}
	seen, kept := map[string]bool{}, names[:0:0]
	for i, name := range names {
		key := fmt.Sprintf("machines/%d", i)
		if name == "" {
			return nil, fieldError(key, "is empty", "want a machine's name")
		}
		if err := checkText(key, name, maxMachine); err != nil {
			return nil, err
		}
		if !seen[name] {
			kept = append(kept, name)
		}
		seen[name] = true
	}
	return kept, nil
}

func fieldError(key, wrong, hint string) error {
	e := saltpeter.Errorf(saltpeter.CodeInvalid, "%s %s", strings.ReplaceAll(key, "/", " "), wrong).WithHint("%s", hint)
	e.Problems = []saltpeter.Problem{{Path: "/" + key, Message: wrong, Hint: hint}}
	return e
}

// Duration is a duration in a body: seconds as a number, or text like "5m", "2h".
type Duration time.Duration

// UnmarshalJSON takes a number of seconds or a text.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var seconds float64
	var text string
	if json.Unmarshal(b, &seconds) == nil {
		text = string(b)
	} else if err := json.Unmarshal(b, &text); err != nil {
		return errors.New(`want a duration: seconds as a number, or text like "5m", "2h"`)
	}
	parsed, err := ParseDuration(text)
	*d = Duration(parsed)
	return err
}

// ParseDuration takes "90" (seconds), "90s", "5m", "1h30m" and "7d"; negative ones are refused.
func ParseDuration(text string) (time.Duration, error) {
	days, isDays := strings.CutSuffix(text, "d")
	unit := time.Second
	if isDays {
		unit = 24 * time.Hour
	}
	if n, err := strconv.ParseFloat(days, 64); err == nil && n >= 0 && n*float64(unit) < 1<<63 {
		return time.Duration(n * float64(unit)), nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return d, nil
	}
	return 0, fmt.Errorf("%q is not a duration: want seconds as a number, or text like 5m, 2h, 7d", text)
}
