package app

import (
	"context"
	"runtime"
	"runtime/debug"
	"testing"
)

func TestGrowthFor(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 800}, {1 << 20, 800}, {8 << 20, 400}, {32 << 20, 100}, {64 << 20, 50}, {300 << 20, 50}} {
		if got := growthFor(c.live); got != c.want {
			t.Errorf("growthFor(%d MiB) = %d, want %d", c.live>>20, got, c.want)
		}
	}
}

func TestCollectorFollowsTheHeap(t *testing.T) {
	t.Setenv("GOGC", "")
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- tuneCollector(ctx) }()
	large := make([]byte, 100<<20)
	// Its percentage can be read only by setting it: the collector's goal tells it too.
	for {
		runtime.GC()
		if m := stats(); m.HeapAlloc > uint64(len(large)) && m.NextGC < m.HeapAlloc*7/4 {
			break // half of it, and some slack
		}
		runtime.Gosched()
	}
	runtime.KeepAlive(large)
	cancel()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := debug.SetGCPercent(100); got != leastGrowth {
		t.Errorf("after its end the heap may grow by %d %%, want %d", got, leastGrowth)
	}
}

func stats() *runtime.MemStats {
	m := new(runtime.MemStats)
	runtime.ReadMemStats(m)
	return m
}
