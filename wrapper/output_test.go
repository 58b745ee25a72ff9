package wrapper

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/syscollective/saltpeter/internal/wire"
)

// collect takes all frames from number seq on, checks their numbers, and gives what they hold and leave out.
func collect(t rapid.TB, o *output, seq uint64) (data []byte, holes []hole) {
	for seq < o.store.next {
		f, after, err := o.frame(seq)
		if err != nil {
			t.Fatal(err)
		}
		if f.Seq != seq || after <= seq || len(f.Data) > maxPiece {
			t.Fatalf("frame %d after %d, with %d bytes", f.Seq, seq, len(f.Data))
		}
		if f.Kind == wire.FrameSkip {
			if after != seq+f.Covers {
				t.Fatalf("skip of %d numbers leads from %d to %d", f.Covers, seq, after)
			}
			holes = append(holes, hole{len(data), f.Skipped})
		}
		data = append(data, f.Data...)
		seq = after
	}
	return data, holes
}

func reckon(t rapid.TB, wrote, data []byte, holes []hole) (left uint64) {
	pos, taken := 0, 0
	for _, h := range append(holes, hole{len(data), 0}) {
		n := h.off - taken
		if pos+n > len(wrote) || !bytes.Equal(data[taken:h.off], wrote[pos:pos+n]) {
			t.Fatalf("frames differ from what was written near byte %d", pos)
		}
		pos, taken = pos+n+int(h.n), h.off
		left += h.n
	}
	if pos != len(wrote) {
		t.Fatalf("frames account for %d bytes of %d", pos, len(wrote))
	}
	return left
}

func TestOutputAccountsForEveryByte(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.Int64Range(1, 5000).Draw(t, "limit")
		broken := rapid.IntRange(0, 3).Draw(t, "disk") == 0
		o, _ := newOutput(limit, func() (*os.File, error) {
			if broken {
				return nil, errors.New("no disk")
			}
			return tempFile(dir)
		})
		defer o.close()
		o.memMax = rapid.SampledFrom([]int64{0, 100, 4000, 1 << 20}).Draw(t, "memory")
		o.spoolMax = rapid.Int64Range(0, 2000).Draw(t, "spool")
		small := o.memMax < 8000
		rnd := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		var wrote, got []byte
		var holes []hole
		at, seq, again := uint64(0), uint64(1), uint64(0)
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			switch rnd.IntN(4) {
			case 0, 1:
				b := make([]byte, rnd.IntN(300))
				for i := range b {
					b[i] = byte(rnd.Uint32())
				}
				o.write(b, at)
				wrote = append(wrote, b...)
			case 2:
				at += uint64(rnd.IntN(400))
				if next, ok := o.cut(at); ok && next <= at {
					t.Fatalf("wants to be called again at %d, it is %d", next, at)
				}
			case 3: // some of what was sent is acked, and must not be asked for again
				data, hs := collect(t, o, seq)
				for _, h := range hs {
					holes = append(holes, hole{len(got) + h.off, h.n})
				}
				got = append(got, data...)
				seq = o.store.next
				again = o.acked + uint64(rnd.IntN(int(seq-o.acked)+1))
				if f, after, err := o.frame(o.acked); seq > o.acked && (err != nil || after <= o.acked || f.Seq != o.acked) {
					t.Fatalf("number %d: %+v, %v", o.acked, f, err)
				}
				if rnd.IntN(2) == 0 {
					o.ack(again)
				}
			}
		}
		o.finish(at)
		data, hs := collect(t, o, seq)
		for _, h := range hs {
			holes = append(holes, hole{len(got) + h.off, h.n})
		}
		got = append(got, data...)
		left := reckon(t, wrote, got, holes)
		if int64(len(got)) > limit+limit/2+1 {
			t.Fatalf("%d bytes are framed with a limit of %d", len(got), limit)
		}
		if left > 0 && int64(len(wrote)) <= limit && !small {
			t.Fatalf("%d of %d bytes are left out, the limit is %d", left, len(wrote), limit)
		}
	})
}

