package outlog

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"math"
)

// summary is what a segment tells the index: its extents and drops in the order of their first bytes. It is had by
// reading the whole segment, or from the segment's index file.
type summary struct {
	stats
	items []item
}

// stats is what is counted of a segment's frames, dead or alive.
type stats struct {
	minRun, maxRun uint64 // of Data and Skip frames; minRun > maxRun when there is none
	data           int64  // bytes of Data and Skip frames
	drops          int64  // bytes of drop frames
}

func noStats() stats { return stats{minRun: math.MaxUint64} }

func (s *stats) add(r *record) {
	if r.isDrop() {
		s.drops += int64(r.size)
		return
	}
	s.data += int64(r.size)
	s.minRun, s.maxRun = min(s.minRun, r.key.Run), max(s.maxRun, r.key.Run)
}

// item is an extent (Kind Data) or a drop.
type item struct {
	kind            Kind
	own             uint32
	key             Key
	off             int64
	first, last     uint64 // seq
	stored, skipped uint64 // bytes
}

// summarize reads a segment whole. It fails with a *CorruptError if a frame is wrong, and with ErrMismatch if the
// bytes are not those of the checksum.
func summarize(v *view) (*summary, error) {
	s := &summary{stats: noStats()}
	sum := &summer{r: v}
	if err := checkMagic(sum, v.info.No); err != nil {
		return nil, err
	}
	scan := newScanner(v, magicLen, 4*chunk, nil)
	scan.r = sum
	b := itemBuilder{last: make(map[Key]int32), runDrop: make(map[uint64]int32)}
	for {
		r, off, err := scan.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		s.add(&r)
		b.add(&r, off)
	}
	if sum.crc != v.info.CRC {
		return nil, mismatch(v.info.No, errSum)
	}
	s.items = b.items
	return s, nil
}

func checkMagic(r io.ReaderAt, seg uint64) error {
	head := make([]byte, magicLen)
	if _, err := r.ReadAt(head, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if string(head) != segMagic {
		return &CorruptError{Segment: seg, Err: errFormat}
	}
	return nil
}

// summer sums up the bytes that are read through it, which must be from the first on and in order.
type summer struct {
	r   io.ReaderAt
	crc uint32
	off int64
}

func (s *summer) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.r.ReadAt(p, off)
	if off != s.off {
		return 0, errFormat
	}
	s.off += int64(n)
	s.crc = crc32.Update(s.crc, castagnoli, p[:n])
	return n, err
}

// itemBuilder joins frames to extents as the index does.
type itemBuilder struct {
	items   []item
	last    map[Key]int32    // the key's newest extent
	runDrop map[uint64]int32 // items before this one of the run are dead
}

func (b *itemBuilder) add(r *record, off int64) {
	switch r.Kind {
	case kindDropKey:
		delete(b.last, r.key)
		b.items = append(b.items, item{kind: r.Kind, key: r.key, off: off})
	case kindDropRun:
		b.runDrop[r.key.Run] = int32(len(b.items))
		b.items = append(b.items, item{kind: r.Kind, key: r.key, off: off})
	default:
		b.addData(r, off)
	}
}

func (b *itemBuilder) addData(r *record, off int64) {
	n, ok := b.last[r.key]
	if ok && len(b.runDrop) > 0 {
		if drop, dropped := b.runDrop[r.key.Run]; dropped && n < drop {
			ok = false
		}
	}
	if ok {
		it := &b.items[n]
		if newExtent(0, 0, 0, it.off, int(it.own)).takes(0, off, r.size) {
			it.own += uint32(r.size)
			it.last = r.Seq
			it.stored += uint64(len(r.Data))
			it.skipped += r.Skipped
			return
		}
	}
	b.last[r.key] = int32(len(b.items))
	b.items = append(b.items, item{
		kind: Data, key: r.key, off: off, own: uint32(r.size),
		first: r.Seq, last: r.Seq, stored: uint64(len(r.Data)), skipped: r.Skipped,
	})
}

