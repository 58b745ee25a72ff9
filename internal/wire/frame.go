package wire

import (
	"encoding/binary"
	"fmt"
)

// FrameKind says what a binary frame is.
type FrameKind byte

// The kinds of binary frames. The numbers are on the wire: append only.
const (
	FrameOutput FrameKind = 1 // Data are bytes of output
	FrameSkip   FrameKind = 2 // Skipped bytes are left out; the frame stands for Covers numbers
)

// Frame is a numbered piece of output. It is numbered once and never cut anew: after a break the very same frame is
// sent again.
//
// Layout: kind (1 byte), then as unsigned varints run, seq, at_ms; an output frame ends with its data, a skip frame with
// the varints covers and skipped.
type Frame struct {
	Kind     FrameKind
	Run      int    // ordinal, as in Message
	Seq      uint64 // from 1
	AtMillis uint64 // since the command's start
	Data     []byte
	Covers   uint64 // skip: how many numbers it covers, at least 1
	Skipped  uint64 // skip: how many bytes are left out
}

// AppendFrame appends the frame's bytes to dst.
func AppendFrame(dst []byte, f *Frame) []byte {
	dst = append(dst, byte(f.Kind))
	dst = binary.AppendUvarint(dst, uint64(f.Run))
	dst = binary.AppendUvarint(dst, f.Seq)
	dst = binary.AppendUvarint(dst, f.AtMillis)
	if f.Kind == FrameSkip {
		dst = binary.AppendUvarint(dst, f.Covers)
		return binary.AppendUvarint(dst, f.Skipped)
	}
	return append(dst, f.Data...)
}

// ParseFrame reads a binary frame. Data shares b's memory.
func ParseFrame(b []byte) (Frame, error) {
	if len(b) == 0 {
		return Frame{}, fmt.Errorf("%w: empty frame", ErrMalformed)
	}
	f := Frame{Kind: FrameKind(b[0])}
	r := uvarints{rest: b[1:]}
	run := r.next()
	f.Seq = r.next()
	f.AtMillis = r.next()
	switch f.Kind {
	case FrameOutput:
		f.Data = r.rest
	case FrameSkip:
		f.Covers = r.next()
		f.Skipped = r.next()
		if len(r.rest) > 0 || f.Covers == 0 {
			r.bad = true
		}
	default:
		return Frame{}, fmt.Errorf("%w: frame kind %d", ErrMalformed, b[0])
	}
	if r.bad || run > 1<<16 || f.Seq == 0 || len(f.Data) > MaxOutput {
		return Frame{}, fmt.Errorf("%w: frame of kind %d", ErrMalformed, b[0])
	}
	f.Run = int(run)
	return f, nil
}

type uvarints struct {
	rest []byte
	bad  bool
}

func (u *uvarints) next() uint64 {
	v, n := binary.Uvarint(u.rest)
	if n <= 0 {
		u.bad = true
		return 0
	}
	u.rest = u.rest[n:]
	return v
}
