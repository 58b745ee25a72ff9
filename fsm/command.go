package fsm

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/backup"
)

// Code is a command's number, the first byte of its encoding. Numbers are in raft logs: append only, never reused.
type Code byte

// The commands. testdata/codes.golden holds this table; an unknown code halts the state machine.
const (
	CodeInitCluster    Code = 1
	CodePutDefinitions Code = 2
	CodeApplyConfig    Code = 3
	CodeClaimRuns      Code = 4
	CodeStartRun       Code = 5
	CodeSetTargets     Code = 6
	CodeLaunchBatch    Code = 7
	CodeStartTarget    Code = 8
	CodeRefuseLock     Code = 9
	CodeReport         Code = 10
	CodeEndTargets     Code = 11
	CodeEndRun         Code = 12
	CodeKill           Code = 13
	CodeSetWindow      Code = 14
	CodeLiftWindow     Code = 15
	CodeRetain         Code = 16
	CodeCompactOutput  Code = 17
	CodeSetNode        Code = 18
	CodePullMarks      Code = 19
	CodeBeginEpoch     Code = 20
	CodePutToken       Code = 21
	CodeRevokeToken    Code = 22
	CodeSetLaunchKey   Code = 23
	CodeRestorePart    Code = 24
	CodeRestore        Code = 25
	CodeForgetNode     Code = 26
	CodeLoseSegments   Code = 27
)

// commandVersion is the second byte of every encoding: the version of the envelope.
const commandVersion = 1

// ErrUnknownCommand says that an entry needs a newer program: the state machine halts on it.
var ErrUnknownCommand = errors.New("unknown command")

// Envelope is what every command carries beside its body.
type Envelope struct {
	Millis  int64  `cbor:"1,keyasint"`           // the proposer's wall clock
	Term    uint64 `cbor:"2,keyasint,omitempty"` // of the leadership that planned it; 0 = no leader's plan
	Actor   string `cbor:"3,keyasint,omitempty"`
	Origin  string `cbor:"4,keyasint,omitempty"`
	Request string `cbor:"5,keyasint,omitempty"`
}

// Tick gives the envelope's time in whole seconds.
func (e *Envelope) Tick() int64 { return e.Millis / 1000 }

// Command is one change of the record.
type Command interface {
	Code() Code
	apply(a *applier) any
}

// newCommand makes an empty command of a code: the table that decoding uses.
var newCommand = map[Code]func() Command{
	CodeInitCluster:    func() Command { return new(InitCluster) },
	CodePutDefinitions: func() Command { return new(PutDefinitions) },
	CodeApplyConfig:    func() Command { return new(ApplyConfig) },
	CodeClaimRuns:      func() Command { return new(ClaimRuns) },
	CodeStartRun:       func() Command { return new(StartRun) },
	CodeSetTargets:     func() Command { return new(SetTargets) },
	CodeLaunchBatch:    func() Command { return new(LaunchBatch) },
	CodeStartTarget:    func() Command { return new(StartTarget) },
	CodeRefuseLock:     func() Command { return new(RefuseLock) },
	CodeReport:         func() Command { return new(Report) },
	CodeEndTargets:     func() Command { return new(EndTargets) },
	CodeEndRun:         func() Command { return new(EndRun) },
	CodeKill:           func() Command { return new(Kill) },
	CodeSetWindow:      func() Command { return new(SetWindow) },
	CodeLiftWindow:     func() Command { return new(LiftWindow) },
	CodeRetain:         func() Command { return new(Retain) },
	CodeCompactOutput:  func() Command { return new(CompactOutput) },
	CodeSetNode:        func() Command { return new(SetNode) },
	CodePullMarks:      func() Command { return new(PullMarks) },
	CodeBeginEpoch:     func() Command { return new(BeginEpoch) },
	CodePutToken:       func() Command { return new(PutToken) },
	CodeRevokeToken:    func() Command { return new(RevokeToken) },
	CodeSetLaunchKey:   func() Command { return new(SetLaunchKey) },
	CodeRestorePart:    func() Command { return new(RestorePart) },
	CodeRestore:        func() Command { return new(Restore) },
	CodeForgetNode:     func() Command { return new(ForgetNode) },
	CodeLoseSegments:   func() Command { return new(LoseSegments) },
}

// InitCluster names the cluster. It counts once: a second one with another id is refused.
type InitCluster struct {
	ClusterID string `cbor:"1,keyasint"`
}

