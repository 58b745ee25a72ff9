package sinks

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter"
)

func TestFileModes(t *testing.T) {
	old := syscall.Umask(0o022)
	defer syscall.Umask(old)
	n, l := newLogs(t)
	n.add(claimed("a"))
	drain(t, l)
	for path, want := range map[string]os.FileMode{filepath.Join(n.dir, "a.log"): 0o640, l.o.Cursor: 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
	}
}

// TestContinues: a second sink goes on where the first one ended, stopped in order or not.
func TestContinues(t *testing.T) {
	for _, stopped := range []bool{true, false} {
		n, l := newLogs(t)
		n.add(claimed("a"), claimed("b/c"))
		drain(t, l)
		if stopped {
			if err := l.stop(); err != nil {
				t.Fatal(err)
			}
		}
		n.add(finished("a"))
		drain(t, n.sink())
		wantSame(t, all(t, n.dir), map[string]string{"a.log": startLine("a") + endLine("a"), "b%2Fc.log": startLine("b/c")})
	}
}

func TestDirChanges(t *testing.T) {
	n, l := newLogs(t)
	first := n.dir
	n.add(claimed("a"))
	drain(t, l)
	n.set(func() { n.dir = "" }) // switched off: records of that time are not made up
	n.add(claimed("off"))
	drain(t, l)
	n.set(func() { n.dir = filepath.Join(first, "deeper", "still") })
	n.add(finished("a"))
	drain(t, l)
	wantLog(t, n, "a", endLine("a"))
	n.set(func() { n.dir = first })
	wantLog(t, n, "a", startLine("a"))
	if _, err := os.Stat(filepath.Join(first, "off.log")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a record of the time without logs was written: %v", err)
	}
}

// TestDropped: events that the feed dropped before they were seen are counted in a file of the sink's own.
func TestDropped(t *testing.T) {
	n, l := newLogs(t)
	n.add(claimed("a"), claimed("x"), claimed("x"))
	n.drop(1) // a new node begins with what there is, without a remark
	drain(t, l)
	n.add(claimed("x"), claimed("x"), claimed("x"), finished("a"))
	n.drop(5)
	drain(t, l)
	wantSame(t, all(t, n.dir), map[string]string{
		"x.log": startLine("x") + startLine("x"), "a.log": endLine("a"),
		"%saltpeter.log": "!!!!!! 3 events were dropped before they could be written, found at 2026-11-23 04:26:08+00:00 !!!!!!\n",
	})
	drain(t, n.sink())
	if got := all(t, n.dir)["%saltpeter.log"]; strings.Count(got, "\n") != 1 {
		t.Errorf("told twice: %q", got)
	}
}

// TestManyFiles: more files than are open at once.
func TestManyFiles(t *testing.T) {
	n, l := newLogs(t)
	want := make(map[string]string)
	for i := range 3 * maxFiles {
		job := fmt.Sprintf("job-%d", i)
		n.add(claimed(job), finished(job))
		want[job+".log"] = startLine(job) + endLine(job)
	}
	drain(t, l)
	wantSame(t, all(t, n.dir), want)
	if len(l.saved.Files) != 0 {
		t.Errorf("%d files are declared though all is written", len(l.saved.Files))
	}
}

func TestOutputNotYet(t *testing.T) {
	for _, size := range []int{10, 100_000} { // the second begins to be written before it has to wait
		n, l := newLogs(t)
		ref := saltpeter.TargetRef{Run: 1}
		text := strings.Repeat("0123456789\n", size/10)
		n.outputs[ref], n.errs[ref] = text[:size/2], ErrNotYet
		result := saltpeter.Event{Type: saltpeter.EventMachineResult, Job: "a", Run: "a_1", Machine: "m", Ref: ref, State: "ok", Millis: t0,
			Stored: uint64(len(text))}
		n.add(claimed("a"), result, finished("a"))
		for range 3 {
			if more, err := l.step(t.Context()); !errors.Is(err, ErrNotYet) || more {
				t.Fatalf("step: %v, %v", more, err)
			}
		}
		n.set(func() { n.outputs[ref] = text; delete(n.errs, ref) })
		drain(t, l)
		wantLog(t, n, "a", startLine("a")+"########## m from a_1 ################\n**** Exit Code 0 ******\n"+text+
			"\n####### END m from a_1 at 2026-11-23 04:26:08+00:00 #########\n"+endLine("a"))
	}
}

// TestHeld: a log that can't be opened waits alone, is written when it can be, and that survives restarts.
func TestHeld(t *testing.T) {
	n, l := newLogs(t)
	bad := filepath.Join(n.dir, "bad.log")
	if err := os.MkdirAll(bad, 0o755); err != nil {
		t.Fatal(err)
	}
	n.add(claimed("a"), claimed("bad"), finished("a"))
	drain(t, l)
	n.add(finished("bad"), claimed("a"))
	drain(t, l)
	wantLog(t, n, "a", startLine("a")+endLine("a")+startLine("a"))
	l = n.sink()
	drain(t, l)
	if err := os.Remove(bad); err != nil {
		t.Fatal(err)
	}
	n.add(claimed("bad"))
	l.released = time.Time{}
	drain(t, l)
	wantLog(t, n, "bad", startLine("bad")+endLine("bad")+startLine("bad"))
	wantLog(t, n, "a", startLine("a")+endLine("a")+startLine("a"))
	if len(l.saved.Held) != 0 {
		t.Errorf("still held: %v", l.saved.Held)
	}
}

