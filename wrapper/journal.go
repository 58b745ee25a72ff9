package wrapper

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/syscollective/saltpeter"
)

// Entry is what the journal tells of a command that may run: enough to find it after its wrapper died. The secret is not
// among it: who reads the journal can't speak for the run.
type Entry struct {
	Run     string `json:"run"`
	RunNum  uint64 `json:"run_num"`
	Target  uint32 `json:"target"`
	Job     string `json:"job"`
	Launch  string `json:"launch"`
	BootID  string `json:"boot_id"`
	PID     int    `json:"pid"`   // the command's, also its process group
	Start   uint64 `json:"start"` // ticks since boot
	Wrapper int    `json:"wrapper_pid"`
	Since   uint64 `json:"wrapper_start"`
}

func (e Entry) ref() saltpeter.TargetRef { return saltpeter.TargetRef{Run: e.RunNum, Target: e.Target} }

// Journal is what a session needs of the record of commands on disk.
type Journal interface {
	// Write puts e on disk, for good when it returns nil.
	Write(e Entry) error
	// Remove takes e away: the command ended, or never began.
	Remove(e Entry) error
	// Orphans lists the commands that still run though their wrapper is gone.
	Orphans() ([]Entry, error)
}

// fileJournal keeps one file per command. Files appear whole or not at all.
type fileJournal struct {
	dir    string
	bootID string
	pid    int    // of this wrapper
	since  uint64 // when it was started, in ticks since boot
}

func newJournal(state, boot string) *fileJournal {
	j := &fileJournal{dir: filepath.Join(state, "journal"), bootID: boot, pid: os.Getpid()}
	if me, err := readStat(j.pid); err == nil { // else the entry looks like an orphan's, which is only a remark
		j.since = me.start
	}
	return j
}

func (j *fileJournal) path(e Entry) string {
	return filepath.Join(j.dir, fmt.Sprintf("%d-%d.json", e.RunNum, e.Target))
}

// Write replaces an entry of the same target. An entry that names no wrapper is this one's.
func (j *fileJournal) Write(e Entry) error {
	if e.Wrapper == 0 {
		e.Wrapper, e.Since = j.pid, j.since
	}
	b, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode journal entry: %w", err)
	}
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return fmt.Errorf("make journal: %w", err)
	}
	f, err := os.CreateTemp(j.dir, ".new-*")
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), j.path(e))
	}
	if err == nil {
		err = syncDir(j.dir)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// Remove needs no sync: an entry that comes back after a power loss is of another boot.
func (j *fileJournal) Remove(e Entry) error {
	if err := os.Remove(j.path(e)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove journal entry: %w", err)
	}
	return nil
}

// Orphans also sweeps away the entries of dead wrappers whose commands are dead too.
func (j *fileJournal) Orphans() ([]Entry, error) {
	files, err := os.ReadDir(j.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read journal: %w", err)
	}
	var out []Entry
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".json") {
			continue
		}
		path := filepath.Join(j.dir, f.Name())
		b, err := os.ReadFile(path)
		if err != nil {
			continue // its wrapper has just removed it
		}
		var e Entry
		if err := json.Unmarshal(b, &e); err != nil {
			os.Remove(path) // entries appear whole: this one was never ours
			continue
		}
		sameBoot := e.BootID == j.bootID
		switch {
		case sameBoot && alive(e.Wrapper, e.Since):
		case sameBoot && alive(e.PID, e.Start):
			out = append(out, e)
		default:
			os.Remove(path)
		}
	}
	return out, nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) { // a file system that can't sync directories
		err = nil
	}
	return errors.Join(err, d.Close())
}
