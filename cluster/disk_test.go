package cluster

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// diskNode opens a node that is alone, on a real disk and port.
func diskNode(t testing.TB, dir string, change func(*Config)) (*Node, *journal, error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fsm := &journal{}
	var dialer net.Dialer
	cfg := Config{ID: "a", ClusterID: "test", Dir: dir, FSM: fsm, Listener: listener, Advertise: "127.0.0.1:8890",
		Dial: func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) }}
	cfg.Timings = Timings{Heartbeat: 50 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	node, err := Open(cfg)
	return node, fsm, err
}

// running runs a node until the returned function is called, which closes it.
func running(t testing.TB, n *Node) (stop func()) {
	t.Helper()
	ended := make(chan error, 1)
	go func() { ended <- n.Run(context.Background()) }()
	if _, err := n.Barrier(within(30 * time.Second)); err != nil {
		t.Fatalf("no leader: %v", err)
	}
	return func() {
		if err := n.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	}
}

// fill runs a node on dir that commits n lines, with a snapshot after each of the given numbers.
func fill(t testing.TB, dir string, n int, change func(*Config), snapshotsAt ...int) {
	t.Helper()
	node, _, err := diskNode(t, dir, change)
	if err != nil {
		t.Fatal(err)
	}
	defer running(t, node)()
	for i := range n {
		if _, err := node.Propose(t.Context(), Normal, []byte(line(i))); err != nil {
			t.Fatal(err)
		}
		for _, at := range snapshotsAt {
			if at == i+1 {
				if err := node.raft.Snapshot().Error(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Millisecond) // their names have milliseconds
			}
		}
	}
}

// linesOf opens a node on dir and returns what its state machine holds.
func linesOf(t testing.TB, dir string, change func(*Config)) []string {
	t.Helper()
	node, fsm, err := diskNode(t, dir, change)
	if err != nil {
		t.Fatal(err)
	}
	defer running(t, node)()
	return fsm.lines()
}

func shortLog(cfg *Config) { cfg.Timings.TrailingLogs = 1 }

func TestRestartFromDisk(t *testing.T) {
	for name, snapshots := range map[string][]int{"log alone": nil, "snapshot and log": {20, 40}, "snapshot at the end": {50}} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, dir, 50, shortLog, snapshots...)
			lines := linesOf(t, dir, shortLog)
			if len(lines) != 50 || lines[0] != line(0) || lines[49] != line(49) {
				t.Fatalf("%d lines: %q", len(lines), lines)
			}
		})
	}
}

