package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// usableSnapshots is a snapshot store that, until started is set, shows only snapshots that the log continues. At start Raft
// falls back to an older one when the newest does not load, even where the log was cut at the newest: entries would be
// missing between the two, and nobody would notice.
type usableSnapshots struct {
	raft.SnapshotStore
	first, last uint64 // the log's last stretch without a gap; last is 0 for an empty log
	newest      string // id of the newest snapshot on disk, whether it can be read or not
	started     atomic.Bool
}

// List implements raft.SnapshotStore.
func (u *usableSnapshots) List() ([]*raft.SnapshotMeta, error) {
	all, err := u.SnapshotStore.List()
	if err != nil || u.started.Load() {
		return all, err
	}
	var usable []*raft.SnapshotMeta
	for _, meta := range all {
		if u.continues(meta) {
			usable = append(usable, meta)
		}
	}
	return usable, nil
}

// continues says whether the log goes on where the snapshot ends. One that ends behind the log holds all there is, if it is
// the newest.
func (u *usableSnapshots) continues(meta *raft.SnapshotMeta) bool {
	if u.last == 0 || meta.Index > u.last {
		return u.newest == "" || meta.ID == u.newest
	}
	return meta.Index+1 >= u.first
}

// check refuses a log that needs a snapshot which is not there. Opening a snapshot checks its checksum.
func (u *usableSnapshots) check() error {
	usable, err := u.List()
	if err != nil {
		return fmt.Errorf("%w: list snapshots: %w", ErrStore, err)
	}
	var damaged []error
	for _, meta := range usable {
		_, r, err := u.Open(meta.ID)
		if err == nil {
			return r.Close()
		}
		damaged = append(damaged, fmt.Errorf("snapshot %s: %w", meta.ID, err))
	}
	needed := u.newest != "" || u.first > 1
	if !needed {
		return nil
	}
	if u.last > 0 && u.first <= 1 { // the log alone holds everything
		return nil
	}
	damaged = append(damaged, fmt.Errorf("the log begins at entry %d and no snapshot in the data directory reaches it", u.first))
	return fmt.Errorf("%w: %w", ErrStore, errors.Join(damaged...))
}

// none says that there is neither an entry nor a snapshot.
func (u *usableSnapshots) none() bool {
	all, err := u.SnapshotStore.List()
	return err == nil && len(all) == 0 && u.newest == "" && u.last == 0
}

// dropUnfinished removes what a crash left of snapshots that were being written: nobody else does.
func dropUnfinished(dir string) error {
	leftovers, err := filepath.Glob(filepath.Join(dir, "snapshots", "*.tmp"))
	for _, path := range leftovers {
		err = errors.Join(err, os.RemoveAll(path))
	}
	if err != nil {
		return fmt.Errorf("%w: remove unfinished snapshots: %w", ErrStore, err)
	}
	return nil
}

// newestSnapshot is the id of the newest finished snapshot in the directory of snapshots. Raft's list leaves out those
// whose description can't be read.
func newestSnapshot(dir string) (string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("%w: list snapshots: %w", ErrStore, err)
	}
	newest, top := "", [3]uint64{}
	for _, e := range entries {
		var id [3]uint64 // term, index, milliseconds
		if strings.HasSuffix(e.Name(), ".tmp") {
			continue
		}
		if _, err := fmt.Sscanf(e.Name(), "%d-%d-%d", &id[0], &id[1], &id[2]); err != nil {
			continue
		}
		if newest == "" || later(id, top) {
			newest, top = e.Name(), id
		}
	}
	return newest, nil
}

func later(a, b [3]uint64) bool {
	for i := range a {
		if a[i] != b[i] {
			return a[i] > b[i]
		}
	}
	return false
}
