package outlog

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// pair gives a store with some segments, and one on another node that was restored from its manifest.
func pair(t *testing.T) (a, b *Store, disk *Lossy, m model) {
	a = open(t, NewLossy(1), dir, testOpts, nil)
	m = grow(t, a, 4, 60, Key{1, 1}, Key{1, 2})
	opts := testOpts
	opts.Origin = "b"
	disk = NewLossy(2)
	b = open(t, disk, dir, opts, nil)
	must(t, b.Restore(viaCBOR(t, a.Manifest())))
	return a, b, disk, m
}

func readAll(t *testing.T, s *Store, no uint64) (SegmentInfo, []byte) {
	t.Helper()
	r, err := s.Segment(no)
	must(t, err)
	b, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<40))
	must(t, err)
	must(t, r.Close())
	return r.Info, b
}

func TestSupplyChecksWhatItGets(t *testing.T) {
	a, b, _, _ := pair(t)
	info, whole := readAll(t, a, 2)
	flipped := bytes.Clone(whole)
	flipped[50] ^= 1
	for name, c := range map[string]struct {
		info SegmentInfo
		r    io.Reader
		want error
	}{
		"flipped":            {info, bytes.NewReader(flipped), ErrMismatch},
		"short":              {info, bytes.NewReader(whole[:len(whole)-1]), ErrMismatch},
		"another generation": {SegmentInfo{No: 2, Last: 2, Gen: 1, Bytes: info.Bytes, CRC: info.CRC}, bytes.NewReader(whole), ErrStale},
		"unknown number":     {SegmentInfo{No: 77, Last: 77}, strings.NewReader(""), ErrStale},
		"broken stream":      {info, io.MultiReader(bytes.NewReader(whole[:9]), errReader{}), errBroken},
	} {
		if err := b.Supply(c.info, c.r); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if n := len(b.Missing()); n != 4 {
			t.Fatalf("%s: %d missing", name, n)
		}
	}
	must(t, b.Supply(info, bytes.NewReader(whole)))
	mustBe(t, b.Supply(info, bytes.NewReader(whole)), ErrStale)
	must(t, b.Failed())
}

var errBroken = errors.New("stream broken")

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errBroken }

// TestMissingSegmentsAreNotServed: what a node lacks it can't give to others, nor compact.
func TestMissingSegmentsAreNotServed(t *testing.T) {
	_, b, _, _ := pair(t)
	_, err := b.Segment(1)
	mustBe(t, err, ErrNotHere)
	if _, _, ok := b.HalfDead(); ok {
		t.Error("proposes a compaction")
	}
	if _, ok := b.Stat(Key{1, 1}); ok {
		t.Error("knows a key")
	}
	mustBe(t, b.Frames(Key{1, 1}, 0, nil), ErrNotHere)
}

// TestMissingOutlivesACrash: what was missing at this node's own snapshot may be missing after a restart.
func TestMissingOutlivesACrash(t *testing.T) {
	a, b, disk, m := pair(t)
	for _, s := range []*Store{a, b} {
		must(t, s.Compact(1, 2)) // b can't know the result
		must(t, s.Append(Key{5, 1}, data(1, 100)))
	}
	m[Key{5, 1}] = []Frame{data(1, 100)}
	own := b.Manifest()
	must(t, b.Sync(own))
	own = viaCBOR(t, own)
	disk.Crash()
	opts := testOpts
	opts.Origin = "b"
	b = open(t, disk, dir, opts, &own)
	if n := len(b.Missing()); n != 3 {
		t.Fatalf("%d missing", n)
	}
	for len(b.Missing()) > 0 {
		if b.Complete() {
			t.Fatal("complete while something is missing")
		}
		must(t, fetch(a, b, b.Missing()[0]))
	}
	if !b.Complete() {
		t.Fatal("not complete while nothing is missing")
	}
	m.check(t, b)
}

// TestLostSegmentIsFetchedAgain: a kept segment that proves rotten when the index is built becomes missing.
func TestLostSegmentIsFetchedAgain(t *testing.T) {
	a, b, disk, m := pair(t)
	todo := b.Missing()
	for _, i := range todo[:len(todo)-1] {
		must(t, fetch(a, b, i))
	}
	disk.Corrupt(segPath(todo[0]), 30, 4)
	mustBe(t, fetch(a, b, todo[len(todo)-1]), ErrCorrupt)
	if l := b.Missing(); len(l) != 1 || l[0].No != todo[0].No {
		t.Fatalf("missing %+v", l)
	}
	must(t, fetch(a, b, b.Missing()[0]))
	m.check(t, b)
}

// TestRestoreKeepsWhatIsEqual: a node that was only behind fetches what it lacks.
func TestRestoreKeepsWhatIsEqual(t *testing.T) {
	a := open(t, NewLossy(1), dir, testOpts, nil)
	opts := testOpts
	opts.Origin = "b"
	b := open(t, NewLossy(2), dir, opts, nil)
	grow(t, b, 3, 60, Key{1, 1}, Key{1, 2})
	m := grow(t, a, 5, 60, Key{1, 1}, Key{1, 2})
	must(t, b.Restore(viaCBOR(t, a.Manifest())))
	l := b.Missing()
	if len(l) != 3 || l[0].No != 3 {
		t.Fatalf("missing %+v", l)
	}
	for _, i := range l {
		must(t, fetch(a, b, i))
	}
	m.check(t, b)
	must(t, b.Sync(b.Manifest()))
}

func TestRestoreRefusesNonsense(t *testing.T) {
	s := open(t, NewLossy(1), dir, testOpts, nil)
	must(t, s.Append(Key{1, 1}, data(1, 1)))
	mustBe(t, s.Restore(Manifest{}), ErrManifest)
	must(t, s.Append(Key{1, 1}, data(2, 1)))
}
