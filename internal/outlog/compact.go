package outlog

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// HalfDead gives the segments from..to that are worth a Compact: the sealed segment that loses at least half of its
// bytes by it, or neighbours that together fill at most half a segment, or, when drop frames have come to more than a
// segment, the oldest segment with dead frames, for it is what keeps them needed.
func (s *Store) HalfDead() (from, to uint64, ok bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.complete {
		return 0, 0, false
	}
	sealed := s.segs[:len(s.segs)-1]
	clean := true // no dead frame so far: drop frames have nothing to end
	var oldest *segment
	var drops int64
	for i, g := range sealed {
		dead := g.data - s.index.live[uint32(g.No)]
		gain := dead
		if clean {
			gain += g.drops
		}
		if gain*2 >= g.Bytes && !g.empty() && g.bad == nil {
			from, to = widen(sealed, i)
			return from, to, true
		}
		if j := s.small(sealed[i:]); j > 1 {
			return g.No, sealed[i+j-1].Last, true
		}
		if oldest == nil && dead > 0 && g.bad == nil {
			oldest = g
		}
		clean = clean && dead == 0
		drops += g.drops
	}
	if drops > s.opts.SegmentBytes && oldest != nil {
		return oldest.No, oldest.Last, true
	}
	return 0, 0, false
}

// widen takes empty neighbours into the range of segment i: they cost nothing and leave the list.
func widen(sealed []*segment, i int) (from, to uint64) {
	j := i
	for i > 0 && sealed[i-1].empty() {
		i--
	}
	for j < len(sealed)-1 && sealed[j+1].empty() {
		j++
	}
	return sealed[i].No, sealed[j].Last
}

// small counts how many of the segments, from the first on, fit together in half a segment.
func (s *Store) small(sealed []*segment) int {
	var sum int64
	for i, g := range sealed {
		sum += s.index.live[uint32(g.No)] + g.drops
		if sum*2 > s.opts.SegmentBytes || g.bad != nil {
			return i
		}
	}
	return len(sealed)
}

// Compact rewrites the sealed segments that lie in from..to as one, in their place, with their live frames and those
// drop frames that still end something. It is called from a replicated command: all nodes end with the same segment,
// an empty one if nothing was left. A node that lacks segments notes that it lacks the result as well. A node whose
// source is corrupt keeps it (Damaged): its frames can still be read but for the corrupt one.
func (s *Store) Compact(from, to uint64) error {
	if err := s.Failed(); err != nil {
		return err
	}
	s.mu.RLock()
	i, j := s.segs.within(from, to)
	src, complete := s.segs[i:j:j], s.complete
	s.mu.RUnlock()
	if len(src) == 0 {
		return nil
	}
	out := &segment{SegmentInfo: SegmentInfo{No: src[0].No, Last: src[len(src)-1].Last}, stats: noStats()}
	for _, g := range src {
		out.Gen = max(out.Gen, g.Gen+1)
	}
	if !complete {
		out.Unknown = true
		s.swap(src, out, nil)
		return nil
	}
	c := compactor{s: s, out: out, x: s.index, moves: make(map[Key]*move)}
	defer c.close()
	for _, g := range s.segs[:i] {
		if g.data > c.x.live[uint32(g.No)] {
			c.dead = append(c.dead, g.stats)
		}
	}
	if err := c.run(src); err != nil {
		return s.leave(src, out, err)
	}
	s.swap(src, out, c.moves)
	return nil
}

// leave ends a compaction that met an error: one of writing is final, one of reading leaves all as it was.
func (s *Store) leave(src []*segment, out *segment, err error) error {
	if failed := s.Failed(); failed != nil {
		return failed
	}
	if rerr := s.files.remove(out.name()); rerr != nil {
		return s.fail(fmt.Errorf("remove segment %d: %w", out.No, rerr))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range src {
		g.bad = err
	}
	return nil
}

// Damaged gives what kept compactions from reading their sources, nil if all went well. Commands can't fail on one node
// alone, so it is told here.
func (s *Store) Damaged() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var errs []error
	for _, g := range s.segs {
		errs = append(errs, g.bad)
	}
	return errors.Join(errs...)
}

