package outlog

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"testing"
)

func open(t testing.TB, fs FS, dir string, opts Options, m *Manifest) *Store {
	t.Helper()
	s, err := Open(fs, dir, opts, m)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	return s
}

// fill appends frames of size bytes, in turn for so many keys, until there are total bytes of data.
func fill(t testing.TB, s *Store, total int64, size int, keys uint64) {
	t.Helper()
	data := make([]byte, size)
	for i := range uint64(total) / uint64(size) {
		must(t, s.Append(Key{Run: i % keys / 100, Target: uint32(i % keys % 100)}, Frame{Kind: Data, Seq: i/keys + 1, AtMillis: i, Data: data}))
	}
}

var sizes = []int{100, 4 << 10, 64 << 10}

func BenchmarkAppend(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			s := open(b, OS(), b.TempDir(), Options{}, nil)
			data := make([]byte, size)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for i := uint64(0); b.Loop(); i++ {
				if err := s.Append(Key{Run: i % 1000}, Frame{Kind: Data, Seq: i/1000 + 1, AtMillis: i, Data: data}); err != nil {
					b.Fatal(err)
				}
				if i%(1<<30/uint64(size)) == 0 && i > 0 { // keep the disk small
					for run := range uint64(1000) {
						must(b, s.DropRun(run))
					}
					m := s.Manifest()
					must(b, s.Compact(1, m.Segments[len(m.Segments)-1].No))
					must(b, s.Release(s.Manifest()))
				}
			}
		})
	}
}

// BenchmarkReadAt reads the same stretch of all keys, then the next, as what follows the runs' ends does. Frames of
// 1,000 keys are mixed as finely as can be.
func BenchmarkReadAt(b *testing.B) {
	for _, size := range sizes {
		for _, keys := range []uint64{1, 1000} {
			b.Run(fmt.Sprintf("%dB/%dkeys", size, keys), func(b *testing.B) {
				s := open(b, OS(), b.TempDir(), Options{}, nil)
				fill(b, s, 256<<20, size, keys)
				st, _ := s.Stat(Key{})
				p := make([]byte, min(st.Stored, 32<<10))
				b.SetBytes(int64(len(p)))
				off, i := int64(0), uint64(0)
				for b.Loop() {
					n, err := s.ReadAt(Key{i / 100, uint32(i % 100)}, p, off)
					if err != nil && !errors.Is(err, io.EOF) {
						b.Fatal(err)
					}
					if i++; i < keys {
						continue
					}
					i = 0
					if off += int64(n); off+int64(len(p)) > int64(st.Stored) {
						off = 0
					}
				}
			})
		}
	}
}

// BenchmarkOpen measures a restart with 1 GiB of output after a snapshot, and with no index files (every byte read).
func BenchmarkOpen(b *testing.B) {
	for _, size := range []int{100, 64 << 10} {
		for _, keys := range []uint64{10_000, 1_000_000} {
			dir := b.TempDir()
			s := open(b, OS(), dir, Options{Origin: "a"}, nil)
			fill(b, s, 1<<30, size, keys)
			m := s.Manifest()
			for _, synced := range []bool{false, true} {
				if synced {
					must(b, s.Sync(m))
				}
				b.Run(fmt.Sprintf("%dB/%dkeys/index=%v", size, keys, synced), func(b *testing.B) {
					b.SetBytes(1 << 30)
					for b.Loop() {
						if !synced {
							b.StopTimer()
							must(b, s.flush())
							for _, i := range m.Segments {
								must(b, s.files.remove(i.index()))
							}
							b.StartTimer()
						}
						open(b, OS(), dir, Options{Origin: "a"}, &m)
					}
				})
			}
		}
	}
}

// indexMiB gives the memory of a million keys with one small frame each.
func indexMiB() float64 {
	heap := func() uint64 {
		runtime.GC()
		runtime.GC() // empties pools
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	x := newIndex()
	payload := make([]byte, 100)
	for i := range 1_000_000 {
		r := record{key: Key{Run: uint64(i)}, Frame: Frame{Seq: 1, Kind: Data, Data: payload}, size: 120}
		x.add(&r, uint32(i/100_000), int64(i%100_000)*120)
	}
	mib := float64(heap()-before) / (1 << 20)
	runtime.KeepAlive(x)
	return mib
}

func BenchmarkIndexMemory(b *testing.B) {
	for b.Loop() {
		b.ReportMetric(indexMiB(), "MiB/1Mkeys")
	}
}

// BenchmarkCompact rewrites a full segment of which half is dead: the writer stands still for that long.
func BenchmarkCompact(b *testing.B) {
	for _, size := range sizes {
		b.Run(fmt.Sprintf("%dB", size), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				s := open(b, OS(), b.TempDir(), Options{}, nil)
				fill(b, s, 17<<20, size, 200)
				must(b, s.DropRun(1))
				b.StartTimer()
				must(b, s.Compact(1, 1))
			}
		})
	}
}

func BenchmarkManifest(b *testing.B) {
	s := open(b, OS(), b.TempDir(), Options{SegmentBytes: 1 << 20}, nil)
	fill(b, s, 128<<20, 64<<10, 10)
	for b.Loop() {
		s.Manifest()
	}
}
