package outlog

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

const dir = "out"

// op is one call of the writer. It can be repeated on any store, and on the model.
type op struct {
	name     string
	key      Key
	frame    Frame
	from, to uint64
}

func (o op) apply(s *Store) error {
	switch o.name {
	case "append":
		return s.Append(o.key, o.frame)
	case "drop":
		return s.Drop(o.key)
	case "dropRun":
		return s.DropRun(o.key.Run)
	case "compact":
		return s.Compact(o.from, o.to)
	}
	return fmt.Errorf("no op %q", o.name)
}

// model is a store as simple as can be.
type model map[Key][]Frame

func (m model) apply(o op) {
	switch o.name {
	case "append":
		if l := m[o.key]; len(l) == 0 || l[len(l)-1].Seq < o.frame.Seq {
			m[o.key] = append(l, o.frame)
		}
	case "drop":
		delete(m, o.key)
	case "dropRun":
		maps.DeleteFunc(m, func(k Key, _ []Frame) bool { return k.Run == o.key.Run })
	}
}

func (m model) next(k Key) uint64 {
	l := m[k]
	if len(l) == 0 {
		return 1
	}
	return l[len(l)-1].Seq + 1
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

func must(t fataler, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("unexpected error: %v", err)
	}
}

func mustBe(t fataler, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want one that is %v", err, want)
	}
}

// check compares all of the store with the model.
func (m model) check(t fataler, s *Store) {
	t.Helper()
	var bytesLive int64
	for k, want := range m {
		bytesLive += checkKey(t, s, k, want)
	}
	u := s.Usage()
	if u.Live != bytesLive || u.Keys != len(m) {
		t.Fatalf("usage %+v, want live %d keys %d", u, bytesLive, len(m))
	}
	for run := uint64(0); run < 6; run++ {
		for target := uint32(0); target < 4; target++ {
			k := Key{run, target}
			if _, ok := m[k]; ok {
				continue
			}
			if _, ok := s.Stat(k); ok {
				t.Fatalf("%v is there", k)
			}
			_, err := s.ReadAt(k, make([]byte, 1), 0)
			mustBe(t, err, ErrNoOutput)
		}
	}
}

func checkKey(t fataler, s *Store, k Key, want []Frame) int64 {
	t.Helper()
	var stream []byte
	var skipped uint64
	var size int64
	for _, f := range want {
		stream = append(stream, f.Data...)
		skipped += f.Skipped
		size += int64(len(appendRecord(nil, k, f)))
	}
	st, ok := s.Stat(k)
	wantStat := Stat{want[len(want)-1].Seq, uint64(len(stream)), skipped, uint64(len(stream)) + skipped}
	if !ok || st != wantStat {
		t.Fatalf("%v: stat %+v %v, want %+v", k, st, ok, wantStat)
	}
	from := want[len(want)/2].Seq
	i := len(want) / 2
	must(t, s.Frames(k, from, func(f Frame) bool {
		if i == len(want) || !equalFrame(f, want[i]) {
			t.Fatalf("%v: frame %d is %+v", k, i, f)
		}
		i++
		return true
	}))
	if i != len(want) {
		t.Fatalf("%v: %d frames, want %d", k, i, len(want))
	}
	got, err := io.ReadAll(io.NewSectionReader(keyReader{s, k}, 0, 1<<40))
	must(t, err)
	if !bytes.Equal(got, stream) {
		t.Fatalf("%v: stream %q, want %q", k, got, stream)
	}
	part := make([]byte, 7)
	off := int64(len(stream) / 3)
	n, err := s.ReadAt(k, part, off)
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("read at %d: %v", off, err)
	}
	if end := min(int(off)+7, len(stream)); !bytes.Equal(part[:n], stream[off:end]) || (n < 7) != (err != nil) {
		t.Fatalf("%v: %q %v at %d, want %q", k, part[:n], err, off, stream[off:end])
	}
	return size
}

func equalFrame(a, b Frame) bool {
	return a.Seq == b.Seq && a.Kind == b.Kind && a.AtMillis == b.AtMillis && a.Skipped == b.Skipped && bytes.Equal(a.Data, b.Data)
}

type keyReader struct {
	s *Store
	k Key
}

func (r keyReader) ReadAt(p []byte, off int64) (int, error) { return r.s.ReadAt(r.k, p, off) }

var drawKey = rapid.Custom(func(t *rapid.T) Key {
	return Key{rapid.Uint64Range(0, 5).Draw(t, "run"), rapid.Uint32Range(0, 3).Draw(t, "target")}
})

