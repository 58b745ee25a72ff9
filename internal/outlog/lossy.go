package outlog

import (
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// Lossy is a file system in memory that can lose, at a Crash, what was not synced: writes (whole, in part, and not in
// order), cuts, and directory entries. It can be told to fail. It starts no goroutine and uses no clock, so it works in
// testing/synctest bubbles. The zero value is not usable: see NewLossy.
type Lossy struct {
	// mu guards what follows, and all files.
	mu      sync.Mutex
	rand    *rand.Rand
	names   map[string]*inode // as the running program sees them
	durable map[string]*inode // as they are after a power loss at least
	changes []change          // of names, not yet synced
	epoch   int               // counts crashes: older handles are dead
	writes  faults
	syncs   faults
}

type faults struct {
	err  error
	left int // operations before they fail
}

// take gives the error of one more operation.
func (f *faults) take() error {
	if f.err == nil {
		return nil
	}
	if f.left > 0 {
		f.left--
		return nil
	}
	return f.err
}

type inode struct {
	data    []byte // as the running program sees it
	durable []byte
	pending []write // not yet synced
}

// write is a piece of data at off, or a cut to off bytes.
type write struct {
	off  int64
	data []byte
	cut  bool
}

type change struct {
	name string
	node *inode // nil: removed
}

// NewLossy gives an empty file system. What a Crash loses is drawn from the seed.
func NewLossy(seed uint64) *Lossy {
	return &Lossy{
		rand:    rand.New(rand.NewPCG(seed, 0)),
		names:   make(map[string]*inode),
		durable: make(map[string]*inode),
	}
}

// FailWrites makes writes, cuts and the making of files fail with err after n more of them; nil ends that. A write
// that fails may have been done in part.
func (l *Lossy) FailWrites(err error, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.writes = faults{err, n}
}

// FailSyncs makes syncs fail with err after n more of them; nil ends that.
func (l *Lossy) FailSyncs(err error, n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.syncs = faults{err, n}
}

// Crash is a power loss: of what was not synced some is kept, some lost, some torn. Open files are dead after it.
func (l *Lossy) Crash() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.epoch++
	nodes := l.reachable()
	lost := make(map[string]bool)
	for _, c := range l.changes {
		// Changes of one name survive in order: after the first that was lost, the later ones are lost too.
		if lost[c.name] || l.rand.IntN(2) == 0 {
			lost[c.name] = true
			continue
		}
		l.durable[c.name] = c.node
		if c.node == nil {
			delete(l.durable, c.name)
		}
	}
	l.changes = nil
	for _, n := range nodes {
		l.tear(n)
	}
	l.names = make(map[string]*inode, len(l.durable))
	for name, n := range l.durable {
		l.names[name] = n
	}
}

// reachable lists all files that may survive, in an order that the seed decides alone.
func (l *Lossy) reachable() []*inode {
	var nodes []*inode
	for _, name := range slices.Sorted(mapKeys(l.durable)) {
		nodes = append(nodes, l.durable[name])
	}
	for _, c := range l.changes {
		if c.node != nil && !slices.Contains(nodes, c.node) {
			nodes = append(nodes, c.node)
		}
	}
	return nodes
}

func mapKeys(m map[string]*inode) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// tear decides what becomes of a file's unsynced writes.
func (l *Lossy) tear(n *inode) {
	keepAll := l.rand.IntN(3) == 0
	for _, w := range n.pending {
		switch draw := l.rand.IntN(3); {
		case keepAll || draw == 0:
		case draw == 1:
			continue
		case !w.cut && len(w.data) > 0:
			w.data = w.data[:l.rand.IntN(len(w.data))]
		}
		n.durable = w.apply(n.durable)
	}
	n.pending = nil
	n.data = slices.Clone(n.durable)
}

func (w write) apply(b []byte) []byte {
	end := w.off + int64(len(w.data))
	if grow := end - int64(len(b)); grow > 0 {
		b = append(b, make([]byte, grow)...)
	}
	if w.cut {
		return b[:w.off]
	}
	copy(b[w.off:], w.data)
	return b
}

