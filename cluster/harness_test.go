package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/syscollective/saltpeter/internal/entry"
	"github.com/syscollective/saltpeter/internal/keys"
	"github.com/syscollective/saltpeter/internal/vnet"
)

// journal is a state machine that keeps every command in order. The command "halt" is one that it can't apply.
type journal struct {
	mu      sync.Mutex // guards what follows
	Lines   []string
	Index   uint64
	entries []int // commands per entry since Open
	block   chan struct{}
}

func (j *journal) Apply(log *raft.Log) any {
	j.mu.Lock()
	block := j.block
	j.mu.Unlock()
	if block != nil {
		<-block
	}
	cmds, err := entry.Split(log.Data)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	results := make([]any, len(cmds))
	for i, cmd := range cmds {
		if string(cmd) == "halt" {
			return errors.New("unknown command")
		}
		j.Lines = append(j.Lines, string(cmd))
		results[i] = len(j.Lines)
	}
	j.Index = log.Index
	if len(cmds) > 0 {
		j.entries = append(j.entries, len(cmds))
	}
	return results
}

func (j *journal) Snapshot() (raft.FSMSnapshot, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	data, err := json.Marshal(j)
	return journalSnapshot(data), err
}

func (j *journal) Restore(r io.ReadCloser) error {
	var next journal
	if err := json.NewDecoder(r).Decode(&next); err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.Lines, j.Index = next.Lines, next.Index
	return nil
}

func (j *journal) AppliedIndex() uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.Index
}

func (j *journal) lines() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.Lines...)
}

func (j *journal) has(line string) int {
	count := 0
	for _, l := range j.lines() {
		if l == line {
			count++
		}
	}
	return count
}

type journalSnapshot []byte

func (s journalSnapshot) Persist(sink raft.SnapshotSink) error {
	_, err := sink.Write(s)
	return errors.Join(err, sink.Close())
}
func (journalSnapshot) Release() {}

// rig is a cluster on one virtual network, inside a bubble.
type rig struct {
	t       *testing.T
	net     *vnet.Network
	ring    *keys.Ring // nil = without TLS
	ids     []string
	prepare func(id string, cfg *Config) // changes every node's configuration

	mu    sync.Mutex // guards nodes where clients run beside faults
	nodes map[string]*rigNode
}

type rigNode struct {
	*Node
	fsm    *journal
	memory *Memory
	ended  chan struct{} // closed when Run has returned err
	err    error
	cancel context.CancelFunc
}

func newRig(t *testing.T, ids ...string) *rig {
	t.Helper()
	r := &rig{t: t, net: vnet.New(1), ids: ids, nodes: map[string]*rigNode{}}
	for _, id := range ids {
		r.nodes[id] = &rigNode{memory: NewMemory()}
	}
	return r
}

// three starts a, b and c and waits for a leader.
func three(t *testing.T, prepare func(id string, cfg *Config)) (r *rig, leader string) {
	t.Helper()
	r = newRig(t, "a", "b", "c")
	r.prepare = prepare
	r.startAll()
	return r, r.leader()
}

func (r *rig) startAll() {
	r.t.Helper()
	for _, id := range r.ids {
		r.start(id)
	}
}

func (r *rig) config(id string) Config {
	r.t.Helper()
	listener, err := r.net.Host(id).Listen(8890)
	if err != nil {
		r.t.Fatal(err)
	}
	cfg := Config{
		ID: id, ClusterID: "test", Memory: r.nodes[id].memory, FSM: &journal{},
		Listener: listener, Dial: r.net.Host(id).Dial, Advertise: id + ":8890", Logger: testLogger(id),
	}
	if len(r.ids) > 1 {
		for _, peer := range r.ids {
			cfg.Peers = append(cfg.Peers, Peer{ID: peer, Addr: peer + ":8890"})
		}
	}
	if r.ring != nil {
		if cfg.TLS, err = r.ring.NodeTLS(id); err != nil {
			r.t.Fatal(err)
		}
	}
	if r.prepare != nil {
		r.prepare(id, &cfg)
	}
	return cfg
}

