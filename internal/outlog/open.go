package outlog

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
)

// Open opens the store in dir as the manifest says, nil meaning empty: files are cut to it, and segments that it does
// not name are removed. If the manifest is this node's own (Manifest.Origin) and the disk lacks what it names, the
// error is ErrMismatch; segments of another node's manifest that are not here become Missing.
func Open(fs FS, dir string, opts Options, m *Manifest) (*Store, error) {
	opts = opts.withDefaults()
	s := &Store{fs: fs, dir: dir, opts: opts, files: newFiles(fs, dir, opts.MaxOpenFiles)}
	if err := fs.MkdirAll(dir); err != nil {
		return nil, fmt.Errorf("make output directory: %w", err)
	}
	if err := s.open(m); err != nil {
		s.files.close()
		return nil, err
	}
	return s, nil
}

func (s *Store) open(m *Manifest) error {
	if m != nil {
		return s.adopt(*m)
	}
	if err := s.clean(nil); err != nil {
		return err
	}
	s.index, s.complete = newIndex(), true
	return s.begin(1)
}

// Restore replaces everything by what the manifest names, which comes from another node's snapshot (or from this
// node's own, taken earlier). Segments that are here and equal are kept; the others become Missing.
func (s *Store) Restore(m Manifest) error {
	if err := s.Failed(); err != nil {
		return err
	}
	if err := m.Validate(); err != nil {
		return err
	}
	if err := s.flush(); err != nil {
		return err
	}
	s.filesMu.Lock()
	defer s.filesMu.Unlock()
	if err := s.adopt(m); err != nil {
		return s.fail(err) // files may have been cut
	}
	return nil
}

