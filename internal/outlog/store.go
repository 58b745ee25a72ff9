package outlog

import (
	"fmt"
	"hash/crc32"
	"sync"
)

// Options are a Store's settings. SegmentBytes is part of what must be equal on all nodes.
type Options struct {
	SegmentBytes int64  // at which a segment is sealed; default 16 MiB, at most 1 GiB
	Origin       string // this node's name, for its own manifests (see Manifest.Origin); without it none is its own
	MaxOpenFiles int    // kept open while not in use; default 64
}

const (
	defaultSegment = 16 << 20
	maxSegment     = 1 << 30
	// flushAt is how many bytes gather in memory before they are written to the file.
	flushAt = 64 << 10
)

func (o Options) withDefaults() Options {
	if o.SegmentBytes <= 0 {
		o.SegmentBytes = defaultSegment
	}
	o.SegmentBytes = min(o.SegmentBytes, maxSegment)
	if o.MaxOpenFiles <= 0 {
		o.MaxOpenFiles = 64
	}
	return o
}

// Store holds frames by key. See the package comment for who may call what.
type Store struct {
	fs      FS
	dir     string
	opts    Options
	files   *files
	scratch []byte // the writer's

	// syncMu lets one Sync run at a time, supplyMu one Supply. They guard no memory; the writer never takes
	// them. filesMu is held by Sync for each segment, and by Restore: it removes files.
	syncMu, supplyMu, filesMu sync.Mutex

	// mu guards what follows. Only the writer changes it, but for Supply, Sync and Release.
	mu       sync.RWMutex
	segs     segments
	tail     []byte     // the head's bytes that are not in its file; never written in place
	retired  []*segment // no longer in segs, kept for the newest durable snapshot
	index    *index
	complete bool   // no segment is missing: index tells all
	epoch    uint64 // counts Restores
	newFiles bool   // files were made since the directory was synced
	dropped  uint64 // a Feed's records
	failed   error

	bufs   sync.Pool // *[]byte, for reads
	chains chains
}

// Append adds a frame to a key's stream. A frame whose number is not above the key's last is ignored: it is there
// already. (While segments are missing that can't be told; the caller's own check must hold.)
func (s *Store) Append(k Key, f Frame) error {
	switch {
	case f.Kind == Data && f.Skipped == 0, f.Kind == Skip && len(f.Data) == 0:
	default:
		return ErrKind
	}
	if len(f.Data) > MaxData {
		return ErrTooLarge
	}
	if s.has(k, f.Seq) {
		return s.Failed()
	}
	return s.write(k, f)
}

func (s *Store) has(k Key, seq uint64) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.complete {
		return false
	}
	e := s.index.find(k)
	return e != nil && seq <= e.lastSeq
}

// Drop ends the keys' output: it can't be read any more, and its bytes are dead. Keys without output cost a few bytes
// too, for a node that lacks segments can't tell them apart.
func (s *Store) Drop(keys ...Key) error {
	for _, k := range keys {
		if err := s.write(k, Frame{Kind: kindDropKey}); err != nil {
			return err
		}
	}
	return nil
}

// DropRun ends the output of all targets of a run, at the price of one.
func (s *Store) DropRun(run uint64) error {
	return s.write(Key{Run: run}, Frame{Kind: kindDropRun})
}

// write puts a frame at the head's end.
func (s *Store) write(k Key, f Frame) error {
	if err := s.Failed(); err != nil {
		return err
	}
	s.scratch = appendRecord(s.scratch[:0], k, f)
	if err := s.roll(int64(len(s.scratch))); err != nil {
		return err
	}
	r := record{Frame: f, key: k, size: len(s.scratch)}
	if s.put(&r) < flushAt {
		return nil
	}
	return s.flush()
}

// put takes scratch, which is r, into the tail and the index, and returns the tail's length.
func (s *Store) put(r *record) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.segs.head()
	off := g.Bytes
	s.tail = append(s.tail, s.scratch...)
	g.Bytes += int64(r.size)
	g.CRC = crc32.Update(g.CRC, castagnoli, s.scratch)
	g.add(r)
	if !s.complete {
		return len(s.tail)
	}
	switch r.Kind {
	case kindDropKey:
		s.index.drop(r.key)
	case kindDropRun:
		s.index.dropRun(r.key.Run)
	default:
		s.index.add(r, uint32(g.No), off)
	}
	return len(s.tail)
}