// swap puts out in the place of src.
func (s *Store) swap(src []*segment, out *segment, moves map[Key]*move) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.Index(s.segs, src[0])
	s.segs = slices.Concat(s.segs[:i], []*segment{out}, s.segs[i+len(src):])
	s.retired = append(s.retired, src...)
	s.newFiles = true
	if s.index == nil {
		return
	}
	for _, g := range src {
		delete(s.index.live, uint32(g.No))
	}
	s.index.live[uint32(out.No)] = out.data
	for _, m := range moves {
		s.index.replace(m.e, uint32(out.No), uint32(out.Last), m.exts)
	}
}

// move is what becomes of a key's extents in the segments that are rewritten.
type move struct {
	e    *entry
	pos  uint64 // of the next frame
	exts []extent
}

// compactor copies what is needed of some segments into one.
type compactor struct {
	s     *Store
	x     *index
	dead  []stats // of earlier segments with dead frames
	moves map[Key]*move
	out   *segment
	h     *handle
	buf   []byte
}

func (c *compactor) run(src []*segment) error {
	for _, g := range src {
		if g.drops == 0 && c.x.live[uint32(g.No)] == 0 {
			continue
		}
		if err := c.copy(g); err != nil {
			return err
		}
	}
	return c.flush()
}

func (c *compactor) copy(g *segment) error {
	h, err := c.s.files.get(g.name(), false)
	if err != nil {
		return err
	}
	defer c.s.files.put(h)
	scan := newScanner(&view{info: g.SegmentInfo, flushed: g.Bytes, f: h}, magicLen, 4*chunk, nil)
	for {
		r, off, err := scan.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if r.isDrop() {
			if !c.ends(r.key.Run) {
				continue
			}
		} else if !c.keep(&r, uint32(g.No), off) {
			continue
		}
		if err := c.put(&r, scan.raw(&r)); err != nil {
			return err
		}
	}
}

// ends tells whether a drop frame of the run may still end frames in earlier segments.
func (c *compactor) ends(run uint64) bool {
	return slices.ContainsFunc(c.dead, func(s stats) bool { return s.minRun <= run && run <= s.maxRun })
}

// keep notes the new place of a frame that lives; false if it is dead.
func (c *compactor) keep(r *record, seg uint32, off int64) bool {
	m := c.moves[r.key]
	if m == nil {
		e := c.x.find(r.key)
		if e == nil {
			return false
		}
		var one [1]extent
		exts := c.x.extents(e, one[:0])
		if first := exts[0]; seg < first.seg || (seg == first.seg && off < int64(first.off)) {
			return false // a drop came after it
		}
		i := slices.IndexFunc(exts, func(x extent) bool { return x.seg >= seg })
		m = &move{e: e, pos: exts[i].pos}
		c.moves[r.key] = m
	}
	to, at := uint32(c.out.No), max(c.out.Bytes, magicLen)
	if n := len(m.exts); n > 0 && m.exts[n-1].takes(to, at, r.size) {
		m.exts[n-1].seqOwn += uint64(r.size)
	} else {
		m.exts = append(m.exts, newExtent(m.pos, r.Seq, to, at, r.size))
	}
	m.pos += uint64(len(r.Data))
	return true
}

func (c *compactor) put(r *record, raw []byte) error {
	if c.out.Bytes == 0 {
		if err := c.append([]byte(segMagic)); err != nil {
			return err
		}
	}
	if c.out.Bytes+int64(r.size) > maxSegment {
		return fmt.Errorf("compact segment %d: %w", c.out.No, ErrTooLarge)
	}
	c.out.add(r)
	return c.append(raw)
}

func (c *compactor) append(p []byte) error {
	c.buf = append(c.buf, p...)
	c.out.Bytes += int64(len(p))
	c.out.CRC = crc32.Update(c.out.CRC, castagnoli, p)
	if len(c.buf) < 4*chunk {
		return nil
	}
	return c.flush()
}

func (c *compactor) flush() error {
	if len(c.buf) == 0 {
		return nil
	}
	if c.h == nil {
		h, err := c.s.files.get(c.out.name(), true)
		if err != nil {
			return c.s.fail(fmt.Errorf("create segment %d: %w", c.out.No, err))
		}
		c.h = h
	}
	if _, err := c.h.WriteAt(c.buf, c.out.flushed); err != nil {
		return c.s.fail(fmt.Errorf("write segment %d: %w", c.out.No, err))
	}
	c.out.flushed += int64(len(c.buf))
	c.buf = c.buf[:0]
	return nil
}

func (c *compactor) close() {
	if c.h != nil {
		c.s.files.put(c.h)
	}
}