// adopt builds the list and the index that the manifest asks for from what is on the disk, and swaps them in.
func (s *Store) adopt(m Manifest) error {
	if err := m.Validate(); err != nil {
		return err
	}
	own := m.Origin != "" && m.Origin == s.opts.Origin
	segs := make(segments, 0, len(m.Segments))
	x := newIndex()
	for n, info := range m.Segments {
		sealed := n < len(m.Segments)-1
		g, sum, err := s.check(info, sealed, own)
		if err != nil {
			return err
		}
		segs = append(segs, g)
		switch {
		case g.missing():
			x = nil // it would not be whole
		case x != nil:
			x.load(uint32(g.No), sum)
		}
	}
	if err := s.clean(segs); err != nil {
		return fmt.Errorf("remove old segments: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segs, s.index, s.complete = segs, x, x != nil
	s.tail, s.retired, s.dropped = nil, nil, m.Dropped
	s.epoch++
	s.newFiles = true
	return nil
}

// check compares a segment's file with its entry in a manifest. What is not here is given as missing, unless own says
// that it must be here.
func (s *Store) check(info SegmentInfo, sealed, own bool) (*segment, *summary, error) {
	want := info
	if !own && !info.Unknown {
		want.Hole, want.HoleCRC = 0, 0 // what that node lacked is no matter here
	}
	g := &segment{SegmentInfo: want, stats: noStats(), flushed: want.Bytes}
	if want.Unknown {
		return g, nil, nil
	}
	if want.empty() {
		return g, &summary{stats: noStats()}, nil
	}
	sum, err := s.examine(g, sealed)
	if err == nil {
		g.Hole, g.HoleCRC, g.stats, g.synced = 0, 0, sum.stats, sealed
		return g, sum, nil
	}
	if !isAbsence(err) {
		return nil, nil, fmt.Errorf("examine segment %d: %w", g.No, err)
	}
	if own && want.Hole == 0 {
		return nil, nil, mismatch(g.No, err)
	}
	if own && want.Hole < want.Bytes {
		return g, nil, s.checkAfterHole(g)
	}
	g.Hole, g.HoleCRC = g.Bytes, g.CRC
	if sealed {
		return g, nil, nil
	}
	return g, nil, s.hollow(g)
}

// isAbsence tells errors that mean "not what is wanted" from those of the disk.
func isAbsence(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrMismatch) || errors.Is(err, ErrCorrupt) ||
		errors.Is(err, io.ErrUnexpectedEOF)
}

func mismatch(seg uint64, err error) error {
	return fmt.Errorf("segment %d: %w: %w", seg, ErrMismatch, err)
}

// examine makes sure that the file holds what g says, cuts it to that, and gives its summary. A sealed segment with an
// index file is not read; each of its frames is checked when it is.
func (s *Store) examine(g *segment, sealed bool) (*summary, error) {
	h, err := s.files.get(g.name(), false)
	if err != nil {
		return nil, err
	}
	defer s.files.put(h)
	size, err := h.Size()
	if err != nil {
		return nil, err
	}
	if size < g.Bytes {
		return nil, fmt.Errorf("%w: %d bytes of %d", ErrMismatch, size, g.Bytes)
	}
	if sealed && size == g.Bytes {
		if sum, ok := s.readIndex(g.SegmentInfo); ok {
			return sum, nil
		}
	}
	sum, err := summarize(&view{info: g.SegmentInfo, flushed: g.Bytes, f: h})
	if err != nil {
		return nil, err
	}
	if size > g.Bytes {
		if err := h.Truncate(g.Bytes); err != nil {
			return nil, fmt.Errorf("cut: %w", err)
		}
	}
	if !sealed {
		return sum, nil
	}
	if err := h.Sync(); err != nil { // an index file vouches for bytes that are durable
		return nil, fmt.Errorf("sync: %w", err)
	}
	return sum, s.writeIndex(g.SegmentInfo, sum, false)
}

// checkAfterHole makes sure of the bytes after a head's hole and cuts the file to them.
func (s *Store) checkAfterHole(g *segment) error {
	h, err := s.files.get(g.name(), false)
	if err != nil {
		return mismatch(g.No, err)
	}
	defer s.files.put(h)
	rest := io.NewSectionReader(h, g.Hole, g.Bytes-g.Hole)
	crc := g.HoleCRC
	buf := make([]byte, chunk)
	for {
		n, err := rest.Read(buf)
		crc = crc32.Update(crc, castagnoli, buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read segment %d: %w", g.No, err)
		}
	}
	if crc != g.CRC {
		return mismatch(g.No, errSum)
	}
	return h.Truncate(g.Bytes)
}

// hollow makes the file of a head whose bytes so far are missing.
func (s *Store) hollow(g *segment) error {
	h, err := s.files.get(g.name(), true)
	if err != nil {
		return fmt.Errorf("create segment %d: %w", g.No, err)
	}
	s.files.put(h)
	return nil
}

// clean removes all files of ours that segs has no use for, for good: an index file that came back after a power loss
// would vouch for bytes that were written since.
func (s *Store) clean(segs segments) error {
	keep := make(map[string]bool, 2*len(segs))
	for i, g := range segs {
		head := i == len(segs)-1
		keep[g.name()] = head || (!g.missing() && !g.empty()) || g.Hole < g.Bytes
		keep[g.index()] = !head && !g.missing()
	}
	names, err := s.fs.Names(s.dir)
	if err != nil {
		return fmt.Errorf("list output directory: %w", err)
	}
	removed := false
	for _, name := range names {
		if keep[name] || (!strings.HasSuffix(name, ".seg") && !strings.HasSuffix(name, ".idx")) {
			continue
		}
		if err := s.files.remove(name); err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
		removed = true
	}
	if !removed {
		return nil
	}
	return s.fs.SyncDir(s.dir)
}

// readIndex reads a segment's index file; false if there is none that fits.
func (s *Store) readIndex(i SegmentInfo) (*summary, bool) {
	f, err := s.fs.Open(filepath.Join(s.dir, i.index()), false)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil || size > 4*maxSegment {
		return nil, false
	}
	b := make([]byte, size)
	if n, _ := f.ReadAt(b, 0); int64(n) != size {
		return nil, false
	}
	return decodeSummary(b, i)
}

// writeIndex writes a segment's index file.
func (s *Store) writeIndex(i SegmentInfo, sum *summary, sync bool) error {
	f, err := s.fs.Open(filepath.Join(s.dir, i.index()), true)
	if err != nil {
		return s.fail(fmt.Errorf("create index of segment %d: %w", i.No, err))
	}
	_, err = f.WriteAt(encodeSummary(i, sum), 0)
	if err == nil && sync {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return s.fail(fmt.Errorf("write index of segment %d: %w", i.No, err))
	}
	return nil
}
