package outlog

import (
	"errors"
	"io/fs"
	"testing"
	"testing/synctest"
	"time"
)

func content(t *testing.T, l *Lossy, name string) (string, bool) {
	t.Helper()
	f, err := l.Open(name, false)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false
	}
	must(t, err)
	n, err := f.Size()
	must(t, err)
	b := make([]byte, n)
	if n > 0 {
		_, err = f.ReadAt(b, 0)
		must(t, err)
	}
	return string(b), true
}

// TestLossyLosesOnlyWhatWasNotSynced crashes many times and looks at what came out: all that was synced, and of the
// rest everything that may happen.
func TestLossyLosesOnlyWhatWasNotSynced(t *testing.T) {
	seen := make(map[string]int)
	for seed := range uint64(500) {
		l := NewLossy(seed)
		f, err := l.Open("d/a", true)
		must(t, err)
		_, err = f.WriteAt([]byte("synced"), 0)
		must(t, err)
		must(t, f.Sync())
		must(t, l.SyncDir("d"))
		_, err = f.WriteAt([]byte("XY"), 0)
		must(t, err)
		_, err = f.WriteAt([]byte("tail"), 6)
		must(t, err)
		_, err = l.Open("d/b", true)
		must(t, err)
		l.Crash()
		if _, err := f.WriteAt([]byte("x"), 0); !errors.Is(err, fs.ErrClosed) {
			t.Fatalf("a file from before the crash: %v", err)
		}
		a, ok := content(t, l, "d/a")
		if !ok || len(a) < 6 || a[2:6] != "nced" {
			t.Fatalf("seed %d: what was synced is %q", seed, a)
		}
		seen[a]++
		if _, ok := content(t, l, "d/b"); ok {
			seen["new file kept"]++
		} else {
			seen["new file lost"]++
		}
		l.Crash()
		if again, _ := content(t, l, "d/a"); again != a {
			t.Fatalf("a second crash lost more: %q, %q", a, again)
		}
	}
	for _, want := range []string{"synced", "XYnced", "syncedtail", "XYncedtail", "syncedta", "Xynced", "new file kept", "new file lost"} {
		if seen[want] == 0 {
			t.Errorf("never seen: %q (%v)", want, seen)
		}
	}
}

func TestLossyRemoveMayComeBack(t *testing.T) {
	back := 0
	for seed := range uint64(50) {
		l := NewLossy(seed)
		_, err := l.Open("d/a", true)
		must(t, err)
		must(t, l.SyncDir("d"))
		must(t, l.Remove("d/a"))
		if _, err := l.Open("d/a", false); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("removed: %v", err)
		}
		mustBe(t, l.Remove("d/a"), fs.ErrNotExist)
		l.Crash()
		if _, ok := content(t, l, "d/a"); ok {
			back++
		}
	}
	if back == 0 || back == 50 {
		t.Errorf("came back %d times of 50", back)
	}
}

// TestInABubble: a store on a Lossy needs no real time and leaves no goroutine.
func TestInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := Open(NewLossy(1), dir, testOpts, nil)
		must(t, err)
		done := make(chan error)
		go func() {
			time.Sleep(time.Hour)
			done <- s.Sync(s.Manifest())
		}()
		grow(t, s, 3, 60, Key{1, 1})
		must(t, <-done)
		must(t, s.Close())
	})
}
