package wrapper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// takeLockOnce is a process that takes a lock, writes into a ledger while it has it, and gives it back. It exits 3 if somebody
// else was in.
func takeLockOnce(args []string) int {
	path, inside := args[0], args[1]
	release, err := fileLocker{}.Acquire(context.Background(), LockRequest{Path: path, Job: "j", Run: "run-" + strconv.Itoa(os.Getpid()), Machine: "m"})
	if err != nil {
		return 1
	}
	defer release()
	f, err := os.OpenFile(inside, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 3
	}
	f.Close()
	<-time.After(time.Millisecond)
	if os.Remove(inside) != nil {
		return 3
	}
	return 0
}

func TestLockRace(t *testing.T) {
	dir := t.TempDir()
	var procs []*exec.Cmd
	for range 24 {
		cmd := exec.Command("/proc/self/exe", "take-lock", filepath.Join(dir, "lock"), filepath.Join(dir, "inside"))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		procs = append(procs, cmd)
	}
	took := 0
	for _, cmd := range procs {
		err := cmd.Wait()
		if cmd.ProcessState.ExitCode() == 3 {
			t.Fatal("two had the lock at once")
		}
		if err == nil {
			took++
		}
	}
	if took < 12 {
		t.Errorf("only %d of %d got the lock", took, len(procs))
	}
	if _, err := os.Stat(filepath.Join(dir, "lock")); err == nil {
		t.Error("the lock file is left")
	}
}

func request(path, run, machine string) LockRequest {
	return LockRequest{Path: path, Job: "j", Run: run, Machine: machine}
}

// acquire tries with little patience: ctx ends long before the lock's own wait does.
func acquire(t *testing.T, req LockRequest) (func(), error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	return fileLocker{}.Acquire(ctx, req)
}

func TestLockHeld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	release, err := acquire(t, request(path, "a_1", "m1"))
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != strconv.Itoa(os.Getpid())+"\n" {
		t.Errorf("the file holds %q, %v: the Python program takes all of it for a pid", text, err)
	}
	if _, err := acquire(t, request(path, "a_1", "m1")); !errors.Is(err, ErrSameRun) {
		t.Errorf("same run: %v", err)
	}
	if _, err := acquire(t, request(path, "a_1", "m2")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("same run of another machine that shares the file: %v, want to wait", err)
	}
	if _, err := acquire(t, request(path, "a_2", "m1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("another run: %v, want to wait", err)
	}
	release()
	release, err = acquire(t, request(path, "a_2", "m1"))
	if err != nil {
		t.Fatalf("after release: %v", err)
	}
	release()
	if left, err := filepath.Glob(path + "*"); err != nil || len(left) > 0 {
		t.Errorf("%v left after release", left)
	}
}

