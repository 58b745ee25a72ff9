package outlog

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

const manifestVersion = 1

// Manifest names the segments of a Store or Feed at one moment: it goes into the snapshot taken at that moment. All
// nodes' manifests after the same calls are equal in Segments and Dropped, but for what a node still lacks.
type Manifest struct {
	Version uint `cbor:"1,keyasint"`
	// Origin is Options.Origin of the store that made it. A store takes every segment of its own manifest to be on
	// its disk, and one that isn't to be damage; segments of another's manifest may be lacking.
	Origin   string        `cbor:"2,keyasint,omitempty"`
	Segments []SegmentInfo `cbor:"3,keyasint"` // ascending; the last one is the head, which still grows
	Dropped  uint64        `cbor:"4,keyasint,omitempty"`

	epoch uint64 // Restores of the store that made it, until then
}

// SegmentInfo describes one segment. Compaction may have joined several: then it stands for No up to Last.
type SegmentInfo struct {
	No    uint64 `cbor:"1,keyasint"`
	Last  uint64 `cbor:"2,keyasint"`
	Gen   uint32 `cbor:"3,keyasint,omitempty"` // times compacted
	Bytes int64  `cbor:"4,keyasint"`           // length of the file; 0: empty, there is none
	CRC   uint32 `cbor:"5,keyasint"`           // CRC32C of those bytes
	// Hole is how many bytes at the start this node lacks, HoleCRC their CRC32C. Bytes after them
	// were appended here.
	Hole    int64  `cbor:"6,keyasint,omitempty"`
	HoleCRC uint32 `cbor:"7,keyasint,omitempty"`
	// Unknown says that the segment was compacted while this node lacked what it takes to do so: Bytes and CRC are
	// not known until a peer supplies it.
	Unknown bool `cbor:"8,keyasint,omitempty"`
	// FirstSeq, LastSeq and Records are of a Feed's segments.
	FirstSeq uint64 `cbor:"9,keyasint,omitempty"`
	LastSeq  uint64 `cbor:"10,keyasint,omitempty"`
	Records  uint64 `cbor:"11,keyasint,omitempty"`
}

// empty tells that compaction left nothing of the segment. It stays on the list, without a file, so that what a list
// looks like never depends on what segments hold: a node that lacks some must come to the same.
func (i SegmentInfo) empty() bool { return i.Bytes == 0 && !i.Unknown }

func (i SegmentInfo) missing() bool { return i.Hole > 0 || i.Unknown }

func (i SegmentInfo) name() string  { return fmt.Sprintf("%010d.%04d.seg", i.No, i.Gen) }
func (i SegmentInfo) index() string { return fmt.Sprintf("%010d.%04d.idx", i.No, i.Gen) }

// is tells whether both are the same segment in the same generation, whatever its length.
func (i SegmentInfo) is(j SegmentInfo) bool {
	return i.No == j.No && i.Last == j.Last && i.Gen == j.Gen
}

// Encode gives the manifest in CBOR.
func (m Manifest) Encode() ([]byte, error) {
	b, err := cbor.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode output manifest: %w", err)
	}
	return b, nil
}

// DecodeManifest reads what Encode gave. Its errors are ErrManifest.
func DecodeManifest(b []byte) (Manifest, error) {
	var m Manifest
	if err := cbor.Unmarshal(b, &m); err != nil {
		return Manifest{}, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if err := m.Validate(); err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// Validate tells whether a Store or Feed can hold what m names. Its errors are ErrManifest.
func (m Manifest) Validate() error {
	if m.Version != manifestVersion {
		return fmt.Errorf("%w: version %d is not known (known: %d)", ErrManifest, m.Version, manifestVersion)
	}
	if len(m.Segments) == 0 {
		return fmt.Errorf("%w: no segment", ErrManifest)
	}
	after := uint64(0)
	for n, i := range m.Segments {
		head := n == len(m.Segments)-1
		if err := i.validate(after, head); err != nil {
			return fmt.Errorf("%w: segment %d: %w", ErrManifest, i.No, err)
		}
		after = i.Last
	}
	return nil
}

func (i SegmentInfo) validate(after uint64, head bool) error {
	switch {
	case i.No <= after || i.Last < i.No || i.Last >= maxOffset:
		return fmt.Errorf("numbers %d to %d after %d", i.No, i.Last, after)
	case i.Unknown && (head || i.Bytes != 0 || i.Hole != 0):
		return fmt.Errorf("unknown, but head or with a length")
	case i.empty() && !head:
		if i.CRC != 0 || i.Hole != 0 {
			return fmt.Errorf("empty, but with a checksum or a hole")
		}
	case !i.Unknown && (i.Bytes < magicLen || i.Bytes > maxOffset):
		return fmt.Errorf("length %d", i.Bytes)
	case i.Hole < 0 || i.Hole > i.Bytes:
		return fmt.Errorf("hole of %d in %d bytes", i.Hole, i.Bytes)
	case head && i.Last != i.No:
		return fmt.Errorf("head was compacted")
	}
	return nil
}
