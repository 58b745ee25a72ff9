package wrapper

import (
	"fmt"
	"os"
	"sort"

	"github.com/syscollective/saltpeter/internal/wire"
)

// Bounds of what is kept until it is acked.
const (
	storeInMemory = 1 << 20   // payload bytes in memory; more go to the spool file
	spoolMax      = 256 << 20 // bytes of the spool file; more are left out
)

// store keeps the numbered frames that are not in the record yet: in memory, then in a spool file without a name.
// Frames are numbered as they are added.
type store struct {
	temp     func() (*os.File, error)
	memMax   int64
	spoolMax int64

	frames []kept // ascending; frames[0] holds the lowest number that is not acked
	next   uint64 // the number of the next frame, from 1
	acked  uint64 // everything below it is in the record
	sent   uint64 // everything below it was handed out: such frames never change

	mem   int64
	spool *os.File
	end   int64 // of the spool file
	live  int   // frames in the spool file

	sizes []uint32          // bytes that number i+1 stands for, for ranges that are asked for again after they were dropped
	large map[uint64]uint64 // those that don't fit
}

// kept is one frame. Its payload is in data, or in the spool file at off.
type kept struct {
	kind    wire.FrameKind
	seq     uint64
	at      uint64
	covers  uint64 // skip: numbers; output: 1
	skipped uint64
	data    []byte
	off     int64
	size    int
}

func newStore(temp func() (*os.File, error)) *store {
	return &store{temp: temp, memMax: storeInMemory, spoolMax: spoolMax, next: 1, acked: 1, sent: 1}
}

func (s *store) close() {
	if s.spool != nil {
		s.spool.Close()
	}
}

// add numbers a piece of output. Where there is no room for it, it becomes part of a skip.
func (s *store) add(data []byte, at uint64) {
	f := kept{kind: wire.FrameOutput, seq: s.next, at: at, covers: 1, size: len(data)}
	switch {
	case s.mem+int64(len(data)) <= s.memMax:
		f.data = data
		s.mem += int64(len(data))
	case s.toSpool(&f, data):
	default:
		s.number(uint64(len(data)))
		s.leaveOut(f.seq, at, uint64(len(data)))
		return
	}
	s.number(uint64(len(data)))
	s.frames = append(s.frames, f)
}

// skip numbers a piece of output that is left out.
func (s *store) skip(n, at uint64) {
	f := kept{kind: wire.FrameSkip, seq: s.next, at: at, covers: 1, skipped: n}
	s.number(n)
	s.frames = append(s.frames, f)
}

// leaveOut lets the number seq, the newest, be covered by the skip before it if that was never sent, else by one of its own.
func (s *store) leaveOut(seq, at, n uint64) {
	if len(s.frames) > 0 {
		last := &s.frames[len(s.frames)-1]
		if last.kind == wire.FrameSkip && last.seq >= s.sent {
			last.covers++
			last.skipped += n
			return
		}
	}
	s.frames = append(s.frames, kept{kind: wire.FrameSkip, seq: seq, at: at, covers: 1, skipped: n})
}

// number uses up the next number, for n bytes.
func (s *store) number(n uint64) {
	if n >= 1<<32-1 {
		if s.large == nil {
			s.large = make(map[uint64]uint64)
		}
		s.large[s.next] = n
		n = 1<<32 - 1
	}
	s.sizes = append(s.sizes, uint32(n))
	s.next++
}

// toSpool writes data to the spool file; false means that there is no room, or no working disk.
func (s *store) toSpool(f *kept, data []byte) bool {
	if s.spool == nil {
		file, err := s.temp()
		if err != nil {
			return false
		}
		s.spool = file
	}
	if s.end+int64(len(data)) > s.spoolMax {
		return false
	}
	if _, err := s.spool.WriteAt(data, s.end); err != nil {
		return false
	}
	f.off = s.end
	s.end += int64(len(data))
	s.live++
	return true
}

// ack forgets everything below next.
func (s *store) ack(next uint64) {
	next = min(next, s.next)
	n := 0
	for n < len(s.frames) && s.frames[n].seq+s.frames[n].covers <= next {
		f := &s.frames[n]
		if f.data != nil {
			s.mem -= int64(f.size)
		} else if f.kind == wire.FrameOutput && f.size > 0 {
			s.live--
		}
		n++
	}
	if n > 0 {
		clear(s.frames[:n])
		s.frames = s.frames[n:]
	}
	s.acked = max(s.acked, next)
	s.sent = max(s.sent, next)
	if s.live == 0 {
		s.end = 0 // nothing in the file is needed: write from its beginning again
	}
}

// frame gives the frame that carries the number seq, and the number after it. A number that was forgotten comes back as a
// skip up to the lowest that is kept. It must be below s.next.
func (s *store) frame(seq uint64) (wire.Frame, uint64, error) {
	i := sort.Search(len(s.frames), func(i int) bool { return s.frames[i].seq+s.frames[i].covers > seq })
	if i == len(s.frames) || s.frames[i].seq > seq {
		after := s.next
		if i < len(s.frames) {
			after = s.frames[i].seq
		}
		return s.forgotten(seq, after), after, nil
	}
	f := &s.frames[i]
	after := f.seq + f.covers
	if f.seq < seq { // inside of a skip: only its rest is asked for
		return s.forgotten(seq, after), after, nil
	}
	out := wire.Frame{Kind: f.kind, Seq: f.seq, AtMillis: f.at, Data: f.data}
	if f.kind == wire.FrameSkip {
		out.Covers, out.Skipped = f.covers, f.skipped
	} else if f.data == nil && f.size > 0 {
		out.Data = make([]byte, f.size)
		if _, err := s.spool.ReadAt(out.Data, f.off); err != nil {
			return s.unreadable(f), after, fmt.Errorf("read spool: %w", err)
		}
	}
	s.sent = max(s.sent, after)
	return out, after, nil
}

// unreadable turns a frame that the spool file can't give back into a skip, for good.
func (s *store) unreadable(f *kept) wire.Frame {
	f.kind, f.skipped = wire.FrameSkip, uint64(f.size)
	f.size = 0
	s.live--
	s.sent = max(s.sent, f.seq+f.covers)
	return wire.Frame{Kind: wire.FrameSkip, Seq: f.seq, AtMillis: f.at, Covers: f.covers, Skipped: f.skipped}
}

// forgotten makes the skip that stands for the numbers [seq, after).
func (s *store) forgotten(seq, after uint64) wire.Frame {
	f := wire.Frame{Kind: wire.FrameSkip, Seq: seq, Covers: after - seq}
	for n := seq; n < after; n++ {
		size := uint64(s.sizes[n-1])
		if big, ok := s.large[n]; ok {
			size = big
		}
		f.Skipped += size
	}
	s.sent = max(s.sent, after)
	return f
}
