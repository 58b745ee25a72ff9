package outlog

import (
	"container/list"
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
)

// files keeps a bounded number of a directory's files open. Handles in use don't count against the bound: there are
// as many as there are readers.
type files struct {
	fs  FS
	dir string
	max int

	// mu guards what follows.
	mu   sync.Mutex
	open map[string]*handle
	idle *list.List // of *handle with refs = 0, oldest first
}

type handle struct {
	File
	name string
	refs int
	gone bool // no longer in open: closed with its last user
	el   *list.Element
}

func newFiles(fs FS, dir string, limit int) *files {
	return &files{fs: fs, dir: dir, max: limit, open: make(map[string]*handle), idle: list.New()}
}

// get gives an open file, to be returned with put. create empties it, and must come before any other use of the name.
func (c *files) get(name string, create bool) (*handle, error) {
	if h := c.cached(name, create); h != nil {
		return h, nil
	}
	f, err := c.fs.Open(filepath.Join(c.dir, name), create)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	h := c.open[name]
	if h == nil {
		h = &handle{File: f, name: name, refs: 1}
		c.open[name] = h
		c.mu.Unlock()
		return h, nil
	}
	c.use(h) // another was faster
	c.mu.Unlock()
	_ = f.Close() // nothing was written through it
	return h, nil
}

func (c *files) cached(name string, create bool) *handle {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.open[name]
	if h == nil {
		return nil
	}
	if create {
		c.forget(h)
		return nil
	}
	c.use(h)
	return h
}

func (c *files) use(h *handle) {
	h.refs++
	if h.el != nil {
		c.idle.Remove(h.el)
		h.el = nil
	}
}

// forget takes h out of the cache; it is closed now or with its last user. The error of such a close says nothing
// about data: what must last was synced before.
func (c *files) forget(h *handle) {
	delete(c.open, h.name)
	h.gone = true
	if h.el != nil {
		c.idle.Remove(h.el)
		h.el = nil
	}
	if h.refs == 0 {
		_ = h.Close()
	}
}

func (c *files) put(h *handle) {
	c.mu.Lock()
	defer c.mu.Unlock()
	h.refs--
	if h.refs > 0 {
		return
	}
	if h.gone {
		_ = h.Close()
		return
	}
	h.el = c.idle.PushBack(h)
	for c.idle.Len() > c.max {
		c.forget(c.idle.Front().Value.(*handle))
	}
}

// remove deletes a file; one that isn't there is fine.
func (c *files) remove(name string) error {
	c.mu.Lock()
	if h := c.open[name]; h != nil {
		c.forget(h)
	}
	c.mu.Unlock()
	if err := c.fs.Remove(filepath.Join(c.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (c *files) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.open {
		c.forget(h)
	}
}
