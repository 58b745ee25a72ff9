package wrapper

import (
	"fmt"
	"os"
)

// ringInMemory is the largest ring that is kept in memory; larger ones lie in a file, so that an operator's large
// output_limit costs disk and not the machine's memory.
const ringInMemory = 1 << 20

// ring keeps the newest bytes of a stream, up to a capacity. Offsets count all bytes ever written.
type ring struct {
	size       int64
	mem        []byte // allocated as it fills
	file       *os.File
	begin, end int64  // offsets of what is kept
	marks      []mark // when bytes were written, oldest first
}

// mark says that the bytes from an offset on were written at a time.
type mark struct {
	off int64
	at  uint64 // ms since the command's start
}

// markEvery is how fine the ring remembers times, in ms.
const markEvery = 200

func newRing(size int64, temp func() (*os.File, error)) (*ring, error) {
	r := &ring{size: size}
	if size <= ringInMemory {
		return r, nil
	}
	f, err := temp()
	if err != nil {
		r.size = ringInMemory // less is kept, but the command runs
		return r, fmt.Errorf("make ring file: %w", err)
	}
	r.file = f
	return r, nil
}

func (r *ring) close() {
	if r.file != nil {
		r.file.Close()
	}
}

func (r *ring) len() int64 { return r.end - r.begin }

// write appends p and gives how many of the oldest bytes (p's own included) fell out. An error of the file means that all
// that was kept is lost, and counts as fallen out.
func (r *ring) write(p []byte, at uint64) (lost int64) {
	r.mark(at)
	if skip := int64(len(p)) - r.size; skip > 0 {
		lost = r.len() + skip
		r.end += skip
		r.begin = r.end
		p = p[skip:]
	}
	if over := r.len() + int64(len(p)) - r.size; over > 0 {
		lost += over
		r.begin += over
	}
	if err := r.put(p); err != nil {
		lost += r.len() + int64(len(p))
		r.end += int64(len(p))
		r.begin = r.end
	} else {
		r.end += int64(len(p))
	}
	r.forget()
	return lost
}

// put stores p at the ring's end, in at most two pieces.
func (r *ring) put(p []byte) error {
	if r.file == nil && int64(len(r.mem)) < r.size {
		r.grow(r.end + int64(len(p)))
	}
	for off := r.end; len(p) > 0; {
		pos := off % r.size
		n := min(int64(len(p)), r.size-pos)
		if r.file == nil {
			copy(r.mem[pos:], p[:n])
		} else if _, err := r.file.WriteAt(p[:n], pos); err != nil {
			return err
		}
		off, p = off+n, p[n:]
	}
	return nil
}

// grow makes room in memory for the offsets below want, until the ring's full size is reached.
func (r *ring) grow(want int64) {
	if want <= int64(len(r.mem)) {
		return
	}
	n := min(max(want, 2*int64(len(r.mem)), 4096), r.size)
	mem := make([]byte, n)
	copy(mem, r.mem)
	r.mem = mem
}

// take removes up to n of the oldest bytes; at is when the first of them was written. What the file can't give back is
// reported as lost.
func (r *ring) take(n int64) (p []byte, at uint64, lost int64) {
	n = min(n, r.len())
	p = make([]byte, n)
	at = r.timeOf(r.begin)
	for got := int64(0); got < n; {
		pos := (r.begin + got) % r.size
		piece := p[got:min(n, got+r.size-pos)]
		if r.file == nil {
			copy(piece, r.mem[pos:])
		} else if _, err := r.file.ReadAt(piece, pos); err != nil {
			r.begin += n
			r.forget()
			return nil, at, n
		}
		got += int64(len(piece))
	}
	r.begin += n
	r.forget()
	return p, at, 0
}

// mark remembers the time of the next byte, unless the last mark is young enough.
func (r *ring) mark(at uint64) {
	if n := len(r.marks); n > 0 && at < r.marks[n-1].at+markEvery {
		return
	}
	r.marks = append(r.marks, mark{r.end, at})
}

// timeOf gives the time of the byte at off, which must be kept.
func (r *ring) timeOf(off int64) uint64 {
	var at uint64
	for _, m := range r.marks {
		if m.off > off {
			break
		}
		at = m.at
	}
	return at
}

// forget drops the marks that only concern bytes that are gone.
func (r *ring) forget() {
	n := 0
	for n+1 < len(r.marks) && r.marks[n+1].off <= r.begin {
		n++
	}
	if n > 0 {
		r.marks = append(r.marks[:0], r.marks[n:]...)
	}
}
