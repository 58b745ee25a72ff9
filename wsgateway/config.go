package wsgateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

// Leader is what the gateway needs of the cluster's leader, wherever that is.
type Leader interface {
	// Hello tells which runs of a launch are meant for a machine. An error of code not-found is the leader's own word,
	// after a barrier, that there is no such launch; every other error means "not answered".
	Hello(ctx context.Context, sight saltpeter.LaunchSight) ([]saltpeter.LaunchedRun, error)
	// Start makes the start claim; an error means "not answered", the claim may have committed.
	Start(ctx context.Context, ask saltpeter.StartAsk) (saltpeter.StartAnswer, error)
	// Resume tells, after a barrier, where a wrapper that presents a secret stands.
	Resume(ctx context.Context, ask saltpeter.ResumeAsk) (saltpeter.ResumeAnswer, error)
	// Report takes words. Without an error they are committed, and there is one answer per report in the same order. An
	// error means "not taken, or unknown": the gateway reports the same words again. What is wrong with one report is said
	// in its answer, never as an error of the call.
	Report(ctx context.Context, reports []saltpeter.Report) ([]saltpeter.ReportAnswer, error)
	// Lock commits that the job's lock on the machine is held by another run.
	Lock(ctx context.Context, refusal saltpeter.LockRefusal) error
	// Heard tells whose heartbeats came since the last call.
	Heard(ctx context.Context, refs []saltpeter.TargetRef) error
}

// Contact tells how long ago this node heard the leader; known is false if it never did.
type Contact func() (age time.Duration, known bool)

// Tokens is what the gateway needs to know that a start token is good for a launch. Verify returns nil, an error under
// ErrTokenUnchecked, or any other error, which is final.
type Tokens interface {
	Verify(ctx context.Context, launch saltpeter.LaunchID, token string) error
}

// ErrTokenUnchecked says that this node can't tell by now whether a token is good: its record may be behind.
var ErrTokenUnchecked = errors.New("start token can't be checked")

// Identity verifies a machine's proof over wire.Transcript. It returns nil, an error under ErrIdentityRefused, or one under
// ErrIdentityUnavailable; any other error counts as unavailable.
type Identity interface {
	Verify(ctx context.Context, machine string, proof *wire.Proof, transcript []byte) error
}

// What an Identity may say.
var (
	ErrIdentityRefused     = errors.New("identity refused")     // final: the proof is not this machine's
	ErrIdentityUnavailable = errors.New("identity unavailable") // the key can't be had here: another node may
)

// What Serve refuses.
var (
	errConfig = errors.New("incomplete configuration")
	errServed = errors.New("served before")
)

// Config is what a Gateway is made of. Leader, Contact, Tokens and Identity are needed.
type Config struct {
	Cluster string // UUID, part of what a machine signs
	Node    string // this node's name, told in the challenge

	TLS *tls.Config // nil = plain, for tests

	Leader   Leader
	Contact  Contact
	Tokens   Tokens
	Identity Identity

	Limits     Limits
	Log        *slog.Logger          // nil = discard
	Registerer prometheus.Registerer // nil = no metrics
}

// Limits bounds what wrappers, honest or not, can cost. Zero fields get the defaults of DefaultLimits.
type Limits struct {
	Sessions   int // connections that were upgraded
	Handshakes int // connections before that; more wait in the kernel's backlog
	PerMachine int // sessions that said hello as one machine
	Runs       int // ordinals on one session

	Handshake time.Duration // TLS and HTTP, each
	Hello     time.Duration // from the challenge to a hello that was verified, or to a resume
	Idle      time.Duration // without a message; also how long a session may be held back
	Write     time.Duration // one write
	Close     time.Duration // the closing handshake
	Ask       time.Duration // Hello, Start, Resume, Lock and Heard of the leader
	Report    time.Duration // one Report call

	// Rate is in units per second, Burst in units: a message costs one unit, and one more for each KiB.
	Rate, Burst float64

	SessionWords int   // words of one session that are not acked; it is not read while it has more
	SessionBytes int64 // the same in bytes; wrappers keep their window below both
	QueuedBytes  int64 // of all sessions together
	Outbox       int   // messages that a session may be behind

	BatchWords  int // of one Report call
	BatchBytes  int64
	BatchLinger time.Duration // how long the first word of a call waits for others
	HeardEvery  time.Duration
}

// DefaultLimits are made for 20,000 sessions.
func DefaultLimits() Limits {
	return Limits{
		Sessions: 20_000, Handshakes: 2048, PerMachine: 1024, Runs: 256,
		Handshake: 10 * time.Second, Hello: 10 * time.Second, Idle: 90 * time.Second, Write: 10 * time.Second,
		Close: time.Second, Ask: 5 * time.Second, Report: 5 * time.Second,
		Rate: 8000, Burst: 16_000,
		SessionWords: 2048, SessionBytes: 2 << 20, QueuedBytes: 128 << 20, Outbox: 512,
		BatchWords: 1024, BatchBytes: 192 << 10, BatchLinger: time.Millisecond, HeardEvery: 500 * time.Millisecond,
	}
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits()
	return Limits{
		Sessions: cmp.Or(l.Sessions, d.Sessions), Handshakes: cmp.Or(l.Handshakes, d.Handshakes),
		PerMachine: cmp.Or(l.PerMachine, d.PerMachine), Runs: cmp.Or(l.Runs, d.Runs),
		Handshake: cmp.Or(l.Handshake, d.Handshake), Hello: cmp.Or(l.Hello, d.Hello), Idle: cmp.Or(l.Idle, d.Idle),
		Write: cmp.Or(l.Write, d.Write), Close: cmp.Or(l.Close, d.Close), Ask: cmp.Or(l.Ask, d.Ask), Report: cmp.Or(l.Report, d.Report),
		Rate: cmp.Or(l.Rate, d.Rate), Burst: cmp.Or(l.Burst, d.Burst),
		SessionWords: cmp.Or(l.SessionWords, d.SessionWords), SessionBytes: cmp.Or(l.SessionBytes, d.SessionBytes),
		// One word must always fit, or its session would wait for ever.
		QueuedBytes: max(cmp.Or(l.QueuedBytes, d.QueuedBytes), maxWord), Outbox: cmp.Or(l.Outbox, d.Outbox),
		BatchWords: cmp.Or(l.BatchWords, d.BatchWords), BatchBytes: cmp.Or(l.BatchBytes, d.BatchBytes),
		BatchLinger: cmp.Or(l.BatchLinger, d.BatchLinger), HeardEvery: cmp.Or(l.HeardEvery, d.HeardEvery),
	}
}
