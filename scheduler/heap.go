package scheduler

// ordered is what a heap needs of its items: an order, and a field of its own where the item's place is kept.
type ordered[T any] interface {
	before(T) bool
	place() *int
}

// heap is a binary heap, the least item first. Items know their places, so that they can be moved and removed; an item
// that is in no heap has the place -1.
type heap[T ordered[T]] struct{ items []T }

// push puts an item in, or moves it after its order changed.
func (h *heap[T]) push(x T) {
	if i := *x.place(); i >= 0 {
		h.fix(i)
		return
	}
	h.items = append(h.items, x)
	*x.place() = len(h.items) - 1
	h.up(len(h.items) - 1)
}

// remove takes an item out; one that is not in does no harm.
func (h *heap[T]) remove(x T) {
	i := *x.place()
	if i < 0 {
		return
	}
	last := len(h.items) - 1
	h.swap(i, last)
	var none T
	h.items[last] = none
	h.items = h.items[:last]
	if i < last {
		h.fix(i)
	}
	*x.place() = -1
}

// first gives the least item.
func (h *heap[T]) first() (x T, ok bool) {
	if len(h.items) == 0 {
		return x, false
	}
	return h.items[0], true
}

func (h *heap[T]) fix(i int) {
	if !h.down(i) {
		h.up(i)
	}
}

func (h *heap[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.items[i].before(h.items[parent]) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

// down reports whether the item moved.
func (h *heap[T]) down(i int) bool {
	start := i
	for {
		least := 2*i + 1
		if least >= len(h.items) {
			return i > start
		}
		if right := least + 1; right < len(h.items) && h.items[right].before(h.items[least]) {
			least = right
		}
		if !h.items[least].before(h.items[i]) {
			return i > start
		}
		h.swap(i, least)
		i = least
	}
}

func (h *heap[T]) swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	*h.items[i].place(), *h.items[j].place() = i, j
}
