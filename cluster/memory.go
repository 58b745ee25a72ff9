package cluster

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

// Memory is a node's disk for tests in bubbles: what was stored before a Close is there at the next Open.
type Memory struct {
	store     *raft.InmemStore
	snapshots memorySnapshots
}

// NewMemory returns an empty disk.
func NewMemory() *Memory { return &Memory{store: raft.NewInmemStore()} }

// memorySnapshots keeps the newest finished snapshot. Unlike Raft's own it never shows one that is still being written.
type memorySnapshots struct {
	mu     sync.Mutex // guards latest
	latest *memorySnapshot
}

type memorySnapshot struct {
	meta raft.SnapshotMeta
	data []byte
}

// Create begins a snapshot, which replaces the last one when its sink is closed.
func (m *memorySnapshots) Create(version raft.SnapshotVersion, index, term uint64, conf raft.Configuration,
	confIndex uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	return &memorySink{owner: m, meta: raft.SnapshotMeta{
		Version: version, ID: fmt.Sprintf("%d-%d", term, index), Index: index, Term: term,
		Configuration: conf, ConfigurationIndex: confIndex,
	}}, nil
}

// List returns the newest snapshot, if there is one.
func (m *memorySnapshots) List() ([]*raft.SnapshotMeta, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.latest == nil {
		return nil, nil
	}
	meta := m.latest.meta
	return []*raft.SnapshotMeta{&meta}, nil
}

// Open returns the snapshot with the id.
func (m *memorySnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.latest == nil || m.latest.meta.ID != id {
		return nil, nil, fmt.Errorf("open snapshot %s: not there", id)
	}
	meta := m.latest.meta
	return &meta, io.NopCloser(bytes.NewReader(m.latest.data)), nil
}

type memorySink struct {
	owner *memorySnapshots
	meta  raft.SnapshotMeta
	data  bytes.Buffer
	ended bool
}

func (s *memorySink) Write(p []byte) (int, error) { return s.data.Write(p) }
func (s *memorySink) ID() string                  { return s.meta.ID }
func (s *memorySink) Cancel() error               { s.ended = true; return nil }

func (s *memorySink) Close() error {
	if s.ended {
		return nil
	}
	s.ended = true
	s.meta.Size = int64(s.data.Len())
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	s.owner.latest = &memorySnapshot{meta: s.meta, data: s.data.Bytes()}
	return nil
}