// testLogger writes to stderr if LOG is set, for a person who looks for the cause of a failure.
func testLogger(id string) *slog.Logger {
	if os.Getenv("LOG") == "" {
		return nil
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", id)
}

func (r *rig) start(id string) *rigNode {
	r.t.Helper()
	cfg := r.config(id)
	node, err := Open(cfg)
	if err != nil {
		r.t.Fatalf("open %s: %v", id, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &rigNode{Node: node, fsm: cfg.FSM.(*journal), memory: r.nodes[id].memory, ended: make(chan struct{}), cancel: cancel}
	r.put(id, n)
	go func() {
		defer close(n.ended)
		n.err = node.Run(ctx)
	}()
	return n
}

func (r *rig) put(id string, n *rigNode) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.nodes[id] = n
}

// stop ends a node in good order and returns what Run returned.
func (r *rig) stop(id string) error {
	r.t.Helper()
	n := r.nodes[id]
	if n == nil || n.Node == nil {
		return nil
	}
	n.cancel()
	<-n.ended
	if err := n.Close(); err != nil {
		r.t.Errorf("close %s: %v", id, err)
	}
	r.put(id, &rigNode{memory: n.memory, fsm: n.fsm})
	return n.err
}

// crash ends a node without a word: its network is gone first, so that it hands nothing on.
func (r *rig) crash(id string) {
	r.t.Helper()
	r.net.Isolate(id, r.ids...)
	r.net.Crash(id)
	r.stop(id)
	for _, other := range r.ids {
		r.net.Heal(id, other)
		r.net.Heal(other, id)
	}
}

func (r *rig) stopAll() {
	r.t.Helper()
	for _, id := range r.ids {
		r.stop(id)
	}
}

// within runs f with a context that ends after d.
func within(d time.Duration) context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(d, cancel)
	return ctx
}

// leader waits until a node serves as leader and all reachable ones know it, and returns its id.
func (r *rig) leader(except ...string) string {
	r.t.Helper()
	for range 2000 {
		for id, n := range r.nodes {
			if n.Node != nil && n.leading.Load() != nil && !contains(except, id) {
				return id
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.t.Fatal("no leader within 20 s")
	return ""
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// follower is a running node that is not the leader.
func (r *rig) follower(leader string) string {
	for _, id := range r.ids {
		if id != leader && r.nodes[id].Node != nil {
			return id
		}
	}
	r.t.Fatal("no follower")
	return ""
}

// others are all ids but one.
func (r *rig) others(id string) []string {
	var out []string
	for _, other := range r.ids {
		if other != id {
			out = append(out, other)
		}
	}
	return out
}

func (r *rig) propose(id, cmd string) {
	r.t.Helper()
	if _, err := r.nodes[id].Propose(within(10*time.Second), Normal, []byte(cmd)); err != nil {
		r.t.Fatalf("propose %q on %s: %v", cmd, id, err)
	}
}

// sameEverywhere waits for all running nodes to have the same lines and returns them.
func (r *rig) sameEverywhere() []string {
	r.t.Helper()
	var all []string
	for range 1000 {
		all = nil
		for _, id := range r.ids {
			if n := r.nodes[id]; n.Node != nil {
				all = append(all, strings.Join(n.fsm.lines(), "\n"))
			}
		}
		same := true
		for _, lines := range all {
			same = same && lines == all[0]
		}
		if same {
			return strings.Split(all[0], "\n")
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.t.Fatalf("state machines differ:\n%s", strings.Join(all, "\n---\n"))
	return nil
}

// holdsSnapshot says whether a snapshot was taken, or received.
func (m *Memory) holdsSnapshot() bool {
	list, err := m.snapshots.List()
	return err == nil && len(list) > 0
}

// bubble runs a test in which time is the bubble's and no goroutine may be left behind.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// faultyLog is a log store whose calls can be made to fail, hang or lie.
type faultyLog struct {
	raft.LogStore
	mu     sync.Mutex // guards what follows
	store  func([]*raft.Log) error
	get    func(*raft.Log)
	stored int
}

func (f *faultyLog) set(store func([]*raft.Log) error, get func(*raft.Log)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.store, f.get = store, get
}

func (f *faultyLog) StoreLogs(logs []*raft.Log) error {
	f.mu.Lock()
	store := f.store
	f.mu.Unlock()
	if store != nil {
		if err := store(logs); err != nil {
			return err
		}
	}
	f.mu.Lock()
	f.stored += len(logs)
	f.mu.Unlock()
	return f.LogStore.StoreLogs(logs)
}

func (f *faultyLog) GetLog(index uint64, log *raft.Log) error {
	err := f.LogStore.GetLog(index, log)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil && f.get != nil {
		data := bytes.Clone(log.Data)
		log.Data = data
		f.get(log)
	}
	return err
}

// faulty gives every node of a rig a faulty log.
func faulty(logs map[string]*faultyLog) func(id string, cfg *Config) {
	return func(id string, cfg *Config) {
		cfg.WrapLogStore = func(inner raft.LogStore) raft.LogStore {
			logs[id] = &faultyLog{LogStore: inner}
			return logs[id]
		}
	}
}

func line(i int) string { return fmt.Sprintf("line %04d", i) }
