package app

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// By how much the heap may grow between two collections. Most of a large node's heap is the record, which lives long: with
// the usual doubling a million targets would hold twice their memory (bench record). A small node's heap may grow by some
// fixed amount, or a node at work would collect dozens of times a second (a tenth of its CPU, bench runs).
const (
	leastGrowth  = 50       // percent
	mostGrowth   = 800      // percent; only for heaps of a few MiB
	growthAlways = 32 << 20 // bytes that it may grow by, whatever its size
)

// growthFor gives by how many percent a heap with so many live bytes may grow.
func growthFor(live uint64) int {
	return int(min(max(growthAlways*100/max(live, 1), leastGrowth), mostGrowth))
}

// spareMemory sets the process's collector for a heap of any size: what a node loads at its start is not known before.
func spareMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(leastGrowth)
	}
}

// tuneCollector sets it anew after each collection, by what that found alive, until ctx ends. An operator's GOGC wins.
func tuneCollector(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	now := 0
	for {
		collected := nextCollection()
		metrics.Read(live)
		// Setting it stops the process for some microseconds: not for a little.
		if p := growthFor(live[0].Value.Uint64()); 10*abs(p-now) > now {
			debug.SetGCPercent(p)
			now = p
		}
		select {
		case <-ctx.Done():
			spareMemory()
			return nil
		case <-collected:
		}
	}
}

// nextCollection gives a channel that is closed after the next collection: that one finds a thing that nobody holds.
func nextCollection() <-chan struct{} {
	done := make(chan struct{})
	runtime.AddCleanup(new([64]byte), func(done chan struct{}) { close(done) }, done)
	return done
}

func abs(n int) int { return max(n, -n) }
