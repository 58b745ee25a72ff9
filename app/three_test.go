package app

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/cluster/gossip"
	"github.com/syscollective/saltpeter/config"
	"github.com/syscollective/saltpeter/internal/keys"
	"github.com/syscollective/saltpeter/internal/outlog"
	"github.com/syscollective/saltpeter/internal/vnet"
)

// three is a cluster of whole nodes in a bubble.
type three struct {
	t     *testing.T
	dir   string
	net   *vnet.Network
	nodes map[string]*App
	disks map[string]*outlog.Lossy
	logs  map[string]*cluster.Memory
	stops map[string]func()
	ahead map[string]*atomic.Int64 // by how much each node's wall clock is ahead, ns
	dead  map[string]bool          // killed: how it ends doesn't matter
	// gossip, if set, is what all nodes hear.
	gossip Gossip
	// adjust, if set, changes a node's options before it starts.
	adjust func(name string, o *Options)
}

var threeNames = []string{"a", "b", "c"}

// inThree runs a test with three nodes, which have the same configuration files, a job "j" that is never due among them.
func inThree(t *testing.T, heard Gossip, test func(w *three)) {
	t.Helper()
	inThreeAs(t, func(w *three) { w.gossip = heard }, test)
}

// inThreeAs is inThree with what is prepared before the nodes start.
func inThreeAs(t *testing.T, prepare, test func(w *three)) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/key", []byte(keys.Generate().Hex()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := &three{t: t, dir: dir, net: vnet.New(1), nodes: map[string]*App{}, disks: map[string]*outlog.Lossy{}, logs: map[string]*cluster.Memory{},
			stops: map[string]func(){}, ahead: map[string]*atomic.Int64{}, dead: map[string]bool{}}
		prepare(w)
		for i, name := range threeNames {
			w.disks[name], w.logs[name] = outlog.NewLossy(uint64(i)), cluster.NewMemory()
			w.ahead[name] = new(atomic.Int64)
			for _, d := range []string{w.files(name), w.data(name)} {
				if err := os.MkdirAll(d, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			w.write(name, "j")
		}
		for _, name := range threeNames {
			w.start(name)
		}
		defer func() {
			w.net.HealAll() // over a cut path dialing waits, whoever ends
			for _, name := range threeNames {
				w.stop(name)
			}
		}()
		w.leader()
		test(w)
	})
}

func (w *three) files(name string) string { return filepath.Join(w.dir, name, "config") }
func (w *three) data(name string) string  { return filepath.Join(w.dir, name, "data") }

// write gives a node files with one job.
func (w *three) write(name, job string) {
	w.t.Helper()
	w.writeText(name, "saltpeter_config: {launcher: local, auth: none}\n"+job+": {schedule: '0 0 1 1 *', targets: m1, command: 'true'}\n")
}

func (w *three) writeText(name, text string) {
	w.t.Helper()
	path := w.files(name) + "/jobs.yaml"
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		w.t.Fatal(err)
	}
}

func (w *three) start(name string) {
	w.t.Helper()
	host := w.net.Host(name)
	o := Options{
		Node:   config.Node{ConfigDir: w.files(name), DataDir: w.data(name), KeyFile: w.dir + "/key", Name: "n-" + name, NodePort: 8890, GossipPort: 8891},
		NodeID: name, ClusterID: "5a17be7e-0000-4000-8000-000000000001",
		Seams: Seams{FS: w.disks[name], Memory: w.logs[name], Dial: host.Dial, Gossip: w.gossip,
			Wall: func() time.Time { return time.Now().Round(0).Add(time.Duration(w.ahead[name].Load())) },
			Listen: func(what, _ string) (net.Listener, error) {
				return host.Listen(map[string]int{"api": 8888, "wrapper": 8889, "node": 8890}[what])
			},
			Lookup:  func(context.Context, string) ([]string, error) { return []string{"10.0.0.1"}, nil },
			Cluster: func(c *cluster.Config) { c.TLS = nil },
		},
	}
	for _, other := range threeNames {
		o.Peers = append(o.Peers, cluster.Peer{ID: other, Addr: other + ":8890"})
	}
	if w.adjust != nil {
		w.adjust(name, &o)
	}
	a, err := New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	w.nodes[name] = a
	w.stops[name] = func() {
		cancel()
		if err := errors.Join(<-done, a.Close()); err != nil && !w.dead[name] {
			w.t.Errorf("%s: %v", name, err)
		}
	}
}