// TestLockWithoutDescription: what stands beside a lock file is of help only. Where it can't be written or read, a held lock
// is a held lock, and never one of the same run.
func TestLockWithoutDescription(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if err := os.MkdirAll(path+descriptionSuffix+"/in the way", 0o755); err != nil {
		t.Fatal(err)
	}
	release, err := acquire(t, request(path, "a_1", "m1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := acquire(t, request(path, "a_1", "m1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("held: %v, want to wait", err)
	}
	release()
	if _, err := os.Stat(path); err == nil {
		t.Error("the file is left after release")
	}
}

func TestLockGivesUp(t *testing.T) {
	if testing.Short() {
		t.Skip("waits 5 s")
	}
	path := filepath.Join(t.TempDir(), "lock")
	release, err := acquire(t, request(path, "a_1", "m1"))
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	start := time.Now()
	_, err = fileLocker{}.Acquire(t.Context(), request(path, "a_2", "m1"))
	held, ok := errors.AsType[*HeldError](err)
	if !ok || held.PID != os.Getpid() {
		t.Fatalf("got %v", err)
	}
	want := fmt.Sprintf("LOCKFILE ERROR: Job j already running (PID %d), overlap not allowed", os.Getpid())
	if held.Error() != want {
		t.Errorf("text %q, want %q", held.Error(), want)
	}
	if d := time.Since(start); d < lockWait || d > lockWait+2*time.Second {
		t.Errorf("gave up after %v", d)
	}
}

func TestLockFilesFoundThere(t *testing.T) {
	sleeper := exec.Command("sleep", "100")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	stat, err := readStat(sleeper.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	pid := sleeper.Process.Pid
	tests := []struct {
		name, text, beside string
		held               bool
	}{
		{"empty", "", "", false},
		{"nonsense", "hello\n", "", false},
		{"a dead process", "4194000\n", "", false},
		{"a living process, as the Python program writes it", fmt.Sprintf("%d\n", pid), "", true},
		{"a living process without the end of the line", strconv.Itoa(pid), "", true},
		{"a living process with its start time", fmt.Sprintf("%d\n", pid), fmt.Sprintf("%d\nr_1\nm\n%d\n", pid, stat.start), true},
		{"a process that got the pid of a dead one", fmt.Sprintf("%d\n", pid), fmt.Sprintf("%d\nr_1\nm\n%d\n", pid, stat.start-1), false},
		{"a dead wrapper of ours", "4194000\n", "4194000\nr_2\nm\n7\n", false},
		{"a Python wrapper after a dead one of ours", fmt.Sprintf("%d\n", pid), "4194000\nr_2\nm\n7\n", true},
		{"nonsense beside it", fmt.Sprintf("%d\n", pid), "\x00\n\n\n\n", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "lock")
			if err := os.WriteFile(path, []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
			if tt.beside != "" {
				if err := os.WriteFile(path+descriptionSuffix, []byte(tt.beside), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			release, err := acquire(t, request(path, "r_2", "m"))
			if (err != nil) != tt.held || tt.held && !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("got %v, want held %v", err, tt.held)
			}
			if release == nil {
				return
			}
			if got := readDescription(path); got.pid != os.Getpid() || got.run != "r_2" {
				t.Errorf("beside the lock stands %+v", got)
			}
			release()
			if left, _ := filepath.Glob(path + "*"); len(left) > 0 {
				t.Errorf("%v left", left)
			}
		})
	}
}

func TestLockFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	victims := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}
	for _, v := range victims {
		if err := os.WriteFile(v, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	soft, hard := filepath.Join(dir, "soft"), filepath.Join(dir, "hard")
	if err := errors.Join(os.Symlink(victims[0], soft), os.Link(victims[1], hard)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{soft, hard, dir} {
		if _, err := acquire(t, request(path, "a_1", "m")); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: got %v", filepath.Base(path), err)
		}
	}
	for _, v := range victims {
		if b, _ := os.ReadFile(v); string(b) != "precious" {
			t.Errorf("the file behind a link is now %q", b)
		}
	}
}

func TestJournal(t *testing.T) {
	dir := t.TempDir()
	j := newJournal(dir, "boot-1")
	sleeper := exec.Command("sleep", "100")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	stat, err := readStat(sleeper.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	entry := Entry{Run: "a_1", RunNum: 1, Job: "a", BootID: "boot-1", PID: sleeper.Process.Pid, Start: stat.start, Wrapper: 4194000, Since: 1}
	other := entry
	other.RunNum, other.BootID = 2, "boot-0"
	mine := entry
	mine.RunNum, mine.Wrapper, mine.Since = 3, 0, 0 // as the session writes it: the journal knows whose it is
	for _, e := range []Entry{entry, other, mine} {
		if err := j.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	got, err := j.Orphans()
	if err != nil || len(got) != 1 || got[0] != entry {
		t.Fatalf("orphans %+v, %v; want only the one of this boot whose wrapper is dead", got, err)
	}
	_ = sleeper.Process.Kill()
	_ = sleeper.Wait()
	if got, err := j.Orphans(); err != nil || len(got) != 0 {
		t.Fatalf("orphans after death: %+v, %v", got, err)
	}
	if err := j.Remove(mine); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "journal")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