// PutDefinitions brings encoded job definitions (saltpeter.Job.Encode) before the revision that names them.
type PutDefinitions struct {
	Encoded [][]byte `cbor:"1,keyasint"`
}

// ApplyConfig is one part of a configuration revision; it is in force in the apply of its last part. Jobs of all parts
// together are sorted by name.
type ApplyConfig struct {
	ID          string                    `cbor:"1,keyasint"` // of this revision's proposal; part 0 starts it anew
	Part        int                       `cbor:"2,keyasint,omitempty"`
	Last        bool                      `cbor:"3,keyasint,omitempty"`
	Jobs        []saltpeter.JobDigest     `cbor:"4,keyasint,omitempty"`
	FilesDigest string                    `cbor:"5,keyasint,omitempty"` // last part
	Settings    []byte                    `cbor:"6,keyasint,omitempty"` // last part: saltpeter.Settings as JSON
	Maintenance saltpeter.FileMaintenance `cbor:"7,keyasint,omitzero"`  // last part
}

// ClaimRuns claims ticks.
type ClaimRuns struct {
	Claims []saltpeter.Claim `cbor:"1,keyasint"`
}

// StartRun starts a job by hand. Request.Key must be set.
type StartRun struct {
	Request saltpeter.StartRequest `cbor:"1,keyasint"`
}

// SetTargets brings a run's machines in drawn order, in parts; the first complete list wins.
type SetTargets struct {
	Run      uint64   `cbor:"1,keyasint"`
	Attempt  string   `cbor:"2,keyasint"` // one list's identity; part 0 starts it anew
	Part     int      `cbor:"3,keyasint,omitempty"`
	Last     bool     `cbor:"4,keyasint,omitempty"`
	Machines []string `cbor:"5,keyasint,omitempty"`
	Down     []int    `cbor:"6,keyasint,omitempty"` // positions in Machines of those that are not up
}

// LaunchBatch launches a run's next batch under a new launch id.
type LaunchBatch struct {
	Run   uint64 `cbor:"1,keyasint"`
	Batch int    `cbor:"2,keyasint,omitempty"` // from 0
}

// StartTarget is a start claim.
type StartTarget struct {
	Ask saltpeter.StartAsk `cbor:"1,keyasint"`
}

// RefuseLock is a wrapper's word that the job's lock on its machine is held.
type RefuseLock struct {
	Refusal saltpeter.LockRefusal `cbor:"1,keyasint"`
}

// Report brings words of winners.
type Report struct {
	Reports []saltpeter.Report `cbor:"1,keyasint"`
}

// EndTargets records outcomes that rest on silence. An end from an outcome to the same one says that a winner that had come
// back after it is silent again: it counts for overlap no more, until its next word.
type EndTargets struct {
	Run  uint64                `cbor:"1,keyasint"`
	Ends []saltpeter.TargetEnd `cbor:"2,keyasint"`
}

// EndRun ends a run that has no targets yet.
type EndRun struct {
	Run   uint64             `cbor:"1,keyasint"`
	State saltpeter.RunState `cbor:"2,keyasint"` // RunLaunchFailed or RunNoTargets
	Text  string             `cbor:"3,keyasint,omitempty"`
}

// Kill flags a run, or some of its machines.
type Kill struct {
	Run      uint64   `cbor:"1,keyasint"`
	Machines []string `cbor:"2,keyasint,omitempty"` // empty = the whole run
}

// SetWindow begins a maintenance or a pause, or replaces an active one of the same scope and name.
type SetWindow struct {
	Window saltpeter.Window `cbor:"1,keyasint"`
}

// LiftWindow ends the active windows of a scope and name that are not the files'.
type LiftWindow struct {
	Scope saltpeter.Scope `cbor:"1,keyasint"`
	Name  string          `cbor:"2,keyasint,omitempty"`
	Pause bool            `cbor:"3,keyasint,omitempty"`
}

// Retain drops history beyond the limits, at most so much that one command stays short. Rounds are numbered (View.NextRetain
// gives the next one), so that a round that is proposed twice drops nothing the second time; 0 = whatever the round.
type Retain struct {
	Round uint64 `cbor:"1,keyasint,omitempty"`
}

