package outlog

// extent is a stretch of a segment in which frames of one key lie, maybe with others' between them: from off on,
// until own bytes of that key's frames have gone by.
type extent struct {
	pos    uint64 // of the first frame's data in the key's stream of data bytes
	seqOwn uint64 // first frame's seq (upper 40 bits, saturating), bytes on disk (lower 24)
	seg    uint32
	off    uint32
}

const (
	ownBits = 24
	maxSeq  = 1<<(64-ownBits) - 1

	// sparse and dense bound an extent's bytes: where frames of many keys are mixed a new extent begins after
	// sparse bytes, so that the index stays below 1 % of what it points to; unmixed frames share one up to dense.
	sparse = 4 << 10
	dense  = 128 << 10
)

func newExtent(pos, seq uint64, seg uint32, off int64, own int) extent {
	return extent{pos: pos, seqOwn: min(seq, maxSeq)<<ownBits | uint64(own), seg: seg, off: uint32(off)}
}

func (e extent) own() int    { return int(e.seqOwn & (1<<ownBits - 1)) }
func (e extent) seq() uint64 { return e.seqOwn >> ownBits }

// takes tells whether a frame of n bytes at off joins the extent.
func (e extent) takes(seg uint32, off int64, n int) bool {
	sum := e.own() + n
	return e.seg == seg && (sum <= sparse || (int64(e.off)+int64(e.own()) == off && sum <= dense))
}

// entry is what the index knows of a key: 48 bytes, for there are a million.
type entry struct {
	run, lastSeq, stored uint64
	target               uint32
	next                 uint32 // entry of the same run, in a ring
	seg, off, own        uint32 // the only extent, unless more
	more                 uint32 // overflow number + 1
}

// overflow is the rest of a key that has several extents, or skips.
type overflow struct {
	skipped uint64
	extents []extent
}

func (e *entry) key() Key { return Key{Run: e.run, Target: e.target} }

const entryChunk = 4096

// index finds a key's extents. It is a pair of open-addressed tables over one slab, without pointers for the garbage
// collector to follow. It also counts each segment's live bytes.
type index struct {
	slab     [][]entry
	used     uint32 // entries ever taken from the slab
	free     []uint32
	keys     table
	runs     table
	over     []overflow
	overFree []uint32
	live     map[uint32]int64 // segment -> bytes of live frames
}

func newIndex() *index {
	return &index{live: make(map[uint32]int64)}
}

func (x *index) at(id uint32) *entry { return &x.slab[id/entryChunk][id%entryChunk] }

func (x *index) len() int { return x.keys.n }

func (x *index) keySlot(k Key) (int, bool) {
	return x.keys.find(hashKey(k), func(id uint32) bool { return x.at(id).key() == k })
}

func (x *index) runSlot(run uint64) (int, bool) {
	return x.runs.find(hashRun(run), func(id uint32) bool { return x.at(id).run == run })
}

// find gives the key's entry, nil if there is none. It is valid until the next drop.
func (x *index) find(k Key) *entry {
	slot, ok := x.keySlot(k)
	if !ok {
		return nil
	}
	return x.at(x.keys.slots[slot] - 1)
}

func (x *index) insert(k Key) *entry {
	id := x.take()
	e := x.at(id)
	*e = entry{run: k.Run, target: k.Target, next: id}
	x.keys.insert(hashKey(k), id, func(id uint32) uint64 { return hashKey(x.at(id).key()) })
	if slot, ok := x.runSlot(k.Run); ok {
		first := x.at(x.runs.slots[slot] - 1)
		e.next, first.next = first.next, id
		return e
	}
	x.runs.insert(hashRun(k.Run), id, func(id uint32) uint64 { return hashRun(x.at(id).run) })
	return e
}

func (x *index) take() uint32 {
	if n := len(x.free); n > 0 {
		id := x.free[n-1]
		x.free = x.free[:n-1]
		return id
	}
	if x.used%entryChunk == 0 {
		x.slab = append(x.slab, make([]entry, entryChunk))
	}
	x.used++
	return x.used - 1
}

// drop ends one key.
func (x *index) drop(k Key) {
	slot, ok := x.keySlot(k)
	if !ok {
		return
	}
	id := x.keys.slots[slot] - 1
	e := x.at(id)
	x.forget(e)
	x.keys.remove(slot, func(id uint32) uint64 { return hashKey(x.at(id).key()) })
	run, _ := x.runSlot(k.Run)
	if e.next == id {
		x.runs.remove(run, func(id uint32) uint64 { return hashRun(x.at(id).run) })
		x.free = append(x.free, id)
		return
	}
	// A ring with one link each way can't lose e without a walk; so e takes its successor's place.
	gone := e.next
	moved, _ := x.keySlot(x.at(gone).key())
	*e = *x.at(gone)
	x.keys.slots[moved] = id + 1
	if x.runs.slots[run] == gone+1 {
		x.runs.slots[run] = id + 1
	}
	x.free = append(x.free, gone)
}

