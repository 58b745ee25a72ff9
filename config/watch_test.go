package config

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// watched runs a watcher of a directory in a bubble and collects what it delivers.
type watched struct {
	*Watcher
	gotMu  sync.Mutex
	got    []*Result
	cancel context.CancelFunc
	ended  chan error
}

func watch(t *testing.T, dir string) *watched {
	t.Helper()
	return watchWith(t, dir, Load)
}

func watchWith(t *testing.T, dir string, read func(string) *Result) *watched {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watched{cancel: cancel, ended: make(chan error, 1)}
	w.Watcher = NewWatcher(dir, slog.New(slog.DiscardHandler), func(r *Result) {
		w.gotMu.Lock()
		defer w.gotMu.Unlock()
		w.got = append(w.got, r)
	})
	w.read = read
	go func() { w.ended <- w.Run(ctx) }()
	synctest.Wait()
	return w
}

// polls lets the time of n polls pass.
func polls(n int) {
	time.Sleep(time.Duration(n) * pollEvery)
	synctest.Wait()
}

func (w *watched) stop(t *testing.T) {
	t.Helper()
	w.cancel()
	if err := <-w.ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
}

// check compares the number of results so far, and of the jobs and errors in the last one.
func (w *watched) check(t *testing.T, when string, results, jobs, errors int) {
	t.Helper()
	w.gotMu.Lock()
	defer w.gotMu.Unlock()
	if len(w.got) != results {
		t.Fatalf("%s: %d results, want %d", when, len(w.got), results)
	}
	if last := w.got[results-1]; last.Counts.Jobs != jobs || last.Counts.Errors != errors {
		t.Errorf("%s: %s, want %d jobs and %d errors", when, last.Summary(), jobs, errors)
	}
}

func TestWatcherDeliversQuietChanges(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", jobText(""))
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, dir)
		w.check(t, "at once", 1, 1, 0)
		polls(10)
		w.check(t, "unchanged", 1, 1, 0)

		write(t, dir, "a.yaml", "other:\n  schedule: '@daily'\n  command: c\n  targets: '*'\n")
		polls(2)
		w.check(t, "changed, not quiet yet", 1, 1, 0)
		polls(1)
		w.check(t, "quiet for two polls", 2, 1, 0)
		write(t, dir, "b.yaml", "broken: [")
		polls(3)
		w.check(t, "broken", 3, 1, 1)
		remove(t, dir, "b.yaml")
		polls(3)
		w.check(t, "mended", 4, 1, 0)
		w.stop(t)
		if name := w.got[1].Jobs[0].Name; name != "other" {
			t.Errorf("the second result has job %s", name)
		}
	})
}

// While somebody keeps writing, nothing is read; then the end of it is, once.
func TestWatcherWaitsForQuiet(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", jobText(""))
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, dir)
		text := jobText("")
		for range 8 {
			text += "# more\n"
			write(t, dir, "a.yaml", text)
			polls(1)
		}
		w.check(t, "being written", 1, 1, 0)
		polls(3)
		w.check(t, "written", 2, 1, 0)
		w.stop(t)
	})
}

// Touching or rewriting a file with what it held is no change.
func TestWatcherIgnoresSameContents(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", jobText(""))
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, dir)
		now := time.Now().Add(time.Hour)
		if err := os.Chtimes(filepath.Join(dir, "a.yaml"), now, now); err != nil {
			t.Fatal(err)
		}
		polls(6)
		remove(t, dir, "a.yaml")
		write(t, dir, "a.yaml", jobText(""))
		polls(6)
		w.check(t, "rewritten", 1, 1, 0)
		w.stop(t)
	})
}

// An edit in place that keeps the size and sets the time of the file back is seen all the same.
func TestWatcherSeesHiddenEdit(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", jobText("cwd: /a"))
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, dir)
		path := filepath.Join(dir, "a.yaml")
		before, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		write(t, dir, "a.yaml", jobText("cwd: /b"))
		if err := os.Chtimes(path, before.ModTime(), before.ModTime()); err != nil {
			t.Fatal(err)
		}
		polls(3)
		w.check(t, "edited", 2, 1, 0)
		w.stop(t)
	})
}

// A result that was read while somebody wrote may be of two halves: it is not delivered.
func TestWatcherDropsTornRead(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", jobText(""))
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		w := watchWith(t, dir, func(dir string) *Result {
			r := Load(dir)
			if reads++; reads == 2 {
				write(t, dir, "b.yaml", "broken: [")
			}
			return r
		})
		write(t, dir, "a.yaml", jobText("cwd: /b"))
		polls(3)
		w.check(t, "torn", 1, 1, 0)
		polls(2)
		w.check(t, "whole", 2, 1, 1)
		w.stop(t)
	})
}

// An empty directory, or one that went away, is an error and never "no jobs"; coming back ends it.
func TestWatcherEmptyDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "a.yaml", jobText(""))
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, dir)
		remove(t, dir, "a.yaml")
		polls(3)
		w.check(t, "empty", 2, 0, 1)
		remove(t, dir, "")
		polls(3)
		w.check(t, "absent", 3, 0, 1)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, dir, "a.yaml", jobText(""))
		polls(3)
		w.check(t, "back", 4, 1, 0)
		w.stop(t)
	})
}

func TestWatcherReload(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a.yaml", jobText(""))
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, dir)
		if r, err := w.Reload(t.Context()); err != nil || r.Counts.Jobs != 1 {
			t.Errorf("reload: %v, %v", r, err)
		}
		w.check(t, "forced without a change", 2, 1, 0)
		write(t, dir, "b.yaml", "two:\n  schedule: '@daily'\n  command: c\n  targets: '*'\n")
		if _, err := w.Reload(t.Context()); err != nil {
			t.Error(err)
		}
		w.check(t, "forced at once", 3, 2, 0)
		polls(5)
		w.check(t, "and not again", 3, 2, 0)
		w.stop(t)
		if _, err := w.Reload(context.Background()); !errors.Is(err, ErrStopped) {
			t.Errorf("reload after the end: %v", err)
		}
	})
}

func remove(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.Remove(filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}
