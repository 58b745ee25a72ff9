package sim

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/keys"
	"github.com/syscollective/saltpeter/internal/vnet"
)

const clusterID = "5a17be7e-0000-4000-8000-000000000001"

// world is everything: nodes, machines, the network and Salt.
type world struct {
	t    *testing.T
	seed uint64
	plan *plan
	dir  string
	hist *history
	net  *vnet.Network
	ring *keys.Ring

	keyFile  string
	nodes    []*node
	machines []*machine
	salt     *salt
	ledger   ledger
	commits  *commits
	files    *files
	operator *operator
	readers  *readers

	proposals proposals
	clocks    clockLog
	trouble   trouble

	// onGrant, if set, is told of a grant before its wrapper is.
	onGrant atomic.Pointer[func(p *wrapperProcess)]
	// onPropose, if set, may change the outcome of what a leader proposes; it runs when that is committed.
	onPropose atomic.Pointer[func(cmd fsm.Command) error]

	leads  atomic.Pointer[node] // committed something as leader, last of all
	lossy  atomic.Bool          // connections break at random
	calm   atomic.Bool          // faults have stopped
	serial atomic.Int64         // of wrappers

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex // guards rand
	rand *rand.Rand
}

// newWorld makes a world out of a seed; dir is a directory of its own.
func newWorld(t *testing.T, p *plan, ring *keys.Ring, keyFile, dir string) *world {
	w := &world{
		t: t, seed: p.seed, plan: p, dir: dir, hist: newHistory(), net: vnet.New(p.seed), ring: ring, keyFile: keyFile,
		rand: rand.New(rand.NewPCG(p.seed, 2)),
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.salt = &salt{w}
	w.commits = newCommits(w)
	w.operator = newOperator(w)
	w.readers = &readers{w: w}
	for _, name := range []string{"a", "b", "c"}[:p.nodes] {
		w.nodes = append(w.nodes, nil)
		w.nodes[len(w.nodes)-1] = newNode(w, name)
	}
	for _, name := range p.machines {
		w.machines = append(w.machines, newMachine(w, name))
	}
	w.files = newFiles(w)
	w.delays()
	return w
}

// delays gives every path its own time.
func (w *world) delays() {
	var hosts []string
	for _, n := range w.nodes {
		hosts = append(hosts, n.name)
	}
	for _, m := range w.machines {
		hosts = append(hosts, m.name)
	}
	hosts = append(hosts, operatorHost)
	for _, a := range hosts {
		for _, b := range hosts {
			if a != b {
				w.net.SetDelay(a, b, w.upTo(w.plan.delay))
			}
		}
	}
}

func (w *world) machine(name string) *machine {
	for _, m := range w.machines {
		if m.name == name {
			return m
		}
	}
	return nil
}

// upTo draws a duration below d.
func (w *world) upTo(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(w.rand.Int64N(int64(d)))
}

// chance draws whether something of a probability happens. When faults have stopped nothing does.
func (w *world) chance(p float64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.Float64() < p && !w.calm.Load()
}

func (w *world) draw(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.IntN(n)
}

// disturb takes a little time, so that faults can come between two steps.
func (w *world) disturb() {
	if d := w.plan.disturb; d > 0 {
		time.Sleep(w.upTo(d))
	}
}

// wait waits for d or the end of ctx or of the world.
func (w *world) wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
}

func (w *world) sleep(d time.Duration) { _ = w.wait(w.ctx, d) }

// start starts all nodes.
func (w *world) start() {
	for _, n := range w.nodes {
		n.start()
	}
}

// end ends everything and waits for it.
func (w *world) end() {
	w.cancel()
	for _, m := range w.machines {
		m.gate.open()
	}
	for _, n := range w.nodes {
		n.gate.open()
	}
	w.net.HealAll()
	for _, n := range w.nodes {
		w.net.Resume(n.name)
	}
	for _, m := range w.machines {
		w.net.Resume(m.name)
	}
	for _, n := range w.nodes {
		n.stop()
	}
	w.wg.Wait()
	time.Sleep(5 * time.Second) // net/http leaves dials behind that nobody waits for
}

func (w *world) wrapperLogger(machine string, id int) *slog.Logger {
	if l := w.logger(machine); l != nil {
		return l.With("wrapper", id)
	}
	return slog.New(slog.DiscardHandler)
}

// sharedKey makes the cluster's key once for all worlds.
func sharedKey(t *testing.T) (ring *keys.Ring, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "key")
	ring, err := keys.LoadOrCreate(file)
	if err != nil {
		t.Fatal(err)
	}
	return ring, file
}

// fastDir gives a directory in memory where this system has one: syncs of a real disk are no part of this.
func fastDir(t *testing.T) string {
	t.Helper()
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		if dir, err := os.MkdirTemp("/dev/shm", "saltpeter-sim-*"); err == nil {
			t.Cleanup(func() { os.RemoveAll(dir) })
			return dir
		}
	}
	return t.TempDir()
}
