package cluster

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/syscollective/saltpeter/internal/entry"
)

// AppliedIndexer is what a state machine may offer so that a barrier on a follower that was just fed by a snapshot need not
// wait for the next entry: the index of the last entry in its state.
type AppliedIndexer interface {
	AppliedIndex() uint64
}

// machine stands between Raft and the state machine: it says how far entries were applied, counts their bytes for the
// next snapshot and keeps a halted state machine from going on.
type machine struct {
	inner raft.FSM
	fail  func(error)
	busy  monitor
	bytes atomic.Int64 // applied since the last snapshot

	mu      sync.Mutex // guards what follows
	halted  error
	applied uint64
	moved   chan struct{} // closed when applied grows; nil while nobody waits
}

// applied is what machine.Apply hands to the proposer.
type applied struct {
	term    uint64
	results []any
	err     error
}

func newMachine(inner raft.FSM, fail func(error)) *machine {
	return &machine{inner: inner, fail: fail}
}

// Apply implements raft.FSM.
func (m *machine) Apply(log *raft.Log) any {
	defer m.busy.begin()()
	if err := m.haltedErr(); err != nil {
		return applied{term: log.Term, err: err}
	}
	out := m.apply(log)
	if out.err != nil {
		m.halt(out.err)
		return out
	}
	m.bytes.Add(int64(len(log.Data)))
	m.advance(log.Index)
	return out
}

// apply checks what the state machine returns against what the entry holds: a result in the wrong place would be
// somebody else's.
func (m *machine) apply(log *raft.Log) applied {
	switch results := m.inner.Apply(log).(type) {
	case error:
		return applied{term: log.Term, err: fmt.Errorf("%w: entry %d: %w", ErrHalted, log.Index, results)}
	case []any:
		cmds, err := entry.Split(log.Data)
		if err == nil && len(cmds) != len(results) {
			err = fmt.Errorf("%d results for %d commands", len(results), len(cmds))
		}
		if err != nil {
			return applied{term: log.Term, err: fmt.Errorf("%w: entry %d: %w", ErrHalted, log.Index, err)}
		}
		return applied{term: log.Term, results: results}
	default:
		return applied{term: log.Term, err: fmt.Errorf("%w: entry %d: result of type %T", ErrHalted, log.Index, results)}
	}
}

// Snapshot implements raft.FSM. A halted state lacks entries that Raft counts as applied, so it is never saved.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	if err := m.haltedErr(); err != nil {
		return nil, err
	}
	m.bytes.Store(0)
	return m.inner.Snapshot()
}

// Restore implements raft.FSM.
func (m *machine) Restore(r io.ReadCloser) error {
	if err := m.haltedErr(); err != nil {
		return err
	}
	if err := m.inner.Restore(r); err != nil {
		return err
	}
	m.bytes.Store(0)
	if a, ok := m.inner.(AppliedIndexer); ok {
		m.advance(a.AppliedIndex())
	}
	return nil
}

func (m *machine) haltedErr() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.halted
}

func (m *machine) halt(err error) {
	m.mu.Lock()
	m.halted = err
	m.mu.Unlock()
	m.fail(err)
}

func (m *machine) advance(index uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applied = max(m.applied, index)
	if m.moved != nil {
		close(m.moved)
		m.moved = nil
	}
}

// appliedIndex is the index of the last entry that the state machine holds.
func (m *machine) appliedIndex() uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.applied
}

// wait returns once the entry with the index is applied here.
func (m *machine) wait(ctx context.Context, index uint64) error {
	for {
		m.mu.Lock()
		if m.applied >= index {
			m.mu.Unlock()
			return nil
		}
		if err := m.halted; err != nil {
			m.mu.Unlock()
			return err
		}
		if m.moved == nil {
			m.moved = make(chan struct{})
		}
		moved := m.moved
		m.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for entry %d: %w", index, ctx.Err())
		}
	}
}
