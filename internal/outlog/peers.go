package outlog

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"sort"
)

// SegmentReader reads a segment as it was when it was asked for. Close it.
type SegmentReader struct {
	Info SegmentInfo
	v    *view
	c    *files
	h    *handle
}

// ReadAt reads the segment's bytes, as from a file of Info.Bytes bytes.
func (r *SegmentReader) ReadAt(p []byte, off int64) (int, error) { return r.v.ReadAt(p, off) }

// Close gives the file back.
func (r *SegmentReader) Close() error {
	if r.h != nil {
		r.c.put(r.h)
	}
	return nil
}

// Segment opens the segment that begins with number no, for a peer that lacks it. Errors: ErrGone if a feed has
// dropped it, ErrStale if compaction joined it with an earlier one, ErrNotHere if this node lacks it as well or has not
// come to it.
func (s *Store) Segment(no uint64) (*SegmentReader, error) {
	s.mu.RLock()
	v, err := s.segment(no)
	s.mu.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("segment %d: %w", no, err)
	}
	if v.info.empty() {
		return &SegmentReader{Info: v.info, v: v}, nil
	}
	h, err := s.files.get(v.info.name(), false)
	if err != nil {
		return nil, fmt.Errorf("open segment %d: %w", no, err)
	}
	v.f = h
	return &SegmentReader{Info: v.info, v: v, c: s.files, h: h}, nil
}

func (s *Store) segment(no uint64) (*view, error) {
	i := sort.Search(len(s.segs), func(i int) bool { return s.segs[i].Last >= no })
	switch {
	case i == len(s.segs):
		return nil, ErrNotHere
	case s.segs[i].No > no:
		return nil, ErrGone
	case s.segs[i].No < no:
		return nil, ErrStale
	case s.segs[i].missing():
		return nil, ErrNotHere
	}
	return s.viewOf(s.segs[i]), nil
}

// Segments is what nodes exchange segments with; a Store is one.
type Segments interface {
	Segment(no uint64) (*SegmentReader, error)
	Missing() []SegmentInfo
	Supply(info SegmentInfo, r io.Reader) error
}

// Missing lists the segments that this node lacks. While there are any, reads give ErrNotHere.
func (s *Store) Missing() []SegmentInfo {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var l []SegmentInfo
	for _, g := range s.segs {
		if g.missing() {
			l = append(l, g.SegmentInfo)
		}
	}
	return l
}

// Complete reports whether reads work: no segment is missing, and the index of those that were is built.
func (s *Store) Complete() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.complete
}

// Supply gives the store a segment that it lacks, from a peer's SegmentReader: its Info and its bytes from the first
// on. What is wanted is checked against the manifest. ErrMismatch: the peer has something else (of another generation,
// or damaged). ErrStale: it is wanted no more. After the last one, reads work; an ErrCorrupt then says that another
// segment here turned out to be damaged and is missing now.
func (s *Store) Supply(info SegmentInfo, r io.Reader) error {
	s.supplyMu.Lock()
	defer s.supplyMu.Unlock()
	s.mu.RLock()
	g := s.segs.same(info)
	var want SegmentInfo
	if g != nil {
		want = g.SegmentInfo
	}
	s.mu.RUnlock()
	if g == nil || !want.missing() {
		return fmt.Errorf("supply segment %d: %w", info.No, ErrStale)
	}
	if err := s.receive(want, info, r); err != nil {
		return err
	}
	s.mu.Lock()
	if s.segs.same(info) != g || g.Hole != want.Hole {
		s.mu.Unlock()
		return fmt.Errorf("supply segment %d: %w", info.No, ErrStale)
	}
	if g.Unknown {
		g.Unknown, g.Bytes, g.CRC, g.flushed = false, info.Bytes, info.CRC, info.Bytes
	}
	g.Hole, g.HoleCRC = 0, 0
	s.newFiles = true
	s.mu.Unlock()
	return s.reindex()
}

