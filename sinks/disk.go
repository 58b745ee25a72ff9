package sinks

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// fileID tells one file from another whatever their names. The zero value is no file.
type fileID struct {
	Dev   uint64 `json:"dev"`
	Inode uint64 `json:"inode"`
}

// disk is what the log files need of a file system. Tests give one that loses what was not synced.
type disk interface {
	// open opens a log file for appending; create makes it where it is not there.
	open(path string, create bool) (logFile, error)
	// stat tells which file a path leads to now, and its size in bytes.
	stat(path string) (fileID, int64, error)
	mkdir(dir string) error
	// probe reports whether files can be made in dir.
	probe(dir string) error
	// syncDir makes a directory's entries safe.
	syncDir(dir string) error
	read(path string) ([]byte, error)
	// replace puts a file's new content in place of the old one, at once and safe when it returns. After an error
	// the one or the other is there.
	replace(path string, data []byte) error
}

// logFile is an open log file.
type logFile interface {
	Write(p []byte) (int, error)
	Truncate(size int64) error
	Sync() error
	Close() error
	stat() (fileID, int64, error)
}

type osDisk struct{}

type osFile struct{ *os.File }

var errNotRegular = errors.New("not a regular file")

func (osDisk) open(path string, create bool) (logFile, error) {
	flag := os.O_WRONLY | os.O_APPEND | syscall.O_NONBLOCK // a pipe without a reader must not hold us up
	if create {
		flag |= os.O_CREATE
	}
	f, err := os.OpenFile(path, flag, 0o640)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: errNotRegular}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return osFile{f}, nil
}

func (osDisk) stat(path string) (fileID, int64, error) { return identify(os.Stat(path)) }

func (f osFile) stat() (fileID, int64, error) { return identify(f.Stat()) }

func identify(info fs.FileInfo, err error) (fileID, int64, error) {
	if err != nil {
		return fileID{}, 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, 0, fmt.Errorf("identify %s: no inode", info.Name())
	}
	return fileID{Dev: uint64(st.Dev), Inode: st.Ino}, info.Size(), nil //nolint:unconvert // Dev's type differs between systems
}

func (osDisk) mkdir(dir string) error { return os.MkdirAll(dir, 0o755) }

func (osDisk) probe(dir string) error {
	f, err := os.CreateTemp(dir, ".saltpeter-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func (osDisk) syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osDisk) read(path string) ([]byte, error) { return os.ReadFile(path) }

func (d osDisk) replace(path string, data []byte) error {
	part := path + ".new"
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(part, path); err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(path))
}
