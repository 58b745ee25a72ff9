package sinks

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// cursor says how far the log files have come. It lies in the node's data directory.
type cursor struct {
	// Next is the number of the event to be written next.
	Next uint64 `json:"next"`
	// Files are those that the events from Next on may have been written to, with their sizes before that.
	Files []declared `json:"files,omitempty"`
	// Held are the files (by escaped name) that can't be opened though their directory can be written to, with the
	// number of the first event that each of them lacks.
	Held map[string]uint64 `json:"held,omitempty"`
	// Torn are those of them that hold more than was declared, which couldn't be cut.
	Torn []declared `json:"torn,omitempty"`
}

// declared is a log file as it was before a batch.
type declared struct {
	Path string `json:"path"`
	fileID
	Size int64 `json:"size"`
}

// name gives the escaped name of the file's job.
func (f *declared) name() string { return strings.TrimSuffix(filepath.Base(f.Path), logSuffix) }

func (c *cursor) clone() cursor {
	return cursor{Next: c.Next, Files: slices.Clone(c.Files), Held: maps.Clone(c.Held), Torn: slices.Clone(c.Torn)}
}

// hold notes the first event that a file lacks.
func (c *cursor) hold(name string, seq uint64) {
	if c.Held == nil {
		c.Held = make(map[string]uint64)
	}
	if _, held := c.Held[name]; !held {
		c.Held[name] = seq
	}
}

// declare notes a file as it is now, in place of what was noted of the same file before.
func (c *cursor) declare(d declared) {
	same := func(o declared) bool { return o.Path == d.Path && o.fileID == d.fileID }
	c.Files = append(slices.DeleteFunc(c.Files, same), d)
}

// loadCursor reads the cursor; fs.ErrNotExist says that there is none.
func loadCursor(d disk, path string) (cursor, error) {
	var c cursor
	data, err := d.read(path)
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		return cursor{}, fmt.Errorf("read log cursor: %w", err)
	}
	return c, nil
}

func saveCursor(d disk, path string, c *cursor) error {
	data, err := json.Marshal(c)
	if err == nil {
		err = d.replace(path, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("save log cursor: %w", err)
	}
	return nil
}

// absent reports whether an error says that a path leads nowhere.
func absent(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) }

// cut takes back what was written after the file was declared. A file that is not there any more, or is another one or
// shorter by now, was rotated: nothing is to be taken back from it.
func (f *declared) cut(d disk) error {
	if id, size, err := d.stat(f.Path); absent(err) || err == nil && (id != f.fileID || size < f.Size) {
		return nil
	}
	h, err := d.open(f.Path, false)
	if err != nil {
		return fmt.Errorf("mend log: %w", err)
	}
	if id, size, serr := h.stat(); serr != nil || id != f.fileID || size < f.Size {
		return errors.Join(serr, h.Close())
	}
	// Also where the size is right: an earlier attempt may have ended between the two.
	if err = h.Truncate(f.Size); err == nil {
		err = h.Sync()
	}
	if err = errors.Join(err, h.Close()); err != nil {
		return fmt.Errorf("mend log: %w", err)
	}
	return nil
}