// dropRun ends all keys of a run.
func (x *index) dropRun(run uint64) {
	slot, ok := x.runSlot(run)
	if !ok {
		return
	}
	first := x.runs.slots[slot] - 1
	x.runs.remove(slot, func(id uint32) uint64 { return hashRun(x.at(id).run) })
	for id := first; ; {
		e := x.at(id)
		x.forget(e)
		if slot, ok := x.keySlot(e.key()); ok {
			x.keys.remove(slot, func(id uint32) uint64 { return hashKey(x.at(id).key()) })
		}
		x.free = append(x.free, id)
		if id = e.next; id == first {
			return
		}
	}
}

// forget gives back what an entry that is being dropped holds.
func (x *index) forget(e *entry) {
	for _, ext := range x.extents(e, nil) {
		x.live[ext.seg] -= int64(ext.own())
	}
	if e.more != 0 {
		x.over[e.more-1] = overflow{}
		x.overFree = append(x.overFree, e.more-1)
	}
}

// extents gives a key's extents in order. The result shares the index's memory or that of buf.
func (x *index) extents(e *entry, buf []extent) []extent {
	if e.more != 0 {
		return x.over[e.more-1].extents
	}
	return append(buf[:0], newExtent(0, 0, e.seg, int64(e.off), int(e.own)))
}

func (x *index) skipped(e *entry) uint64 {
	if e.more == 0 {
		return 0
	}
	return x.over[e.more-1].skipped
}

// spill moves what e holds inline into an overflow.
func (x *index) spill(e *entry) *overflow {
	if e.more != 0 {
		return &x.over[e.more-1]
	}
	if n := len(x.overFree); n > 0 {
		e.more = x.overFree[n-1] + 1
		x.overFree = x.overFree[:n-1]
	} else {
		x.over = append(x.over, overflow{})
		e.more = uint32(len(x.over))
	}
	o := &x.over[e.more-1]
	if e.own > 0 {
		o.extents = append(make([]extent, 0, 2), newExtent(0, 0, e.seg, int64(e.off), int(e.own)))
	}
	return o
}

// add notes a Data or Skip frame that lies at off of segment seg.
func (x *index) add(r *record, seg uint32, off int64) {
	e := x.find(r.key)
	if e == nil {
		e = x.insert(r.key)
	}
	var last extent
	if e.more != 0 {
		if all := x.over[e.more-1].extents; len(all) > 0 {
			last = all[len(all)-1]
		}
	} else if e.own > 0 {
		last = newExtent(0, 0, e.seg, int64(e.off), int(e.own))
	}
	if last.own() > 0 && last.takes(seg, off, r.size) {
		x.live[seg] += int64(r.size)
		if e.more != 0 {
			all := x.over[e.more-1].extents
			all[len(all)-1].seqOwn += uint64(r.size)
		} else {
			e.own += uint32(r.size)
		}
	} else {
		x.push(e, newExtent(e.stored, r.Seq, seg, off, r.size))
	}
	x.count(e, r.Seq, uint64(len(r.Data)), r.Skipped)
}

// push gives e one more extent.
func (x *index) push(e *entry, ext extent) {
	x.live[ext.seg] += int64(ext.own())
	if e.more == 0 && e.own == 0 && ext.pos == 0 {
		e.seg, e.off, e.own = ext.seg, ext.off, uint32(ext.own())
		return
	}
	o := x.spill(e)
	o.extents = append(o.extents, ext)
}

func (x *index) count(e *entry, seq, stored, skipped uint64) {
	e.lastSeq = seq
	e.stored += stored
	if skipped > 0 {
		x.spill(e).skipped += skipped
	}
}

// replace puts exts in the place of e's extents in segments from..to.
func (x *index) replace(e *entry, from, to uint32, exts []extent) {
	if e.more == 0 && len(exts) == 1 {
		e.seg, e.off, e.own = exts[0].seg, exts[0].off, uint32(exts[0].own())
		return
	}
	o := x.spill(e)
	kept := make([]extent, 0, len(o.extents))
	i := 0
	for ; i < len(o.extents) && o.extents[i].seg < from; i++ {
		kept = append(kept, o.extents[i])
	}
	kept = append(kept, exts...)
	for ; i < len(o.extents); i++ {
		if o.extents[i].seg > to {
			kept = append(kept, o.extents[i])
		}
	}
	o.extents = kept
}