func drawOp(t *rapid.T, m model, s *Store, again bool) op {
	o := op{key: drawKey.Draw(t, "key")}
	switch rapid.IntRange(0, 19).Draw(t, "op") {
	default:
		o.name = "append"
		o.frame = drawFrame(t, m.next(o.key), again)
	case 1:
		o.name = "drop"
	case 2:
		o.name = "dropRun"
	case 3:
		o.name = "compact"
		top := s.Manifest().Segments
		head := top[len(top)-1].No
		o.from = rapid.Uint64Range(1, head).Draw(t, "from")
		o.to = rapid.Uint64Range(o.from, head+1).Draw(t, "to")
	case 4, 5, 6:
		from, to, ok := s.HalfDead()
		if !ok {
			return drawOp(t, m, s, again)
		}
		o.name, o.from, o.to = "compact", from, to
	}
	return o
}

func drawFrame(t *rapid.T, next uint64, again bool) Frame {
	f := Frame{Kind: Data, Seq: next, AtMillis: rapid.Uint64Range(0, 1e6).Draw(t, "at")}
	switch rapid.IntRange(0, 9).Draw(t, "kind") {
	case 0:
		f.Kind, f.Skipped = Skip, rapid.Uint64Range(0, 1e9).Draw(t, "skipped")
		f.Seq += rapid.Uint64Range(0, 5).Draw(t, "range")
		return f
	case 1:
		if again {
			f.Seq = max(next, 2) - 1 // there already
		}
	}
	n := rapid.SampledFrom([]int{0, 1, 10, 40, 100, 300}).Draw(t, "size")
	f.Data = bytes.Repeat([]byte{byte(f.Seq), byte(n)}, n/2+1)[:n]
	return f
}

var testOpts = Options{SegmentBytes: 600, Origin: "a", MaxOpenFiles: 2}

// files gives the digests of all segment files that the store's manifest names, with the tail as it would be written.
func fileSums(t fataler, s *Store) map[string]string {
	sums := make(map[string]string)
	for _, i := range s.Manifest().Segments {
		r, err := s.Segment(i.No)
		must(t, err)
		b, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<30))
		must(t, err)
		must(t, r.Close())
		if int64(len(b)) != i.Bytes {
			t.Fatalf("segment %d has %d bytes, want %d", i.No, len(b), i.Bytes)
		}
		sums[i.name()] = fmt.Sprintf("%x", sha256.Sum256(b))
	}
	return sums
}

func viaCBOR(t fataler, m Manifest) Manifest {
	b, err := m.Encode()
	must(t, err)
	got, err := DecodeManifest(b)
	must(t, err)
	return got
}

// machine drives a store through anything that can happen to a node, beside one to which nothing happens.
type machine struct {
	disk    *Lossy
	s       *Store
	calm    *Store
	m       model
	log     []op
	pending *Manifest // taken, not yet durable
	pendAt  int       // ops in it
	durable *Manifest
	durAt   int
	crashes int
	moves   int
}

func (c *machine) do(t *rapid.T) {
	for range rapid.IntRange(1, 15).Draw(t, "n") {
		c.one(t)
	}
}

func (c *machine) one(t *rapid.T) {
	o := drawOp(t, c.m, c.s, true)
	c.log = append(c.log, o)
	c.m.apply(o)
	must(t, o.apply(c.s))
	must(t, o.apply(c.calm))
	if o.name == "compact" {
		c.moves++
	}
}

func (c *machine) snapshot(*rapid.T) {
	m := c.s.Manifest()
	c.pending, c.pendAt = &m, len(c.log)
}

func (c *machine) sync(t *rapid.T) {
	if c.pending == nil {
		return
	}
	must(t, c.s.Sync(*c.pending))
	m := viaCBOR(t, *c.pending)
	c.durable, c.durAt, c.pending = &m, c.pendAt, nil
}

func (c *machine) release(t *rapid.T) {
	if c.durable != nil {
		must(t, c.s.Release(*c.durable))
	}
}

func (c *machine) crash(t *rapid.T) {
	c.disk.Crash()
	s, err := Open(c.disk, dir, testOpts, c.durable)
	must(t, err)
	c.s, c.pending = s, nil
	c.crashes++
	for _, o := range c.log[c.durAt:] {
		must(t, o.apply(s))
	}
}

