package saltpeter

import "fmt"

// Scope says what a window covers.
type Scope uint8

// The scopes. The numbers are in snapshots and log entries: append only.
const (
	ScopeAll Scope = iota + 1
	ScopeGroup
	ScopeJob
	ScopeMachine
)

var scopes = [...]string{ScopeAll: "all", ScopeGroup: "group", ScopeJob: "job", ScopeMachine: "machine"}

// String gives the word for people, the API and the documents.
func (s Scope) String() string {
	if s > 0 && int(s) < len(scopes) {
		return scopes[s]
	}
	return fmt.Sprintf("scope %d", uint8(s))
}

// ParseScope is the inverse of String.
func ParseScope(word string) (Scope, bool) {
	for i, w := range scopes {
		if i > 0 && w == word {
			return Scope(i), true
		}
	}
	return 0, false
}

// Window is a maintenance, or the pause of a job: from FromMillis to UntilMillis, or until it is lifted, nothing that
// it covers starts. Ended windows are kept for a while: a tick inside one is skipped whenever it is decided.
type Window struct {
	Scope       Scope  `cbor:"1,keyasint"`
	Name        string `cbor:"2,keyasint,omitempty"` // of the group, job or machine; empty for all
	Pause       bool   `cbor:"3,keyasint,omitempty"` // a job's pause instead of a maintenance
	File        bool   `cbor:"4,keyasint,omitempty"` // it stands in the configuration files
	FromMillis  int64  `cbor:"5,keyasint"`
	UntilMillis int64  `cbor:"6,keyasint,omitempty"` // 0 = until lifted
	OffMillis   int64  `cbor:"7,keyasint,omitempty"` // lifted at; 0 = not lifted
	Actor       string `cbor:"8,keyasint,omitempty"`
	Reason      string `cbor:"9,keyasint,omitempty"`
}

// End gives the instant at which the window ends or ended, 0 if none is known.
func (w *Window) End() int64 {
	if w.OffMillis != 0 && (w.UntilMillis == 0 || w.OffMillis < w.UntilMillis) {
		return w.OffMillis
	}
	return w.UntilMillis
}

// ActiveAt reports whether millis lies inside [from, until or off).
func (w *Window) ActiveAt(millis int64) bool {
	end := w.End()
	return millis >= w.FromMillis && (end == 0 || millis < end)
}

// CoversJob reports whether the window is about the job: all, its group or itself.
func (w *Window) CoversJob(job, group string) bool {
	switch w.Scope {
	case ScopeAll:
		return true
	case ScopeGroup:
		return w.Name == group
	case ScopeJob:
		return w.Name == job
	default:
		return false
	}
}
