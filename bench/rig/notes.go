package rig

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/app"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/fsm"
)

// claimNotes are the claims that this node proposed, with their times. Commands are kept as they are and decoded when they
// are asked for, so that noting costs nothing while it matters.
type claimNotes struct {
	mu   sync.Mutex
	list []claimNote
}

type claimNote struct {
	cmd         []byte
	began, done time.Time
	results     []saltpeter.ClaimResult
}

// notedProposer notes claims; what it returns is committed and applied.
type notedProposer struct {
	app.Proposer
	notes *claimNotes
}

func (p *notedProposer) Propose(ctx context.Context, prio cluster.Priority, cmd []byte) (cluster.Result, error) {
	if len(cmd) == 0 || fsm.Code(cmd[0]) != fsm.CodeClaimRuns {
		return p.Proposer.Propose(ctx, prio, cmd)
	}
	began := time.Now()
	res, err := p.Proposer.Propose(ctx, prio, cmd)
	if got, ok := res.Value.(fsm.Claimed); err == nil && ok {
		p.notes.mu.Lock()
		p.notes.list = append(p.notes.list, claimNote{cmd, began, time.Now(), got.Results})
		p.notes.mu.Unlock()
	}
	return res, err
}

// Claims are the claims that were committed since they were asked for last.
type Claims struct {
	Runs, Skips, Others int
	// Late is how long after its tick each run was claimed and committed; Early is the same for the moment of the
	// proposal, of the earliest claim of each command.
	Late, Early []time.Duration
	Commands    []Command
}

// Command is one command of claims: its size in bytes, and when it was proposed and committed, after the tick of its first
// claim.
type Command struct {
	Size        int
	Began, Done time.Duration
}

func (n *claimNotes) take() (any, error) {
	n.mu.Lock()
	list := n.list
	n.list = nil
	n.mu.Unlock()
	var c Claims
	for _, note := range list {
		_, cmd, err := fsm.Decode(note.cmd)
		if err != nil {
			return nil, err
		}
		claims := cmd.(*fsm.ClaimRuns).Claims
		if len(claims) != len(note.results) {
			return nil, fmt.Errorf("%d claims have %d results", len(claims), len(note.results))
		}
		if len(claims) == 0 {
			continue
		}
		tick := time.Unix(claims[0].Tick, 0)
		c.Commands = append(c.Commands, Command{len(note.cmd), note.began.Sub(tick), note.done.Sub(tick)})
		for i, r := range note.results {
			c.count(r.Outcome)
			if r.Outcome == saltpeter.ClaimRun {
				c.Late = append(c.Late, note.done.Sub(time.Unix(claims[i].Tick, 0)))
				c.Early = append(c.Early, note.began.Sub(time.Unix(claims[i].Tick, 0)))
			}
		}
	}
	return c, nil
}

func (c *Claims) count(o saltpeter.ClaimOutcome) {
	switch o {
	case saltpeter.ClaimRun:
		c.Runs++
	case saltpeter.ClaimSkipped:
		c.Skips++
	default:
		c.Others++
	}
}

// logCounter counts what is stored in the log.
type logCounter struct{ bytes, entries atomic.Int64 }

type countedLog struct {
	raft.LogStore
	count *logCounter
}

func (l *countedLog) StoreLog(e *raft.Log) error { return l.StoreLogs([]*raft.Log{e}) }

func (l *countedLog) StoreLogs(list []*raft.Log) error {
	for _, e := range list {
		l.count.bytes.Add(int64(len(e.Data)))
	}
	l.count.entries.Add(int64(len(list)))
	return l.LogStore.StoreLogs(list)
}

// Snapshot is one snapshot: how long apply stood still for it, and how long writing it took.
type Snapshot struct {
	Pause, Write time.Duration
	Bytes        int64
	Targets      int // in the records then
}

type snapshotNotes struct {
	mu    sync.Mutex
	taken []Snapshot
}

func (n *snapshotNotes) list() []Snapshot {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]Snapshot(nil), n.taken...)
}

// notedMachine notes the snapshots of a state machine.
type notedMachine struct {
	*fsm.Machine
	notes *snapshotNotes
}

func (m *notedMachine) Snapshot() (raft.FSMSnapshot, error) {
	began := time.Now()
	s, err := m.Machine.Snapshot()
	pause := time.Since(began)
	if err != nil {
		return nil, err
	}
	return &notedSnapshot{s, Snapshot{Pause: pause, Targets: m.View().TargetCount()}, m.notes}, nil
}

type notedSnapshot struct {
	raft.FSMSnapshot
	note  Snapshot
	notes *snapshotNotes
}

func (s *notedSnapshot) Persist(sink raft.SnapshotSink) error {
	began := time.Now()
	counted := &countedSink{SnapshotSink: sink}
	err := s.FSMSnapshot.Persist(counted)
	s.note.Write, s.note.Bytes = time.Since(began), counted.n
	s.notes.mu.Lock()
	s.notes.taken = append(s.notes.taken, s.note)
	s.notes.mu.Unlock()
	return err
}

type countedSink struct {
	raft.SnapshotSink
	n int64
}

func (s *countedSink) Write(p []byte) (int, error) {
	n, err := s.SnapshotSink.Write(p)
	s.n += int64(n)
	return n, err
}