// Corrupt flips the bits of mask in one byte of a file, on the disk and before the program's eyes.
func (l *Lossy) Corrupt(name string, off int64, mask byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.names[filepath.Clean(name)]
	if n == nil || off >= int64(len(n.data)) {
		return false
	}
	n.data[off] ^= mask
	if off < int64(len(n.durable)) {
		n.durable[off] ^= mask
	}
	return true
}

// Open is FS.Open.
func (l *Lossy) Open(name string, create bool) (File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name = filepath.Clean(name)
	n := l.names[name]
	switch {
	case n == nil && !create:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case create:
		if err := l.writes.take(); err != nil {
			return nil, &fs.PathError{Op: "create", Path: name, Err: err}
		}
	}
	if n == nil {
		n = &inode{}
		l.names[name] = n
		l.changes = append(l.changes, change{name, n})
	}
	f := &lossyFile{l: l, n: n, epoch: l.epoch}
	if create && len(n.data) > 0 {
		f.write(write{cut: true})
	}
	return f, nil
}

// Remove is FS.Remove.
func (l *Lossy) Remove(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	name = filepath.Clean(name)
	if l.names[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	delete(l.names, name)
	l.changes = append(l.changes, change{name, nil})
	return nil
}

// Names is FS.Names.
func (l *Lossy) Names(dir string) ([]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for name := range l.names {
		if filepath.Dir(name) == filepath.Clean(dir) {
			names = append(names, filepath.Base(name))
		}
	}
	slices.Sort(names)
	return names, nil
}

// MkdirAll is FS.MkdirAll. Directories need no making here, and none is lost.
func (l *Lossy) MkdirAll(string) error { return nil }

// SyncDir is FS.SyncDir.
func (l *Lossy) SyncDir(dir string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.syncs.take(); err != nil {
		return &fs.PathError{Op: "sync", Path: dir, Err: err}
	}
	prefix := filepath.Clean(dir) + string(filepath.Separator)
	l.changes = slices.DeleteFunc(l.changes, func(c change) bool {
		if !strings.HasPrefix(c.name, prefix) {
			return false
		}
		l.durable[c.name] = c.node
		if c.node == nil {
			delete(l.durable, c.name)
		}
		return true
	})
	return nil
}

type lossyFile struct {
	l     *Lossy
	n     *inode
	epoch int
}

// alive tells whether the handle is still good; l.mu is held.
func (f *lossyFile) alive() error {
	if f.epoch != f.l.epoch {
		return fs.ErrClosed
	}
	return nil
}

func (f *lossyFile) write(w write) {
	f.n.data = w.apply(f.n.data)
	f.n.pending = append(f.n.pending, w)
}

func (f *lossyFile) ReadAt(p []byte, off int64) (int, error) {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	if err := f.alive(); err != nil {
		return 0, err
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *lossyFile) WriteAt(p []byte, off int64) (int, error) {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	if err := f.alive(); err != nil {
		return 0, err
	}
	if err := f.l.writes.take(); err != nil {
		n := f.l.rand.IntN(len(p) + 1)
		f.write(write{off: off, data: slices.Clone(p[:n])})
		return n, err
	}
	f.write(write{off: off, data: slices.Clone(p)})
	return len(p), nil
}

func (f *lossyFile) Truncate(size int64) error {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	if err := f.alive(); err != nil {
		return err
	}
	if err := f.l.writes.take(); err != nil {
		return err
	}
	f.write(write{off: size, cut: true})
	return nil
}

func (f *lossyFile) Size() (int64, error) {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	return int64(len(f.n.data)), f.alive()
}

func (f *lossyFile) Sync() error {
	f.l.mu.Lock()
	defer f.l.mu.Unlock()
	if err := f.alive(); err != nil {
		return err
	}
	if err := f.l.syncs.take(); err != nil {
		return err
	}
	for _, w := range f.n.pending {
		f.n.durable = w.apply(f.n.durable)
	}
	f.n.pending = nil
	return nil
}

func (f *lossyFile) Close() error { return nil }
