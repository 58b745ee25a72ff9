package outlog

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

// MaxData is the most bytes that one frame or one record may carry.
const MaxData = 1 << 20

// Kind tells what a frame is.
type Kind byte

const (
	// Data is a frame with bytes.
	Data Kind = 1
	// Skip stands for Skipped bytes that were left out.
	Skip Kind = 2

	kindDropKey Kind = 3
	kindDropRun Kind = 4
)

// Key names one stream of output: a target of a run.
type Key struct {
	Run    uint64
	Target uint32
}

// Frame is one numbered piece of output.
type Frame struct {
	Seq      uint64 // from 1, growing; a Skip may cover several numbers and then bears the last
	Kind     Kind
	AtMillis uint64 // since the command's start
	Skipped  uint64 // bytes, Skip only
	Data     []byte // Data only; valid during the call that it is passed to
}

// A frame on disk: CRC32C of all that follows (4 bytes, little endian), kind (4 bits) and body length (28 bits), then
// the body: run, target, and for Data and Skip seq, time, for Skip the count, as uvarints; then Data's bytes.
const (
	headLen   = 8
	sizeBits  = 28
	maxBody   = MaxData + 5*binary.MaxVarintLen64
	segMagic  = "splog\x00\x01\n"
	magicLen  = int64(len(segMagic))
	maxOffset = math.MaxUint32
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is a frame as it lies in a segment.
type record struct {
	Frame
	key  Key
	size int // bytes on disk
}

func (r *record) isDrop() bool { return r.Kind == kindDropKey || r.Kind == kindDropRun }

// appendRecord appends the frame's bytes to dst.
func appendRecord(dst []byte, k Key, f Frame) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, headLen)...)
	dst = binary.AppendUvarint(dst, k.Run)
	dst = binary.AppendUvarint(dst, uint64(k.Target))
	if f.Kind == Data || f.Kind == Skip {
		dst = binary.AppendUvarint(dst, f.Seq)
		dst = binary.AppendUvarint(dst, f.AtMillis)
	}
	if f.Kind == Skip {
		dst = binary.AppendUvarint(dst, f.Skipped)
	}
	dst = append(dst, f.Data...)
	body := uint32(len(dst) - at - headLen)
	binary.LittleEndian.PutUint32(dst[at+4:], uint32(f.Kind)<<sizeBits|body)
	binary.LittleEndian.PutUint32(dst[at:], crc32.Checksum(dst[at+4:], castagnoli))
	return dst
}

// recordSize reads a frame's size on disk from its first headLen bytes.
func recordSize(head []byte) (int, error) {
	word := binary.LittleEndian.Uint32(head[4:])
	body := int(word & (1<<sizeBits - 1))
	if k := Kind(word >> sizeBits); k < Data || k > kindDropRun || body > maxBody {
		return 0, errFormat
	}
	return headLen + body, nil
}

// decodeRecord reads the frame that b is, exactly. The result's Data lies in b.
func decodeRecord(b []byte) (record, error) {
	if len(b) < headLen {
		return record{}, errShort
	}
	n, err := recordSize(b)
	if err != nil {
		return record{}, err
	}
	if n != len(b) {
		return record{}, errShort
	}
	if crc32.Checksum(b[4:], castagnoli) != binary.LittleEndian.Uint32(b) {
		return record{}, errSum
	}
	r := record{size: n}
	r.Kind = Kind(binary.LittleEndian.Uint32(b[4:]) >> sizeBits)
	d := decoder{b: b[headLen:]}
	r.key.Run = d.uvarint()
	r.key.Target = d.uint32()
	if !r.isDrop() {
		r.Seq = d.uvarint()
		r.AtMillis = d.uvarint()
	}
	if r.Kind == Skip {
		r.Skipped = d.uvarint()
	}
	if d.bad || (r.Kind != Data && len(d.b) > 0) {
		return record{}, errFormat
	}
	if r.Kind == Data {
		r.Data = d.b
	}
	return r, nil
}

// decoder takes numbers off the front of b; the first that isn't there sets bad, once and for all.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) uint32() uint32 {
	v := d.uvarint()
	if v > math.MaxUint32 {
		d.bad = true
	}
	return uint32(v)
}
