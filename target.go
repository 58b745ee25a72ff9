package saltpeter

import "fmt"

// TargetState is the state of one machine inside a run. States up to Started are progress, the others are outcomes.
type TargetState uint8

// The states of a target. The numbers are in snapshots and log entries: append only.
const (
	Waiting  TargetState = iota // taken, its batch is not launched yet
	Launched                    // LaunchBatch committed: a wrapper may win the start claim
	Granted                     // one wrapper won; it may be starting
	Started                     // the wrapper said that the command runs
	OK
	Failed
	TimedOut
	Killed
	Lost
	NotStarted
	Unreachable
	InMaintenance
)

// targetStates is the one table of a target's states: the word that people read, whether it is final, the code
// that it has by itself (Failed brings the command's own) and the states that may follow. An outcome that rests on
// silence (presumed) may be replaced once by a witnessed one; that is Replaceable, not a transition here.
var targetStates = [...]struct {
	word  string
	final bool
	code  int
	next  []TargetState
}{
	Waiting:       {"waiting", false, 0, []TargetState{Launched, Killed, NotStarted, Unreachable, Lost, InMaintenance}},
	Launched:      {"launched", false, 0, []TargetState{Granted, Killed, NotStarted, Unreachable, Lost, InMaintenance}},
	Granted:       {"granted", false, 0, []TargetState{Started, Killed, NotStarted, Lost}},
	Started:       {"started", false, 0, []TargetState{OK, Failed, TimedOut, Killed, Lost}},
	OK:            {"ok", true, 0, nil},
	Failed:        {"failed", true, 1, nil},
	TimedOut:      {"timeout", true, 124, nil},
	Killed:        {"killed", true, 143, nil},
	Lost:          {"lost", true, 253, nil},
	NotStarted:    {"not-started", true, 254, nil},
	Unreachable:   {"unreachable", true, 255, nil},
	InMaintenance: {"maintenance", true, 0, nil},
}

// TargetStates lists all states in their order.
func TargetStates() []TargetState {
	all := make([]TargetState, len(targetStates))
	for i := range all {
		all[i] = TargetState(i)
	}
	return all
}

// String gives the word for people, the API and the documents.
func (s TargetState) String() string {
	if int(s) < len(targetStates) {
		return targetStates[s].word
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// ParseTargetState is the inverse of String.
func ParseTargetState(word string) (TargetState, bool) {
	for i := range targetStates {
		if targetStates[i].word == word {
			return TargetState(i), true
		}
	}
	return 0, false
}

// Valid reports whether s is a state of the table.
func (s TargetState) Valid() bool { return int(s) < len(targetStates) }

// Final reports whether s is an outcome.
func (s TargetState) Final() bool { return s.Valid() && targetStates[s].final }

// Code gives the code of an outcome; Failed brings the command's own, for which this gives 1.
func (s TargetState) Code() int {
	if !s.Valid() {
		return 0
	}
	return targetStates[s].code
}

// CanBecome reports whether next may follow s.
func (s TargetState) CanBecome(next TargetState) bool {
	if !s.Valid() {
		return false
	}
	for _, n := range targetStates[s].next {
		if n == next {
			return true
		}
	}
	return false
}

// Nexts lists the states that may follow s.
func (s TargetState) Nexts() []TargetState {
	if !s.Valid() {
		return nil
	}
	return append([]TargetState(nil), targetStates[s].next...)
}

// Nonce is SHA-256 of the secret that a wrapper drew: who knows the secret is the winner of a start claim.
type Nonce [32]byte

// TargetRef names one target of one run inside the cluster: the run's number and the target's position in it.
type TargetRef struct {
	_      struct{} `cbor:",toarray"`
	Run    uint64
	Target uint32
}

// Target is one machine inside a run.
type Target struct {
	Ref     TargetRef
	Machine string // Salt minion id
	State   TargetState
	// Code is the return code once State is final.
	Code     int
	Signal   int  // the signal that ended the command, 0 if none
	Presumed bool // the outcome rests on silence, not on the wrapper's word
	// Replaced says that a witnessed result took the place of a presumed one.
	Replaced bool
	// Back says that the winner came back after a presumed outcome and its command still runs.
	Back bool
	// TwoHosts says that wrappers with two boot ids asked under this machine's id.
	TwoHosts bool
	// Done says that the winner's final word is in the record.
	Done bool
	// Won says that Nonce is the winner's, whose final word is still to come.
	Won     bool
	Killing bool // a kill is committed and not answered yet

	Launch                                                    LaunchID // 0 while waiting
	LaunchedMillis, GrantedMillis, StartedMillis, EndedMillis int64
	Nonce                                                     Nonce
	BootID, Host, WrapperVersion                              string

	NextSeq uint64 // the sequence number that the next output or result must have; the first is 1
	Stored  uint64 // bytes of output in the record
	LeftOut uint64 // bytes that the wrapper left out beyond output_limit
	Text    string // why: the launcher's error, the reason of a refusal, a remark
}
