package outlog

import (
	"errors"
	"io"
	"sort"
)

// part is a stretch to be read: an extent and the segment that it lies in, as they were at one moment.
type part struct {
	ext extent
	v   *view
}

// plan is what a read needs from the index.
type plan struct {
	parts []part
	last  uint64 // seq
	size  uint64 // of the stream
	epoch uint64
}

// plan copies from the index the extents of a key that pick chooses (the half-open range i, j).
func (s *Store) plan(k Key, pick func([]extent) (i, j int)) (*plan, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.complete {
		return nil, ErrNotHere
	}
	e := s.index.find(k)
	if e == nil {
		return nil, ErrNoOutput
	}
	var one [1]extent
	exts := s.index.extents(e, one[:0])
	i, j := pick(exts)
	p := &plan{parts: make([]part, 0, j-i), last: e.lastSeq, size: e.stored, epoch: s.epoch}
	var v *view
	for _, ext := range exts[i:j] {
		if v == nil || v.info.No != uint64(ext.seg) {
			v = s.viewOf(s.segs.find(uint64(ext.seg)))
		}
		p.parts = append(p.parts, part{ext, v})
	}
	return p, nil
}

// moved tells whether the segment was compacted or the store restored since the plan was made: then an error of a
// read says nothing, and the read begins anew where it was.
func (s *Store) moved(p *plan, v *view) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.epoch != p.epoch || s.segs.same(v.info) == nil
}

// Frames gives the key's frames with numbers from fromSeq on, in order, as they are at the time of the call, until
// yield returns false. A frame's Data is valid during yield only. Errors: ErrNoOutput, ErrNotHere, a *CorruptError, or
// one of the disk.
func (s *Store) Frames(k Key, fromSeq uint64, yield func(Frame) bool) error {
	next, stop := fromSeq, false
	visit := func(r *record) bool {
		if r.Seq < next {
			return true
		}
		next = r.Seq + 1
		stop = !yield(r.Frame)
		return !stop
	}
	for {
		p, err := s.plan(k, func(exts []extent) (int, int) { return bySeq(exts, next), len(exts) })
		if err != nil {
			return err
		}
		again, err := s.walk(k, p, visit)
		if !again || stop {
			return err
		}
	}
}

// bySeq gives the first extent that can hold frame seq or a later one.
func bySeq(exts []extent, seq uint64) int {
	i := sort.Search(len(exts), func(i int) bool { return exts[i].seq() > seq || exts[i].seq() == maxSeq })
	return max(i-1, 0)
}

// ReadAt reads from the bytes of the key's Data frames as one stream, as io.ReaderAt does: it returns io.EOF with
// fewer than len(p) bytes at the end of what is there now. Other errors are those of Frames.
func (s *Store) ReadAt(k Key, p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read output: negative offset")
	}
	n := 0
	for {
		from, to := uint64(off)+uint64(n), uint64(off)+uint64(len(p))
		pl, err := s.plan(k, func(exts []extent) (int, int) { return byPos(exts, from, to) })
		if err != nil {
			return n, err
		}
		c := copier{p: p[n:], skip: from}
		again, err := s.walkFrom(k, pl, &c)
		n += c.n
		switch {
		case again:
			continue
		case err != nil:
			return n, err
		case n < len(p):
			return n, io.EOF
		}
		return n, nil
	}
}

// byPos gives the extents that hold the bytes from..to of the stream.
func byPos(exts []extent, from, to uint64) (int, int) {
	i := sort.Search(len(exts), func(i int) bool { return exts[i].pos > from })
	j := sort.Search(len(exts), func(i int) bool { return exts[i].pos >= to })
	return max(i-1, 0), max(j, i)
}

// copier takes the stream's bytes from position skip on into p.
type copier struct {
	p    []byte
	skip uint64
	pos  uint64 // of the next frame's data
	n    int
}

func (c *copier) take(r *record) bool {
	start := c.pos
	c.pos += uint64(len(r.Data))
	if c.pos > c.skip {
		data := r.Data
		if start < c.skip {
			data = data[c.skip-start:]
		}
		c.n += copy(c.p[c.n:], data)
	}
	return c.n < len(c.p)
}

func (s *Store) walkFrom(k Key, p *plan, c *copier) (bool, error) {
	if len(p.parts) == 0 || len(c.p) == 0 {
		return false, nil
	}
	c.pos = p.parts[0].ext.pos
	return s.walk(k, p, c.take)
}

// walk visits the frames of the plan in order. It returns true if the plan is out of date and the rest of the frames
// needs a new one.
func (s *Store) walk(k Key, p *plan, visit func(*record) bool) (again bool, err error) {
	buf := s.buffer()
	defer s.bufs.Put(buf)
	for _, part := range p.parts {
		more, err := s.walkPart(k, part, p.epoch, buf, visit)
		if err != nil {
			if s.moved(p, part.v) {
				return true, nil
			}
			return false, err
		}
		if !more {
			return false, nil
		}
	}
	return false, nil
}

func (s *Store) buffer() *[]byte {
	if b, ok := s.bufs.Get().(*[]byte); ok {
		return b
	}
	b := make([]byte, 0, chunk)
	return &b
}

// near is how many bytes of other keys' frames a read goes through before it looks for a shorter way.
const near = 32 << 10

// walkPart visits the frames of one part. It returns false if visit did.
func (s *Store) walkPart(k Key, p part, epoch uint64, buf *[]byte, visit func(*record) bool) (bool, error) {
	v := *p.v
	if int64(p.ext.off) < v.flushed {
		h, err := s.files.get(v.info.name(), false)
		if err != nil {
			return false, err
		}
		defer s.files.put(h)
		v.f = h
	}
	left := p.ext.own()
	last := int64(p.ext.off)
	scan := newScanner(&v, last, min(left, chunk), *buf)
	defer func() { *buf = scan.buf[:0] }()
	for limit := last + near; left > 0 && scan.off < limit; {
		r, off, err := scan.next()
		if errors.Is(err, io.EOF) {
			err = &CorruptError{Segment: v.info.No, Offset: off, Err: errShort}
		}
		if err != nil {
			return false, err
		}
		if r.key != k || r.isDrop() {
			continue
		}
		last, left, limit = off, left-r.size, limit+int64(r.size)
		if !visit(&r) {
			return false, nil
		}
	}
	if left == 0 {
		return true, nil
	}
	if v.f == nil && v.flushed > 0 { // the extent is not in the file yet, but its segment's way there is read from the beginning
		h, err := s.files.get(v.info.name(), false)
		if err != nil {
			return false, err
		}
		defer s.files.put(h)
		v.f = h
	}
	offs, err := s.chains.get(v.info.name(), epoch).after(&v, last, left/headLen, !v.head)
	if err != nil {
		return false, err
	}
	return s.hop(k, scan, offs, left, visit)
}

// hop visits the frames at offs until left bytes have gone by.
func (s *Store) hop(k Key, scan *scanner, offs []uint32, left int, visit func(*record) bool) (bool, error) {
	for _, off := range offs {
		if left == 0 {
			break
		}
		scan.seek(int64(off), left)
		r, _, err := scan.next()
		if err != nil {
			return false, err
		}
		if r.key != k || r.isDrop() {
			return false, &CorruptError{Segment: scan.seg, Offset: int64(off), Err: errFormat}
		}
		left -= r.size
		if !visit(&r) {
			return false, nil
		}
	}
	if left != 0 {
		return false, &CorruptError{Segment: scan.seg, Offset: scan.off, Err: errShort}
	}
	return true, nil
}
