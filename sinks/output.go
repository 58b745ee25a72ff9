package sinks

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/syscollective/saltpeter"
)

// renderer writes records. It is used by one goroutine, for one record after the other.
type renderer struct {
	outputs Outputs

	cr carriage
	// Of the record that is being written: where to, whose output, whether to stop.
	w       io.Writer
	ref     saltpeter.TargetRef
	stopped func() error
	failed  error // of w
	// The filter reads again in the midst of a read, so each of the two has a buffer.
	ahead, back []byte
}

func newRenderer(o Outputs) *renderer {
	r := &renderer{outputs: o, ahead: make([]byte, maxSegment), back: make([]byte, maxSegment)}
	r.cr = carriage{out: r.put, again: r.copy, limit: maxSegment}
	return r
}

// output writes a target's output without what carriage returns have overwritten, and says whether there is any. What
// can't be read is said in brackets.
func (r *renderer) output(ctx context.Context, w io.Writer, ref saltpeter.TargetRef) (some bool, err error) {
	r.w, r.ref, r.stopped, r.failed = w, ref, ctx.Err, nil
	r.cr.reset()
	gaps, err := r.outputs.Gaps(ref)
	if err == nil {
		err = r.read(gaps)
	}
	some = r.cr.at > 0 || len(gaps) > 0
	if err == nil || r.failed != nil || errors.Is(err, ErrNotYet) || ctx.Err() != nil {
		return some, err
	}
	return true, r.unread(err, some)
}

// unread says in the log why output, or the rest of it, is missing.
func (r *renderer) unread(why error, some bool) error {
	if err := r.cr.end(); r.failed != nil {
		return err
	}
	text := "output can't be read: " + lastSegments(why.Error())
	if errors.Is(why, ErrGone) {
		text = "output is gone: the limits of the history have dropped this run"
	}
	if some {
		return r.put([]byte(bracket(text, "")))
	}
	return r.put([]byte("[" + text + "]"))
}

func (r *renderer) put(p []byte) error {
	_, r.failed = r.w.Write(p)
	return r.failed
}

// read runs the whole output through the filter, with a remark at each gap.
func (r *renderer) read(gaps []Gap) error {
	for _, g := range gaps {
		err := r.stretch(r.ahead, r.cr.at, max(g.Offset-r.cr.at, 0), r.cr.write)
		if err == nil || errors.Is(err, io.EOF) {
			err = r.cr.end()
		}
		if err == nil {
			err = r.put(fmt.Appendf(nil, "\n[%d bytes left out]\n", g.Bytes))
		}
		if err != nil {
			return err
		}
	}
	if err := r.stretch(r.ahead, r.cr.at, -1, r.cr.write); !errors.Is(err, io.EOF) {
		return err
	}
	return r.cr.end()
}

// copy gives a stretch that has been read before to the log.
func (r *renderer) copy(start, size int64) error {
	err := r.stretch(r.back, start, size, r.put)
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// stretch reads size bytes, or all for -1, and gives them to use. If the output ends before, it returns io.EOF.
func (r *renderer) stretch(buf []byte, start, size int64, use func([]byte) error) error {
	for off := start; size < 0 || off < start+size; {
		if err := r.stopped(); err != nil {
			return err
		}
		p := buf
		if size >= 0 {
			p = p[:min(int64(len(p)), start+size-off)]
		}
		n, err := r.outputs.Output(r.ref, off, p)
		off += int64(n)
		if useErr := use(p[:n]); useErr != nil {
			return useErr
		}
		if err != nil && (size < 0 || off < start+size) {
			return err
		}
	}
	return nil
}
