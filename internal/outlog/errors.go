package outlog

import (
	"errors"
	"fmt"
)

var (
	// ErrFailed says that a write or a sync went wrong. It wraps the cause and is final for this Store or Feed: what
	// the disk holds is unknown until the process starts again and opens it anew.
	ErrFailed = errors.New("output store failed")
	// ErrCorrupt is what every *CorruptError is.
	ErrCorrupt = errors.New("output segment corrupt")
	// ErrMismatch says that the disk lacks what this node's own manifest names, or holds something else.
	ErrMismatch = errors.New("output segments differ from the manifest")
	// ErrNotHere says that this node was fed by a snapshot and has not all segments yet: ask another node.
	ErrNotHere = errors.New("output not on this node yet")
	// ErrNoOutput says that there is no output under the key: none was appended, or it was dropped.
	ErrNoOutput = errors.New("no such output")
	// ErrGone says that a feed has dropped the segment.
	ErrGone = errors.New("output segment gone")
	// ErrStale says that the store has moved on since the value that was passed in was made: the segment was
	// compacted, or the whole store restored.
	ErrStale = errors.New("output segment superseded")
	// ErrManifest says that a manifest cannot be read or contradicts itself.
	ErrManifest = errors.New("bad output manifest")
	// ErrTooLarge says that a frame has more than MaxData bytes.
	ErrTooLarge = errors.New("output frame too large")
	// ErrKind says that a frame is neither Data nor Skip, or carries what its kind has not.
	ErrKind = errors.New("bad output frame kind")
)

var (
	errShort  = errors.New("frame cut short")
	errSum    = errors.New("checksum differs")
	errFormat = errors.New("frame malformed")
)

// CorruptError says where a segment's bytes are not what was written. It is ErrCorrupt.
type CorruptError struct {
	Segment uint64
	Offset  int64 // of the frame, in bytes from the start of the segment's file
	Err     error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("output segment %d corrupt at byte %d: %v", e.Segment, e.Offset, e.Err)
}

// Unwrap gives ErrCorrupt and the cause.
func (e *CorruptError) Unwrap() []error { return []error{ErrCorrupt, e.Err} }
