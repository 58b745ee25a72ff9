package saltpeter

// Claim asks the state machine to create the run of one tick, or to record why there is none.
type Claim struct {
	Job    string `cbor:"1,keyasint"`
	Digest Digest `cbor:"2,keyasint"` // of the definition that was planned with; refused if another is in force
	Tick   int64  `cbor:"3,keyasint"` // Unix seconds
	// Skip is what only the planner can know: SkipMissed or SkipNoLauncher; 0 = claim a run.
	Skip SkipReason `cbor:"4,keyasint,omitempty"`
	// Last and Count extend a skip over Count ticks from Tick to Last.
	Last  int64  `cbor:"5,keyasint,omitempty"`
	Count uint64 `cbor:"6,keyasint,omitempty"`
	// Cause is "tick", or "misfire" for a tick of a gap that is made up.
	Cause string `cbor:"7,keyasint,omitempty"`
}

// ClaimOutcome says what the state machine decided about a Claim.
type ClaimOutcome uint8

// The outcomes.
const (
	ClaimRun     ClaimOutcome = iota + 1 // a run was created, now or by an earlier proposal of the same claim
	ClaimSkipped                         // recorded as skipped
	ClaimDecided                         // the tick is at or below the job's high-water mark and has no run
	ClaimStale                           // the definition is not in force any more: plan again
	ClaimEarly                           // the tick lies in the future of the command's own time
)

// ClaimResult is the answer to one Claim.
type ClaimResult struct {
	Outcome ClaimOutcome
	Run     uint64 // number of the run
	RunID   string
	Skip    SkipReason
}

// StartRequest asks for a run by hand.
type StartRequest struct {
	Job      string   `cbor:"1,keyasint"`
	Key      string   `cbor:"2,keyasint,omitempty"` // idempotency key; the same key gives the same run for 24 h
	Note     string   `cbor:"3,keyasint,omitempty"`
	Machines []string `cbor:"4,keyasint,omitempty"` // subset; empty = all that the job matches
	Parent   string   `cbor:"5,keyasint,omitempty"` // the run that this one repeats
}

// TargetEnd is an outcome that rests on silence, or on the driver's own knowledge that nothing was started.
type TargetEnd struct {
	Target uint32      `cbor:"1,keyasint"`
	From   TargetState `cbor:"2,keyasint"` // refused if the target is in another state by then
	State  TargetState `cbor:"3,keyasint"` // NotStarted, Unreachable or Lost
	Text   string      `cbor:"4,keyasint,omitempty"`
}

// Actor says who asks for a change, from where, and under which request id. Every command carries it.
type Actor struct {
	Name    string // "schedule", a token's name, a user of the unix socket
	Origin  string // "node sp-1", "unix socket", an address
	Request string // id of the request, for logs
}
