package sinks

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// batch is a stretch of the feed on its way into the files.
type batch struct {
	l       *LogFiles
	dir     string
	skipped func(name string, seq uint64, err error) error
	files   map[string]*appendFile
	order   []*appendFile
	bytes   int64    // taken so far
	made    []string // directories whose entries aren't safe
}

// write writes a stretch of the feed into the files of dir and syncs it. It gives the number of the event that comes
// next, and why that one has to wait, if it has. Files that can't be opened are skipped if that is all right with
// skipped, which is told their first event. After an error the files hold anything: they must be mended.
func (l *LogFiles) write(ctx context.Context, dir string, w work, skipped func(string, uint64, error) error) (next uint64, waits, err error) {
	b := &batch{l: l, dir: dir, skipped: skipped, files: make(map[string]*appendFile)}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.open(w.items); err != nil {
		return 0, nil, err
	}
	if len(b.order) == 0 {
		return w.next, nil, nil
	}
	next, waits, err = b.records(ctx, w)
	if err == nil {
		err = b.sync()
	}
	return next, waits, err
}

// open opens the files of all items and declares them.
func (b *batch) open(items []item) error {
	for i := range items {
		name := items[i].name
		if _, known := b.files[name]; known {
			continue
		}
		a := &appendFile{b: b, path: filepath.Join(b.dir, name+logSuffix)}
		err := a.open()
		if errors.Is(err, errDirectory) {
			return err
		}
		if err != nil {
			if err := b.skipped(name, items[i].event.Seq, err); err != nil {
				return err
			}
			b.files[name] = nil
			continue
		}
		a.buf = b.l.buffer()
		b.files[name] = a
		b.order = append(b.order, a)
	}
	if len(b.order) == 0 {
		return nil
	}
	c := b.l.now.clone()
	c.Files = nil
	for _, a := range b.order {
		c.Files = append(c.Files, a.declared()) // each path once
	}
	return b.l.save(c)
}

func (b *batch) records(ctx context.Context, w work) (next uint64, waits, err error) {
	for i := range w.items {
		e := &w.items[i].event
		a := b.files[w.items[i].name]
		if a == nil { // skipped
			continue
		}
		before := len(a.buf)
		err := b.l.render.record(ctx, a, e)
		if err == nil {
			err = a.endRecord()
		}
		switch {
		case errors.Is(err, ErrNotYet) && !a.part:
			a.buf = a.buf[:before]
			return e.Seq, err, nil
		case err != nil:
			return 0, nil, err
		case b.bytes >= b.l.bounds.batch:
			return e.Seq + 1, nil, nil
		}
	}
	return w.next, nil, nil
}

// sync makes all that was written safe.
func (b *batch) sync() error {
	for _, a := range b.order {
		if err := a.flush(); err != nil {
			return err
		}
	}
	// Side by side, for then the file system's journal takes many of them at once.
	var g errgroup.Group
	g.SetLimit(b.l.bounds.syncs)
	for _, a := range b.order {
		g.Go(a.sync)
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, dir := range b.made {
		if err := b.l.disk.syncDir(dir); err != nil {
			return fmt.Errorf("sync log directory: %w", err)
		}
	}
	return nil
}

// declareAnew notes that a file isn't what it was at the beginning of the batch.
func (b *batch) declareAnew(a *appendFile) error {
	c := b.l.saved.clone()
	c.declare(a.declared())
	return b.l.save(c)
}

func (b *batch) close() error {
	var errs []error
	for _, a := range b.order {
		if cap(a.buf) <= 8*b.l.bounds.flush && len(b.l.free) < maxFree {
			b.l.free = append(b.l.free, a.buf[:0])
		}
		if a.f != nil {
			errs = append(errs, a.f.Close())
		}
	}
	return errors.Join(errs...)
}
