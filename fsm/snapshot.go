package fsm

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/hashicorp/raft"
	"github.com/syscollective/saltpeter/internal/outlog"
)

// A snapshot is a magic, a format version, then records: length as unsigned varint, kind (1 byte), CBOR. The last record
// is recordEnd; after it stand 32 bytes, SHA-256 of all before. It holds the records and the manifests of the segments,
// not the output. testdata keeps one file of each version, which must load for ever.
const (
	snapshotMagic   = "saltpeter snapshot\n"
	snapshotVersion = 1
	maxRecord       = 64 << 20
)

type recordKind byte

const (
	recordEnd recordKind = iota
	recordHead
	recordDefinition
	recordJob
	recordRun
	recordPage
	recordKey
	recordNode
	recordRestoring
)

// ErrSnapshot is under every error about a snapshot that can't be read.
var ErrSnapshot = errors.New("unreadable snapshot")

// Snapshot gives raft an immutable snapshot, in O(1) and O(number of segments).
func (m *Machine) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.halted != nil {
		return nil, m.halted
	}
	if m.output == nil {
		if err := m.open(nil, nil); err != nil {
			m.halt(err)
			return nil, m.halted
		}
	}
	return &snapshot{
		state: m.state.freeze(), output: m.output, feed: m.feed,
		outputs: m.output.Manifest(), events: m.feed.Manifest(),
	}, nil
}

type snapshot struct {
	state   *state
	output  *outlog.Store
	feed    *outlog.Feed
	outputs outlog.Manifest
	events  outlog.Manifest
}

// Persist syncs the segments, then writes the records.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.persist(sink); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return fmt.Errorf("close snapshot: %w", err)
	}
	// The snapshot is durable: what only older ones need may go.
	return errors.Join(s.output.Release(s.outputs), s.feed.Release(s.events))
}

func (s *snapshot) persist(w io.Writer) error {
	if err := errors.Join(s.output.Sync(s.outputs), s.feed.Sync(s.events)); err != nil {
		return fmt.Errorf("sync segments: %w", err)
	}
	return s.write(w)
}

// write writes the records with what stands around them.
func (s *snapshot) write(w io.Writer) error {
	sw := &snapshotWriter{sum: sha256.New()}
	sw.w = bufio.NewWriterSize(io.MultiWriter(w, sw.sum), 256<<10)
	sw.raw([]byte(snapshotMagic))
	sw.raw([]byte{snapshotVersion})
	s.records(sw)
	sw.record(recordEnd, struct{}{})
	if sw.err == nil {
		sw.err = sw.w.Flush()
	}
	if sw.err != nil {
		return fmt.Errorf("write snapshot: %w", sw.err)
	}
	if _, err := w.Write(sw.sum.Sum(nil)); err != nil {
		return fmt.Errorf("write snapshot: %w", err)
	}
	return nil
}

// Release does nothing: a snapshot holds only memory.
func (s *snapshot) Release() {}

func (s *snapshot) records(w *snapshotWriter) {
	w.record(recordHead, headOf(s.state, s.outputs, s.events))
	s.state.defs.Scan(func(_ string, d *definition) bool { return w.record(recordDefinition, d.encoded) })
	s.state.jobs.Scan(func(_ string, j *job) bool { return w.record(recordJob, packJob(j)) })
	s.state.runs.Scan(func(_ uint64, r *run) bool {
		w.record(recordRun, packRun(r))
		for _, p := range r.pages {
			w.record(recordPage, packPage(r.Num, p))
		}
		return w.err == nil
	})
	s.state.keys.Scan(func(key string, k startKey) bool { return w.record(recordKey, packKey(key, k)) })
	s.state.nodes.Scan(func(_ string, n NodeRecord) bool { return w.record(recordNode, n) })
	if s.state.restoring != nil {
		for _, chunk := range s.state.restoring.record {
			w.record(recordRestoring, chunk)
		}
	}
}

type snapshotWriter struct {
	w   *bufio.Writer
	sum hash.Hash
	err error
	buf []byte
}

func (w *snapshotWriter) raw(b []byte) {
	if w.err == nil {
		_, w.err = w.w.Write(b)
	}
}