// load brings a segment's items into the index. Segments must come in order.
func (x *index) load(seg uint32, s *summary) {
	x.live[seg] += 0
	for i := range s.items {
		it := &s.items[i]
		switch it.kind {
		case kindDropKey:
			x.drop(it.key)
		case kindDropRun:
			x.dropRun(it.key.Run)
		default:
			e := x.find(it.key)
			if e == nil {
				e = x.insert(it.key)
			}
			x.push(e, newExtent(e.stored, it.first, seg, it.off, int(it.own)))
			x.count(e, it.last, it.stored, it.skipped)
		}
	}
}

// An index file: magic, then as uvarints the segment's No, Last, Gen, Bytes, CRC, its stats, the number of items and
// the items; then the CRC32C of all that.
const idxMagic = "spidx\x00\x01\n"

func encodeSummary(i SegmentInfo, s *summary) []byte {
	b := make([]byte, 0, 64+16*len(s.items))
	b = append(b, idxMagic...)
	for _, v := range []uint64{i.No, i.Last, uint64(i.Gen), uint64(i.Bytes), uint64(i.CRC),
		s.minRun, s.maxRun, uint64(s.data), uint64(s.drops), uint64(len(s.items))} {
		b = binary.AppendUvarint(b, v)
	}
	off := int64(0)
	for n := range s.items {
		it := &s.items[n]
		b = append(b, byte(it.kind))
		for _, v := range [...]uint64{it.key.Run, uint64(it.key.Target), uint64(it.off - off)} {
			b = binary.AppendUvarint(b, v)
		}
		if it.kind == Data {
			for _, v := range [...]uint64{uint64(it.own), it.first, it.last - it.first, it.stored, it.skipped} {
				b = binary.AppendUvarint(b, v)
			}
		}
		off = it.off
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// decodeSummary reads an index file; false if it is not whole or not that of segment i as it is now.
func decodeSummary(b []byte, i SegmentInfo) (*summary, bool) {
	end := len(b) - 4
	if end < len(idxMagic) || string(b[:len(idxMagic)]) != idxMagic ||
		crc32.Checksum(b[:end], castagnoli) != binary.LittleEndian.Uint32(b[end:]) {
		return nil, false
	}
	d := decoder{b: b[len(idxMagic):end]}
	for _, want := range []uint64{i.No, i.Last, uint64(i.Gen), uint64(i.Bytes), uint64(i.CRC)} {
		if d.uvarint() != want || d.bad {
			return nil, false
		}
	}
	s := &summary{}
	s.minRun, s.maxRun = d.uvarint(), d.uvarint()
	s.data, s.drops = int64(d.uvarint()), int64(d.uvarint())
	n := d.uvarint()
	if d.bad || n > uint64(len(d.b)) {
		return nil, false
	}
	s.items = make([]item, n)
	off := int64(0)
	for n := range s.items {
		if !d.item(&s.items[n], off, i.Bytes) {
			return nil, false
		}
		off = s.items[n].off
	}
	return s, len(d.b) == 0
}

func (d *decoder) item(it *item, after, end int64) bool {
	if len(d.b) == 0 {
		return false
	}
	it.kind, d.b = Kind(d.b[0]), d.b[1:]
	it.key.Run, it.key.Target = d.uvarint(), d.uint32()
	delta := d.uvarint()
	if delta > uint64(end) {
		return false
	}
	it.off = after + int64(delta)
	switch it.kind {
	case kindDropKey, kindDropRun:
	case Data:
		it.own, it.first = d.uint32(), d.uvarint()
		it.last = it.first + d.uvarint()
		it.stored, it.skipped = d.uvarint(), d.uvarint()
		if it.own == 0 || it.own >= 1<<ownBits {
			return false
		}
	default:
		return false
	}
	return !d.bad && it.off < end
}
