package saltpeter

import "fmt"

// EventType says what an event of the change feed tells.
type EventType uint8

// The events, in the past tense. The numbers are on disk: append only.
const (
	EventRunClaimed     EventType = iota + 1
	EventMachineStarted           // a target was launched: the log's "Starting … on …"
	EventMachineResult            // a target has an outcome; after a presumed one a second may follow
	EventRunFinished
	EventOverlap       // a tick was skipped because Text, a run, was still going
	EventNoTargets     // nothing matched
	EventLauncherError // the launcher could not answer
	EventMachineMaintenance
	EventSkipped // a tick was skipped for another reason
	EventWindowSet
	EventWindowLifted
	EventRunKilled
	EventConfigApplied
	EventSoftTimeout
	EventNodeChanged
	EventEpochBegun
	EventTokenCreated
	EventTokenRevoked
)

var eventTypes = [...]string{
	EventRunClaimed: "run-claimed", EventMachineStarted: "machine-started", EventMachineResult: "machine-result",
	EventRunFinished: "run-finished", EventOverlap: "overlap", EventNoTargets: "no-targets",
	EventLauncherError: "launcher-error", EventMachineMaintenance: "machine-maintenance", EventSkipped: "skipped",
	EventWindowSet: "window-set", EventWindowLifted: "window-lifted", EventRunKilled: "run-killed",
	EventConfigApplied: "config-applied", EventSoftTimeout: "soft-timeout", EventNodeChanged: "node-changed",
	EventEpochBegun: "epoch-begun", EventTokenCreated: "token-created", EventTokenRevoked: "token-revoked",
}

// String gives the word for people and the API.
func (t EventType) String() string {
	if t > 0 && int(t) < len(eventTypes) {
		return eventTypes[t]
	}
	return fmt.Sprintf("event %d", uint8(t))
}

// Event is one record of the change feed. Its sequence number is the same on every node.
type Event struct {
	Seq    uint64    `cbor:"1,keyasint"`
	Millis int64     `cbor:"2,keyasint"`
	Type   EventType `cbor:"3,keyasint"`
	Job    string    `cbor:"4,keyasint,omitempty"`
	Group  string    `cbor:"5,keyasint,omitempty"`
	Run    string    `cbor:"6,keyasint,omitempty"`
	Ref    TargetRef `cbor:"7,keyasint,omitzero"`
	// Machine is empty for what concerns a whole run.
	Machine string `cbor:"8,keyasint,omitempty"`
	Code    int    `cbor:"9,keyasint,omitempty"`
	State   string `cbor:"10,keyasint,omitempty"` // of the target or run, as a word
	Text    string `cbor:"11,keyasint,omitempty"`
	OK      int    `cbor:"12,keyasint,omitempty"` // run-finished: targets that are ok
	Counted int    `cbor:"13,keyasint,omitempty"` // run-finished: targets that count
	Actor   string `cbor:"14,keyasint,omitempty"`
	// Again says that a witnessed result replaced a presumed one.
	Again bool `cbor:"15,keyasint,omitempty"`
	// Stored and LeftOut are the bytes of output in the record, and those left out of it, at a machine-result. More may
	// follow a presumed one; what is written of the event must not depend on when its reader comes to it.
	Stored  uint64 `cbor:"16,keyasint,omitempty"`
	LeftOut uint64 `cbor:"17,keyasint,omitempty"`
}
