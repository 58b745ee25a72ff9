package cluster

import (
	"context"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/syscollective/saltpeter/internal/keys"
)

// Three nodes as a cluster has them: on disks, over sockets, with mutual TLS, at the timings of production.
func TestThreeNodesOnDisksAndSockets(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of real time")
	}
	ring, err := keys.NewRing(keys.Generate())
	if err != nil {
		t.Fatal(err)
	}
	var dialer net.Dialer
	base := Config{ClusterID: "test",
		Dial: func(ctx context.Context, addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) }}
	var configs []Config
	for _, id := range []string{"a", "b", "c"} {
		cfg := base
		cfg.ID, cfg.Dir, cfg.Logger = id, t.TempDir(), testLogger(id)
		if cfg.Listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		cfg.Advertise = cfg.Listener.Addr().String()
		if cfg.TLS, err = ring.NodeTLS(id); err != nil {
			t.Fatal(err)
		}
		base.Peers = append(base.Peers, Peer{ID: id, Addr: cfg.Advertise})
		configs = append(configs, cfg)
	}
	var nodes []*rigNode
	start := func(cfg Config) *rigNode {
		fsm := &journal{}
		cfg.Peers, cfg.FSM = base.Peers, fsm
		cfg.Handler = func(_ context.Context, _ byte, payload []byte) ([]byte, error) { return payload, nil }
		node, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		n := &rigNode{Node: node, fsm: fsm, ended: make(chan struct{}), cancel: cancel}
		go func() { n.err = node.Run(ctx); close(n.ended) }()
		return n
	}
	stop := func(n *rigNode) {
		n.cancel()
		<-n.ended
		if err := n.Close(); n.err != nil || err != nil {
			t.Errorf("run: %v, close: %v", n.err, err)
		}
	}
	for _, cfg := range configs {
		nodes = append(nodes, start(cfg))
	}
	commit := func(cmd string) int {
		for begun := time.Now(); time.Since(begun) < 30*time.Second; time.Sleep(time.Millisecond) {
			for i, n := range nodes {
				if _, err := n.Propose(within(5*time.Second), Normal, []byte(cmd)); err == nil {
					return i
				}
			}
		}
		t.Fatalf("%q was not committed", cmd)
		return 0
	}
	leader := commit("first")
	for _, n := range nodes {
		if answer, err := n.Call(within(10*time.Second), High, 0, []byte("hello")); err != nil || string(answer) != "hello" {
			t.Errorf("call from %s: %q, %v", n.cfg.ID, answer, err)
		}
	}
	stopped := configs[leader]
	stop(nodes[leader])
	nodes = slices.Delete(nodes, leader, leader+1)
	begun := time.Now()
	commit("second")
	t.Logf("first commit %v after a leader that stopped in good order was closed", time.Since(begun))
	if stopped.Listener, err = net.Listen("tcp", stopped.Advertise); err != nil {
		t.Fatal(err)
	}
	nodes = append(nodes, start(stopped))
	for _, n := range nodes {
		if _, err := n.Barrier(within(30 * time.Second)); err != nil {
			t.Fatalf("barrier on %s: %v", n.cfg.ID, err)
		}
		if lines := n.fsm.lines(); !slices.Contains(lines, "first") || !slices.Contains(lines, "second") {
			t.Errorf("%s has %q", n.cfg.ID, lines)
		}
	}
	for _, n := range nodes {
		stop(n)
	}
}