// record writes one record and says whether to go on.
func (w *snapshotWriter) record(kind recordKind, v any) bool {
	if w.err != nil {
		return false
	}
	b, err := encMode.Marshal(v)
	if err == nil && len(b) >= maxRecord { // better no snapshot than one that can't be read
		err = fmt.Errorf("a record of kind %d has %d bytes", kind, len(b))
	}
	if err != nil {
		w.err = err
		return false
	}
	w.buf = binary.AppendUvarint(w.buf[:0], uint64(len(b))+1)
	w.raw(append(w.buf, byte(kind)))
	w.raw(b)
	return w.err == nil
}

// Restore replaces the state by a snapshot's. The new one is built aside; on an error the old one stays.
func (m *Machine) Restore(rc io.ReadCloser) error {
	defer rc.Close()
	s, h, err := readSnapshot(rc)
	if err != nil {
		return err
	}
	before := m.View().Epoch()
	moved, err := m.replace(s, h)
	if err != nil {
		return err
	}
	if moved != nil {
		close(moved)
	}
	m.opts.Changed(Change{Index: s.index, Plan: true, Epoch: before != 0 && before != s.epoch})
	return nil
}

// replace puts a state in the place of the present one and gives the channel on which somebody waits for that, if any.
func (m *Machine) replace(s *state, h *head) (moved chan struct{}, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.output == nil {
		err = m.open(&h.Outputs, &h.Events)
	} else if err = errors.Join(m.output.Restore(h.Outputs), m.feed.Restore(h.Events)); err != nil {
		m.halt(err) // the segments may be the new ones already: the old state can't go on with them
	}
	if err != nil {
		return nil, fmt.Errorf("restore segments: %w", err)
	}
	m.state, m.view = s, nil
	moved, m.moved = m.moved, nil
	return moved, nil
}

// readSnapshot reads and checks a whole snapshot.
func readSnapshot(r io.Reader) (*state, *head, error) {
	br := bufio.NewReaderSize(r, 256<<10)
	sr := &snapshotReader{r: br, sum: sha256.New()}
	magic := sr.take(len(snapshotMagic) + 1)
	if sr.err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrSnapshot, sr.err)
	}
	if string(magic[:len(snapshotMagic)]) != snapshotMagic {
		return nil, nil, fmt.Errorf("%w: not a snapshot of this program", ErrSnapshot)
	}
	if v := magic[len(snapshotMagic)]; v != snapshotVersion {
		return nil, nil, fmt.Errorf("%w: format version %d (this program reads %d)", ErrSnapshot, v, snapshotVersion)
	}
	b := builder{s: newState(), head: new(head)}
	for {
		kind, body := sr.record()
		if sr.err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrSnapshot, sr.err)
		}
		if kind == recordEnd {
			break
		}
		if err := b.add(kind, body); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
		}
	}
	want := sr.sum.Sum(nil)
	got := make([]byte, len(want))
	if _, err := io.ReadFull(br, got); err != nil || string(got) != string(want) {
		return nil, nil, fmt.Errorf("%w: the checksum is wrong", ErrSnapshot)
	}
	if _, err := br.ReadByte(); err != io.EOF {
		return nil, nil, fmt.Errorf("%w: bytes after its end", ErrSnapshot)
	}
	if err := b.finish(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return b.s, b.head, nil
}

type snapshotReader struct {
	r   *bufio.Reader
	sum hash.Hash
	err error
}

// take reads n bytes into memory of their own.
func (r *snapshotReader) take(n int) []byte {
	b := make([]byte, n)
	if r.err == nil {
		if _, r.err = io.ReadFull(r.r, b); errors.Is(r.err, io.EOF) {
			r.err = io.ErrUnexpectedEOF
		}
		r.sum.Write(b)
	}
	return b
}

func (r *snapshotReader) record() (recordKind, []byte) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		r.err = errors.Join(r.err, err)
		return 0, nil
	}
	if n == 0 || n > maxRecord {
		r.err = fmt.Errorf("a record of %d bytes", n)
		return 0, nil
	}
	b := r.take(int(n))
	return recordKind(b[0]), b[1:]
}

// ReadByte lets binary.ReadUvarint read through the checksum.
func (r *snapshotReader) ReadByte() (byte, error) {
	b := r.take(1)
	return b[0], r.err
}
