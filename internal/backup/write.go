package backup

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	"github.com/fxamacker/cbor/v2"
)

// Writer writes a backup. Its first error stays: only Close's need be looked at.
type Writer struct {
	w      *bufio.Writer
	to     io.Writer
	sum    hash.Hash
	err    error
	totals Totals

	record []byte
	frames []Frame
	size   int // bytes of frames
}

// NewWriter begins a backup with its description.
func NewWriter(to io.Writer, about About) *Writer {
	w := &Writer{to: to, sum: sha256.New()}
	w.w = bufio.NewWriterSize(io.MultiWriter(to, w.sum), 64<<10)
	w.raw([]byte(magic))
	w.raw([]byte{version})
	w.part(KindAbout, about)
	return w
}

func (w *Writer) raw(b []byte) {
	if w.err == nil {
		_, w.err = w.w.Write(b)
	}
}

func (w *Writer) part(kind Kind, v any) {
	body, err := cbor.Marshal(v)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.body(kind, body)
}

func (w *Writer) body(kind Kind, body []byte) {
	if len(body)+1 > MaxPart && w.err == nil {
		w.err = fmt.Errorf("a part of kind %d has %d bytes", kind, len(body))
	}
	w.raw(append(binary.AppendUvarint(nil, uint64(len(body))+1), byte(kind)))
	w.raw(body)
	if kind == KindRecord || kind == KindOutput {
		w.totals.Parts++
	}
}

// Write takes bytes of the record's snapshot.
func (w *Writer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 && w.err == nil {
		take := min(len(p), PartSize-len(w.record))
		w.record = append(w.record, p[:take]...)
		p = p[take:]
		if len(w.record) == PartSize {
			w.flushRecord()
		}
	}
	return n - len(p), w.err
}

func (w *Writer) flushRecord() {
	if len(w.record) > 0 {
		w.body(KindRecord, w.record)
		w.totals.Record += uint64(len(w.record))
		w.record = w.record[:0]
	}
}

// Frame takes a piece of output; Data is copied. The frames of one target come in the order of their numbers.
func (w *Writer) Frame(f Frame) error {
	if len(f.Data) > MaxPart-1<<10 { // it would not fit into an entry
		f.Skip, f.Skipped, f.Data = true, uint64(len(f.Data)), nil
	}
	if w.size+len(f.Data) > PartSize {
		w.flushFrames()
	}
	f.Data = append([]byte(nil), f.Data...)
	w.frames = append(w.frames, f)
	w.size += len(f.Data) + 32
	w.totals.Frames++
	w.totals.Output += uint64(len(f.Data))
	if w.size >= PartSize {
		w.flushFrames()
	}
	return w.err
}

func (w *Writer) flushFrames() {
	if len(w.frames) > 0 {
		w.part(KindOutput, w.frames)
		w.frames, w.size = w.frames[:0], 0
	}
}

// Close ends the backup. It does not close what it was written to.
func (w *Writer) Close() (Totals, error) {
	w.flushFrames()
	w.flushRecord()
	w.part(KindEnd, w.totals)
	if w.err == nil {
		w.err = w.w.Flush()
	}
	if w.err == nil {
		_, w.err = w.to.Write(w.sum.Sum(nil))
	}
	if w.err != nil {
		return Totals{}, fmt.Errorf("write backup: %w", w.err)
	}
	out := w.totals
	out.SHA256 = hex.EncodeToString(w.sum.Sum(nil))
	return out, nil
}
