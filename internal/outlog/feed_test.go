package outlog

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

var feedOpts = Options{SegmentBytes: 400, Origin: "a"}

const feedLimit = 1500

func rec(seq uint64) []byte {
	return fmt.Appendf(nil, "record %d %s", seq, bytes.Repeat([]byte{'.'}, int(seq*7%60)))
}

func openFeed(t fataler, fs FS, opts Options, m *Manifest) *Feed {
	t.Helper()
	f, err := OpenFeed(fs, "feed", opts, m)
	must(t, err)
	return f
}

// checkFeed reads all of a feed and compares it with what must be in it.
func checkFeed(t fataler, f *Feed, next uint64) {
	t.Helper()
	b := f.Bounds()
	if b.Next != next || b.Dropped != b.First-1 {
		t.Fatalf("bounds %+v, want next %d", b, next)
	}
	for _, from := range []uint64{0, b.First, (b.First + b.Next) / 2, b.Next} {
		want := max(from, b.First)
		must(t, f.Read(from, func(seq uint64, got []byte) bool {
			if seq != want || !bytes.Equal(got, rec(seq)) {
				t.Fatalf("record %d %q, want %d", seq, got, want)
			}
			want++
			return true
		}))
		if want != next {
			t.Fatalf("read from %d ended before %d, want %d", from, want, next)
		}
	}
}

func TestFeedDropsTheOldest(t *testing.T) {
	disk := NewLossy(1)
	f := openFeed(t, disk, feedOpts, nil)
	checkFeed(t, f, 1)
	for seq := uint64(1); seq <= 200; seq++ {
		must(t, f.Append(seq, rec(seq), feedLimit))
		must(t, f.Append(seq, []byte("again"), feedLimit))
		checkFeed(t, f, seq+1)
		if u := f.Usage(); u.Total > feedLimit || (seq > 100 && u.Total < feedLimit-2*feedOpts.SegmentBytes) {
			t.Fatalf("usage %+v", u)
		}
	}
	if f.Bounds().Dropped == 0 {
		t.Fatal("nothing dropped")
	}
	mustBe(t, f.Append(201, make([]byte, MaxData+1), feedLimit), ErrTooLarge)
	disk.FailWrites(io.ErrShortWrite, 0)
	for seq := uint64(201); seq < 5000 && f.Failed() == nil; seq++ {
		_ = f.Append(seq, rec(seq), feedLimit)
	}
	mustBe(t, f.Append(5000, rec(1), feedLimit), ErrFailed)
	mustBe(t, f.Append(1, rec(1), feedLimit), ErrFailed)
}

// TestFeedThroughCrashes appends, takes snapshots and loses power, and compares with a feed that has a quiet life.
func TestFeedThroughCrashes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		disk := NewLossy(rapid.Uint64().Draw(t, "seed"))
		f, calm := openFeed(t, disk, feedOpts, nil), openFeed(t, NewLossy(0), feedOpts, nil)
		next := uint64(1)
		var durable *Manifest
		snapAt := uint64(1)
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				for range rapid.IntRange(1, 20).Draw(t, "n") {
					must(t, f.Append(next, rec(next), feedLimit))
					must(t, calm.Append(next, rec(next), feedLimit))
					next++
				}
			},
			"snapshot": func(t *rapid.T) {
				m := f.Manifest()
				must(t, f.Sync(m))
				must(t, f.Release(m))
				m = viaCBOR(t, m)
				durable, snapAt = &m, next
			},
			"crash": func(t *rapid.T) {
				disk.Crash()
				f = openFeed(t, disk, feedOpts, durable)
				for seq := snapAt; seq < next; seq++ {
					must(t, f.Append(seq, rec(seq), feedLimit))
				}
			},
			"": func(t *rapid.T) { checkFeed(t, f, next) },
		})
		if a, b := f.Manifest(), calm.Manifest(); a.Dropped != b.Dropped || !slices.Equal(a.Segments, b.Segments) {
			t.Fatalf("manifests differ: %+v, %+v", a, b)
		}
		if a, b := fileSums(t, f.s), fileSums(t, calm.s); !maps.Equal(a, b) {
			t.Fatalf("files differ")
		}
	})
}

// TestFeedFedBySnapshot gives a new node another's manifest; it goes on appending and dropping while segments are
// missing, with the same bounds, and reads when they are here or dropped.
func TestFeedFedBySnapshot(t *testing.T) {
	for _, supply := range []bool{true, false} {
		a := openFeed(t, NewLossy(0), feedOpts, nil)
		seq := uint64(1)
		for ; seq < 100; seq++ {
			must(t, a.Append(seq, rec(seq), feedLimit))
		}
		opts := feedOpts
		opts.Origin = "b"
		b := openFeed(t, NewLossy(1), opts, nil)
		must(t, b.Restore(viaCBOR(t, a.Manifest())))
		missing := len(b.Segments().Missing())
		if missing < 3 {
			t.Fatalf("%d missing", missing)
		}
		mustBe(t, b.Read(0, nil), ErrNotHere)
		for n := 0; len(b.Segments().Missing()) > 0; n++ {
			must(t, a.Append(seq, rec(seq), feedLimit))
			must(t, b.Append(seq, rec(seq), feedLimit))
			if a.Bounds() != b.Bounds() {
				t.Fatalf("bounds %+v, %+v", a.Bounds(), b.Bounds())
			}
			seq++
			if l := b.Segments().Missing(); supply && len(l) > 0 {
				must(t, fetch(a.s, b.s, l[len(l)-1]))
			}
			if n > 1000 {
				t.Fatal("still missing")
			}
		}
		checkFeed(t, b, seq)
		if x, y := fileSums(t, a.s), fileSums(t, b.s); !maps.Equal(x, y) {
			t.Fatalf("files differ: %v, %v", x, y)
		}
		_, err := a.Segments().Segment(1)
		mustBe(t, err, ErrGone)
		_, err = a.Segments().Segment(1000)
		mustBe(t, err, ErrNotHere)
		must(t, b.Close())
	}
}
