package saltpeter

import "time"

// LaunchSight is what a wrapper tells of itself when it says hello.
type LaunchSight struct {
	Launch  LaunchID `cbor:"1,keyasint"`
	Machine string   `cbor:"2,keyasint"`
	BootID  string   `cbor:"3,keyasint,omitempty"`
	Host    string   `cbor:"4,keyasint,omitempty"`
	Version string   `cbor:"5,keyasint,omitempty"` // of the wrapper
	Remark  string   `cbor:"6,keyasint,omitempty"` // "command may still run: …", from the journal
}

// LaunchedRun is one run of a launch on the machine that said hello.
type LaunchedRun struct {
	Ref          TargetRef     `cbor:"1,keyasint"`
	Run          string        `cbor:"2,keyasint"`
	Job          string        `cbor:"3,keyasint"`
	Lockfile     string        `cbor:"4,keyasint,omitempty"` // as in the job; empty = the wrapper's default
	AllowOverlap bool          `cbor:"5,keyasint,omitempty"`
	State        TargetState   `cbor:"6,keyasint"`
	Heartbeat    time.Duration `cbor:"7,keyasint"`
	StartWindow  time.Duration `cbor:"8,keyasint"`
}

// StartAsk is a wrapper's request to execute one target: the start claim.
type StartAsk struct {
	Sight LaunchSight `cbor:"1,keyasint"`
	Ref   TargetRef   `cbor:"2,keyasint"`
	Nonce Nonce       `cbor:"3,keyasint"`
	Ask   uint32      `cbor:"4,keyasint"` // numbered from 1 by the wrapper; the grant names the ask that it answers
}

// StartAnswer is the leader's answer to a StartAsk, after it was committed.
type StartAnswer struct {
	Granted bool   `cbor:"1,keyasint,omitempty"`
	Refusal string `cbor:"2,keyasint,omitempty"` // why not; the wrapper exits 0 without executing
	Spec    *Spec  `cbor:"3,keyasint,omitempty"`
	Kill    bool   `cbor:"4,keyasint,omitempty"` // a kill is committed: decline
}

// Spec is what a grant brings: all that the wrapper needs to execute the command.
type Spec struct {
	Ref             TargetRef         `cbor:"1,keyasint" json:"-"`
	Run             string            `cbor:"2,keyasint" json:"run"`
	Job             string            `cbor:"3,keyasint" json:"job"`
	Machine         string            `cbor:"4,keyasint" json:"machine"`
	Command         string            `cbor:"5,keyasint" json:"command"`
	User            string            `cbor:"6,keyasint,omitempty" json:"user,omitempty"`
	Cwd             string            `cbor:"7,keyasint,omitempty" json:"cwd,omitempty"`
	Env             map[string]string `cbor:"8,keyasint,omitempty" json:"env,omitempty"`
	Timeout         time.Duration     `cbor:"9,keyasint,omitempty" json:"timeout,omitempty"` // nanoseconds; 0 = none
	SoftTimeout     time.Duration     `cbor:"10,keyasint,omitempty" json:"soft_timeout,omitempty"`
	KillGrace       time.Duration     `cbor:"11,keyasint" json:"kill_grace"`
	OutputLimit     int64             `cbor:"12,keyasint" json:"output_limit"`
	WaitForChildren bool              `cbor:"13,keyasint,omitempty" json:"wait_for_children,omitempty"`
	LogDir          string            `cbor:"14,keyasint,omitempty" json:"log_dir,omitempty"`
	LogLevel        string            `cbor:"15,keyasint,omitempty" json:"log_level,omitempty"`
	Heartbeat       time.Duration     `cbor:"16,keyasint" json:"heartbeat"`
	// ExecWithin bounds the time between the ask and the execution on its grant; 0 = 20 s, which is also the most. It is
	// well below lost_after, so that nothing starts after the record says that it was lost.
	ExecWithin time.Duration `cbor:"17,keyasint,omitempty" json:"exec_within,omitempty"`
}

// execWithin is the longest time between an ask and the execution on its grant.
const execWithin = 20 * time.Second

// GrantLimit gives how long after its ask a grant may be executed, for a cluster that takes a target for lost after so
// long a silence: a third of it, at most 20 s.
func GrantLimit(lostAfter time.Duration) time.Duration { return min(execWithin, lostAfter/3) }

