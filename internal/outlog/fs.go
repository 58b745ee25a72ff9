package outlog

import (
	"fmt"
	"io"
	"os"
)

// FS is what the segments need from a file system. Names are paths as the operating system writes them.
type FS interface {
	// Open opens a file for reading and writing; create makes it, empty, or empties it. Without create a file that
	// is not there gives an error that is fs.ErrNotExist.
	Open(name string, create bool) (File, error)
	Remove(name string) error
	// Names lists the names (without the directory) in a directory, sorted.
	Names(dir string) ([]string, error)
	MkdirAll(dir string) error
	// SyncDir makes the directory's entries durable: without it a new file may be gone after a power loss.
	SyncDir(dir string) error
}

// File is an open file. ReadAt and WriteAt may be called from several goroutines.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	Sync() error
}

// OS gives the real file system. Files get mode 0600, directories 0700.
func OS() FS { return osFS{} }

type osFS struct{}

type osFile struct{ *os.File }

func (osFS) Open(name string, create bool) (File, error) {
	flag := os.O_RDWR
	if create {
		flag |= os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osFS) Remove(name string) error { return os.Remove(name) }

func (osFS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

func (osFS) Names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

func (osFS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	if err := d.Sync(); err != nil {
		_ = d.Close() // the sync's error is the one that counts
		return fmt.Errorf("sync directory: %w", err)
	}
	return d.Close()
}

func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
