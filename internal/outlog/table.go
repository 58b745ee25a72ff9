package outlog

import "math/bits"

// table is an open-addressed hash table of entry numbers with linear probing: 4 bytes a slot, at most 3/4 full. What
// the numbers stand for is its user's business, who hands in how to compare and to hash one.
type table struct {
	slots []uint32 // number + 1; 0 is empty
	n     int
}

func (t *table) home(hash uint64) int { return int(hash & uint64(len(t.slots)-1)) }

func (t *table) next(i int) int { return (i + 1) & (len(t.slots) - 1) }

// find gives the slot of the number that is the one sought.
func (t *table) find(hash uint64, is func(id uint32) bool) (int, bool) {
	if t.n == 0 {
		return 0, false
	}
	for i := t.home(hash); t.slots[i] != 0; i = t.next(i) {
		if is(t.slots[i] - 1) {
			return i, true
		}
	}
	return 0, false
}

func (t *table) insert(hash uint64, id uint32, hashOf func(id uint32) uint64) {
	if (t.n+1)*4 > len(t.slots)*3 {
		t.grow(hashOf)
	}
	t.n++
	t.put(hash, id)
}

func (t *table) put(hash uint64, id uint32) {
	i := t.home(hash)
	for t.slots[i] != 0 {
		i = t.next(i)
	}
	t.slots[i] = id + 1
}

func (t *table) grow(hashOf func(id uint32) uint64) {
	old := t.slots
	t.slots = make([]uint32, max(16, 2*len(old)))
	for _, s := range old {
		if s != 0 {
			t.put(hashOf(s-1), s-1)
		}
	}
}

// remove empties a slot and closes the gap, so that no probe ends early.
func (t *table) remove(slot int, hashOf func(id uint32) uint64) {
	t.n--
	mask := len(t.slots) - 1
	for i := t.next(slot); t.slots[i] != 0; i = t.next(i) {
		home := t.home(hashOf(t.slots[i] - 1))
		if (i-home)&mask >= (i-slot)&mask {
			t.slots[slot] = t.slots[i]
			slot = i
		}
	}
	t.slots[slot] = 0
}

func hashRun(run uint64) uint64 {
	hi, lo := bits.Mul64(run^0x9e3779b97f4a7c15, 0xd1342543de82ef95)
	return hi ^ lo
}

func hashKey(k Key) uint64 { return hashRun(hashRun(k.Run) + uint64(k.Target)*0xa0761d6478bd642f) }
