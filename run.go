package saltpeter

import "fmt"

// RunState is the state of a run.
type RunState uint8

// The states of a run. The numbers are in snapshots and log entries: append only.
const (
	RunClaimed      RunState = iota // claimed; its targets are not known yet
	RunRunning                      // targets are known, not all have an outcome
	RunOK                           // every counted target is ok
	RunFailed                       // at least one counted target is not
	RunKilled                       // killed by a person
	RunLaunchFailed                 // the launcher could not say what the targets are
	RunNoTargets                    // nothing matched, or everything that did is under maintenance
)

var runStates = [...]string{
	RunClaimed: "claimed", RunRunning: "running", RunOK: "ok", RunFailed: "failed", RunKilled: "killed",
	RunLaunchFailed: "launch-failed", RunNoTargets: "no-targets",
}

// String gives the word for people, the API and the documents.
func (s RunState) String() string {
	if int(s) < len(runStates) {
		return runStates[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// ParseRunState is the inverse of String.
func ParseRunState(word string) (RunState, bool) {
	for i, w := range runStates {
		if w == word {
			return RunState(i), true
		}
	}
	return 0, false
}

// Final reports whether the run is finished.
func (s RunState) Final() bool { return s >= RunOK }

// Counts counts a run's targets by state; index it with a TargetState.
type Counts [InMaintenance + 1]uint32

// Total counts all targets.
func (c *Counts) Total() int {
	var n uint32
	for _, v := range c {
		n += v
	}
	return int(n)
}

// Unfinished counts the targets without an outcome.
func (c *Counts) Unfinished() int { return int(c[Waiting] + c[Launched] + c[Granted] + c[Started]) }

// Counted counts the targets that decide about success: all with an outcome but those under maintenance.
func (c *Counts) Counted() int { return c.Total() - c.Unfinished() - int(c[InMaintenance]) }

// Run is one execution of a job.
type Run struct {
	Num    uint64 // the run's number in the cluster; never reused
	ID     string // "<job>_<unix seconds>", unique
	Job    string
	Group  string
	Digest Digest // of the definition that this run executes, whatever the configuration says later
	State  RunState

	// Tick is the second at which the job was due; 0 for a manual start.
	Tick int64
	// Key, Note and Machines belong to a manual start: its idempotency key, what the person wrote, and the subset of
	// machines (empty = all that the job matches).
	Key      string
	Note     string
	Machines []string
	Actor    string // who: "schedule", or a person
	Origin   string // from where: node, socket, address
	Parent   string // the run that this one repeats, if any
	Cause    string // "tick", "misfire", "manual", "rerun"

	ClaimedMillis, StartedMillis, EndedMillis int64 // started: the first target's launch; 0 = not yet
	Term                                      uint64
	Counts                                    Counts
	Batches                                   []RunBatch
	Text                                      string // why it ended without targets
	KilledBy                                  string // empty = not killed
	KilledMillis                              int64
	// Backs counts the targets whose winner came back after a presumed outcome: while > 0 the run counts for overlap.
	Backs int
}

// RunBatch is one launched batch: targets [First, First+len) in the run's drawn order that were waiting.
type RunBatch struct {
	_       struct{} `cbor:",toarray"`
	Launch  LaunchID
	Millis  int64
	Targets []uint32
}

// SkipReason says why a tick has no run.
type SkipReason uint8

// The reasons. The numbers are in snapshots and log entries: append only.
const (
	SkipMaintenance SkipReason = iota + 1
	SkipOverlap
	SkipPaused
	SkipMissed     // older than misfire_grace when it could be decided
	SkipNoLauncher // nothing is set up that could start wrappers
)

var skipReasons = [...]string{
	SkipMaintenance: "maintenance", SkipOverlap: "overlap", SkipPaused: "paused", SkipMissed: "missed", SkipNoLauncher: "no-launcher",
}

// String gives the word for people, the API and the documents.
func (r SkipReason) String() string {
	if r > 0 && int(r) < len(skipReasons) {
		return skipReasons[r]
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// Skip is a series of ticks of one job, in a row, that had no run for one reason.
type Skip struct {
	_      struct{} `cbor:",toarray"`
	Reason SkipReason
	First  int64 // tick
	Last   int64 // tick
	Count  uint64
	Detail string // the run in the way, the window, who is paused
}
