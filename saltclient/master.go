package saltclient

import (
	"context"
	"errors"
	"time"

	"github.com/syscollective/saltpeter"
)

// Master is one way to one Salt master. Its methods may be called side by side; each ends when its context does. Their
// errors are one of the classes below, wrapped around what Salt said.
type Master interface {
	// Name tells masters apart, for people and as a label of metrics: "salt01", "https://10.0.0.5:8000".
	Name() string
	// Resolve gives the minions that an expression matches by what the master has in its caches; nobody is asked, so those
	// that are down are among them. No minion and no error means that nothing matches.
	Resolve(ctx context.Context, e Expression) (Matched, error)
	// Publish sends a job under its id and gives the minions that the master expects to do it. The same id again is no
	// second execution as long as the minion remembers it.
	Publish(ctx context.Context, p *Publication) (minions []string, err error)
	// Ping asks minions (test.ping) and tells of each that answers, until all have or ctx's deadline has come, which is no
	// error.
	Ping(ctx context.Context, minions []string, answered func(minion string)) error
	// Returns gives what a publication's minions have returned so far.
	Returns(ctx context.Context, id saltpeter.LaunchID) ([]Return, error)
	// Key gives the public key (PEM, "PUBLIC KEY") that the master has accepted for a minion; ErrNoKey where there is none.
	Key(ctx context.Context, minion string) ([]byte, error)
	// Health asks whether the master itself answers, not only what stands before it.
	Health(ctx context.Context) (Health, error)
}

// Expression says which minions are meant, in Salt's words.
type Expression struct {
	Type string   // a job's target_type: glob pcre list grain grain_pcre pillar pillar_pcre nodegroup range compound ipcidr
	Text []string // one text; the minions' ids where Type is "list"
}

// Matched is the answer to an expression.
type Matched struct {
	Minions []string // sorted
	Missing []string // ids of a list that the master has no accepted key of; sorted
}

// Publication is one job for minions.
type Publication struct {
	ID       saltpeter.LaunchID
	Target   Expression
	Function string         // "cmd.run_all"
	Kwargs   map[string]any // of the function: strings, booleans, numbers, lists and maps of them
	// Deadline is when it is too late to begin: a request that waited somewhere for longer is refused with ErrUnreachable.
	// Zero means that it is never too late. It is for publications that are executions.
	Deadline time.Time
}

// Return is what a minion returned for a publication.
type Return struct {
	Minion  string
	Code    int    // Salt's retcode; the command's own where the function runs one
	Success bool   // what Salt thinks of it
	Stdout  string // of cmd.run_all, else the return as text
	Stderr  string
	// Refused is Salt's text where the function itself could not be done: not available, wrong user, no such directory.
	Refused string
}

// Health is how a master is.
type Health struct {
	Version string        // of Salt, "3007.14"
	Took    time.Duration // that the answer needed
	// Filtered says that publishes go only to the minions that they are for (zmq_filtering); otherwise every minion takes
	// every publish.
	Filtered bool
	Minions  int    // accepted keys
	Notes    string // what an operator should know: a version with known faults, a right that is missing; may be empty
}

// The classes of errors.
var (
	// ErrUnreachable says that it certainly did not get there: nothing was published. Try another master.
	ErrUnreachable = errors.New("salt master can't be reached")
	// ErrDoubtful says that it may or may not have been published: do it again under the same id, there or elsewhere.
	ErrDoubtful = errors.New("salt gave no clear answer")
	// ErrDenied says that Salt does not let us: login, permission, client not enabled. Another master may.
	ErrDenied = errors.New("salt denies it")
	// ErrExpression says that the expression is wrong or needs something that the master has not: an unknown nodegroup, a
	// malformed compound, a range without its server. The same on every master with the same configuration.
	ErrExpression = errors.New("target expression is not understood by salt")
	// ErrNoKey says that the master has accepted no key for the minion.
	ErrNoKey = errors.New("no accepted key")
)
