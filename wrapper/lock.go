package wrapper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/syscollective/saltpeter/internal/filename"
)

// lockWait is how long a lock is waited for: a job that is due every second must not collide with its own predecessor.
const (
	lockWait  = 5 * time.Second
	lockRetry = 50 * time.Millisecond
)

// ErrSameRun says that a wrapper of the same run on the same machine holds the lock: the launcher started two.
var ErrSameRun = errors.New("lock is held by the same run")

// errHeld says that a try met another holder.
var errHeld = errors.New("lock is held")

// HeldError says that something else holds a job's lock.
type HeldError struct {
	Job string
	PID int // of the holder, 0 if unknown
}

// Error gives the sentence that people know from the Python program's wrapper.
func (e *HeldError) Error() string {
	return fmt.Sprintf("LOCKFILE ERROR: Job %s already running (PID %d), overlap not allowed", e.Job, e.PID)
}

// Locker is what a session needs of a job's lock on the machine.
type Locker interface {
	// Acquire takes the lock of a job, waiting up to lockWait. The error is ErrSameRun or a
	// HeldError where somebody holds it.
	Acquire(ctx context.Context, req LockRequest) (release func(), err error)
}

// LockRequest says who wants which lock.
type LockRequest struct {
	Path    string // empty: the default of the job
	Job     string
	Run     string
	Machine string
}

// fileLocker takes locks as files that hold the owner's pid and nothing else, as the Python program's wrapper writes and
// reads them; what we know beside stands in a second file. While our own wrapper lives, it also holds a lock of the
// kernel on the file, which falls with the process; a file without one is believed only while its process lives.
type fileLocker struct {
	dir string // of default lock files
}

// Acquire implements Locker.
func (l fileLocker) Acquire(ctx context.Context, req LockRequest) (func(), error) {
	path := req.Path
	if path == "" {
		path = filepath.Join(l.dir, "sp_wrapper_"+filename.Of(req.Job)+".lock")
	}
	self, err := readStat(os.Getpid())
	if err != nil {
		return nil, fmt.Errorf("read own start time: %w", err)
	}
	me := holder{pid: os.Getpid(), run: req.Run, machine: req.Machine, start: self.start}
	end := time.Now().Add(lockWait)
	for {
		f, other, err := tryLock(path, me)
		switch {
		case err != nil && !errors.Is(err, errHeld):
			return nil, fmt.Errorf("lock %s: %w", path, err)
		case err == nil:
			return func() { unlock(path, f, me) }, nil
		case other.run == me.run && other.machine == me.machine:
			return nil, fmt.Errorf("lock %s: %w", path, ErrSameRun)
		case time.Now().After(end):
			return nil, &HeldError{req.Job, other.pid}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lockRetry):
		}
	}
}

// tryLock takes the lock at once or says who holds it.
func tryLock(path string, me holder) (*os.File, holder, error) {
	f, err := openLock(path)
	if err != nil {
		return nil, holder{}, err
	}
	other, err := claimLock(f, path, me)
	if err != nil {
		f.Close()
		return nil, other, err
	}
	return f, me, nil
}

// openLock opens or makes the file. It never follows a link, never makes the file through one, and doesn't ask to create
// a file that exists: in a sticky directory the kernel may refuse that for a file of another user.
func openLock(path string) (*os.File, error) {
	const flags = unix.O_RDWR | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	for range 10 {
		f, err := os.OpenFile(path, flags, 0)
		if errors.Is(err, fs.ErrNotExist) {
			f, err = os.OpenFile(path, flags|unix.O_CREAT|unix.O_EXCL, 0o644)
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) {
			return f, err
		}
	}
	return nil, fmt.Errorf("open: the file comes and goes")
}

// claimLock makes an open lock file ours.
func claimLock(f *os.File, path string, me holder) (holder, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return readHolder(f, path), errHeld
	}
	if err != nil {
		return holder{}, fmt.Errorf("flock: %w", err)
	}
	var mine, there unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &mine); err != nil {
		return holder{}, fmt.Errorf("fstat: %w", err)
	}
	if mine.Mode&unix.S_IFMT != unix.S_IFREG || mine.Nlink > 1 {
		return holder{}, errors.New("not a plain file of its own")
	}
	if err := unix.Lstat(path, &there); err != nil || there.Ino != mine.Ino || there.Dev != mine.Dev {
		return holder{}, errHeld // its last owner has just removed it: try again
	}
	if other := readHolder(f, path); other.pid != 0 && other.pid != me.pid && alive(other.pid, other.start) {
		return other, errHeld
	}
	if err := f.Truncate(0); err != nil {
		return holder{}, fmt.Errorf("truncate: %w", err)
	}
	if _, err := f.WriteAt(fmt.Appendf(nil, "%d\n", me.pid), 0); err != nil {
		return holder{}, fmt.Errorf("write: %w", err)
	}
	me.describe(path)
	return me, nil
}

// unlock removes the files while they are still ours, then lets the kernel's lock go.
func unlock(path string, f *os.File, me holder) {
	if readDescription(path) == me {
		os.Remove(path + descriptionSuffix)
	}
	var mine, there unix.Stat_t
	err1, err2 := unix.Fstat(int(f.Fd()), &mine), unix.Lstat(path, &there)
	if err1 == nil && err2 == nil && mine.Ino == there.Ino && mine.Dev == there.Dev {
		os.Remove(path)
	}
	f.Close()
}
