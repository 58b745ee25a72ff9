package app

import (
	"context"
	"errors"
	"io"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/internal/outlog"
	"github.com/syscollective/saltpeter/sinks"
)

// gap is a place in a target's stored output at which bytes were left out.
type gap struct {
	offset int64
	bytes  uint64
}

// outputKey names a target's output in the store. Of what is not in the record there is none.
func (a *App) outputKey(ref saltpeter.TargetRef) (outlog.Key, bool) {
	return a.machine.View().OutputKey(ref)
}

// readOutput reads a target's stored bytes: io.EOF at the end, at once where nothing was stored.
func (a *App) readOutput(ref saltpeter.TargetRef, p []byte, off int64) (int, error) {
	store := a.machine.Output()
	key, known := a.outputKey(ref)
	if store == nil || !known {
		return 0, io.EOF
	}
	n, err := store.ReadAt(key, p, off)
	if errors.Is(err, outlog.ErrNoOutput) {
		return 0, io.EOF
	}
	return n, err
}

// gaps tells where bytes were left out, in order. What the record counts and the store doesn't have, as after a restore
// without output, is a gap at the end.
func (a *App) gaps(ref saltpeter.TargetRef) ([]gap, error) {
	v, store := a.machine.View(), a.machine.Output()
	t, known := v.Target(ref)
	if store == nil || !known {
		return nil, nil
	}
	var out []gap
	var off int64
	var left uint64
	key, _ := v.OutputKey(ref)
	err := store.Frames(key, 0, func(f outlog.Frame) bool {
		switch f.Kind {
		case outlog.Data:
			off += int64(len(f.Data))
		case outlog.Skip:
			out = append(out, gap{off, f.Skipped})
			left += f.Skipped
		}
		return true
	})
	if errors.Is(err, outlog.ErrNoOutput) {
		err = nil
	}
	if have, want := uint64(off)+left, t.Stored+t.LeftOut; err == nil && have < want {
		out = append(out, gap{off, want - have})
	}
	return out, err
}

// output is a target's stored output as the API reads it.
type output struct {
	a   *App
	ref saltpeter.TargetRef
}

func (c control) Output(ctx context.Context, ref saltpeter.TargetRef) (api.Output, error) {
	if _, ok := c.a.machine.View().Target(ref); !ok {
		return nil, saltpeter.Errorf(saltpeter.CodeNotFound, "no such target")
	}
	return c.a.remoteOutput(ctx, ref)
}

func (o output) ReadAt(p []byte, off int64) (int, error) { return o.a.readOutput(o.ref, p, off) }

func (o output) Size() int64 {
	if store := o.a.machine.Output(); store != nil {
		key, _ := o.a.outputKey(o.ref)
		if st, ok := store.Stat(key); ok {
			return int64(st.Stored)
		}
	}
	return 0
}

func (o output) Gaps() []api.Gap {
	gaps, err := o.a.gaps(o.ref)
	if err != nil {
		return nil // the bytes' own read says what is wrong
	}
	var out []api.Gap
	for _, g := range gaps {
		out = append(out, api.Gap{Offset: g.offset, Bytes: g.bytes})
	}
	return out
}

func (o output) Final() bool {
	t, ok := o.a.machine.View().Target(o.ref)
	return !ok || t.State.Final() && !t.Back
}

func (o output) More() <-chan struct{} { return o.a.changes.next() }

// outputs is the stored output as a sink sees it.
type outputs struct{ a *App }

func (o outputs) Output(ref saltpeter.TargetRef, off int64, p []byte) (int, error) {
	n, err := o.a.readOutput(ref, p, off)
	return n, o.classify(ref, err)
}

func (o outputs) Gaps(ref saltpeter.TargetRef) ([]sinks.Gap, error) {
	gaps, err := o.a.gaps(ref)
	var out []sinks.Gap
	for _, g := range gaps {
		out = append(out, sinks.Gap{Offset: g.offset, Bytes: g.bytes})
	}
	return out, o.classify(ref, err)
}

// classify says in a sink's words that retention was faster, or that this node has not fetched the segments yet.
func (o outputs) classify(ref saltpeter.TargetRef, err error) error {
	switch {
	case errors.Is(err, outlog.ErrNotHere):
		return sinks.ErrNotYet
	case err == nil || errors.Is(err, io.EOF):
		if _, ok := o.a.machine.View().Target(ref); !ok {
			return sinks.ErrGone
		}
	}
	return err
}