func TestOpenExplains(t *testing.T) {
	path := func(dir string) string { return filepath.Join(dir, logFile) }
	tests := map[string]struct {
		damage func(t *testing.T, dir string)
		words  string
	}{
		"log cut short": {func(t *testing.T, dir string) {
			if err := os.Truncate(path(dir), 9000); err != nil {
				t.Fatal(err)
			}
		}, "cut short"},
		"log cut in its head": {func(t *testing.T, dir string) {
			if err := os.Truncate(path(dir), 100); err != nil {
				t.Fatal(err)
			}
		}, "cut short"},
		"no log of ours": {func(t *testing.T, dir string) {
			if err := os.WriteFile(path(dir), bytes.Repeat([]byte("x"), 1<<16), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "no valid meta page"},
		"flipped bit in an entry": {func(t *testing.T, dir string) {
			patch(t, path(dir), []byte(line(30)), []byte("lime 0030"))
		}, "damaged"},
		"flipped bit in a stable key": {func(t *testing.T, dir string) {
			patch(t, path(dir), []byte("CurrentTerm"), []byte("CurrentTerM"))
		}, "damaged"},
		"garbage in all pages": {func(t *testing.T, dir string) {
			info, err := os.Stat(path(dir))
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path(dir), os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			page := int64(os.Getpagesize())
			if _, err := f.WriteAt(bytes.Repeat([]byte{0xa5}, int(info.Size()-2*page)), 2*page); err != nil {
				t.Fatal(err)
			}
		}, ""},
		"unreadable directory": {func(t *testing.T, dir string) {
			if err := os.RemoveAll(path(dir)); err != nil {
				t.Fatal(err)
			}
			if err := os.Mkdir(path(dir), 0o700); err != nil {
				t.Fatal(err)
			}
		}, "directory"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			fill(t, dir, 50, nil)
			tt.damage(t, dir)
			_, _, err := diskNode(t, dir, nil)
			if !errors.Is(err, ErrStore) || !strings.Contains(err.Error(), tt.words) {
				t.Fatalf("Open: %v, want ErrStore with %q", err, tt.words)
			}
		})
	}
}

// patch replaces every place of old in a file.
func patch(t *testing.T, path string, old, new []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(data, old) {
		t.Fatalf("%q is not in %s", old, path)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(data, old, new), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestOneProcessPerDirectory(t *testing.T) {
	dir := t.TempDir()
	node, _, err := diskNode(t, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := diskNode(t, dir, nil); !errors.Is(err, ErrStore) || !strings.Contains(err.Error(), "in use") {
		t.Fatalf("second Open: %v", err)
	}
	if err := node.Close(); err != nil {
		t.Fatal(err)
	}
	if node, _, err = diskNode(t, dir, nil); err != nil {
		t.Fatalf("after Close: %v", err)
	}
	node.Close()
}

// newestFirst are the snapshot directories, the newest first.
func newestFirst(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, "snapshots", "*"))
	if err != nil || len(found) == 0 {
		t.Fatalf("snapshots: %v, %v", found, err)
	}
	newest, err := newestSnapshot(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, path := range found {
		if filepath.Base(path) == newest {
			found[0], found[i] = found[i], found[0]
		}
	}
	return found
}

// The log was cut at the newest snapshot: an older one would leave out what lies between them.
func TestNoFallbackToASnapshotThatTheLogDoesNotContinue(t *testing.T) {
	damage := map[string]func(t *testing.T, snapshot string){
		"state": func(t *testing.T, snapshot string) {
			patch(t, filepath.Join(snapshot, "state.bin"), []byte(line(3)), []byte("lime 0003"))
		},
		"description": func(t *testing.T, snapshot string) {
			if err := os.WriteFile(filepath.Join(snapshot, "meta.json"), []byte("{"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, f := range damage {
		t.Run(name, func(t *testing.T) {
			for log, change := range map[string]func(*Config){"cut": shortLog, "kept": nil} {
				dir := t.TempDir()
				fill(t, dir, 50, change, 20, 40)
				f(t, newestFirst(t, dir)[0])
				node, fsm, err := diskNode(t, dir, change)
				if log == "cut" {
					if !errors.Is(err, ErrStore) {
						t.Fatalf("log cut: Open: %v, want ErrStore", err)
					}
					continue
				}
				if err != nil {
					t.Fatalf("log kept: %v", err)
				}
				running(t, node)()
				if lines := fsm.lines(); len(lines) != 50 {
					t.Fatalf("log kept: %d lines", len(lines))
				}
			}
		})
	}
}

func TestLostSnapshotsAreNoticed(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 50, shortLog, 40)
	if err := os.RemoveAll(filepath.Join(dir, "snapshots")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := diskNode(t, dir, shortLog); !errors.Is(err, ErrStore) {
		t.Fatalf("Open: %v, want ErrStore", err)
	}
}

func TestUnfinishedSnapshotsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	fill(t, dir, 10, nil, 5)
	left := filepath.Join(dir, "snapshots", "9-9-9.tmp")
	if err := os.MkdirAll(left, 0o700); err != nil {
		t.Fatal(err)
	}
	if lines := linesOf(t, dir, nil); len(lines) != 10 {
		t.Fatalf("%d lines", len(lines))
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("left behind: %v", err)
	}
}

func TestOpenChecksItsConfiguration(t *testing.T) {
	tests := map[string]func(*Config){
		"no id":           func(c *Config) { c.ID = "" },
		"no directory":    func(c *Config) { c.Dir = "" },
		"not a peer":      func(c *Config) { c.Peers = []Peer{{"b", "b:1"}} },
		"another address": func(c *Config) { c.Peers = []Peer{{"a", "b:1"}} },
		"id twice":        func(c *Config) { c.Peers = []Peer{{"a", c.Advertise}, {"a", "b:1"}} },
		"address twice":   func(c *Config) { c.Peers = []Peer{{"a", c.Advertise}, {"b", c.Advertise}} },
	}
	for name, change := range tests {
		dir := t.TempDir()
		if _, _, err := diskNode(t, dir, change); err == nil {
			t.Errorf("%s: Open took it", name)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%s: Open left %v", name, left)
		}
	}
}

func TestStoreThatFailsAtStartIsAnErrorOfOpen(t *testing.T) {
	full, empty := t.TempDir(), t.TempDir()
	fill(t, full, 5, nil)
	stable := func(c *Config) {
		c.WrapStableStore = func(inner raft.StableStore) raft.StableStore {
			b := &brokenStable{StableStore: inner}
			b.fail.Store(true)
			return b
		}
	}
	log := func(c *Config) {
		c.WrapLogStore = func(inner raft.LogStore) raft.LogStore {
			return &faultyLog{LogStore: inner, store: func([]*raft.Log) error { return syscall.ENOSPC }}
		}
	}
	for name, tt := range map[string]struct {
		dir    string
		change func(*Config)
	}{"term of a new node": {empty, stable}, "first entry of a new node": {empty, log}} {
		if _, _, err := diskNode(t, tt.dir, tt.change); !errors.Is(err, ErrStore) {
			t.Errorf("%s: %v, want ErrStore", name, err)
		}
	}
	node, _, err := diskNode(t, full, log) // writes nothing before it is elected
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Run(t.Context()); !errors.Is(err, ErrStore) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Run: %v, want ErrStore", err)
	}
	if err := node.Close(); err != nil {
		t.Error(err)
	}
}

// A node that is killed between the two writes of its first start must be able to start again.
func TestFirstStartCanBeInterrupted(t *testing.T) {
	dir := t.TempDir()
	_, _, err := diskNode(t, dir, func(c *Config) {
		c.WrapLogStore = func(inner raft.LogStore) raft.LogStore {
			return &faultyLog{LogStore: inner, store: func([]*raft.Log) error { return syscall.EINTR }}
		}
	})
	if !errors.Is(err, syscall.EINTR) {
		t.Fatalf("first Open: %v", err)
	}
	fill(t, dir, 3, nil)
	if lines := linesOf(t, dir, nil); len(lines) != 3 {
		t.Fatalf("%d lines", len(lines))
	}
}

// A failed disk's file must not be held by a node that was closed: the next process opens it.
func TestFailedNodeLetsGoOfItsDirectory(t *testing.T) {
	dir := t.TempDir()
	fail := errors.New("no")
	log := &faultyLog{}
	node, _, err := diskNode(t, dir, func(c *Config) {
		c.WrapLogStore = func(inner raft.LogStore) raft.LogStore { log.LogStore = inner; return log }
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- node.Run(context.Background()) }()
	if _, err := node.Barrier(within(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	log.set(func([]*raft.Log) error { return fail }, nil)
	if err := <-ended; !errors.Is(err, fail) {
		t.Fatalf("Run: %v", err)
	}
	if err := node.Close(); err != nil {
		t.Fatal(err)
	}
	if node, _, err = diskNode(t, dir, nil); err != nil {
		t.Fatalf("the next Open: %v", err)
	}
	node.Close()
}