func (c *machine) stopped(t *rapid.T) {
	must(t, c.s.Close())
	s, err := Open(c.disk, dir, testOpts, c.durable)
	must(t, err)
	c.s, c.pending = s, nil
	for _, o := range c.log[c.durAt:] {
		must(t, o.apply(s))
	}
}

func TestStoreIsLikeTheModelThroughCrashes(t *testing.T) {
	crashes, moves := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		c := &machine{disk: NewLossy(rapid.Uint64().Draw(t, "seed")), m: model{}}
		var err error
		c.s, err = Open(c.disk, dir, testOpts, nil)
		must(t, err)
		c.calm, err = Open(NewLossy(0), dir, testOpts, nil)
		must(t, err)
		t.Repeat(map[string]func(*rapid.T){
			"do": c.do, "do more": c.do, "snapshot": c.snapshot, "sync": c.sync, "release": c.release, "crash": c.crash, "stop": c.stopped,
		})
		c.m.check(t, c.s)
		if a, b := fileSums(t, c.s), fileSums(t, c.calm); !maps.Equal(a, b) {
			t.Fatalf("files differ: %v, %v", a, b)
		}
		if a, b := c.s.Manifest(), c.calm.Manifest(); !slices.Equal(a.Segments, b.Segments) {
			t.Fatalf("manifests differ: %+v, %+v", a, b)
		}
		crashes, moves = crashes+c.crashes, moves+c.moves
	})
	if crashes == 0 || moves == 0 {
		t.Errorf("%d crashes, %d compactions: nothing was tried", crashes, moves)
	}
}

// TestNodeFedBySnapshot checks that a node that gets another's manifest and lacks some segments, or all, ends with
// the same files and the same answers, whatever is applied while it fetches.
func TestNodeFedBySnapshot(t *testing.T) {
	supplied, unknown := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		m := model{}
		a, err := Open(NewLossy(0), dir, testOpts, nil)
		must(t, err)
		opts := testOpts
		opts.Origin = "b"
		disk := NewLossy(1)
		b, err := Open(disk, dir, opts, nil)
		must(t, err)
		run := func(n int, on ...*Store) []op {
			var l []op
			for range n {
				o := drawOp(t, m, a, false)
				m.apply(o)
				l = append(l, o)
				for _, s := range on {
					must(t, o.apply(s))
				}
			}
			return l
		}
		run(rapid.IntRange(0, 40).Draw(t, "both"), a, b)
		run(rapid.IntRange(0, 60).Draw(t, "alone"), a)
		snap := viaCBOR(t, a.Manifest())
		must(t, b.Restore(snap))
		after := run(rapid.IntRange(0, 40).Draw(t, "after"), a, b)
		if rapid.Bool().Draw(t, "crash") {
			disk.Crash()
			b, err = Open(disk, dir, opts, &snap)
			must(t, err)
			for _, o := range after {
				must(t, o.apply(b))
			}
		}
		for len(b.Missing()) > 0 {
			want := b.Missing()[0]
			_, err := b.ReadAt(Key{}, nil, 0)
			mustBe(t, err, ErrNotHere)
			if want.Unknown {
				unknown++
			}
			must(t, fetch(a, b, want))
			supplied++
			run(rapid.IntRange(0, 5).Draw(t, "meanwhile"), a, b)
			if rapid.IntRange(0, 4).Draw(t, "restart") == 0 {
				own := b.Manifest()
				must(t, b.Sync(own))
				own = viaCBOR(t, own)
				disk.Crash()
				b, err = Open(disk, dir, opts, &own)
				must(t, err)
			}
		}
		m.check(t, a)
		m.check(t, b)
		if x, y := fileSums(t, a), fileSums(t, b); !maps.Equal(x, y) {
			t.Fatalf("files differ: %v, %v", x, y)
		}
		run(20, a, b)
		m.check(t, a)
		m.check(t, b)
		if x, y := a.Manifest(), b.Manifest(); !slices.Equal(x.Segments, y.Segments) {
			t.Fatalf("manifests differ: %+v, %+v", x, y)
		}
	})
	if supplied == 0 || unknown == 0 {
		t.Errorf("%d supplied, %d of them unknown: nothing was tried", supplied, unknown)
	}
}

// fetch brings a missing segment from one store to another.
func fetch(from, to *Store, want SegmentInfo) error {
	r, err := from.Segment(want.No)
	if err != nil {
		return err
	}
	defer r.Close()
	return to.Supply(r.Info, io.NewSectionReader(r, 0, 1<<40))
}

func segPath(i SegmentInfo) string { return filepath.Join(dir, i.name()) }
