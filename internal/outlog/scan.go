package outlog

import (
	"errors"
	"io"
)

// chunk is how much a scanner reads at once.
const chunk = 64 << 10

// scanner gives the frames of a stretch of a segment in order, each checked. Its buffer is reused: a frame is valid
// until the next call.
type scanner struct {
	r    io.ReaderAt
	seg  uint64
	off  int64 // of the next frame
	end  int64
	want int // bytes of the next read; chunk after it
	buf  []byte
	lo   int // buf[lo:] are the bytes at off
}

func newScanner(v *view, from int64, first int, buf []byte) *scanner {
	return &scanner{r: v, seg: v.info.No, off: from, end: v.info.Bytes, want: first, buf: buf[:0]}
}

// next gives the next frame and its offset; io.EOF at the end, a *CorruptError where the bytes are wrong.
func (s *scanner) next() (record, int64, error) {
	at := s.off
	if at == s.end {
		return record{}, at, io.EOF
	}
	if err := s.fill(headLen); err != nil {
		return record{}, at, s.bad(at, err)
	}
	n, err := recordSize(s.buf[s.lo:])
	if err != nil {
		return record{}, at, s.bad(at, err)
	}
	if err := s.fill(n); err != nil {
		return record{}, at, s.bad(at, err)
	}
	r, err := decodeRecord(s.buf[s.lo : s.lo+n])
	if err != nil {
		return record{}, at, s.bad(at, err)
	}
	s.lo += n
	s.off += int64(n)
	return r, at, nil
}

// seek goes to the frame at off; want is how much to read at once.
func (s *scanner) seek(off int64, want int) {
	s.off, s.want = off, min(want, chunk)
	s.buf, s.lo = s.buf[:0], 0
}

// raw gives the bytes of the frame that next gave last.
func (s *scanner) raw(r *record) []byte { return s.buf[s.lo-r.size : s.lo] }

func (s *scanner) bad(at int64, err error) error {
	if errors.Is(err, errShort) || errors.Is(err, errSum) || errors.Is(err, errFormat) {
		return &CorruptError{Segment: s.seg, Offset: at, Err: err}
	}
	return err
}

// fill makes the n bytes at off available.
func (s *scanner) fill(n int) error {
	have := len(s.buf) - s.lo
	if have >= n {
		return nil
	}
	if s.end-s.off < int64(n) {
		return errShort
	}
	want := int(min(int64(max(n, s.want)), s.end-s.off))
	s.want = chunk
	if cap(s.buf) < want {
		grown := make([]byte, have, max(want, chunk))
		copy(grown, s.buf[s.lo:])
		s.buf = grown
	} else {
		copy(s.buf[:have], s.buf[s.lo:])
	}
	s.lo, s.buf = 0, s.buf[:want]
	got, err := s.r.ReadAt(s.buf[have:], s.off+int64(have))
	if got == want-have {
		return nil
	}
	s.buf = s.buf[:have]
	if errors.Is(err, io.EOF) {
		return errShort
	}
	return err
}