// CompactOutput rewrites the sealed segments of output From..To as one, with their live frames.
type CompactOutput struct {
	From uint64 `cbor:"1,keyasint"`
	To   uint64 `cbor:"2,keyasint"`
}

// SetNode records what a node says of itself.
type SetNode struct {
	Node NodeRecord `cbor:"1,keyasint"`
}

// PullMarks pulls high-water marks that lie after To back to it: they came from a clock that was wrong.
type PullMarks struct {
	To int64 `cbor:"1,keyasint"` // tick
}

// BeginEpoch begins a new epoch after a restore or a recovery from a lost majority.
type BeginEpoch struct {
	Epoch  uint64 `cbor:"1,keyasint"`
	Reason string `cbor:"2,keyasint,omitempty"`
}

// PutToken makes an API token. Who made it and when comes from the envelope; a hash that was there before never comes again.
type PutToken struct {
	Token saltpeter.Token `cbor:"1,keyasint"`
}

// RevokeToken ends an API token for good. It names the hash, so that one that comes late does not end a later token of the
// same name.
type RevokeToken struct {
	Hash saltpeter.Digest `cbor:"1,keyasint"`
}

// SetLaunchKey says under which of the cluster's keys launches are made from now on.
type SetLaunchKey struct {
	Key string `cbor:"1,keyasint"` // id of the key
}

// RestorePart brings one part of a backup (internal/backup) before the Restore that puts it in force. Part 0 drops what
// another restore has brought.
type RestorePart struct {
	ID   string      `cbor:"1,keyasint"` // of this restore
	Part int         `cbor:"2,keyasint,omitempty"`
	Kind backup.Kind `cbor:"3,keyasint"`
	Data []byte      `cbor:"4,keyasint"`
	// Epoch is the one in which this restore was asked for. Part 0 is refused in a later one, so that what was left half done, or
	// was slow, does not take the place of what was restored meanwhile. 0 = not said.
	Epoch uint64 `cbor:"5,keyasint,omitempty"`
}

// Restore puts the record that RestorePart brought in the place of the present one, and begins a new epoch.
type Restore struct {
	ID      string `cbor:"1,keyasint"`
	Parts   int    `cbor:"2,keyasint"`           // that were brought
	Foreign bool   `cbor:"3,keyasint,omitempty"` // it may be the record of another cluster
}

// ForgetNode drops the record of a node that is no member any more.
type ForgetNode struct {
	ID string `cbor:"1,keyasint"`
}

// LoseSegments gives up segments of output, or of the change feed, that no node has. Rounds are numbered (View.NextLoss gives the
// next one), so that the same proposal does nothing twice.
type LoseSegments struct {
	Round    uint64        `cbor:"1,keyasint"`
	Feed     bool          `cbor:"2,keyasint,omitempty"`
	Segments []LostSegment `cbor:"3,keyasint"`
}

// LostSegment names a segment in one generation.
type LostSegment struct {
	No   uint64 `cbor:"1,keyasint"`
	Last uint64 `cbor:"2,keyasint"`
	Gen  uint32 `cbor:"3,keyasint,omitempty"`
}

// NodeRecord is what a node says of itself.
type NodeRecord struct {
	ID       string `cbor:"1,keyasint"`
	Name     string `cbor:"2,keyasint"`
	Version  string `cbor:"3,keyasint,omitempty"`
	Commands int    `cbor:"4,keyasint,omitempty"` // highest command code that it knows
	Gateway  string `cbor:"5,keyasint,omitempty"` // URL at which wrappers reach it
	Files    string `cbor:"6,keyasint,omitempty"` // digest of its configuration files
	Envelope int    `cbor:"7,keyasint,omitempty"` // highest version of a command's encoding that it knows
	Snapshot int    `cbor:"8,keyasint,omitempty"` // highest format version of snapshots that it reads
	Salt     bool   `cbor:"9,keyasint,omitempty"` // it stands on a Salt master's host
}

