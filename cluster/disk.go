package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

const (
	logFile = "raft.db"
	// snapshotsKept is the newest and the one before it, for an operator's eyes: see usableSnapshots for when Raft may use it.
	snapshotsKept = 2
	lockWait      = time.Second // for the process before us to let go of the log file
)

// openDisk opens the log in dir, or makes a new one.
func openDisk(dir string) (store *raftboltdb.BoltStore, err error) {
	path := filepath.Join(dir, logFile)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStore, err)
	}
	if err := checkBolt(path); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrStore, path, err)
	}
	// bbolt maps the file: what checkBolt missed is a fault in memory, or a panic of bbolt's own.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			store, err = nil, fmt.Errorf("%w: %s is damaged: %v", ErrStore, path, p)
		}
	}()
	if err := walkBolt(path); err != nil {
		return nil, err
	}
	store, err = raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{
		Timeout:        lockWait,
		NoFreelistSync: true, // two syncs per commit and less to write; the list is found by a scan at start
		FreelistType:   bbolt.FreelistMapType,
	}})
	return store, explainOpen(path, err)
}

func explainOpen(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, berrors.ErrTimeout):
		return fmt.Errorf("%w: %s is in use by another process", ErrStore, path)
	default:
		return fmt.Errorf("%w: open %s: %w", ErrStore, path, err)
	}
}

// walkBolt reads every page in use, in this goroutine: the scan that bbolt makes when it opens a file for writing runs in
// one of its own, where a panic over a damaged page would end the process without a word of ours.
func walkBolt(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: lockWait})
	if err != nil {
		return explainOpen(path, err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error {
			return b.ForEach(func(_, _ []byte) error { return nil })
		})
	})
	return explainOpen(path, errors.Join(err, db.Close()))
}

// What checkBolt knows of a bbolt file: two meta pages, each with a header of 16 bytes, then the fields of the meta.
const (
	boltMagic   = 0xED0CDAED
	metaHeader  = 16
	metaSize    = 64 // with its checksum
	metaSumAt   = 56 // the FNV-1a of all before it
	minPageSize = 512
	maxPageSize = 64 << 10
)

// checkBolt says whether a bbolt file has the length that its newest meta page speaks of: a file that was cut short, by a
// full disk or a copy, would be read beyond its end. A file that does not exist is fine.
func checkBolt(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() == 0 { // bbolt makes a new file of an empty one
		return err
	}
	need, found := int64(0), false
	var newest uint64
	for _, at := range metaOffsets() {
		page := make([]byte, metaHeader+metaSize)
		if _, err := f.ReadAt(page, at); err != nil {
			continue
		}
		meta := page[metaHeader:]
		h := fnv.New64a()
		h.Write(meta[:metaSumAt])
		if binary.NativeEndian.Uint32(meta) != boltMagic || h.Sum64() != binary.NativeEndian.Uint64(meta[metaSumAt:]) {
			continue
		}
		if txid := binary.NativeEndian.Uint64(meta[48:]); !found || txid > newest {
			found, newest = true, txid
			need = int64(binary.NativeEndian.Uint64(meta[40:])) * int64(binary.NativeEndian.Uint32(meta[8:]))
		}
	}
	switch {
	case !found:
		return fmt.Errorf("no valid meta page in %d bytes: the file is cut short, damaged or no log of ours", info.Size())
	case info.Size() < need:
		return fmt.Errorf("the file is cut short: %d bytes of at least %d", info.Size(), need)
	}
	return nil
}

// metaOffsets are the places where the second meta page may begin, with that of the first: it depends on the page size,
// which is in the first, which may be the damaged one.
func metaOffsets() []int64 {
	offsets := []int64{0}
	for size := int64(minPageSize); size <= maxPageSize; size *= 2 {
		offsets = append(offsets, size)
	}
	return offsets
}

// openSnapshots opens the directory of snapshots.
func openSnapshots(dir string, log hclog.Logger) (raft.SnapshotStore, error) {
	store, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, log.Named("snapshots"))
	if err != nil {
		return nil, fmt.Errorf("%w: open snapshots: %w", ErrStore, err)
	}
	return store, nil
}
