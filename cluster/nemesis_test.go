package cluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/syscollective/saltpeter/internal/vnet"
)

// history is what the clients of one run saw.
type history struct {
	mu      sync.Mutex // guards what follows
	acked   []string   // in the order of their acknowledgement
	unknown []string
	refused []string
	terms   map[uint64]string // who led in a term
	wrong   []string
}

func (h *history) complain(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wrong = append(h.wrong, fmt.Sprintf(format, args...))
}

func (h *history) note(list *[]string, cmd string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	*list = append(*list, cmd)
}

// lead notes who leads, and that nobody else did in that term.
func (h *history) lead(id string) Lead {
	return func(ctx context.Context, term uint64) error {
		h.mu.Lock()
		if other, ok := h.terms[term]; ok && other != id {
			h.wrong = append(h.wrong, fmt.Sprintf("%s and %s both led in term %d", other, id, term))
		}
		h.terms[term] = id
		h.mu.Unlock()
		<-ctx.Done()
		return nil
	}
}

// write proposes commands on a random node, each once.
func (h *history) write(r *rig, random *rand.Rand, client int, until time.Time) {
	for i := 0; time.Now().Before(until); i++ {
		cmd := fmt.Sprintf("client %d command %d", client, i)
		n := r.running(r.ids[random.IntN(len(r.ids))])
		if n == nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		_, err := n.Propose(within(2*time.Second), Priority(random.IntN(int(priorities))), []byte(cmd))
		switch {
		case err == nil:
			h.note(&h.acked, cmd)
		case errors.Is(err, ErrUnknown):
			h.note(&h.unknown, cmd)
		default:
			h.note(&h.refused, cmd)
		}
		time.Sleep(time.Duration(random.IntN(20)) * time.Millisecond)
	}
}

// read makes barriers on random nodes and looks for everything that was acked before each.
func (h *history) read(r *rig, random *rand.Rand, until time.Time) {
	for time.Now().Before(until) {
		time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
		id := r.ids[random.IntN(len(r.ids))]
		n := r.running(id)
		if n == nil {
			continue
		}
		h.mu.Lock()
		before := slices.Clone(h.acked)
		h.mu.Unlock()
		if _, err := n.Barrier(within(time.Second)); err != nil {
			continue
		}
		there := map[string]bool{}
		for _, line := range n.fsm.lines() {
			there[line] = true
		}
		for _, cmd := range before {
			if !there[cmd] {
				h.complain("%q was acked and is not on %s after a barrier", cmd, id)
				return
			}
		}
	}
}

// running is the node if it is up.
func (r *rig) running(id string) *rigNode {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.nodes[id]; n != nil && n.Node != nil {
		return n
	}
	return nil
}

// harm does something to the network or a node, and often mends something.
func harm(r *rig, random *rand.Rand) {
	a, b := r.ids[random.IntN(len(r.ids))], r.ids[random.IntN(len(r.ids))]
	switch random.IntN(9) {
	case 0:
		r.net.Isolate(a, r.ids...)
	case 1:
		r.net.Cut(a, b)
	case 2:
		r.net.Pause(a)
	case 3:
		r.net.Reset(a, b)
	case 4:
		r.net.SetDelay(a, b, time.Duration(random.IntN(100))*time.Millisecond)
	case 5:
		if r.running(a) != nil {
			r.crash(a)
			r.start(a)
		}
	case 6:
		if n := r.running(a); n != nil {
			r.stop(a)
			r.start(a)
		}
	default:
		r.net.HealAll()
		for _, id := range r.ids {
			r.net.Resume(id)
		}
	}
}

// Whatever happens to nodes and network: what was acked is there, once, on every node, in one order; what was refused is
// not; a barrier shows all that was acked before it; one node leads in a term.
func TestPromisesHoldUnderRandomFaults(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { underFaults(t, seed) })
		})
	}
}

func underFaults(t *testing.T, seed uint64) {
	h := &history{terms: map[uint64]string{}}
	r := newRig(t, "a", "b", "c")
	r.net = vnet.New(seed)
	r.prepare = func(id string, cfg *Config) {
		cfg.Lead = h.lead(id)
		cfg.Timings.SnapshotBytes, cfg.Timings.TrailingLogs = 3000, 20
	}
	r.startAll()
	defer r.stopAll()
	r.net.SetLoss(0.0005)
	until := time.Now().Add(60 * time.Second)
	var group sync.WaitGroup
	for client := range 8 {
		group.Go(func() { h.write(r, rand.New(rand.NewPCG(seed, uint64(client))), client, until) })
	}
	for reader := range 2 {
		group.Go(func() { h.read(r, rand.New(rand.NewPCG(seed, 100+uint64(reader))), until) })
	}
	random := rand.New(rand.NewPCG(seed, 200))
	for time.Now().Before(until) {
		harm(r, random)
		time.Sleep(time.Duration(random.IntN(1500)) * time.Millisecond)
	}
	group.Wait()
	r.net.HealAll()
	r.net.SetLoss(0)
	for _, id := range r.ids {
		r.net.Resume(id)
	}
	time.Sleep(20 * time.Second)
	r.propose(r.leader(), "the end")
	h.check(t, r.sameEverywhere())
}

func (h *history) check(t *testing.T, lines []string) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	count := map[string]int{}
	for _, line := range lines {
		count[line]++
	}
	for _, cmd := range h.acked {
		if count[cmd] != 1 {
			t.Errorf("%q was acked and is there %d times", cmd, count[cmd])
		}
	}
	for _, cmd := range h.refused {
		if count[cmd] != 0 {
			t.Errorf("%q was refused and is there", cmd)
		}
	}
	late := 0
	for _, cmd := range h.unknown {
		if count[cmd] > 1 {
			t.Errorf("%q is there %d times", cmd, count[cmd])
		}
		late += count[cmd]
	}
	for _, wrong := range h.wrong {
		t.Error(wrong)
	}
	t.Logf("%d acked, %d unknown (%d of them committed), %d refused, %d terms", len(h.acked), len(h.unknown), late, len(h.refused), len(h.terms))
	if len(h.acked) < 100 || len(h.terms) < 2 {
		t.Errorf("the run met too little")
	}
}