func (*InitCluster) Code() Code    { return CodeInitCluster }
func (*PutDefinitions) Code() Code { return CodePutDefinitions }
func (*ApplyConfig) Code() Code    { return CodeApplyConfig }
func (*ClaimRuns) Code() Code      { return CodeClaimRuns }
func (*StartRun) Code() Code       { return CodeStartRun }
func (*SetTargets) Code() Code     { return CodeSetTargets }
func (*LaunchBatch) Code() Code    { return CodeLaunchBatch }
func (*StartTarget) Code() Code    { return CodeStartTarget }
func (*RefuseLock) Code() Code     { return CodeRefuseLock }
func (*Report) Code() Code         { return CodeReport }
func (*EndTargets) Code() Code     { return CodeEndTargets }
func (*EndRun) Code() Code         { return CodeEndRun }
func (*Kill) Code() Code           { return CodeKill }
func (*SetWindow) Code() Code      { return CodeSetWindow }
func (*LiftWindow) Code() Code     { return CodeLiftWindow }
func (*Retain) Code() Code         { return CodeRetain }
func (*CompactOutput) Code() Code  { return CodeCompactOutput }
func (*SetNode) Code() Code        { return CodeSetNode }
func (*PullMarks) Code() Code      { return CodePullMarks }
func (*BeginEpoch) Code() Code     { return CodeBeginEpoch }
func (*PutToken) Code() Code       { return CodePutToken }
func (*RevokeToken) Code() Code    { return CodeRevokeToken }
func (*SetLaunchKey) Code() Code   { return CodeSetLaunchKey }
func (*RestorePart) Code() Code    { return CodeRestorePart }
func (*Restore) Code() Code        { return CodeRestore }
func (*ForgetNode) Code() Code     { return CodeForgetNode }
func (*LoseSegments) Code() Code   { return CodeLoseSegments }

type encoded struct {
	_    struct{} `cbor:",toarray"`
	Env  Envelope
	Body cbor.RawMessage
}

var (
	encMode = mustEnc(cbor.CoreDetEncOptions())
	// Text that is not UTF-8 (a launcher's error, a machine's name) is encoded, so it must be decoded: a command that can't
	// be decoded halts the cluster.
	decMode = mustDec(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxArrayElements: 1 << 20, MaxMapPairs: 1 << 20, MaxNestedLevels: 16,
		UTF8: cbor.UTF8DecodeInvalid,
	})
)

// mustEnc and mustDec turn constant options into modes; the options are constants, so an error is a bug that every test
// of this package would show.
func mustEnc(o cbor.EncOptions) cbor.EncMode {
	m, err := o.EncMode()
	if err != nil {
		panic(err)
	}
	return m
}

func mustDec(o cbor.DecOptions) cbor.DecMode {
	m, err := o.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}

// Encode gives a command's bytes as they go into an entry: code, version, then CBOR of [envelope, body].
func Encode(env Envelope, c Command) ([]byte, error) {
	body, err := encMode.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode command %d: %w", c.Code(), err)
	}
	b, err := encMode.Marshal(encoded{Env: env, Body: body})
	if err != nil {
		return nil, fmt.Errorf("encode command %d: %w", c.Code(), err)
	}
	return append([]byte{byte(c.Code()), commandVersion}, b...), nil
}

// Decode is the inverse of Encode. ErrUnknownCommand is under errors about code and version.
func Decode(b []byte) (Envelope, Command, error) {
	if len(b) < 2 {
		return Envelope{}, nil, fmt.Errorf("decode command: %d bytes", len(b))
	}
	empty := lookup(Code(b[0]))
	if empty == nil || b[1] != commandVersion {
		return Envelope{}, nil, fmt.Errorf("%w: code %d version %d (this program knows codes up to %d, version %d: it is older than what the cluster has used)",
			ErrUnknownCommand, b[0], b[1], newestKnown, commandVersion)
	}
	var e encoded
	if err := decMode.Unmarshal(b[2:], &e); err != nil {
		return Envelope{}, nil, fmt.Errorf("decode command %d: %w", b[0], err)
	}
	c := empty()
	if err := decMode.Unmarshal(e.Body, c); err != nil {
		return Envelope{}, nil, fmt.Errorf("decode command %d: %w", b[0], err)
	}
	return e.Env, c, nil
}

// NewestCode is the highest code that there is.
const NewestCode = CodeLoseSegments

// DecodeBody reads a command's body alone, as another node sends it before the leader gives it its envelope.
func DecodeBody(code Code, body []byte) (Command, error) {
	empty := lookup(code)
	if empty == nil {
		return nil, fmt.Errorf("%w: code %d", ErrUnknownCommand, code)
	}
	c := empty()
	if err := decMode.Unmarshal(body, c); err != nil {
		return nil, fmt.Errorf("decode command %d: %w", code, err)
	}
	return c, nil
}
