package outlog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
)

func data(seq uint64, n int) Frame {
	return Frame{Seq: seq, Kind: Data, AtMillis: seq * 10, Data: bytes.Repeat([]byte{byte(seq)}, n)}
}

// grow appends frames of n bytes to keys in turn until segment no is begun.
func grow(t testing.TB, s *Store, no uint64, n int, keys ...Key) model {
	t.Helper()
	m := model{}
	for i := 0; s.Manifest().Segments[len(s.Manifest().Segments)-1].No < no; i++ {
		k := keys[i%len(keys)]
		o := op{name: "append", key: k, frame: data(m.next(k), n)}
		m.apply(o)
		must(t, o.apply(s))
	}
	return m
}

func TestRefusals(t *testing.T) {
	s := open(t, NewLossy(1), dir, testOpts, nil)
	k := Key{1, 1}
	for name, c := range map[string]struct {
		f    Frame
		want error
	}{
		"no kind":         {Frame{Seq: 1, Data: []byte("x")}, ErrKind},
		"drop kind":       {Frame{Seq: 1, Kind: kindDropKey}, ErrKind},
		"skip with data":  {Frame{Seq: 1, Kind: Skip, Data: []byte("x")}, ErrKind},
		"data with count": {Frame{Seq: 1, Kind: Data, Skipped: 1}, ErrKind},
		"too large":       {Frame{Seq: 1, Kind: Data, Data: make([]byte, MaxData+1)}, ErrTooLarge},
	} {
		if err := s.Append(k, c.f); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	must(t, s.Append(k, data(1, MaxData)))
	p := make([]byte, MaxData)
	n, err := s.ReadAt(k, p, 0)
	must(t, err)
	if n != MaxData || p[n-1] != 1 {
		t.Errorf("%d bytes read of the largest frame", n)
	}
	if _, err := s.ReadAt(k, p, MaxData); !errors.Is(err, io.EOF) {
		t.Errorf("read at the end: %v", err)
	}
	if _, err := s.ReadAt(k, p, -1); err == nil {
		t.Error("read at a negative offset")
	}
}

func TestFramesStopsWhenTold(t *testing.T) {
	s := open(t, NewLossy(1), dir, testOpts, nil)
	k := Key{1, 1}
	grow(t, s, 4, 50, k)
	var got []uint64
	must(t, s.Frames(k, 3, func(f Frame) bool {
		got = append(got, f.Seq)
		return len(got) < 2
	}))
	if !slices.Equal(got, []uint64{3, 4}) {
		t.Errorf("frames %v", got)
	}
}

// TestOpenRefusesWhatDiffers damages the files under a node's own manifest.
func TestOpenRefusesWhatDiffers(t *testing.T) {
	for name, harm := range map[string]func(*Lossy, Manifest){
		"sealed segment gone": func(l *Lossy, m Manifest) { _ = l.Remove(segPath(m.Segments[1])) },
		"sealed segment cut": func(l *Lossy, m Manifest) {
			f, _ := l.Open(segPath(m.Segments[1]), false)
			_ = f.Truncate(m.Segments[1].Bytes - 1)
		},
		"head gone": func(l *Lossy, m Manifest) { _ = l.Remove(segPath(m.Segments[len(m.Segments)-1])) },
		"head cut": func(l *Lossy, m Manifest) {
			head := m.Segments[len(m.Segments)-1]
			f, _ := l.Open(segPath(head), false)
			_ = f.Truncate(head.Bytes - 1)
		},
		"bit flipped in the head": func(l *Lossy, m Manifest) { l.Corrupt(segPath(m.Segments[len(m.Segments)-1]), 40, 1) },
		"bit flipped and no index": func(l *Lossy, m Manifest) {
			l.Corrupt(segPath(m.Segments[0]), 40, 1)
			_ = l.Remove(filepath.Join(dir, m.Segments[0].index()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk := NewLossy(1)
			s := open(t, disk, dir, testOpts, nil)
			grow(t, s, 4, 50, Key{1, 1}, Key{1, 2})
			must(t, s.Append(Key{2, 1}, data(1, 100)))
			m := s.Manifest()
			must(t, s.Sync(m))
			harm(disk, m)
			_, err := Open(disk, dir, testOpts, &m)
			mustBe(t, err, ErrMismatch)
			foreign := testOpts
			foreign.Origin = "b"
			b := open(t, disk, dir, foreign, &m)
			if len(b.Missing()) != 1 {
				t.Errorf("of another's manifest %d segments are missing, want 1", len(b.Missing()))
			}
		})
	}
}

func TestDamagedIndexFileIsNotTrusted(t *testing.T) {
	disk := NewLossy(1)
	s := open(t, disk, dir, testOpts, nil)
	m := grow(t, s, 4, 50, Key{1, 1}, Key{1, 2})
	snap := s.Manifest()
	must(t, s.Sync(snap))
	for off := int64(0); ; off++ {
		if !disk.Corrupt(filepath.Join(dir, snap.Segments[0].index()), off, 0x10) {
			break
		}
		s = open(t, disk, dir, testOpts, &snap)
		m.check(t, s)
	}
}

// TestBitFlips flips every byte of a sealed segment: reads give the right bytes or ErrCorrupt.
func TestBitFlips(t *testing.T) {
	disk := NewLossy(1)
	s := open(t, disk, dir, testOpts, nil)
	keys := []Key{{1, 1}, {1, 2}, {3, 1}}
	m := grow(t, s, 3, 60, keys...)
	want := make(map[Key][]byte)
	for _, k := range keys {
		for _, f := range m[k] {
			want[k] = append(want[k], f.Data...)
		}
	}
	seg := s.Manifest().Segments[0]
	caught := 0
	for off := range seg.Bytes {
		disk.Corrupt(segPath(seg), off, 1<<(off%8))
		for _, k := range keys {
			got, err := io.ReadAll(io.NewSectionReader(keyReader{s, k}, 0, 1<<40))
			var corrupt *CorruptError
			if errors.As(err, &corrupt) && errors.Is(err, ErrCorrupt) && corrupt.Segment == seg.No {
				caught++
			} else if err != nil {
				t.Fatalf("byte %d: %v", off, err)
			}
			if !bytes.Equal(got, want[k][:len(got)]) || (err == nil && len(got) != len(want[k])) {
				t.Fatalf("byte %d: wrong bytes of %v", off, k)
			}
		}
		disk.Corrupt(segPath(seg), off, 1<<(off%8))
	}
	if caught < int(seg.Bytes-magicLen) {
		t.Errorf("%d flips caught of %d bytes", caught, seg.Bytes)
	}
}

// TestCompactLeavesWhatIsCorrupt: the good frames of the segment can still be read, and it isn't proposed again.
func TestCompactLeavesWhatIsCorrupt(t *testing.T) {
	disk := NewLossy(1)
	s := open(t, disk, dir, testOpts, nil)
	m := grow(t, s, 2, 60, Key{1, 2}, Key{1, 1}, Key{1, 3})
	seg := s.Manifest().Segments[0]
	must(t, s.Drop(Key{1, 1}, Key{1, 3}))
	disk.Corrupt(segPath(seg), seg.Bytes-1, 1)
	if _, _, ok := s.HalfDead(); !ok {
		t.Fatal("nothing to compact")
	}
	must(t, s.Compact(1, 1))
	if s.Manifest().Segments[0].Gen != 0 {
		t.Error("compacted")
	}
	mustBe(t, s.Damaged(), ErrCorrupt)
	if from, to, ok := s.HalfDead(); ok {
		t.Errorf("proposed again: %d to %d", from, to)
	}
	got := make([]byte, 60)
	_, err := s.ReadAt(Key{1, 2}, got, 0)
	must(t, err)
	if !bytes.Equal(got, m[Key{1, 2}][0].Data) {
		t.Error("wrong bytes")
	}
}

func TestSyncRefusesWhatCannotBeReadBack(t *testing.T) {
	disk := NewLossy(1)
	s := open(t, disk, dir, testOpts, nil)
	grow(t, s, 3, 60, Key{1, 1})
	m := s.Manifest()
	disk.Corrupt(segPath(m.Segments[0]), 100, 1)
	mustBe(t, s.Sync(m), ErrCorrupt)
}

func TestFailuresLatch(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
		for name, c := range map[string]struct {
			arm func(*Lossy, error)
			do  func(*Store) error
		}{
			"write": {
				func(l *Lossy, err error) { l.FailWrites(err, 3) },
				func(s *Store) error {
					for i := uint64(1); i < 1000; i++ {
						if err := s.Append(Key{7, 0}, data(i, 50)); err != nil {
							return err
						}
					}
					return nil
				},
			},
			"write in sync": {
				func(l *Lossy, err error) { l.FailWrites(err, 0) },
				func(s *Store) error { return s.Sync(s.Manifest()) },
			},
			"sync": {
				func(l *Lossy, err error) { l.FailSyncs(err, 0) },
				func(s *Store) error { return s.Sync(s.Manifest()) },
			},
			"sync of the directory": {
				func(l *Lossy, err error) { l.FailSyncs(err, 5) }, // three segments, two index files
				func(s *Store) error { return s.Sync(s.Manifest()) },
			},
			"compact": {
				func(l *Lossy, err error) { l.FailWrites(err, 0) },
				func(s *Store) error { return s.Compact(1, 2) },
			},
		} {
			t.Run(fmt.Sprintf("%s %v", name, cause), func(t *testing.T) {
				disk := NewLossy(3)
				s := open(t, disk, dir, testOpts, nil)
				m := grow(t, s, 3, 50, Key{1, 1}, Key{1, 2})
				must(t, s.Append(Key{2, 1}, data(1, 100)))
				c.arm(disk, cause)
				err := c.do(s)
				mustBe(t, err, ErrFailed)
				mustBe(t, err, cause)
				disk.FailWrites(nil, 0)
				disk.FailSyncs(nil, 0)
				mustBe(t, s.Append(Key{9, 1}, data(1, 1)), ErrFailed)
				mustBe(t, s.Drop(Key{1, 1}), ErrFailed)
				mustBe(t, s.DropRun(1), ErrFailed)
				mustBe(t, s.Compact(1, 9), ErrFailed)
				mustBe(t, s.Sync(s.Manifest()), ErrFailed)
				mustBe(t, s.Restore(s.Manifest()), ErrFailed)
				mustBe(t, s.Failed(), cause)
				checkKey(t, s, Key{1, 2}, m[Key{1, 2}])
			})
		}
	}
}

// TestFilesLiveUntilReleased: a snapshot's segments stay until a newer one is durable, then go.
func TestFilesLiveUntilReleased(t *testing.T) {
	root := t.TempDir()
	s := open(t, OS(), root, testOpts, nil)
	m := grow(t, s, 4, 60, Key{1, 1}, Key{1, 2})
	old := s.Manifest()
	must(t, s.Sync(old))
	must(t, s.Drop(Key{1, 1}))
	must(t, s.Compact(1, 3))
	must(t, s.Release(old))
	open(t, OS(), copyDir(t, root), testOpts, &old)

	fresh := s.Manifest()
	must(t, s.Sync(fresh))
	must(t, s.Release(fresh))
	if u := s.Usage(); u.Retired != 0 {
		t.Errorf("usage %+v", u)
	}
	var names []string
	entries, err := os.ReadDir(root)
	must(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := []string{"0000000001.0001.idx", "0000000001.0001.seg", "0000000004.0000.seg"}
	if !slices.Equal(names, want) {
		t.Errorf("files %v, want %v", names, want)
	}
	delete(m, Key{1, 1})
	m.check(t, open(t, OS(), copyDir(t, root), testOpts, &fresh))
}

func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	must(t, os.CopyFS(to, os.DirFS(from)))
	return to
}

func TestOpenLeavesOtherFilesAlone(t *testing.T) {
	root := t.TempDir()
	must(t, os.WriteFile(filepath.Join(root, "notes"), []byte("x"), 0o600))
	must(t, os.WriteFile(filepath.Join(root, "0000000099.0000.seg"), []byte("x"), 0o600))
	open(t, OS(), root, testOpts, nil)
	if _, err := os.Stat(filepath.Join(root, "notes")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(root, "0000000099.0000.seg")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a stray segment: %v", err)
	}
}

// TestSameCallsSameFiles runs one sequence on two disks, with snapshots on one of them, and compares the bytes.
func TestSameCallsSameFiles(t *testing.T) {
	a, b := t.TempDir(), t.TempDir()
	sums := func(dir string, snapshots bool) map[string]string {
		s := open(t, OS(), dir, testOpts, nil)
		r := rand.New(rand.NewPCG(1, 2))
		seqs := make(map[Key]uint64)
		for i := range 2000 {
			k := Key{r.Uint64N(20), r.Uint32N(5)}
			switch d := r.IntN(100); {
			case d < 90:
				seqs[k]++
				must(t, s.Append(k, data(seqs[k], r.IntN(200))))
			case d < 95:
				must(t, s.DropRun(k.Run))
			default:
				if from, to, ok := s.HalfDead(); ok {
					must(t, s.Compact(from, to))
				}
			}
			if snapshots && i%200 == 0 {
				m := s.Manifest()
				must(t, s.Sync(m))
				must(t, s.Release(m))
			}
		}
		return fileSums(t, s)
	}
	x, y := sums(a, false), sums(b, true)
	if len(x) < 10 || !maps.Equal(x, y) {
		t.Errorf("files differ: %v, %v", x, y)
	}
}

func TestFewFilesStayOpen(t *testing.T) {
	s := open(t, OS(), t.TempDir(), Options{SegmentBytes: 600, MaxOpenFiles: 5}, nil)
	m := grow(t, s, 200, 60, Key{1, 1}, Key{1, 2})
	m.check(t, s)
	s.files.mu.Lock()
	defer s.files.mu.Unlock()
	if n := len(s.files.open); n > 5 {
		t.Errorf("%d files open", n)
	}
}

// TestReadersBesideTheWriter reads all the time while the writer appends, drops, compacts and takes snapshots.
func TestReadersBesideTheWriter(t *testing.T) {
	s := open(t, OS(), t.TempDir(), Options{SegmentBytes: 20 << 10, Origin: "a"}, nil)
	const keys, frames = 8, 1500
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for n := range 3 {
		readers.Go(func() {
			p := make([]byte, 3000)
			for i := uint64(n); ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				readOnce(t, s, Key{1, uint32(i % keys)}, p)
				readOnce(t, s, Key{2, uint32(i % keys)}, p)
			}
		})
	}
	readers.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			m := s.Manifest()
			if err := errors.Join(s.Sync(m), s.Release(m)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i := uint64(1); i <= frames; i++ {
		for k := range uint32(keys) {
			must(t, s.Append(Key{1, k}, stamped(i)))
			must(t, s.Append(Key{2, k}, stamped((i-1)%300+1)))
		}
		if i%300 == 0 {
			must(t, s.DropRun(2))
		}
		if i%50 == 0 {
			if from, to, ok := s.HalfDead(); ok {
				must(t, s.Compact(from, to))
			}
		}
	}
	close(stop)
	readers.Wait()
	for k := range uint32(keys) {
		if st, _ := s.Stat(Key{1, k}); st.LastSeq != frames || st.Stored != frames*stampLen {
			t.Errorf("key %d: %+v", k, st)
		}
	}
}

const stampLen = 40

// stamped is a frame whose bytes tell where in the stream they stand.
func stamped(seq uint64) Frame {
	return Frame{Seq: seq, Kind: Data, Data: fmt.Appendf(nil, "%*d\n", stampLen-1, seq)}
}

func readOnce(t *testing.T, s *Store, k Key, p []byte) {
	st, ok := s.Stat(k)
	if !ok {
		return
	}
	off := rand.Int64N(int64(st.Stored)/stampLen+1) * stampLen
	n, err := s.ReadAt(k, p, off)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, ErrNoOutput) {
		t.Errorf("%v at %d: %v", k, off, err)
		return
	}
	for i := 0; i+stampLen <= n; i += stampLen {
		want := stamped(uint64(off+int64(i))/stampLen + 1).Data
		if !bytes.Equal(p[i:i+stampLen], want) {
			t.Errorf("%v at %d: %q", k, off+int64(i), p[i:i+stampLen])
			return
		}
	}
	last := uint64(0)
	err = s.Frames(k, 5, func(f Frame) bool {
		if f.Seq < 5 || (last > 0 && f.Seq != last+1) {
			t.Errorf("%v: frame %d after %d", k, f.Seq, last)
		}
		last = f.Seq
		return f.Seq < 50
	})
	if err != nil && !errors.Is(err, ErrNoOutput) {
		t.Errorf("%v: %v", k, err)
	}
}

// Frames that are not in the file yet, mixed finely with those of other keys: the way from one to the next is found by reading
// the segment from its beginning, which is in the file.
func TestFindsMixedFramesBeforeTheyAreFlushed(t *testing.T) {
	s := open(t, NewLossy(1), dir, Options{}, nil)
	mixed, other := Key{1, 1}, Key{2, 1}
	seq := uint64(0)
	fill := func(bytes int) {
		for range bytes / 1000 {
			seq++
			must(t, s.Append(other, data(seq, 1000)))
		}
	}
	fill(flushAt + 2000) // what follows begins behind the file's end
	must(t, s.Append(mixed, data(1, 100)))
	fill(near + 10_000)
	must(t, s.Append(mixed, data(2, 100)))
	var got []uint64
	must(t, s.Frames(mixed, 0, func(f Frame) bool { got = append(got, f.Seq); return true }))
	if !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("frames %v, want 1 and 2", got)
	}
}
