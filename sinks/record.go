package sinks

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/syscollective/saltpeter"
)

// gapEvent is the type of the record, made by the sink itself, that Code events were dropped from the feed unseen.
const gapEvent saltpeter.EventType = 0

// Texts that the Python program wrote.
const (
	textMaintenance = "Target under maintenance"
	textUnreachable = "Target did not respond"
	textKilled      = "Job terminated by user request"
	textTimeout     = "Job exceeded timeout"
	textLost        = "SALTPETER ERROR: Job lost connection"
)

// written reports whether events of this type make a record in a log file.
func written(t saltpeter.EventType) bool {
	switch t {
	case saltpeter.EventRunClaimed, saltpeter.EventMachineStarted, saltpeter.EventMachineResult, saltpeter.EventRunFinished,
		saltpeter.EventOverlap, saltpeter.EventNoTargets, saltpeter.EventLauncherError, saltpeter.EventMachineMaintenance,
		saltpeter.EventSoftTimeout, gapEvent:
		return true
	default:
		return false
	}
}

// stamp writes a time as Python's str(datetime) does, in UTC: six digits of a fraction, or none where it is zero.
func stamp(millis int64) string {
	layout := "2006-01-02 15:04:05.000000-07:00"
	if millis%1000 == 0 {
		layout = "2006-01-02 15:04:05-07:00"
	}
	return time.UnixMilli(millis).UTC().Format(layout)
}

// record writes one record to w. Errors are those of w, ErrNotYet, and ctx's.
func (r *renderer) record(ctx context.Context, w io.Writer, e *saltpeter.Event) error {
	at := stamp(e.Millis)
	var err error
	switch e.Type {
	case saltpeter.EventRunClaimed:
		_, err = fmt.Fprintf(w, "###### Starting %s at %s ################\n", e.Run, at)
	case saltpeter.EventMachineStarted:
		_, err = fmt.Fprintf(w, "###### Starting %s on %s at %s ################\n", e.Run, e.Machine, at)
	case saltpeter.EventOverlap:
		_, err = fmt.Fprintf(w, "###### Overlap detected on %s at %s ################\n", e.Run, at)
	case saltpeter.EventNoTargets:
		_, err = fmt.Fprintf(w, "!!!!!! No targets matched for %s !!!!!!\n", e.Run)
	case saltpeter.EventLauncherError:
		_, err = fmt.Fprintf(w, "!!!!!! SALT-MASTER ERROR during test.ping for %s at %s !!!!!!\n%s\n", e.Run, at, lastSegments(e.Text))
	case saltpeter.EventSoftTimeout:
		_, err = fmt.Fprintf(w, "!!!!!! Soft timeout of %s on %s at %s !!!!!!\n", e.Run, e.Machine, at)
	case saltpeter.EventRunFinished:
		_, err = fmt.Fprintf(w, "###### Finished %s at %s ################\n", e.Run, at)
	case gapEvent:
		_, err = fmt.Fprintf(w, "!!!!!! %d events were dropped before they could be written, found at %s !!!!!!\n", e.Code, at)
	case saltpeter.EventMachineResult, saltpeter.EventMachineMaintenance:
		err = r.result(ctx, w, e, at)
	}
	return err
}

func (r *renderer) result(ctx context.Context, w io.Writer, e *saltpeter.Event, at string) error {
	if _, err := fmt.Fprintf(w, "########## %s from %s ################\n**** Exit Code %d ******\n", e.Machine, e.Run, e.Code); err != nil {
		return err
	}
	if err := r.body(ctx, w, e); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n####### END %s from %s at %s #########\n", e.Machine, e.Run, at)
	return err
}

// body writes what stands where the Python program wrote a machine's output.
func (r *renderer) body(ctx context.Context, w io.Writer, e *saltpeter.Event) error {
	switch {
	case e.Type == saltpeter.EventMachineMaintenance:
		_, err := io.WriteString(w, textMaintenance)
		return err
	case e.State == saltpeter.Unreachable.String():
		_, err := io.WriteString(w, textUnreachable)
		return err
	}
	some, err := r.output(ctx, w, e)
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, remark(e, some))
	return err
}

// remark gives what follows the output: why the command ended, where not by itself.
func remark(e *saltpeter.Event, some bool) string {
	text := lastSegments(e.Text)
	switch e.State {
	case saltpeter.Killed.String():
		return bracket(text, textKilled)
	case saltpeter.TimedOut.String():
		return bracket(text, textTimeout)
	case saltpeter.Lost.String():
		if text != "" {
			text = textLost + " - " + text
		}
		return bracket(text, textLost)
	}
	if text == "" || !some {
		return text
	}
	return bracket(text, "")
}

func bracket(text, otherwise string) string {
	if text == "" {
		text = otherwise
	}
	return "\n[" + text + "]\n"
}