// receive writes what the segment lacks to its file, checked and synced.
func (s *Store) receive(want, have SegmentInfo, r io.Reader) error {
	if want.Unknown && have.empty() {
		return nil
	}
	n, crc := want.Hole, want.HoleCRC
	if want.Unknown {
		n, crc = have.Bytes, have.CRC
	}
	whole := want.Unknown || want.Hole == want.Bytes
	if have.missing() || have.Bytes < n || n < magicLen || n > maxOffset {
		return mismatch(want.No, errShort)
	}
	head := s.isHead(want)
	h, err := s.files.get(want.name(), whole && !head)
	if err != nil {
		return s.fail(fmt.Errorf("open segment %d: %w", want.No, err))
	}
	defer s.files.put(h)
	got, err := s.copyIn(h, io.LimitReader(r, n))
	if err != nil {
		return fmt.Errorf("supply segment %d: %w", want.No, err)
	}
	if got.off != n || got.crc != crc {
		return mismatch(want.No, errSum)
	}
	if want.Unknown { // nothing but its own frames vouches for it
		if _, err := summarize(&view{info: have, flushed: n, f: h}); err != nil {
			return mismatch(want.No, err)
		}
	}
	err = h.Sync()
	if err == nil && whole { // or a power loss takes the new file, and it is fetched again
		err = s.fs.SyncDir(s.dir)
	}
	if err != nil {
		return s.fail(fmt.Errorf("sync segment %d: %w", want.No, err))
	}
	return nil
}

func (s *Store) isHead(i SegmentInfo) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.segs.head().is(i)
}

// copyIn writes r to the start of a file and sums it up.
func (s *Store) copyIn(f File, r io.Reader) (summer, error) {
	var sum summer
	buf := make([]byte, 4*chunk)
	for {
		n, err := io.ReadFull(r, buf)
		if _, werr := f.WriteAt(buf[:n], sum.off); werr != nil {
			return sum, s.fail(werr)
		}
		sum.crc = crc32.Update(sum.crc, castagnoli, buf[:n])
		sum.off += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return sum, nil
		}
		if err != nil {
			return sum, err
		}
	}
}

// reindex builds the index once nothing is missing any more.
func (s *Store) reindex() error {
	for {
		s.mu.RLock()
		sealed := s.segs[:len(s.segs)-1]
		done := s.complete || s.segs.missing()
		s.mu.RUnlock()
		if done {
			return nil
		}
		x := newIndex()
		all := make([]stats, 0, len(sealed))
		for _, g := range sealed {
			sum, err := s.summaryOf(s.lockedView(g))
			if err != nil {
				return s.lost(g, err)
			}
			x.load(uint32(g.No), sum)
			all = append(all, sum.stats)
		}
		if done, err := s.finish(x, sealed, all); done || err != nil {
			return err
		}
	}
}

func (s *Store) lockedView(g *segment) *view {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.viewOf(g)
}

func (s *Store) summaryOf(v *view) (*summary, error) {
	if v.info.empty() {
		return &summary{stats: noStats()}, nil
	}
	if sum, ok := s.readIndex(v.info); ok {
		return sum, nil
	}
	h, err := s.files.get(v.info.name(), false)
	if err != nil {
		return nil, err
	}
	defer s.files.put(h)
	v.f = h
	return summarize(v)
}

// lost makes a segment missing that can't be read, so that it is fetched from a peer.
func (s *Store) lost(g *segment, err error) error {
	if !isAbsence(err) {
		return fmt.Errorf("read segment %d: %w", g.No, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	g.Hole, g.HoleCRC, g.synced = g.Bytes, g.CRC, false
	return mismatch(g.No, err)
}

// finish completes an index of the sealed segments with what has come since and puts it in force. It returns false if
// those segments are not the same any more. The lock is held over reading the head, once in the life of a node that
// was fed: it takes as long as reading a segment, and the writer must stand still for it.
func (s *Store) finish(x *index, sealed []*segment, all []stats) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.segs) <= len(sealed) || !slices.Equal(s.segs[:len(sealed)], sealed) || s.segs.missing() {
		return false, nil
	}
	for _, g := range s.segs[len(sealed):] {
		sum, err := s.summaryOf(s.viewOf(g))
		if err != nil {
			return false, fmt.Errorf("read segment %d: %w", g.No, err)
		}
		x.load(uint32(g.No), sum)
		all = append(all, sum.stats)
	}
	for i, g := range s.segs {
		g.stats = all[i]
	}
	s.index, s.complete = x, true
	return true, nil
}