func (w *three) stop(name string) {
	if stop := w.stops[name]; stop != nil {
		delete(w.stops, name)
		delete(w.nodes, name)
		stop()
	}
}

// kill ends a node without a word, as if its power went. Its network stays cut off.
func (w *three) kill(name string) {
	w.dead[name] = true
	w.net.Isolate(name, threeNames...)
	w.net.Crash(name)
	w.disks[name].Crash()
	w.stop(name)
	w.dead[name] = false
}

// leader waits for one whose work runs.
func (w *three) leader() *App {
	w.t.Helper()
	for range 600 {
		for _, a := range w.nodes {
			if a.node.Status().Serving {
				return a
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.t.Fatal("no leader within 30 s")
	return nil
}

// heardGone is gossip that counts everybody else as gone.
type heardGone struct{ silent }

func (heardGone) Peers() []gossip.Peer {
	var out []gossip.Peer
	for _, name := range threeNames {
		out = append(out, gossip.Peer{ID: name, State: gossip.Gone, About: gossip.About{Name: "liar", Node: "x:1", Version: "9"}})
	}
	return out
}

// Whom gossip counts as gone stays a voter, and what it says of a member that answers for itself is not shown for that
// member's word.
func TestGossipDecidesNothing(t *testing.T) {
	inThree(t, heardGone{}, func(w *three) {
		lead := w.leader()
		time.Sleep(2 * time.Minute)
		if now := w.leader(); now != lead {
			t.Errorf("the leader was %s and is %s", lead.ident.NodeID, now.ident.NodeID)
		}
		for name, a := range w.nodes {
			voters := 0
			for _, m := range a.node.Members() {
				if m.Voter {
					voters++
				}
			}
			if voters != 3 {
				t.Errorf("%s sees %d voters", name, voters)
			}
			got, err := members{a}.Cluster(w.t.Context())
			if err != nil || !got.Healthy || got.CanLose != 1 {
				t.Fatalf("%s: %+v, %v", name, got, err)
			}
			for _, m := range got.Members {
				if m.Seen != gossip.Gone || m.State == "unreachable" || m.Version == "9" || m.Name == "liar" || m.Address == "x:1" {
					t.Errorf("%s: %+v", name, m)
				}
			}
		}
	})
}

// Without a quorum, gossip is what is left to tell of the others.
func TestGossipIsShownWithoutALeader(t *testing.T) {
	inThree(t, heardGone{}, func(w *three) {
		w.stop("b")
		w.stop("c")
		time.Sleep(10 * time.Second)
		got, err := members{w.nodes["a"]}.Cluster(w.t.Context())
		if err != nil || got.Healthy || got.Leader != "" || len(got.Members) != 3 {
			t.Fatalf("%+v, %v", got, err)
		}
		for _, m := range got.Members {
			if !m.Self && (m.State != "unreachable" || m.Seen != gossip.Gone || m.SeenAddress != "x:1" || m.Version != "9") {
				t.Errorf("%+v", m)
			}
		}
	})
}

// A node whose files lag behind does not turn the configuration back when it leads; files that no revision had do go into
// force, and so do old ones once they change on the node that leads.
func TestANewLeaderKeepsTheConfiguration(t *testing.T) {
	inThree(t, nil, func(w *three) {
		old := w.leader()
		inForce := func(job string) bool {
			_, ok := w.leader().machine.View().Job(job)
			return ok
		}
		time.Sleep(10 * time.Second)
		if !inForce("j") {
			t.Fatal("the first files are not in force")
		}
		var lags string
		for _, name := range threeNames {
			if w.nodes[name] != old {
				lags = name
				continue
			}
			w.write(name, "k")
		}
		time.Sleep(10 * time.Second)
		revision := old.machine.View().Revision().Number
		if !inForce("k") || inForce("j") {
			t.Fatal("the leader's new files are not in force")
		}
		if err := old.node.TransferTo(w.t.Context(), lags); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if w.leader() != w.nodes[lags] {
			t.Fatalf("%s does not lead", lags)
		}
		if got := w.leader().machine.View().Revision().Number; got != revision || !inForce("k") {
			t.Fatalf("the new leader's old files went into force: revision %d, was %d", got, revision)
		}
		w.write(lags, "l")
		time.Sleep(10 * time.Second)
		if !inForce("l") {
			t.Fatal("files that changed under the leader are not in force")
		}
	})
}
