// Package wire is the protocol between sp_wrapper and a node's gateway, version 1: JSON control messages in text
// frames, output in binary frames, over WebSocket under TLS. docs/wrapper-protocol.md tells the story; this package is
// the authority for names and shapes. It owns no goroutine and no connection.
package wire

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/syscollective/saltpeter"
)

// Version is the protocol's version. A gateway lists the versions that it speaks in its challenge.
const Version = 1

// Path is where the gateway takes wrappers.
const Path = "/v1/wrapper"

// Limits of one message, in bytes. A grant carries command and environment, hence the larger one towards the wrapper.
const (
	MaxToGateway = 128 << 10
	MaxToWrapper = 1 << 20
	MaxOutput    = 64 << 10 // payload of one binary frame
)

// ErrMalformed is under every decoding error.
var ErrMalformed = errors.New("malformed message")

// Type names a control message.
type Type string

// Messages of the gateway.
const (
	TypeChallenge Type = "challenge" // first on every connection
	TypeRuns      Type = "runs"      // answer to hello
	TypeGrant     Type = "grant"     // answer to start, or to resume while granted
	TypeRefused   Type = "refused"   // answer to hello, start
	TypeResumed   Type = "resumed"   // answer to resume
	TypeAck       Type = "ack"       // everything numbered below next is in the record
	TypeExpect    Type = "expect"    // a number was skipped: go on from next
	TypeKill      Type = "kill"
	TypeBeat      Type = "beat"  // heartbeat, and its answer
	TypeRetry     Type = "retry" // not now (no leader, busy): ask again, here or elsewhere, after after_ms
)

// Messages of the wrapper (and TypeBeat).
const (
	TypeHello    Type = "hello"
	TypeStart    Type = "start"
	TypeStarted  Type = "started"
	TypeResult   Type = "result"
	TypeDeclined Type = "declined"
	TypeLocked   Type = "locked" // the job's lock on this machine is held by another run
	TypeResume   Type = "resume"
	TypeRemark   Type = "remark"
	TypeSoft     Type = "soft-timeout"
)

// Message is the union of all control messages: Type says which fields count. Absent fields are zero.
type Message struct {
	Type Type `json:"type"`

	// Run is the run's ordinal on this wrapper, from 0, in the order in which hello's answer listed them; a wrapper that
	// resumes gives the ordinals itself. All messages about one run carry it.
	Run int `json:"run,omitempty"`

	// challenge
	Versions  []int  `json:"versions,omitempty"`
	Cluster   string `json:"cluster,omitempty"` // UUID
	Node      string `json:"node,omitempty"`
	Challenge Bytes  `json:"challenge,omitempty"` // 32 random bytes

	// challenge, beat: milliseconds since this node last heard from the leader, -1 = never
	LeaderAge *int64 `json:"leader_age_ms,omitempty"`

	// hello
	Version int    `json:"version,omitempty"` // of the protocol
	Launch  string `json:"launch,omitempty"`
	Machine string `json:"machine,omitempty"`
	BootID  string `json:"boot_id,omitempty"`
	Host    string `json:"host,omitempty"`
	Build   string `json:"build,omitempty"` // of the wrapper
	Nonce   Bytes  `json:"nonce,omitempty"` // SHA-256 of the secret
	Token   string `json:"token,omitempty"`
	Proof   *Proof `json:"proof,omitempty"`

	// runs
	Runs []RunEntry `json:"runs,omitempty"`

	// start, grant
	Ask  uint32          `json:"ask,omitempty"`
	Spec *saltpeter.Spec `json:"spec,omitempty"`
	Kill bool            `json:"kill,omitempty"`

	// refused, declined, locked, remark, retry: the reason for people
	Text string `json:"text,omitempty"`
	// Final says of refused that asking again is useless.
	Final   bool  `json:"final,omitempty"`
	AfterMS int64 `json:"after_ms,omitempty"`

	// resume: the secret, and which target it is about
	Secret Bytes  `json:"secret,omitempty"`
	RunNum uint64 `json:"run_num,omitempty"`
	Target uint32 `json:"target,omitempty"`
	// resumed: the target's state as a word, or "unknown"
	State string `json:"state,omitempty"`
	// resumed: the record has this winner's final word
	Done bool `json:"done,omitempty"`

	// ack, expect, resumed
	Next    uint64 `json:"next,omitempty"`
	Started bool   `json:"started,omitempty"` // ack: started is in the record
	Ended   bool   `json:"ended,omitempty"`   // ack: the final word is in the record

	// started, result
	PID      int    `json:"pid,omitempty"`
	Seq      uint64 `json:"seq,omitempty"`
	AtMillis uint64 `json:"at_ms,omitempty"`
	Code     int    `json:"code,omitempty"`
	Signal   int    `json:"signal,omitempty"`
	Cause    string `json:"cause,omitempty"` // "exit", "timeout", "kill"

	// beat
	N uint64 `json:"n,omitempty"`

	// kill
	GraceMS int64 `json:"grace_ms,omitempty"`
}

// RunEntry is one run of a launch in hello's answer.
type RunEntry struct {
	RunNum        uint64 `json:"run_num"`
	Target        uint32 `json:"target"`
	Run           string `json:"run"`
	Job           string `json:"job"`
	Lockfile      string `json:"lockfile,omitempty"`
	AllowOverlap  bool   `json:"allow_overlap,omitempty"`
	State         string `json:"state"`
	HeartbeatMS   int64  `json:"heartbeat_ms"`
	StartWindowMS int64  `json:"start_window_ms"`
}

// Bytes travel as base64 (standard, padded).
type Bytes []byte

// MarshalText gives base64.
func (b Bytes) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, b), nil
}

// UnmarshalText reads base64.
func (b *Bytes) UnmarshalText(text []byte) error {
	out, err := base64.StdEncoding.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	*b = out
	return nil
}

// Encode gives the text frame of m.
func Encode(m *Message) ([]byte, error) {
	b, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.Type, err)
	}
	return b, nil
}

// Decode reads a text frame. Unknown fields are ignored, so that later versions may add some.
func Decode(b []byte) (*Message, error) {
	m := new(Message)
	if err := json.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if m.Type == "" {
		return nil, fmt.Errorf("%w: no type", ErrMalformed)
	}
	if m.Run < 0 {
		return nil, fmt.Errorf("%w: run %d", ErrMalformed, m.Run)
	}
	return m, nil
}
