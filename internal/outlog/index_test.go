package outlog

import (
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestIndexIsLikeAMap compares the tables with Go's through inserts and drops, with keys that fall together.
func TestIndexIsLikeAMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, m := newIndex(), make(map[Key]uint64)
		for i := range rapid.IntRange(0, 400).Draw(t, "n") {
			k := Key{rapid.Uint64Range(0, 12).Draw(t, "run"), rapid.Uint32Range(0, 12).Draw(t, "target")}
			switch rapid.IntRange(0, 9).Draw(t, "op") {
			default:
				x.add(&record{key: k, Frame: Frame{Seq: m[k] + 1, Kind: Data, Data: []byte("x")}, size: 10}, uint32(i), 8)
				m[k]++
			case 0, 1, 2:
				x.drop(k)
				delete(m, k)
			case 3:
				x.dropRun(k.Run)
				maps.DeleteFunc(m, func(o Key, _ uint64) bool { return o.Run == k.Run })
			}
		}
		if x.len() != len(m) {
			t.Fatalf("%d keys, want %d", x.len(), len(m))
		}
		var live int64
		for k, n := range m {
			e := x.find(k)
			if e == nil || e.lastSeq != n || e.stored != n || len(x.extents(e, nil)) != int(n) {
				t.Fatalf("%v: %+v, want %d", k, e, n)
			}
			live += 10 * int64(n)
		}
		for _, n := range x.live {
			live -= n
		}
		if live != 0 {
			t.Fatalf("live bytes are off by %d", live)
		}
	})
}

func TestExtentsStayFew(t *testing.T) {
	s := open(t, NewLossy(1), dir, Options{}, nil)
	fill(t, s, 8<<20, 100, 50)
	fill2 := Key{1 << 40, 0}
	for i := range uint64(64) {
		must(t, s.Append(fill2, data(i+1, 64<<10)))
	}
	n := 0
	for _, o := range s.index.over {
		n += len(o.extents)
	}
	if most := (12<<20)/sparse + 64 + 100; n > most {
		t.Errorf("%d extents, want at most %d", n, most)
	}
}

func TestExtentSaturates(t *testing.T) {
	e := newExtent(1<<63, 1<<63, 7, 1<<31, 1<<20)
	if e.seq() != maxSeq || e.own() != 1<<20 || e.pos != 1<<63 || e.off != 1<<31 {
		t.Errorf("%+v", e)
	}
	exts := []extent{newExtent(0, 1, 1, 8, 10), newExtent(0, maxSeq+5, 2, 8, 10), newExtent(0, maxSeq+9, 3, 8, 10)}
	for seq, want := range map[uint64]int{0: 0, 1: 0, 5: 0, maxSeq + 7: 0} {
		if got := bySeq(exts, seq); got != want {
			t.Errorf("frame %d: extent %d, want %d", seq, got, want)
		}
	}
}

// TestMixedKeys reads frames of many keys that are mixed so finely that the chains are needed, from sealed segments and
// from the head while it grows.
func TestMixedKeys(t *testing.T) {
	s := open(t, NewLossy(1), dir, Options{SegmentBytes: 1 << 20}, nil)
	r := rand.New(rand.NewPCG(1, 1))
	m := model{}
	for round := range 3 {
		for range 8000 {
			k := Key{r.Uint64N(40), r.Uint32N(10)}
			f := data(m.next(k), 90+r.IntN(20))
			m[k] = append(m[k], f)
			must(t, s.Append(k, f))
		}
		must(t, s.Drop(Key{uint64(round), 1}))
		delete(m, Key{uint64(round), 1})
		for _, k := range slices.SortedFunc(maps.Keys(m), func(a, b Key) int { return int(a.Run) - int(b.Run) }) {
			checkKey(t, s, k, m[k])
		}
	}
	if len(s.chains.list) == 0 {
		t.Error("no chain was needed")
	}
	must(t, s.Compact(1, 2))
	for k := range m {
		checkKey(t, s, k, m[k])
	}
}

func TestMillionKeysFitIn64MiB(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a second")
	}
	begun := time.Now()
	mib := indexMiB()
	t.Logf("%.1f MiB, %v", mib, time.Since(begun))
	if mib > 64 {
		t.Errorf("%.1f MiB for a million keys", mib)
	}
}