func TestPipeDoesNotBlock(t *testing.T) {
	n, l := newLogs(t)
	if err := os.MkdirAll(n.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(n.dir, "pipe.log"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.add(claimed("pipe"), claimed("a"))
	drain(t, l)
	wantLog(t, n, "a", startLine("a"))
	if _, held := l.now.Held["pipe"]; !held {
		t.Error("the pipe is not held back")
	}
}

func TestBadCursor(t *testing.T) {
	n, l := newLogs(t)
	if err := os.WriteFile(l.o.Cursor, []byte("{\"next\": 12"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.add(claimed("a"))
	drain(t, l)
	wantLog(t, n, "a", startLine("a"))
	if err := os.Remove(l.o.Cursor); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(l.o.Cursor, 0o755); err != nil { // can't be read: not the same as none
		t.Fatal(err)
	}
	if _, err := n.sink().step(t.Context()); err == nil {
		t.Error("a cursor that can't be read counts as none")
	}
}

func TestFeedError(t *testing.T) {
	n, l := newLogs(t)
	n.add(claimed("a"))
	n.feedErr = io.ErrUnexpectedEOF
	if _, err := l.step(t.Context()); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("step: %v", err)
	}
	n.feedErr = nil
	drain(t, l)
	wantLog(t, n, "a", startLine("a"))
}

// TestRun: the directory can't be written for ten minutes; that is said ten times, and then everything is there. While
// nothing is wrong, files are synced at most once a second.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(filepath.Join(t.TempDir(), "logs"))
		if err := os.WriteFile(n.dir, []byte("in the way"), 0o600); err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		l := n.sink()
		l.log = slog.New(slog.NewTextHandler(&said, nil))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.Run(ctx) }()
		n.add(claimed("a"))
		time.Sleep(10*time.Minute - time.Second)
		synctest.Wait()
		if got := strings.Count(said.String(), "\n"); got != 10 {
			t.Errorf("said %d times in 10 minutes:\n%s", got, said.String())
		}
		if err := os.Remove(n.dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantLog(t, n, "a", startLine("a"))

		d := &hookDisk{stats: func() error { return nil }}
		syncs := 0
		d.opened = func(f logFile) logFile { return &countSync{f, &syncs} }
		l.disk = d // Run waits: nobody reads this now
		for range 1000 {
			n.add(finished("a"))
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		wantLog(t, n, "a", startLine("a")+strings.Repeat(endLine("a"), 1000))
		if syncs < 5 || syncs > 12 {
			t.Errorf("%d syncs in 10 seconds", syncs)
		}
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

type countSync struct {
	logFile
	n *int
}

func (f *countSync) Sync() error {
	*f.n++
	return f.logFile.Sync()
}

// TestStopsInOutput: Run ends in the midst of a long record, which is whole after the next start.
func TestStopsInOutput(t *testing.T) {
	n, l := newLogs(t)
	ref := saltpeter.TargetRef{Run: 1}
	n.outputs[ref] = strings.Repeat("0123456789\n", 200_000)
	n.add(saltpeter.Event{Type: saltpeter.EventMachineResult, Job: "a", Run: "a_1", Machine: "m", Ref: ref, State: "ok", Millis: t0})
	ctx, cancel := context.WithCancel(t.Context())
	l.render.outputs = &endsAfter{n, 5, cancel}
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if got := readLog(t, n, "a"); strings.Contains(got, "END") {
		t.Fatal("the record was written whole: the test tests nothing")
	}
	drain(t, n.sink())
	wantLog(t, n, "a", "########## m from a_1 ################\n**** Exit Code 0 ******\n"+n.outputs[ref]+
		"\n####### END m from a_1 at 2026-11-23 04:26:08+00:00 #########\n")
}

// endsAfter cancels a context after some reads.
type endsAfter struct {
	*node
	left   int
	cancel func()
}

func (e *endsAfter) Output(ref saltpeter.TargetRef, off int64, p []byte) (int, error) {
	if e.left--; e.left == 0 {
		e.cancel()
	}
	return e.node.Output(ref, off, p)
}

func TestRestGrowsWithTheWork(t *testing.T) {
	l := NewLogFiles(Options{Interval: time.Second})
	for _, c := range []struct{ took, want time.Duration }{
		{0, time.Second}, {100 * time.Millisecond, time.Second}, {300 * time.Millisecond, 2700 * time.Millisecond}, {time.Minute, 5 * time.Second},
	} {
		if got := l.rest(c.took); got != c.want {
			t.Errorf("after a batch of %v it rests %v, want %v", c.took, got, c.want)
		}
	}
}
