package wrapper

import (
	"bytes"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
)

// world is a wrapper among fakes.
type world struct {
	*Session
	rec      *record
	net      fakeNet
	executor *fakeExecutor
	journal  *fakeJournal
	locker   *fakeLocker
	held     int
	skew     atomic.Int64 // ns by which CLOCK_BOOTTIME ran ahead
	done     chan error
}

func spec1() saltpeter.Spec {
	return saltpeter.Spec{Run: "job_1", Job: "job", Machine: "m1", Command: "true", KillGrace: 10 * time.Second, OutputLimit: 1 << 20, WaitForChildren: true}
}

// newWorld makes one with nodes a, b, c…, and a script for commands.
func newWorld(t *testing.T, nodes int, script func(p *fakeProcess) int, specs ...saltpeter.Spec) *world {
	t.Helper()
	if len(specs) == 0 {
		specs = []saltpeter.Spec{spec1()}
	}
	w := &world{rec: newRecord(specs...), net: fakeNet{}, done: make(chan error, 1)}
	opts := &Options{Launch: "20261123000000000000", Machine: "m1", Cluster: testCluster, Token: "token", Window: time.Minute}
	for i := range nodes {
		url := "wss://" + string(rune('a'+i))
		opts.URLs = append(opts.URLs, url)
		w.net[url] = &node{rec: w.rec}
	}
	start := time.Now()
	boot := func() time.Duration { return time.Since(start) + time.Duration(w.skew.Load()) }
	w.executor = &fakeExecutor{script: script, boot: boot}
	w.journal = &fakeJournal{entries: map[saltpeter.TargetRef]Entry{}}
	w.locker = &fakeLocker{held: &w.held}
	dir := t.TempDir()
	w.Session = NewSession(opts, Parts{
		Dialer: w.net, Locker: w.locker, Journal: w.journal, Executor: w.executor, Boot: boot,
		Temp: func() (*os.File, error) { return tempFile(dir) },
	}, About{BootID: "boot", Host: "host", Build: "test"}, quiet(t))
	return w
}

func (w *world) start(t *testing.T) {
	go func() { w.done <- w.Run(t.Context()) }()
}

// wait waits for the end of the wrapper, and checks what holds always.
func (w *world) wait(t *testing.T, limit time.Duration) {
	t.Helper()
	select {
	case err := <-w.done:
		if err != nil {
			t.Fatalf("run: %v", err)
		}
	case <-time.After(limit):
		t.Fatalf("the wrapper did not end within %v", limit)
	}
	for _, nd := range w.net {
		nd.cutAll()
	}
	w.rec.mu.Lock()
	defer w.rec.mu.Unlock()
	for _, text := range w.rec.trouble {
		t.Error(text)
	}
	if w.held != 0 {
		t.Errorf("%d locks are still held", w.held)
	}
	if len(w.journal.entries) != 0 {
		t.Errorf("the journal keeps %v", w.journal.entries)
	}
}

// running reports whether the wrapper still runs.
func (w *world) running() bool { return len(w.done) == 0 }

// node gives a node by its letter.
func (w *world) node(letter string) *node { return w.net["wss://"+letter] }

// change changes nodes under the record's mutex.
func (w *world) change(f func()) {
	w.rec.mu.Lock()
	defer w.rec.mu.Unlock()
	f()
}

// first gives a copy of the first target.
func (w *world) first() recorded {
	w.rec.mu.Lock()
	defer w.rec.mu.Unlock()
	return *w.rec.targets[0]
}

// checkOutput compares the record with what the command wrote: every byte is there in its place, or counted as left out.
func checkOutput(t *testing.T, r recorded, wrote []byte) (left uint64) {
	t.Helper()
	var rest = r.out
	pos, taken := 0, 0
	for _, h := range append(r.holes, hole{len(r.out), 0}) {
		n := h.off - taken
		if pos+n > len(wrote) || !bytes.Equal(rest[:n], wrote[pos:pos+n]) {
			t.Fatalf("the record differs from what was written, near byte %d", pos)
		}
		rest, taken = rest[n:], h.off
		pos += n + int(h.n)
		left += h.n
	}
	if pos != len(wrote) {
		t.Fatalf("the record accounts for %d bytes of %d", pos, len(wrote))
	}
	return left
}