// roll begins a new segment if the head has no room for n more bytes.
func (s *Store) roll(n int64) error {
	s.mu.RLock()
	head := s.segs.head().SegmentInfo
	s.mu.RUnlock()
	if head.Bytes == magicLen || head.Bytes+n <= s.opts.SegmentBytes {
		return nil
	}
	if err := s.flush(); err != nil {
		return err
	}
	return s.begin(head.No + 1)
}

// begin makes segment no the head.
func (s *Store) begin(no uint64) error {
	g := &segment{
		SegmentInfo: SegmentInfo{No: no, Last: no, Bytes: magicLen, CRC: crc32.Checksum([]byte(segMagic), castagnoli)},
		stats:       noStats(),
		flushed:     magicLen,
	}
	h, err := s.files.get(g.name(), true)
	if err != nil {
		return s.fail(fmt.Errorf("create segment %d: %w", no, err))
	}
	defer s.files.put(h)
	if _, err := h.WriteAt([]byte(segMagic), 0); err != nil {
		return s.fail(fmt.Errorf("write segment %d: %w", no, err))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segs = append(s.segs[:len(s.segs):len(s.segs)], g)
	s.newFiles = true
	return nil
}

// flush writes the tail to the head's file. Readers go on reading the tail from memory until that is done.
func (s *Store) flush() error {
	s.mu.RLock()
	g, tail, at := s.segs.head(), s.tail, s.segs.head().flushed
	s.mu.RUnlock()
	if len(tail) == 0 {
		return nil
	}
	if err := s.writeAt(g.name(), tail, at); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.flushed += int64(len(tail))
	s.tail = make([]byte, 0, flushAt+flushAt/8)
	return nil
}

func (s *Store) writeAt(name string, p []byte, off int64) error {
	h, err := s.files.get(name, false)
	if err != nil {
		return s.fail(fmt.Errorf("open %s: %w", name, err))
	}
	defer s.files.put(h)
	if _, err := h.WriteAt(p, off); err != nil {
		return s.fail(fmt.Errorf("write %s: %w", name, err))
	}
	return nil
}

// Failed tells whether the store has failed: nil, or an error that is ErrFailed and wraps the first cause.
func (s *Store) Failed() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.failed
}

// fail makes err final, if it is the first, and returns what is.
func (s *Store) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = fmt.Errorf("%w: %w", ErrFailed, err)
	}
	return s.failed
}

// Close closes the files. It writes nothing: what no snapshot covers is in the log.
func (s *Store) Close() error {
	s.files.close()
	return nil
}

// Stat is what is known of a key's output without reading it.
type Stat struct {
	LastSeq uint64
	Stored  uint64 // bytes of Data frames
	Skipped uint64 // bytes that Skip frames stand for
	Total   uint64 // both
}

// Stat tells about a key; false if it has no output, or segments are missing here.
func (s *Store) Stat(k Key) (Stat, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.complete {
		return Stat{}, false
	}
	e := s.index.find(k)
	if e == nil {
		return Stat{}, false
	}
	skipped := s.index.skipped(e)
	return Stat{LastSeq: e.lastSeq, Stored: e.stored, Skipped: skipped, Total: e.stored + skipped}, true
}

// Usage is what a Store or Feed takes, in bytes of segment files.
type Usage struct {
	Live     int64 // frames that can be read
	Dead     int64 // frames that were dropped
	Total    int64 // all segments, with drop frames and what is missing here
	Retired  int64 // files that only wait for Release
	Segments int
	Missing  int // segments, of those
	Keys     int
}

// Usage tells what the store takes. Live and Dead are zero while segments are missing.
func (s *Store) Usage() Usage {
	s.mu.RLock()
	defer s.mu.RUnlock()
	u := Usage{Segments: len(s.segs)}
	for _, g := range s.segs {
		u.Total += g.Bytes
		if g.missing() {
			u.Missing++
		}
		if s.complete {
			live := s.index.live[uint32(g.No)]
			u.Live += live
			u.Dead += g.data - live
		}
	}
	for _, g := range s.retired {
		u.Retired += g.Bytes
	}
	if s.complete {
		u.Keys = s.index.len()
	}
	return u
}
