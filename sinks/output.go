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

// output writes a target's output, as it was at the event, without what carriage returns have overwritten, and says whether
// there is any. What can't be read is said in brackets.
func (r *renderer) output(ctx context.Context, w io.Writer, e *saltpeter.Event) (some bool, err error) {
	if e.Stored == 0 && e.LeftOut == 0 {
		return false, nil
	}
	r.w, r.ref, r.stopped, r.failed = w, e.Ref, ctx.Err, nil
	r.cr.reset()
	gaps, err := r.outputs.Gaps(e.Ref)
	gaps = until(gaps, e.LeftOut)
	if err == nil {
		err = r.read(gaps, int64(e.Stored))
	}
	if err == nil || r.failed != nil || errors.Is(err, ErrNotYet) || ctx.Err() != nil {
		return true, err
	}
	return true, r.unread(err, r.cr.at > 0 || len(gaps) > 0)
}

// until cuts a list of gaps to the first ones, which together have so many bytes: later ones came after the event.
func until(gaps []Gap, leftOut uint64) []Gap {
	for i, g := range gaps {
		if leftOut == 0 {
			return gaps[:i]
		}
		leftOut -= min(leftOut, g.Bytes)
	}
	return gaps
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

// read runs so many bytes of the output through the filter, with a remark at each gap.
func (r *renderer) read(gaps []Gap, stored int64) error {
	for _, g := range gaps {
		err := r.stretch(r.ahead, r.cr.at, g.Offset-r.cr.at, r.cr.write)
		if err == nil {
			err = r.cr.end()
		}
		if err == nil {
			err = r.put(fmt.Appendf(nil, "\n[%d bytes left out]\n", g.Bytes))
		}
		if err != nil {
			return err
		}
	}
	if err := r.stretch(r.ahead, r.cr.at, stored-r.cr.at, r.cr.write); err != nil {
		return err
	}
	return r.cr.end()
}

// copy gives a stretch that has been read before to the log.
func (r *renderer) copy(start, size int64) error { return r.stretch(r.back, start, size, r.put) }

// stretch reads size bytes and gives them to use. If the output ends before, it returns io.ErrUnexpectedEOF.
func (r *renderer) stretch(buf []byte, start, size int64, use func([]byte) error) error {
	for off := start; off < start+size; {
		if err := r.stopped(); err != nil {
			return err
		}
		p := buf[:min(int64(len(buf)), start+size-off)]
		n, err := r.outputs.Output(r.ref, off, p)
		off += int64(n)
		if useErr := use(p[:n]); useErr != nil {
			return useErr
		}
		if err != nil && off < start+size {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}
