package sinks

import (
	"context"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/filename"
)

// node plays what LogFiles needs of a node.
type node struct {
	mu      sync.Mutex
	first   uint64
	events  []saltpeter.Event // numbered from first
	outputs map[saltpeter.TargetRef]string
	gaps    map[saltpeter.TargetRef][]Gap
	errs    map[saltpeter.TargetRef]error // of reading, at the end of what is in outputs
	feedErr error
	moved   chan struct{}
	dir     string
}

func newNode(dir string) *node {
	return &node{first: 1, dir: dir, moved: make(chan struct{}), outputs: make(map[saltpeter.TargetRef]string),
		gaps: make(map[saltpeter.TargetRef][]Gap), errs: make(map[saltpeter.TargetRef]error)}
}

func (n *node) add(events ...saltpeter.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range events {
		e.Seq = n.first + uint64(len(n.events))
		if e.Type == saltpeter.EventMachineResult && e.Stored == 0 { // as the state machine does; what is to fail must be read
			e.Stored = uint64(len(n.outputs[e.Ref]))
			if n.errs[e.Ref] != nil {
				e.Stored++
			}
			for _, g := range n.gaps[e.Ref] {
				e.LeftOut += g.Bytes
			}
		}
		n.events = append(n.events, e)
	}
	close(n.moved)
	n.moved = make(chan struct{})
}

// set changes the node under its lock.
func (n *node) set(change func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change()
}

// drop takes the oldest events away.
func (n *node) drop(count int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = n.events[count:]
	n.first += uint64(count)
}

func (n *node) Events(from uint64, yield func(saltpeter.Event) bool) error {
	n.mu.Lock()
	events, err := n.events, n.feedErr
	n.mu.Unlock()
	for _, e := range events {
		if e.Seq >= from && !yield(e) {
			return nil
		}
	}
	return err
}

func (n *node) Bounds() (first, next uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.first, n.first + uint64(len(n.events))
}

func (n *node) Moved() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.moved
}

func (n *node) Output(ref saltpeter.TargetRef, off int64, p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	text, err := n.outputs[ref], n.errs[ref]
	if off > int64(len(text)) {
		off = int64(len(text))
	}
	c := copy(p, text[off:])
	if c == len(p) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	return c, io.EOF
}

func (n *node) Gaps(ref saltpeter.TargetRef) ([]Gap, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.gaps[ref], nil
}

func (n *node) logDir() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dir
}

// sink gives a LogFiles for n, on the real disk, with its cursor beside the log directory.
func (n *node) sink() *LogFiles {
	return NewLogFiles(Options{Feed: n, Outputs: n, Dir: n.logDir, Cursor: filepath.Join(filepath.Dir(n.dir), "cursor")})
}

// newLogs gives a node and its sink in a directory of its own.
func newLogs(t testing.TB) (*node, *LogFiles) {
	t.Helper()
	n := newNode(filepath.Join(t.TempDir(), "logs"))
	return n, n.sink()
}

// drain takes steps until there is no more to write.
func drain(t testing.TB, l *LogFiles) {
	t.Helper()
	for i := 0; ; i++ {
		more, err := l.step(context.Background())
		if err != nil {
			t.Fatalf("step: %v", err)
		}
		if !more {
			return
		}
		if i > 10000 {
			t.Fatal("no end of work")
		}
	}
}

func readLog(t testing.TB, n *node, job string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(n.logDir(), filename.Of(job)+".log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func wantLog(t testing.TB, n *node, job, want string) {
	t.Helper()
	if got := readLog(t, n, job); got != want {
		t.Errorf("log of %s:\n got %q\nwant %q", job, clip(got), clip(want))
	}
}

func clip(s string) string {
	if len(s) > 2000 {
		return s[:1000] + " … " + s[len(s)-1000:]
	}
	return s
}

// t0 is 2026-11-23 04:26:08 UTC, in milliseconds.
const t0 = 1795407968000

func claimed(job string) saltpeter.Event {
	return saltpeter.Event{Type: saltpeter.EventRunClaimed, Job: job, Run: job + "_1795407968", Millis: t0}
}

func finished(job string) saltpeter.Event {
	return saltpeter.Event{Type: saltpeter.EventRunFinished, Job: job, Run: job + "_1795407968", Millis: t0}
}

func startLine(job string) string {
	return "###### Starting " + job + "_1795407968 at 2026-11-23 04:26:08+00:00 ################\n"
}

func endLine(job string) string {
	return strings.Replace(startLine(job), "Starting", "Finished", 1)
}

// all gives the contents of the files of a directory that are not empty.
func all(t testing.TB, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if len(b) > 0 {
			out[e.Name()] = string(b)
		}
	}
	return out
}

// wantSame compares files by name.
func wantSame(t interface{ Fatalf(string, ...any) }, got, want map[string]string) {
	for name := range maps.Keys(want) {
		if got[name] != want[name] {
			t.Fatalf("%s:\n got %q\nwant %q", name, clip(got[name]), clip(want[name]))
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Fatalf("%s was written: %q", name, clip(got[name]))
		}
	}
}
