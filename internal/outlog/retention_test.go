package outlog

import (
	"testing"
)

// TestRetentionKeepsTheStoreSmall lives through many runs, of which most are dropped some time later, some much later
// and a few never, and half never wrote anything. What is on disk must stay near what is alive, the list of segments
// short, and the work of compaction in proportion to what was written.
func TestRetentionKeepsTheStoreSmall(t *testing.T) {
	s := open(t, NewLossy(1), dir, Options{SegmentBytes: 4 << 10}, nil)
	const runs = 20_000
	written, moved := int64(0), int64(0)
	for run := uint64(1); run <= runs; run++ {
		if run%2 == 0 {
			for target := range uint32(3) {
				must(t, s.Append(Key{run, target}, data(1, 60)))
				written += 60
			}
		}
		for _, age := range []uint64{100, 3000} {
			if old := run - age; run > age && old%1000 != 0 && (old%50 == 0) == (age == 3000) {
				must(t, s.DropRun(old))
			}
		}
		for n := 0; ; n++ {
			from, to, ok := s.HalfDead()
			if !ok {
				break
			}
			if n > 50 {
				t.Fatalf("compaction without end: %d to %d, %+v", from, to, s.Usage())
			}
			before := s.Usage().Segments
			must(t, s.Compact(from, to))
			g := s.segs.find(from)
			if moved += g.Bytes; s.Usage().Segments > before {
				t.Fatal("more segments than before")
			}
		}
		must(t, s.Release(s.Manifest()))
		u := s.Usage()
		if limit := 3*u.Live + 8*s.opts.SegmentBytes; u.Total > limit {
			t.Fatalf("run %d: %+v on disk, want at most %d", run, u, limit)
		}
		if limit := int(8*u.Live/s.opts.SegmentBytes) + 20; u.Segments > limit {
			t.Fatalf("run %d: %+v, want at most %d segments", run, u, limit)
		}
	}
	if moved > 3*written {
		t.Errorf("%d bytes moved for %d written", moved, written)
	}
	t.Logf("%d bytes moved for %d written; %+v", moved, written, s.Usage())
}
