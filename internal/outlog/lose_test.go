package outlog

import (
	"errors"
	"fmt"
	"testing"
)

// readStream gives a key's bytes, nothing where there are none.
func readStream(t *testing.T, s *Store, k Key) string {
	t.Helper()
	var out []byte
	err := s.Frames(k, 0, func(f Frame) bool { out = append(out, f.Data...); return true })
	if err != nil && !errors.Is(err, ErrNoOutput) {
		t.Fatal(err)
	}
	return string(out)
}

// What nobody has is given up: reads work again, of what there is and of what comes, and the same calls give the same list on
// a node that had the segments. A restart changes nothing.
func TestLostSegmentsAreGivenUp(t *testing.T) {
	a, b, disk, _ := pair(t)
	lost := b.Missing()
	if len(lost) != 4 {
		t.Fatalf("%d are missing", len(lost))
	}
	k := Key{9, 9}
	for _, s := range []*Store{a, b} {
		must(t, s.Append(k, Frame{Seq: 1, Kind: Data, Data: []byte("before ")})) // into a head that has a hole on b
		must(t, s.Lose(lost))
		must(t, s.Lose(lost))
		must(t, s.Append(k, Frame{Seq: 2, Kind: Data, Data: []byte("after")}))
		if !s.Complete() || len(s.Missing()) > 0 {
			t.Fatal("reads don't work")
		}
		if got := readStream(t, s, Key{1, 1}); got != "" {
			t.Errorf("%d bytes of what is lost", len(got))
		}
		if got := readStream(t, s, k); got != "after" {
			t.Errorf("%q", got)
		}
	}
	if x, y := fmt.Sprint(a.Manifest().Segments), fmt.Sprint(b.Manifest().Segments); x != y {
		t.Errorf("the lists differ:\n%s\n%s", x, y)
	}
	m := b.Manifest()
	must(t, b.Sync(m))
	must(t, b.Release(m))
	must(t, b.Close())
	disk.Crash()
	opts := testOpts
	opts.Origin = "b"
	again := open(t, disk, dir, opts, &m)
	if got := readStream(t, again, k); got != "after" || !again.Complete() {
		t.Errorf("after a restart: %q", got)
	}
}

// Only what is named goes: the rest is read as it was.
func TestWhatIsNotLostStays(t *testing.T) {
	a, b, _, _ := pair(t)
	for _, no := range []uint64{1, 3, 4} {
		r, err := a.Segment(no)
		must(t, err)
		must(t, b.Supply(r.Info, &sectionOf{r: r}))
		must(t, r.Close())
	}
	lost := b.Missing()
	if len(lost) != 1 || lost[0].No != 2 {
		t.Fatalf("%+v", lost)
	}
	for _, s := range []*Store{a, b} {
		must(t, s.Lose([]SegmentInfo{{No: 77, Last: 77}, {No: 3, Last: 3, Gen: 9}}))
		must(t, s.Lose(lost))
	}
	for _, k := range []Key{{1, 1}, {1, 2}} {
		x, y := readStream(t, a, k), readStream(t, b, k)
		if x == "" || x != y {
			t.Errorf("%v: %d and %d bytes", k, len(x), len(y))
		}
	}
}

// sectionOf reads a segment from its beginning.
type sectionOf struct {
	r   *SegmentReader
	off int64
}

func (s *sectionOf) Read(p []byte) (int, error) {
	n, err := s.r.ReadAt(p, s.off)
	s.off += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func TestAFeedGoesOnBehindWhatIsLost(t *testing.T) {
	opts := testOpts
	a := openFeed(t, NewLossy(1), opts, nil)
	rec := make([]byte, 100)
	for seq := uint64(1); seq <= 30; seq++ {
		must(t, a.Append(seq, rec, 1<<20))
	}
	opts.Origin = "b"
	b := openFeed(t, NewLossy(2), opts, nil)
	must(t, b.Restore(a.Manifest()))
	lost := b.Segments().Missing()
	if len(lost) < 3 {
		t.Fatalf("%d are missing", len(lost))
	}
	for _, f := range []*Feed{a, b} {
		must(t, f.Lose(lost))
		must(t, f.Append(31, rec, 1<<20))
		must(t, f.Lose(lost))
		if got := f.Bounds(); got != (Bounds{First: 31, Next: 32, Dropped: 30}) {
			t.Errorf("%+v", got)
		}
		var seqs []uint64
		must(t, f.Read(1, func(seq uint64, _ []byte) bool { seqs = append(seqs, seq); return true }))
		if fmt.Sprint(seqs) != "[31]" {
			t.Errorf("%v", seqs)
		}
	}
	if x, y := fmt.Sprint(a.Manifest().Segments), fmt.Sprint(b.Manifest().Segments); x != y {
		t.Errorf("the lists differ:\n%s\n%s", x, y)
	}
}
