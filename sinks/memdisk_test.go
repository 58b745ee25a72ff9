package sinks

import (
	"bytes"
	"errors"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
)

var (
	errDead   = errors.New("the process is dead")
	errNoRoom = errors.New("no room on the disk")
	errDenied = errors.New("this file can't be opened")
)

// memDisk is a file system in memory that can stop the program at any operation and then lose what was not synced.
type memDisk struct {
	draw    func(n int) int // random, 0 ≤ draw(n) < n
	names   map[string]*memNode
	durable map[string]*memNode
	inodes  uint64
	left    int // operations until the program is dead; < 0: for ever
	room    int // bytes until there is no room; < 0: for ever
	denied  map[string]bool
	before  func(op, path string) // called before each operation
}

type memNode struct {
	inode        uint64
	data, synced []byte
}

type memFile struct {
	d    *memDisk
	path string
	node *memNode
}

func newMemDisk(draw func(n int) int) *memDisk {
	return &memDisk{draw: draw, names: make(map[string]*memNode), durable: make(map[string]*memNode), left: -1, room: -1,
		denied: make(map[string]bool)}
}

// step counts an operation: dying says that the program ends in the midst of it.
func (d *memDisk) step(op, path string) (dying bool, err error) {
	if d.before != nil {
		d.before(op, path)
	}
	if d.left == 0 {
		return false, errDead
	}
	if d.left > 0 {
		d.left--
	}
	return d.left == 0, nil
}

// crash ends the process; with power lost, what was not synced is lost in part.
func (d *memDisk) crash(power bool) {
	d.left, d.room = -1, -1
	if !power {
		return
	}
	for _, path := range slices.Sorted(mapKeys(d.names, d.durable)) {
		if n, old := d.names[path], d.durable[path]; n != old && d.draw(2) == 0 {
			d.names[path] = old
			if old == nil {
				delete(d.names, path)
			}
		}
	}
	for _, n := range d.names {
		n.tear(d.draw)
	}
	d.durable = make(map[string]*memNode)
	for path, n := range d.names {
		d.durable[path] = n
	}
}

func mapKeys(ms ...map[string]*memNode) func(func(string) bool) {
	return func(yield func(string) bool) {
		for i, m := range ms {
			for k := range m {
				if i > 0 && ms[0][k] != nil {
					continue
				}
				if !yield(k) {
					return
				}
			}
		}
	}
}

// tear keeps of what was not synced a part, with some of it garbled.
func (n *memNode) tear(draw func(int) int) {
	switch tail := len(n.data) - len(n.synced); {
	case tail > 0 && bytes.HasPrefix(n.data, n.synced):
		n.data = n.data[:len(n.synced)+draw(tail+1)]
		if draw(2) == 0 {
			for i := len(n.synced); i < len(n.data); i++ {
				n.data[i] = byte(draw(2) * 'x')
			}
		}
	case draw(2) == 0:
		n.data = slices.Clone(n.synced)
	}
	n.synced = slices.Clone(n.data)
}

func (d *memDisk) open(path string, create bool) (logFile, error) {
	if _, err := d.step("open", path); err != nil {
		return nil, err
	}
	if d.denied[path] {
		return nil, errDenied
	}
	n := d.names[path]
	if n == nil && !create {
		return nil, fs.ErrNotExist
	}
	if n == nil {
		d.inodes++
		n = &memNode{inode: d.inodes}
		d.names[path] = n
	}
	return &memFile{d, path, n}, nil
}

func (d *memDisk) stat(path string) (fileID, int64, error) {
	if _, err := d.step("stat", path); err != nil {
		return fileID{}, 0, err
	}
	n := d.names[path]
	if n == nil {
		return fileID{}, 0, fs.ErrNotExist
	}
	return fileID{Dev: 1, Inode: n.inode}, int64(len(n.data)), nil
}

func (d *memDisk) mkdir(string) error { return nil }

func (d *memDisk) probe(string) error {
	_, err := d.step("probe", "")
	return err
}

func (d *memDisk) syncDir(dir string) error {
	if _, err := d.step("syncdir", dir); err != nil {
		return err
	}
	for path := range mapKeys(d.names, d.durable) {
		if filepath.Dir(path) != dir {
			continue
		}
		if n := d.names[path]; n != nil {
			d.durable[path] = n
		} else {
			delete(d.durable, path)
		}
	}
	return nil
}

func (d *memDisk) read(path string) ([]byte, error) {
	if _, err := d.step("read", path); err != nil {
		return nil, err
	}
	if n := d.names[path]; n != nil {
		return n.data, nil
	}
	return nil, fs.ErrNotExist
}

func (d *memDisk) replace(path string, data []byte) error {
	dying, err := d.step("replace", path)
	if err != nil {
		return err
	}
	if dying && d.draw(2) == 0 {
		return errDead
	}
	d.inodes++
	n := &memNode{d.inodes, data, data}
	d.names[path] = n
	if dying && d.draw(2) == 0 {
		return errDead // the name is not safe yet
	}
	d.durable[path] = n
	if dying {
		return errDead
	}
	return nil
}

func (f *memFile) stat() (fileID, int64, error) {
	return fileID{Dev: 1, Inode: f.node.inode}, int64(len(f.node.data)), nil
}

func (f *memFile) Write(p []byte) (int, error) {
	dying, err := f.d.step("write", f.path)
	if err != nil {
		return 0, err
	}
	n := len(p)
	if dying {
		n, err = f.d.draw(n+1), errDead
	}
	if f.d.room >= 0 && n > f.d.room {
		n, err = f.d.room, errNoRoom
	}
	if f.d.room >= 0 {
		f.d.room -= n
	}
	f.node.data = append(slices.Clip(f.node.data), p[:n]...)
	return n, err
}

func (f *memFile) Truncate(size int64) error {
	if _, err := f.d.step("truncate", f.path); err != nil {
		return err
	}
	f.node.data = slices.Clone(f.node.data[:size])
	return nil
}

func (f *memFile) Sync() error {
	dying, err := f.d.step("sync", f.path)
	if err != nil || dying {
		return errors.Join(err, errDead)
	}
	f.node.synced = slices.Clone(f.node.data)
	return nil
}

func (f *memFile) Close() error { return nil }

// logs gives the contents of the log files that are not empty.
func (d *memDisk) logs() map[string]string {
	out := make(map[string]string)
	for path, n := range d.names {
		if strings.HasSuffix(path, ".log") && len(n.data) > 0 {
			out[path] = string(n.data)
		}
	}
	return out
}
