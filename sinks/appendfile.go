package sinks

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// errDirectory says that no file can be made in the log directory.
var errDirectory = errors.New("log directory can't be written to")

// appendFile is a log file during one batch.
type appendFile struct {
	b    *batch
	path string

	f     logFile
	id    fileID
	size  int64 // that it has if nobody else touched it
	buf   []byte
	part  bool // buf begins in the midst of a record
	dirty bool // written to since the last sync
}

// open opens the file, making it and its directory where they are not there. The error is errDirectory where it is not
// the file's own fault.
func (a *appendFile) open() error {
	d := a.b.l.disk
	f, err := d.open(a.path, true)
	if absent(err) {
		if merr := d.mkdir(a.b.dir); merr != nil {
			return fmt.Errorf("%w: %w", errDirectory, merr)
		}
		a.b.madeIn(filepath.Dir(a.b.dir))
		f, err = d.open(a.path, true)
	}
	if err != nil {
		if perr := d.probe(a.b.dir); perr != nil {
			return fmt.Errorf("%w: %w", errDirectory, perr)
		}
		return fmt.Errorf("open log: %w", err)
	}
	a.f = f
	if a.id, a.size, err = f.stat(); err != nil {
		a.f = nil
		return fmt.Errorf("%w: %w", errDirectory, errors.Join(err, f.Close()))
	}
	if a.size == 0 { // perhaps new
		a.b.madeIn(a.b.dir)
	}
	return nil
}

func (b *batch) madeIn(dir string) {
	if !slices.Contains(b.made, dir) {
		b.made = append(b.made, dir)
	}
}

func (a *appendFile) declared() declared { return declared{Path: a.path, fileID: a.id, Size: a.size} }

// Write takes a part of a record.
func (a *appendFile) Write(p []byte) (int, error) {
	a.buf = append(a.buf, p...)
	a.b.bytes += int64(len(p))
	if len(a.buf) >= a.b.l.bounds.flush {
		if err := a.flush(); err != nil {
			return 0, err
		}
		a.part = true
	}
	return len(p), nil
}

// endRecord is called after each record: a record that was begun in one file ends in it, though it be rotated meanwhile.
func (a *appendFile) endRecord() error {
	if !a.part {
		return nil
	}
	err := a.flush()
	a.part = err != nil
	return err
}

// flush writes what was gathered.
func (a *appendFile) flush() error {
	if len(a.buf) == 0 {
		return nil
	}
	if !a.part {
		if err := a.follow(); err != nil {
			return err
		}
	}
	n, err := a.f.Write(a.buf)
	a.size += int64(n)
	a.dirty = true
	if err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	a.buf = a.buf[:0]
	return nil
}

// follow looks whether the path still leads to the file as it was left, and goes along with what others did to it.
func (a *appendFile) follow() error {
	id, size, err := a.b.l.disk.stat(a.path)
	switch {
	case err == nil && id == a.id && size == a.size:
		return nil
	case err == nil && id == a.id: // cut by copytruncate, or written to by somebody else
		a.size = size
		return a.b.declareAnew(a)
	case err != nil && !absent(err):
		return fmt.Errorf("look at log: %w", err)
	}
	if err := a.sync(); err != nil {
		return err
	}
	f := a.f
	a.f = nil
	if err := f.Close(); err != nil {
		return fmt.Errorf("close log: %w", err)
	}
	if err := a.open(); err != nil {
		return err
	}
	return a.b.declareAnew(a)
}

func (a *appendFile) sync() error {
	if !a.dirty {
		return nil
	}
	if err := a.f.Sync(); err != nil {
		return fmt.Errorf("sync log: %w", err)
	}
	a.dirty = false
	return nil
}
