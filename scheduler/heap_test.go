package scheduler

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestHeap: whatever is pushed, moved and removed, the items come out in order and know their places.
func TestHeap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h heap[*planned]
		var in []*planned
		for i, op := range rapid.SliceOf(rapid.IntRange(0, 9)).Draw(t, "ops") {
			order := rapid.Int64Range(0, 20).Draw(t, "order")
			switch {
			case op < 5 || len(in) == 0:
				x := &planned{next: order, rank: i, slot: -1}
				h.push(x)
				in = append(in, x)
			case op < 7:
				x := in[op%len(in)]
				x.next = order
				h.push(x)
			default:
				i := op % len(in)
				h.remove(in[i])
				h.remove(in[i]) // twice does no harm
				in = slices.Delete(in, i, i+1)
			}
			for i, x := range h.items {
				if x.slot != i {
					t.Fatalf("item %d thinks it is at %d", i, x.slot)
				}
			}
		}
		if len(h.items) != len(in) {
			t.Fatalf("%d items, want %d", len(h.items), len(in))
		}
		var last *planned
		for x, ok := h.first(); ok; x, ok = h.first() {
			if last != nil && x.before(last) {
				t.Fatalf("%+v came after %+v", x, last)
			}
			last = x
			h.remove(x)
		}
	})
}
