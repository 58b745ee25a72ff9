package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/syscollective/saltpeter/internal/keys"
)

// Peer is one voter of a statically configured cluster.
type Peer struct {
	ID   string // its node id
	Addr string // host:port of its node port, as others dial it
}

// Priority orders what waits to be proposed or sent: a lower number goes first. Within one priority order is kept.
type Priority uint8

// Priorities of Propose and Call.
const (
	High   Priority = iota // claims, start claims, kills: somebody waits for them
	Normal                 // everything else
	Low                    // output
	priorities
)

// Handler serves a request that Call brought to this node because it leads; the first may come before Lead was called. ctx
// ends with the caller's or with the leadership. Requests that are in flight together have no order, and a request
// may arrive twice if its sender did not learn the first outcome. A Handler returns ErrNotLeader only if it did nothing:
// Call then tries again.
type Handler func(ctx context.Context, kind byte, payload []byte) ([]byte, error)

// Lead is the leader's work. It starts once this node's barrier in the term is committed and applied, and must return
// when ctx ends, which is when leadership is lost or doubtful. If it returns while ctx is alive, with an error or
// without, leadership is handed on, and if nobody can take it the node ends.
type Lead func(ctx context.Context, term uint64) error

// Config is what a node is made of. ID, FSM, Listener, Dial and Advertise are required, and Dir or Memory.
type Config struct {
	ID        string // unique for ever: a lost data directory means a new id
	Name      string // for people; defaults to ID
	ClusterID string // both sides of a connection between nodes must name the same
	Dir       string // data directory: log, vote, snapshots
	Memory    *Memory
	FSM       raft.FSM

	Listener  net.Listener // the node port; Close closes it
	Dial      func(ctx context.Context, addr string) (net.Conn, error)
	Advertise string        // host:port under which others reach Listener
	Peers     []Peer        // voters of a fresh data directory; empty = this node alone
	Wait      bool          // a fresh data directory gets no configuration: the node waits until it is admitted (see Apply)
	TLS       *keys.NodeTLS // nil = no TLS, ids are believed: tests only

	Timings Timings
	Lead    Lead    // may be nil
	Handler Handler // may be nil: then Call fails on every kind
	// PeerHandler answers what other nodes Ask this one, leader or not; may be nil. ctx ends when nobody waits any more.
	PeerHandler Handler

	// Vet is asked by the leader before a node is admitted, one at a time; a reason refuses it. May be nil.
	Vet func(ctx context.Context, a Applicant) (reason string, err error)
	// Program is what this program says of itself to Vet when it asks to be admitted, in Vet's own encoding.
	Program []byte
	// NameOf gives a member's name for texts, empty if it is not known. May be nil.
	NameOf func(id string) string

	Logger     *slog.Logger          // nil = discard
	Registerer prometheus.Registerer // nil = not registered

	// Seams for fault and crash tests: what lies between the checksum and fail latch and the store itself.
	WrapLogStore    func(raft.LogStore) raft.LogStore
	WrapStableStore func(raft.StableStore) raft.StableStore
}

// Timings are the durations and bounds that tests shorten and operators may change; zero means the default.
type Timings struct {
	Heartbeat      time.Duration // silence of the leader before an election: 400 ms
	Election       time.Duration // 400 ms
	Lease          time.Duration // without a majority before a leader steps down: 200 ms
	RPC            time.Duration // limit for one exchange between nodes: 5 s
	Handshake      time.Duration // limit for TLS and preface of an accepted connection: 5 s
	Linger         time.Duration // how long a second entry waits to fill while one is in flight: 1 ms
	Tick           time.Duration // between the watchdog's commits: 1 s
	StallTicks     int           // ticks without a commit that end the node: 10
	SnapshotBytes  int64         // of applied entries after which a snapshot is taken: 32 MiB
	SnapshotEvery  time.Duration // how often Raft asks whether SnapshotLogs is reached: 2 min
	SnapshotLogs   uint64        // entries after which a snapshot is taken: 16,384
	TrailingLogs   uint64        // entries kept behind a snapshot: 1,000
	MaxConnections int           // accepted on the node port at one time: 512
}

// withDefaults fills what is zero.
func (t Timings) withDefaults() Timings {
	orDuration(&t.Heartbeat, 400*time.Millisecond)
	orDuration(&t.Election, t.Heartbeat)
	orDuration(&t.Lease, t.Heartbeat/2)
	orDuration(&t.RPC, 5*time.Second)
	orDuration(&t.Handshake, 5*time.Second)
	orDuration(&t.Linger, time.Millisecond)
	orDuration(&t.Tick, time.Second)
	orDuration(&t.SnapshotEvery, 2*time.Minute)
	if t.StallTicks == 0 {
		t.StallTicks = 10
	}
	if t.SnapshotBytes == 0 {
		t.SnapshotBytes = 32 << 20
	}
	if t.SnapshotLogs == 0 {
		t.SnapshotLogs = 16384
	}
	if t.TrailingLogs == 0 {
		t.TrailingLogs = 1000
	}
	if t.MaxConnections == 0 {
		t.MaxConnections = 512
	}
	return t
}

func orDuration(d *time.Duration, otherwise time.Duration) {
	if *d == 0 {
		*d = otherwise
	}
}

// check says what is missing.
func (c *Config) check() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, fmt.Errorf("%s is missing", what))
		}
	}
	need(c.ID != "", "node id")
	need(c.FSM != nil, "state machine")
	need(c.Listener != nil, "listener")
	need(c.Dial != nil, "dial function")
	need(c.Advertise != "", "advertised address")
	need(c.Dir != "" || c.Memory != nil, "data directory")
	return errors.Join(errs...)
}