// ResumeAsk is a wrapper's return after a break. Nonce is computed by the gateway from the secret that was presented.
type ResumeAsk struct {
	Ref   TargetRef `cbor:"1,keyasint"`
	Nonce Nonce     `cbor:"2,keyasint"`
}

// ResumeAnswer is the leader's answer to a ResumeAsk, after a barrier.
type ResumeAnswer struct {
	// Unknown says that the record has no such run (any more): the command goes on, its output goes to the wrapper's log.
	Unknown bool        `cbor:"1,keyasint,omitempty"`
	State   TargetState `cbor:"2,keyasint,omitempty"`
	// Winner says that the nonce is the winner's. A stranger on a target in Launched may ask to start.
	Winner bool `cbor:"3,keyasint,omitempty"`
	// Done says that the record has this winner's own final word.
	Done bool   `cbor:"4,keyasint,omitempty"`
	Next uint64 `cbor:"5,keyasint,omitempty"` // expected sequence number
	Spec *Spec  `cbor:"6,keyasint,omitempty"` // while granted: the grant again
	Kill bool   `cbor:"7,keyasint,omitempty"`
}

// WordKind says what a winner tells.
type WordKind uint8

// The kinds. The numbers are in log entries: append only.
const (
	WordStarted     WordKind = iota + 1 // the command was executed; not numbered, repeated after a break
	WordOutput                          // bytes of output
	WordSkip                            // a range of output that is left out: Skipped bytes
	WordResult                          // the command ended
	WordDeclined                        // it was not and will not be executed; not numbered
	WordRemark                          // something people should see; not numbered
	WordSoftTimeout                     // soft_timeout went by; not numbered
)

// EndCause says why a command ended.
type EndCause uint8

// The causes. The numbers are in log entries: append only.
const (
	EndExit    EndCause = iota // by itself, or by a signal that we did not send
	EndTimeout                 // the wrapper ended it at its timeout
	EndKill                    // the wrapper ended it because of a kill
)

// Word is one thing that the winner of a start claim tells. Numbered words are taken only in order.
type Word struct {
	Kind     WordKind `cbor:"1,keyasint"`
	Seq      uint64   `cbor:"2,keyasint,omitempty"` // of output, skip and result; the first is 1
	AtMillis uint64   `cbor:"3,keyasint,omitempty"` // since the command's start
	Data     []byte   `cbor:"4,keyasint,omitempty"`
	Skipped  uint64   `cbor:"5,keyasint,omitempty"`
	Code     int      `cbor:"6,keyasint,omitempty"` // the command's exit code, 128+n for signal n
	Signal   int      `cbor:"7,keyasint,omitempty"`
	Cause    EndCause `cbor:"8,keyasint,omitempty"`
	Text     string   `cbor:"9,keyasint,omitempty"`
	// Covers says of a skip how many numbers it covers, itself included (0 and 1 = one): the next word has Seq+Covers.
	Covers uint64 `cbor:"10,keyasint,omitempty"`
}

// Report is a series of words of one winner, in order.
type Report struct {
	Ref   TargetRef `cbor:"1,keyasint"`
	Nonce Nonce     `cbor:"2,keyasint"`
	Words []Word    `cbor:"3,keyasint"`
}

// ReportAnswer is what became of a Report once it was committed: everything numbered below Next is in the record.
type ReportAnswer struct {
	Ref     TargetRef `cbor:"1,keyasint"`
	Next    uint64    `cbor:"2,keyasint,omitempty"`
	Started bool      `cbor:"3,keyasint,omitempty"`
	Done    bool      `cbor:"4,keyasint,omitempty"` // the winner's final word is in the record
	Kill    bool      `cbor:"5,keyasint,omitempty"`
	Refused string    `cbor:"6,keyasint,omitempty"` // "unknown run", "not the winner"
}

// LockRefusal is a wrapper's word that the job's lock on its machine is held by another run.
type LockRefusal struct {
	Sight LaunchSight `cbor:"1,keyasint"`
	Ref   TargetRef   `cbor:"2,keyasint"`
	Text  string      `cbor:"3,keyasint"`
}
