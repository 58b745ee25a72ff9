package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
)

// The exit codes. 0 is success.
const (
	exitFailed        = 1 // the thing failed: a run that was followed, health, an internal error
	exitUsage         = 2
	exitNotFound      = 3
	exitForbidden     = 4 // or not authenticated
	exitConflict      = 5 // refused in the present state
	exitUnreachable   = 6 // or no leader
	exitTimeout       = 7 // gave up waiting
	exitInvalidConfig = 8
	exitInterrupted   = 130
)

// exitCodes is the one table of what spctl's caller makes of an error's code.
var exitCodes = map[saltpeter.ErrorCode]int{
	saltpeter.CodeInvalid:         exitUsage,
	saltpeter.CodeTooLarge:        exitUsage,
	saltpeter.CodeNotFound:        exitNotFound,
	saltpeter.CodeUnauthenticated: exitForbidden,
	saltpeter.CodeForbidden:       exitForbidden,
	saltpeter.CodeConflict:        exitConflict,
	saltpeter.CodeMismatch:        exitConflict,
	saltpeter.CodeTooMany:         exitUnreachable,
	saltpeter.CodeNoLeader:        exitUnreachable,
	saltpeter.CodeUnavailable:     exitUnreachable,
	saltpeter.CodeTimeout:         exitTimeout,
	saltpeter.CodeConfig:          exitInvalidConfig,
	saltpeter.CodeInternal:        exitFailed,
}

// exitError ends spctl with a code after everything has been said.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// finish shows an error and gives the exit code.
func (c *cli) finish(ctx context.Context, err error) int {
	if err == nil {
		return 0
	}
	if silent, ok := errors.AsType[exitError](err); ok {
		return int(silent)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	e, ok := errors.AsType[*saltpeter.Error](err)
	if !ok {
		e = &saltpeter.Error{Code: saltpeter.CodeInternal, Message: err.Error(), Err: err}
	}
	if c.json() {
		c.problem(e)
	} else {
		c.explain(e)
	}
	return exitCodes[e.Code]
}

// problem shows an error as the API tells it.
func (c *cli) problem(e *saltpeter.Error) {
	enc := json.NewEncoder(c.errs)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(api.NewProblem(e)); err != nil {
		c.explain(e)
	}
}

// explain shows what is wrong and the next step.
func (c *cli) explain(e *saltpeter.Error) {
	c.say("%s %s\n", c.paint(red, "error:"), printable(e.Message))
	for _, p := range e.Problems {
		place := p.Path
		if p.Line > 0 {
			place = strings.TrimSpace(fmt.Sprintf("%s line %d column %d", place, p.Line, p.Col))
		}
		text := p.Message
		if p.Hint != "" {
			text += " (" + p.Hint + ")"
		}
		c.say("  %s: %s\n", printable(place), printable(text))
	}
	if e.Hint == "" {
		return
	}
	for line := range strings.SplitSeq(e.Hint, "\n") {
		c.say("  %s\n", printable(line))
	}
}

// usage makes an error about the command line.
func usage(format string, args ...any) *saltpeter.Error {
	return saltpeter.Errorf(saltpeter.CodeInvalid, format, args...)
}
