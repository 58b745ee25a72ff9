package api

import (
	"context"
	"time"

	"github.com/syscollective/saltpeter"
)

// View is what the API reads of the replicated record: one immutable state of it.
type View interface {
	Index() uint64
	ClusterID() string
	Epoch() uint64
	Settings() *saltpeter.Settings
	Revision() *saltpeter.Revision
	Job(name string) (saltpeter.JobStatus, bool)
	Jobs(after string, yield func(saltpeter.JobStatus) bool)
	JobCount() int
	RunByID(id string) (*saltpeter.Run, bool)
	Runs(before uint64, yield func(*saltpeter.Run) bool)
	RunsOfJob(job string, before uint64, yield func(*saltpeter.Run) bool)
	Unfinished(yield func(*saltpeter.Run) bool)
	FindTarget(run uint64, machine string) (saltpeter.Target, bool)
	TargetsOf(run uint64, from uint32, yield func(saltpeter.Target) bool)
	Skips(job string) []saltpeter.Skip
	Windows() []saltpeter.Window
	// DroppedEarly counts the runs that went before their time because the totals of the history are hard.
	DroppedEarly() uint64
	// Token finds a token by the hash of its secret, also one that was revoked or has expired; Tokens gives them all.
	Token(hash saltpeter.Digest) (saltpeter.Token, bool)
	Tokens() []saltpeter.Token
}

// Node is what the API asks of the node that it runs in. Errors that people may see are *saltpeter.Error; any other is
// logged and shown as internal.
type Node interface {
	// Read gives the record: after a barrier, so that it holds every write acknowledged before the call, or, when stale
	// is asked for, as it is on this node. Only the former fails, with CodeNoLeader.
	Read(ctx context.Context, stale bool) (View, error)
	// Start claims a run by hand. The same idempotency key gives the same run again.
	Start(ctx context.Context, by saltpeter.Actor, req saltpeter.StartRequest) (*saltpeter.Run, error)
	// Kill marks the named machines of a run, all of them if none is named, and tells how many were marked.
	Kill(ctx context.Context, by saltpeter.Actor, run uint64, machines []string) (killed int, err error)
	// SetWindow begins a maintenance or a pause, or replaces the one with the same scope and name.
	SetWindow(ctx context.Context, by saltpeter.Actor, w saltpeter.Window) (saltpeter.Window, error)
	// LiftWindow ends the windows of a scope and name that were set through the API, and tells how many.
	LiftWindow(ctx context.Context, by saltpeter.Actor, scope saltpeter.Scope, name string, pause bool) (lifted int, err error)
	// PutToken makes a token, whose name must be free; RevokeToken ends the one with the hash on every node.
	PutToken(ctx context.Context, by saltpeter.Actor, t saltpeter.Token) (saltpeter.Token, error)
	RevokeToken(ctx context.Context, by saltpeter.Actor, hash saltpeter.Digest) (saltpeter.Token, error)
	// Output opens the stored output of a target.
	Output(ctx context.Context, ref saltpeter.TargetRef) (Output, error)
	// Events gives the change feed.
	Events() Feed
	// Contact tells who answers and who leads, as this node knows at once. Nothing may be decided on it.
	Contact() Contact
	// Status tells how the node is. It does not wait for anything.
	Status(ctx context.Context) NodeStatus
	// Changed gives a channel that is closed at the next change of this node's record.
	Changed() <-chan struct{}
}

// Contact is what a node knows of its leader.
type Contact struct {
	Name, Leader string        // names of the node and of the leader; empty if none is known
	Age          time.Duration // of the last contact with a leader
	Known        bool          // there was one
	Working      bool          // the node is a working member of its cluster: see Forming of NodeStatus
}

// Feed is the change feed as it is on one node.
type Feed interface {
	// Events gives the events from number from on, in order, as they are at the time of the call, until yield returns
	// false. It begins with the oldest that is there.
	Events(from uint64, yield func(saltpeter.Event) bool) error
	// Bounds gives the number of the oldest event that is there, and the number that the next one will have.
	Bounds() (first, next uint64)
	// Moved gives a channel that is closed when there may be more than at the time of the call.
	Moved() <-chan struct{}
}

// Output is the stored output of one target, growing until it is final.
type Output interface {
	// ReadAt reads as io.ReaderAt does; io.EOF is the end of what is stored by now.
	ReadAt(p []byte, off int64) (int, error)
	// Size gives the bytes that are stored by now.
	Size() int64
	// Gaps lists where bytes were left out, in order.
	Gaps() []Gap
	// Final reports whether nothing more will come: the target has its outcome, and its winner is not back.
	Final() bool
	// More gives a channel that is closed when more is stored or the output has become final. It may be closed for
	// other reasons too.
	More() <-chan struct{}
}

// Gap says that bytes of the command's output are not in the record.
type Gap struct {
	Offset int64  `json:"offset"` // in the stored output
	Bytes  uint64 `json:"bytes"`  // that were left out there
}

// NodeStatus is how a node sees itself and its cluster.
type NodeStatus struct {
	Name    string
	ID      string
	Version string
	Role    string // "leader", "follower", "candidate"
	Leader  string // name of the leader, empty if none is known
	Term    uint64
	Commit  uint64 // newest index known to be committed
	Applied uint64
	Started time.Time
	Members []Member
	// Problems are those of the configuration files on this node; an error among them keeps the last good
	// configuration in force.
	Problems []saltpeter.Problem
	// Faults say what is broken in this process: a store that fails, a loop that stands still. With any, it is unhealthy.
	Faults []string
	// Unready say why this node should not be sent requests yet, beside what the API sees by itself.
	Unready []string
	// Forming says why this node is no working member of a cluster: it waits, or was removed. Empty is well.
	Forming string
	// Launcher says how the launcher is: empty is well.
	Launcher string
	// Salt lists the Salt masters, where Salt is the launcher.
	Salt []SaltMaster
	Feed FeedInfo
}

// Member is a node of the cluster as another one sees it.
type Member struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Address string `json:"address"` // of the node-to-node port
	Voter   bool   `json:"voter"`
	Leader  bool   `json:"leader"`
	Version string `json:"version,omitempty"`
	Applied uint64 `json:"applied,omitempty"`
	// ContactMillis is the age of the last contact, ClockMillis how far its clock is ahead; null where it is not known.
	ContactMillis *int64 `json:"contact_ms"`
	ClockMillis   *int64 `json:"clock_ms"`
	// ConfigDigest is of the node's own files.
	ConfigDigest string `json:"config_digest,omitempty"`
}