// Up to the limit everything is whole; beyond it the beginning and the end are.
func TestOutputKeepsBothEnds(t *testing.T) {
	for _, tt := range []struct {
		name         string
		total, limit int
	}{{"just the limit", 1 << 20, 1 << 20}, {"twice", 2 << 20, 1 << 20}, {"hundred times", 100 << 20, 1 << 20}, {"small", 1000, 100}, {"ring in a file", 40 << 20, 8 << 20}} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			o, err := newOutput(int64(tt.limit), func() (*os.File, error) { return tempFile(dir) })
			if err != nil {
				t.Fatal(err)
			}
			defer o.close()
			wrote := make([]byte, tt.total)
			for i := range wrote {
				wrote[i] = byte(i * 7 >> 3)
			}
			for rest := wrote; len(rest) > 0; {
				n := min(len(rest), 50000)
				o.write(rest[:n], 0)
				o.cut(0)
				rest = rest[n:]
			}
			o.finish(1)
			data, holes := collect(t, o, 1)
			left := reckon(t, wrote, data, holes)
			half := tt.limit / 2
			if tt.total <= tt.limit && left != 0 {
				t.Errorf("%d bytes are left out below the limit", left)
			}
			if !bytes.Equal(data[:half], wrote[:half]) || !bytes.Equal(data[len(data)-half:], wrote[len(wrote)-half:]) {
				t.Error("beginning or end is not whole")
			}
			if len(data) > tt.limit*3/2 {
				t.Errorf("%d bytes are framed", len(data))
			}
		})
	}
}

// The middle is sent at no more than its rate, until another half has gone.
func TestOutputMiddleRate(t *testing.T) {
	o, err := newOutput(1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	o.write(make([]byte, 1<<19), 0)
	o.cut(0)
	if o.store.next != 17 {
		t.Fatalf("the first half is in %d frames", o.store.next-1)
	}
	before := o.store.next
	framed := func() (n int64) {
		data, _ := collect(t, o, before)
		return int64(len(data))
	}
	for at := uint64(1); at <= 20000; at++ {
		o.write(make([]byte, 1<<10), at) // 1 MB/s
		o.cut(at)
		if at == 4000 {
			if got := framed(); got > 4*middleRate+middleBurst || got < 3*middleRate {
				t.Errorf("%d bytes in 4 s", got)
			}
		}
	}
	if got := framed(); got != 1<<19 {
		t.Errorf("%d bytes of the middle, want half the limit", got)
	}
	if _, ok := o.cut(20001); ok {
		t.Error("it wants to be called although nothing can be framed before the end")
	}
}

// A quiet command's output is framed at once, a chatty one's five times a second.
func TestOutputCutTimes(t *testing.T) {
	o, err := newOutput(1<<20, nil)
	if err != nil {
		t.Fatal(err)
	}
	for at := uint64(0); at < 1000; at += 10 {
		o.write([]byte("x"), at)
		o.cut(at)
	}
	if n := o.store.next - 1; n < 5 || n > 6 {
		t.Errorf("%d frames in a chatty second", n)
	}
	o.cut(1500)
	before := o.store.next
	o.write([]byte("y"), 2000)
	o.cut(2000)
	if o.store.next != before+1 {
		t.Error("after a quiet while, output is not framed at once")
	}
}

// A full spool leaves the middle out, as one skip, and takes frames again when there is room.
func TestFullSpool(t *testing.T) {
	dir := t.TempDir()
	o, err := newOutput(1<<30, func() (*os.File, error) { return tempFile(dir) })
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	o.memMax, o.spoolMax = 2*maxPiece, 3*maxPiece
	var wrote []byte
	put := func(n int) {
		for range n {
			b := bytes.Repeat([]byte{byte(len(wrote) >> 15)}, maxPiece)
			wrote = append(wrote, b...)
			o.write(b, 1)
		}
	}
	put(10)
	if len(o.frames) != 6 || o.frames[5].covers != 5 {
		t.Fatalf("%d frames are kept, the last covers %d", len(o.frames), o.frames[len(o.frames)-1].covers)
	}
	first, holes := collect(t, o, 1)
	next := o.store.next
	o.ack(next)
	put(4)
	second, more := collect(t, o, next)
	if len(more) != 0 || len(second) != 4*maxPiece {
		t.Errorf("after the ack %d bytes are kept and %d skips made", len(second), len(more))
	}
	reckon(t, wrote, append(first, second...), holes)
}

func TestBrokenSpoolIsASkip(t *testing.T) {
	dir := t.TempDir()
	o, err := newOutput(1<<30, func() (*os.File, error) { return tempFile(dir) })
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	o.memMax = 0
	o.write(make([]byte, maxPiece), 0)
	o.spool.Close()
	f, after, err := o.frame(1)
	if err == nil || f.Kind != wire.FrameSkip || f.Skipped != maxPiece || after != 2 {
		t.Errorf("frame %+v, %v", f, err)
	}
	if again, _, err := o.frame(1); err != nil || again.Kind != wire.FrameSkip || again.Skipped != maxPiece {
		t.Errorf("again: %+v, %v", again, err)
	}
}

func BenchmarkOutput(b *testing.B) {
	p := make([]byte, 32<<10)
	b.SetBytes(int64(len(p)))
	o, err := newOutput(1<<20, nil)
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	for b.Loop() {
		at := uint64(time.Since(start).Milliseconds())
		o.write(p, at)
		o.cut(at)
		o.ack(o.store.next)
	}
}
