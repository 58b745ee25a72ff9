package wrapper

import (
	"os"
)

const (
	maxPiece     = 32 << 10 // payload of one frame
	cutEvery     = 200      // ms: while a command is chatty, this much output goes into one frame
	middleRate   = 64 << 10 // bytes/s of the middle
	middleBurst  = 16 << 10
	defaultLimit = 1 << 20
)

// output makes numbered frames of what a command writes. It is owned by the session's loop and has no clock: times are
// milliseconds since the command's start.
//
// The first half of the limit is framed freely. What follows goes through a ring of the other half, out of which it is
// framed at a bounded rate until another half of the limit has gone that way; from then on the ring only keeps the end. What falls out of the
// ring is counted and becomes a skip. When the command ends, the ring's rest is framed. So output up to the limit is
// whole, and at most 1.5 limits are framed.
type output struct {
	*store
	ring *ring

	free    int64 // bytes left of the first half
	middle  int64 // bytes left that may be framed out of the ring before the end
	tokens  int64 // of the middle's rate, in bytes × 1000
	tokenAt uint64

	piece   []byte // of the first half, not framed yet
	pieceAt uint64
	lost    int64  // bytes that fell out of the ring since the last frame
	nextCut uint64 // no frame before this time, unless it is full
	closed  bool
}

// newOutput makes an output with a limit in bytes. The error is worth a log line only: it works with less room.
func newOutput(limit int64, temp func() (*os.File, error)) (*output, error) {
	if limit <= 0 {
		limit = defaultLimit
	}
	half := limit / 2
	r, err := newRing(max(half, 1), temp)
	return &output{store: newStore(temp), ring: r, free: limit - half, middle: half, tokens: middleBurst * 1000}, err
}

func (o *output) close() {
	o.ring.close()
	o.store.close()
}

// write takes what the command wrote; p is not kept.
func (o *output) write(p []byte, at uint64) {
	for len(p) > 0 && o.free > 0 {
		if len(o.piece) == 0 {
			o.pieceAt = at
			o.piece = make([]byte, 0, min(maxPiece, max(len(p), 512)))
		}
		n := min(len(p), maxPiece-len(o.piece), int(min(o.free, maxPiece)))
		o.piece = append(o.piece, p[:n]...)
		o.free -= int64(n)
		p = p[n:]
		if len(o.piece) == maxPiece {
			o.cutPiece(at)
		}
	}
	if len(p) > 0 {
		o.cutPiece(at)
		o.lost += o.ring.write(p, at)
	}
}

// cut frames what is due. It gives the time at which it wants to be called again; false if nothing waits for a time.
func (o *output) cut(at uint64) (again uint64, ok bool) {
	if len(o.piece) == 0 && (o.ring.len() == 0 || o.middle <= 0) {
		return 0, false
	}
	if at < o.nextCut {
		return o.nextCut, true
	}
	o.cutPiece(at)
	o.refill(at)
	if n := min(o.tokens/1000, o.middle, o.ring.len()); n > 0 {
		o.tokens -= n * 1000
		o.middle -= n
		o.fromRing(n, at)
	}
	if o.ring.len() == 0 || o.middle <= 0 {
		return 0, false
	}
	o.nextCut = at + cutEvery
	return o.nextCut, true
}

// finish frames all that is left: the command has ended.
func (o *output) finish(at uint64) {
	if o.closed {
		return
	}
	o.closed = true
	o.cutPiece(at)
	o.fromRing(o.ring.len(), at)
	if o.lost > 0 {
		o.skip(uint64(o.lost), at)
		o.lost = 0
	}
}

// refill adds to the middle's rate what the time has brought.
func (o *output) refill(at uint64) {
	if at > o.tokenAt {
		gain := int64(min(at-o.tokenAt, 1<<20)) * middleRate
		o.tokens = min(o.tokens+gain, middleBurst*1000)
		o.tokenAt = at
	}
}

func (o *output) cutPiece(at uint64) {
	if len(o.piece) == 0 {
		return
	}
	o.add(o.piece, o.pieceAt)
	o.piece = nil
	o.nextCut = at + cutEvery
}

// fromRing frames the n oldest bytes of the ring, behind the skip of what fell out before them.
func (o *output) fromRing(n int64, at uint64) {
	for n > 0 {
		if o.lost > 0 {
			o.skip(uint64(o.lost), o.ring.timeOf(o.ring.begin))
			o.lost = 0
		}
		p, written, lost := o.ring.take(min(n, maxPiece))
		o.lost += lost
		if len(p) == 0 && lost == 0 {
			return
		}
		n -= int64(len(p)) + lost
		if len(p) > 0 {
			o.add(p, written)
			o.nextCut = at + cutEvery
		}
	}
}
