package app

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/config"
)

func TestIdentityStaysWithItsDirectory(t *testing.T) {
	dir := t.TempDir()
	first, err := loadIdentity(dir, "", "", false)
	if err != nil || len(first.NodeID) != 36 || first.NodeID == first.ClusterID {
		t.Fatalf("%+v, %v", first, err)
	}
	if again, err := loadIdentity(dir, "", "", false); err != nil || again != first {
		t.Fatalf("%+v, %v", again, err)
	}
	if _, err := loadIdentity(dir, "another", first.ClusterID, false); err == nil {
		t.Fatal("another node was let into the directory")
	}
	if err := os.WriteFile(filepath.Join(dir, "node.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := loadIdentity(dir, "", "", false); err == nil || !strings.Contains(err.Error(), "node.json") {
		t.Fatalf("a torn file: %v", err)
	}
}

func TestSplitByKeepsOrderAndBounds(t *testing.T) {
	var list []int
	for i := range 1000 {
		list = append(list, i)
	}
	size := func(int) int { return maxPart / 10 }
	next := 0
	for _, part := range splitBy(list, size) {
		if len(part) > 10 {
			t.Fatalf("a part of %d", len(part))
		}
		for _, v := range part {
			if v != next {
				t.Fatalf("got %d, want %d", v, next)
			}
			next++
		}
	}
	if next != len(list) {
		t.Fatalf("%d of %d came out", next, len(list))
	}
	if parts := splitBy([]int{1}, func(int) int { return 2 * maxPart }); len(parts) != 1 {
		t.Fatalf("one that is too large: %v", parts)
	}
}

func TestSocketOfAnotherNodeIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	ln, err := listenSocket(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenSocket(path, 0); saltpeter.CodeOf(err) != saltpeter.CodeConflict {
		t.Fatalf("the socket of a node that runs: %v", err)
	}
	ln.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := listenSocket(path, 0)
	if err != nil {
		t.Fatalf("a socket that a dead node left behind: %v", err)
	}
	again.Close()
}

// A node that can't open one of its parts closes the others: the next try finds everything free.
func TestNewLeavesNothingOpenWhenItFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/config", 0o755); err != nil {
		t.Fatal(err)
	}
	text := "saltpeter_config: {launcher: local, auth: none, api_ws_port: 0, machines_ws_port: 0}\n"
	if err := os.WriteFile(dir+"/config/a.yaml", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	_, port, _ := net.SplitHostPort(busy.Addr().String())
	node := testNode(t, dir, "--port", port)
	if _, err := New(Options{Node: node}); err == nil || !strings.Contains(err.Error(), "API port") {
		t.Fatalf("a port that is taken: %v", err)
	}
	busy.Close()
	a, err := New(Options{Node: node})
	if err != nil {
		t.Fatalf("after the port is free: %v", err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
}

func testNode(t *testing.T, dir string, args ...string) config.Node {
	t.Helper()
	fs := newFlags(t)
	args = append([]string{"-c", dir + "/config", "--data-dir", dir + "/data", "--socket", dir + "/s", "--bind", "127.0.0.1",
		"--name", "n", "--local-state", dir + "/machines", "-l", dir + "/log", "--node-file", emptyFile(t, dir)}, args...)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	node, problems := config.ReadNode(fs, nil)
	for _, p := range problems {
		if p.Level == config.LevelError {
			t.Fatal(p)
		}
	}
	return node
}
