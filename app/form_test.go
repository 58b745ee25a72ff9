package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/config"
	"github.com/syscollective/saltpeter/internal/keys"
)

// formNode lays out a node's files, with a key, on an address of its own.
func formNode(t *testing.T, args ...string) (dir string, node config.Node) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Mkdir(dir+"/config", 0o755); err != nil {
		t.Fatal(err)
	}
	text := "saltpeter_config: {launcher: local, auth: none}\n"
	if err := os.WriteFile(dir+"/config/a.yaml", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/key", []byte(keys.Generate().Hex()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, testNode(t, dir, append([]string{"--key-file", dir + "/key", "--bind", "127.61.7.1"}, args...)...)
}

func mustNew(t *testing.T, node config.Node) *App {
	t.Helper()
	a, err := New(Options{Node: node})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// nobody is an address at which no node listens.
const nobody = "127.61.7.9:1"

func TestStandingFollowsTheFile(t *testing.T) {
	tests := map[string]struct {
		id   identity
		want standing
	}{
		"as before there were clusters": {identity{NodeID: "n", ClusterID: "c"}, alone},
		"to be admitted":                {identity{NodeID: "n"}, waiting},
		"a member":                      {identity{NodeID: "n", ClusterID: "c", Several: true, Log: true}, several},
		"removed":                       {identity{NodeID: "n", ClusterID: "c", Several: true, Removed: "x"}, removed},
	}
	for name, tt := range tests {
		if got := tt.id.standing(); got != tt.want {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
	}
}

func TestNodeWithJoinIsGivenItsKey(t *testing.T) {
	dir, node := formNode(t, "--join", nobody)
	node.KeyFile = ""
	_, err := New(Options{Node: node})
	if e, ok := asError(err); !ok || e.Code != saltpeter.CodeConfig || !strings.Contains(e.Hint, "--key-file") {
		t.Fatalf("%v", err)
	}
	if _, err := os.Stat(dir + "/data/key"); err == nil {
		t.Fatal("it made a key of its own, which no other node has")
	}
}

func TestInitOnANodeThatWaits(t *testing.T) {
	_, node := formNode(t, "--join", nobody)
	a := mustNew(t, node)
	if a.ident.standing() != waiting || a.node.Status().LastIndex != 0 {
		t.Fatalf("%+v, %+v", a.ident, a.node.Status())
	}
	id, err := a.initCluster(t.Context())
	if err != nil || len(id) != 36 {
		t.Fatalf("%q, %v", id, err)
	}
	select {
	case err := <-a.restart:
		if err != ErrRestart {
			t.Fatal(err)
		}
	default:
		t.Fatal("the node is not to begin again")
	}
	a.Close()
	a = mustNew(t, node)
	if a.ident.ClusterID != id || a.ident.standing() != several || a.ident.Found || !a.ident.Log || len(a.node.Members()) != 1 {
		t.Fatalf("%+v, %+v", a.ident, a.node.Members())
	}
	again, err := a.initCluster(t.Context())
	if err != nil || again != id {
		t.Fatalf("the second time: %q, %v", again, err)
	}
}

// A node that was just admitted has no log yet and knows no member: it must not say that it has begun a cluster.
func TestInitOnANodeThatWasJustAdmitted(t *testing.T) {
	dir, node := formNode(t, "--join", nobody)
	a := mustNew(t, node)
	id := a.ident
	id.ClusterID, id.Several = newUUID(), true
	if err := id.save(dir + "/data"); err != nil {
		t.Fatal(err)
	}
	a.Close()
	a = mustNew(t, node)
	if a.ident.standing() != several || len(a.node.Members()) != 0 {
		t.Fatalf("%+v, %+v", a.ident, a.node.Members())
	}
	if got, err := a.initCluster(t.Context()); saltpeter.CodeOf(err) != saltpeter.CodeConflict {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestLostLogEndsAMember(t *testing.T) {
	dir, node := formNode(t)
	a := mustNew(t, node)
	if _, err := a.initCluster(t.Context()); err != nil {
		t.Fatal(err)
	}
	a.Close()
	mustNew(t, node).Close()
	if err := os.RemoveAll(filepath.Join(dir, "data", "raft")); err != nil {
		t.Fatal(err)
	}
	_, err := New(Options{Node: node})
	if e, ok := asError(err); !ok || !strings.Contains(e.Message, "log of this node is gone") || !strings.Contains(e.Hint, "spctl cluster remove n") {
		t.Fatalf("%v", err)
	}
}

func TestRemovedNodeStaysSo(t *testing.T) {
	dir, node := formNode(t)
	a := mustNew(t, node)
	id := a.ident
	id.Several, id.Removed = true, "by a test"
	if err := id.save(dir + "/data"); err != nil {
		t.Fatal(err)
	}
	a.Close()
	a = mustNew(t, node)
	if a.serves() || a.listeners.wrapper != nil {
		t.Fatal("a removed node serves wrappers")
	}
	if _, err := a.initCluster(t.Context()); saltpeter.CodeOf(err) != saltpeter.CodeConflict {
		t.Fatalf("init: %v", err)
	}
	if _, err := (members{a}).Leave(t.Context(), saltpeter.Actor{}, false); saltpeter.CodeOf(err) != saltpeter.CodeConflict {
		t.Fatalf("leave: %v", err)
	}
}

// The join settings of a node that has never been admitted may be taken back.
func TestNodeThatWaitedMayStayAlone(t *testing.T) {
	dir, node := formNode(t, "--join", nobody)
	waited := mustNew(t, node)
	waited.Close()
	a := mustNew(t, testNode(t, dir, "--bind", "127.61.7.1"))
	if a.ident.standing() != alone || a.ident.NodeID != waited.ident.NodeID || a.ident.ClusterID == "" {
		t.Fatalf("%+v", a.ident)
	}
}
