package outlog

import (
	"errors"
	"fmt"
	"slices"
	"sort"
)

// Manifest names what the store holds now. It does no I/O and costs one small copy per segment.
func (s *Store) Manifest() Manifest {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := Manifest{Version: manifestVersion, Origin: s.opts.Origin, Dropped: s.dropped, epoch: s.epoch}
	m.Segments = make([]SegmentInfo, len(s.segs))
	for i, g := range s.segs {
		m.Segments[i] = g.SegmentInfo
	}
	return m
}

// Sync makes durable all that the manifest names, one that this store's Manifest gave. A snapshot with the manifest may be
// written only after that. It runs beside the writer. A sealed segment is read once here, checked and given its index
// file, so that a snapshot never covers what can't be read back (the error is then ErrCorrupt or ErrMismatch; the log
// still has the data). ErrStale means that a Restore came between.
func (s *Store) Sync(m Manifest) error {
	if err := s.Failed(); err != nil {
		return err
	}
	s.syncMu.Lock()
	defer s.syncMu.Unlock()
	for n := range m.Segments {
		if err := s.syncNext(&m, n); err != nil {
			return err
		}
	}
	return s.syncDir()
}

// syncNext does one segment of a manifest, which no Restore may take away meanwhile: a file that went with one is no fault of
// the disk.
func (s *Store) syncNext(m *Manifest, n int) error {
	s.filesMu.Lock()
	defer s.filesMu.Unlock()
	s.mu.RLock()
	stale := s.epoch != m.epoch
	s.mu.RUnlock()
	if stale {
		return fmt.Errorf("sync segment %d: %w", m.Segments[n].No, ErrStale)
	}
	return s.syncSegment(m.Segments[n], n < len(m.Segments)-1)
}

func (s *Store) syncDir() error {
	s.mu.Lock()
	fresh := s.newFiles
	s.newFiles = false
	s.mu.Unlock()
	if !fresh {
		return nil
	}
	if err := s.fs.SyncDir(s.dir); err != nil {
		return s.fail(fmt.Errorf("sync output directory: %w", err))
	}
	return nil
}

func (s *Store) syncSegment(info SegmentInfo, sealed bool) error {
	s.mu.RLock()
	g := s.lookup(info)
	var v *view
	if g != nil {
		v = s.viewOf(g)
	}
	done := g != nil && (g.synced || info.Unknown || info.empty() || (sealed && info.Hole == info.Bytes))
	s.mu.RUnlock()
	if g == nil || v.info.Bytes < info.Bytes {
		return fmt.Errorf("sync segment %d: %w", info.No, ErrStale)
	}
	if done {
		return nil
	}
	if err := s.syncFile(v, info); err != nil {
		return err
	}
	if !sealed || info.missing() {
		return nil
	}
	if err := s.makeIndex(info); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.synced = true
	s.newFiles = true // the index file is one
	return nil
}

// lookup finds the segment of a manifest's entry among the present and the retired ones.
func (s *Store) lookup(info SegmentInfo) *segment {
	if g := s.segs.same(info); g != nil {
		return g
	}
	if i := slices.IndexFunc(s.retired, func(g *segment) bool { return g.is(info) }); i >= 0 {
		return s.retired[i]
	}
	return nil
}

// viewOf gives a view of g without its file.
func (s *Store) viewOf(g *segment) *view {
	v := &view{info: g.SegmentInfo, flushed: g.flushed}
	if g == s.segs.head() {
		v.head, v.tail = true, s.tail
	}
	return v
}

// syncFile brings the first info.Bytes bytes to the disk. Those of the tail are written here, and once more by the
// writer, with the same content.
func (s *Store) syncFile(v *view, info SegmentInfo) error {
	h, err := s.files.get(info.name(), false)
	if err != nil {
		return s.fail(fmt.Errorf("open segment %d: %w", info.No, err))
	}
	defer s.files.put(h)
	if rest := info.Bytes - v.flushed; rest > 0 {
		if _, err := h.WriteAt(v.tail[:rest], v.flushed); err != nil {
			return s.fail(fmt.Errorf("write segment %d: %w", info.No, err))
		}
	}
	if err := h.Sync(); err != nil {
		return s.fail(fmt.Errorf("sync segment %d: %w", info.No, err))
	}
	return nil
}

// makeIndex reads a sealed segment back and writes its index file.
func (s *Store) makeIndex(info SegmentInfo) error {
	if _, ok := s.readIndex(info); ok {
		return nil // kept from before a restart or Restore: checked then
	}
	h, err := s.files.get(info.name(), false)
	if err != nil {
		return fmt.Errorf("open segment %d: %w", info.No, err)
	}
	defer s.files.put(h)
	sum, err := summarize(&view{info: info, flushed: info.Bytes, f: h})
	if err != nil {
		return fmt.Errorf("check segment %d: %w", info.No, err)
	}
	return s.writeIndex(info, sum, true)
}

// Release says that the newest durable snapshot holds this manifest: the files of segments that were retired before it
// was made are deleted. An error leaves files behind, which Open removes.
func (s *Store) Release(m Manifest) error {
	s.mu.Lock()
	var free []*segment
	s.retired = slices.DeleteFunc(s.retired, func(g *segment) bool {
		old := m.outdates(g.SegmentInfo)
		if old {
			free = append(free, g)
		}
		return old
	})
	s.mu.Unlock()
	var errs []error
	for _, g := range free {
		errs = append(errs, s.files.remove(g.name()), s.files.remove(g.index()))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("delete segments: %w", err)
	}
	return nil
}

// outdates tells whether a segment was gone when the manifest was made: a later generation stands in its place, or
// nothing. (One that is not named for it came later may be named by a manifest whose snapshot is under way.)
func (m Manifest) outdates(g SegmentInfo) bool {
	i := sort.Search(len(m.Segments), func(i int) bool { return m.Segments[i].Last >= g.No })
	if i == len(m.Segments) {
		return false
	}
	return m.Segments[i].No > g.No || m.Segments[i].Gen > g.Gen
}
