package sinks

import (
	"errors"

	"github.com/syscollective/saltpeter"
)

var (
	// ErrGone says that the record of a run was dropped by retention, and its output with it.
	ErrGone = errors.New("output gone")
	// ErrNotYet says that this node lacks output for the time being: it was fed by a snapshot and still fetches.
	ErrNotYet = errors.New("output not on this node yet")
)

// Feed is what a sink needs of the change feed. It may be shorter than it was before a restart, for as long as the log
// is replayed.
type Feed interface {
	// Events gives the events from number from on, in order, as they are at the time of the call, until yield returns
	// false. It begins with the oldest that is there.
	Events(from uint64, yield func(saltpeter.Event) bool) error
	// Bounds gives the number of the oldest event that is there, and the number that the next one will have.
	Bounds() (first, next uint64)
	// Moved gives a channel that is closed when there may be more than at the time of the call.
	Moved() <-chan struct{}
}

// Outputs is what a sink needs of the stored output. Errors are ErrGone, ErrNotYet, or of the disk.
type Outputs interface {
	// Output reads a target's bytes from offset off on, as io.ReaderAt does: io.EOF at the end, at once where nothing
	// was ever stored for a target that is in the record.
	Output(ref saltpeter.TargetRef, off int64, p []byte) (int, error)
	// Gaps tells where bytes beyond the job's output limit were left out, in order.
	Gaps(ref saltpeter.TargetRef) ([]Gap, error)
}

// Gap is a place in a target's stored output at which bytes are missing.
type Gap struct {
	Offset int64  // of the first stored byte after it
	Bytes  uint64 // left out
}
