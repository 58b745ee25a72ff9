// Package backup is the file that a cluster is saved to and restored from.
//
// Duty: the container alone. What the record's own bytes mean is the state machine's business; here they are parts that
// are small enough for a log entry. It starts no goroutine and holds no more than one part in memory.
//
// A file is a magic, a format version, then parts: length as unsigned varint, kind (1 byte), body. The first part is the
// description, the last one the end with the totals; after it stand 32 bytes, SHA-256 of all before. So a file that was
// cut short, changed or extended anywhere is told from a whole one. Old versions must be read for ever (testdata).
package backup

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

const (
	magic   = "saltpeter backup\n"
	version = 1
	// PartSize is about how many bytes of the record or of output one part holds.
	PartSize = 96 << 10
	// MaxPart is the most bytes that a part may have.
	MaxPart = 240 << 10
	sumSize = 32
)

// Errors of this package.
var (
	// ErrDamaged is under every error about a file that is cut short or changed.
	ErrDamaged = errors.New("the backup is damaged")
	// ErrForeign says that a file is no backup of this program.
	ErrForeign = errors.New("not a backup of saltpeter")
	// ErrNewer says that a file's format is newer than this program.
	ErrNewer = errors.New("the backup's format is newer than this program")
)

// Kind tells what a part is. The numbers are in files and logs: append only.
type Kind byte

// The kinds of parts.
const (
	KindEnd    Kind = 0 // the totals
	KindAbout  Kind = 1 // the description
	KindRecord Kind = 2 // a piece of the record's snapshot
	KindOutput Kind = 3 // frames of output: see Frames
)

// About describes a backup. Times are in Unix milliseconds.
type About struct {
	Cluster string `cbor:"1,keyasint" json:"cluster"`           // UUID
	Epoch   uint64 `cbor:"2,keyasint" json:"epoch"`             // of the cluster
	Index   uint64 `cbor:"3,keyasint" json:"index"`             // of the last entry in the record
	Term    uint64 `cbor:"4,keyasint" json:"term"`              // in which it was saved
	Created int64  `cbor:"5,keyasint" json:"created_ms"`        // by the clock of the node that saved it
	Node    string `cbor:"6,keyasint,omitempty" json:"node"`    // its name
	Program string `cbor:"7,keyasint,omitempty" json:"program"` // its version
	Jobs    int    `cbor:"8,keyasint" json:"jobs"`              // in force
	Runs    int    `cbor:"9,keyasint" json:"runs"`
	Targets int    `cbor:"10,keyasint" json:"targets"`
	Output  bool   `cbor:"11,keyasint,omitempty" json:"with_output"`
}

// Totals count what a file holds.
type Totals struct {
	Parts  int    `cbor:"1,keyasint" json:"parts"`  // of record and output
	Record uint64 `cbor:"2,keyasint" json:"record"` // bytes
	Frames uint64 `cbor:"3,keyasint" json:"frames"` // of output
	Output uint64 `cbor:"4,keyasint" json:"output"` // bytes of output
	SHA256 string `cbor:"-" json:"sha256"`          // of the file but for the checksum itself; in hexadecimal
}

// Frame is a numbered piece of a target's output, as the record keeps it: data, or a count of bytes that were left out.
type Frame struct {
	_        struct{} `cbor:",toarray"`
	Run      uint64
	Target   uint32
	Seq      uint64
	AtMillis uint64
	Skip     bool
	Skipped  uint64
	Data     []byte
}

// DecodeFrames reads the body of a part of output.
func DecodeFrames(body []byte) ([]Frame, error) {
	var list []Frame
	if err := decMode.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("%w: output: %w", ErrDamaged, err)
	}
	return list, nil
}

// decMode bounds what hostile input may ask for; a part has at most MaxPart bytes anyway.
var decMode = mustDec(cbor.DecOptions{DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxArrayElements: MaxPart, MaxMapPairs: 1 << 10, MaxNestedLevels: 8,
	UTF8: cbor.UTF8DecodeInvalid})

// mustDec turns constant options into a mode; an error is a bug that every test would show.
func mustDec(o cbor.DecOptions) cbor.DecMode {
	m, err := o.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}
