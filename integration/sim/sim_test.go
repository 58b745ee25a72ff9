package sim

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/cryptotest"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter/api/client"
)

const (
	// defaultSeeds is how many seeds are played without SIM_SEEDS, as far as defaultTime is enough for them: half a minute does
	// for 300 on two cores that are free.
	defaultSeeds = 250
	defaultTime  = 30 * time.Second
)

func TestSim(t *testing.T) {
	from, n, limit := uint64(1), uint64(defaultSeeds), defaultTime
	if v, err := strconv.ParseUint(os.Getenv("SIM_SEEDS"), 10, 64); err == nil {
		n, limit = v, 24*time.Hour
	}
	if v, err := strconv.ParseUint(os.Getenv("SIM_FROM"), 10, 64); err == nil {
		from = v
	}
	if v, err := strconv.ParseUint(os.Getenv("SIM_SEED"), 10, 64); err == nil {
		from, n = v, 1
	}
	alike := os.Getenv("SIM_ALIKE") != ""
	if alike {
		cryptotest.SetGlobalRandom(t, from)
	}
	dir := fastDir(t)
	ring, keyFile := sharedKey(t)
	kinds := tally{counts: map[string]int{}}
	began := time.Now()
	if !alike {
		defer debug.SetGCPercent(debug.SetGCPercent(400))
	}
	t.Run("seeds", func(t *testing.T) {
		for seed := from; seed < from+n; seed++ {
			t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
				if !alike {
					t.Parallel()
				}
				if time.Since(began) > limit {
					return // the tally says how many were played
				}
				own := filepath.Join(dir, strconv.FormatUint(seed, 10))
				synctest.Test(t, func(t *testing.T) {
					w := newWorld(t, newPlan(seed), ring, keyFile, own)
					w.run()
					kinds.add(w.hist)
				})
				os.RemoveAll(own)
			})
		}
	})
	t.Logf("%d seeds, %.1f/s; faults and acts: %s", kinds.seeds, float64(kinds.seeds)/time.Since(began).Seconds(), &kinds)
	if kinds.seeds < int(min(n, 10)) {
		t.Errorf("only %d seeds in %s", kinds.seeds, limit)
	}
}

// tally counts faults over all seeds.
type tally struct {
	mu     sync.Mutex // guards what follows
	seeds  int
	counts map[string]int
}

func (k *tally) add(h *history) {
	h.mu.Lock()
	defer h.mu.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seeds++
	for kind, n := range h.kinds {
		k.counts[kind] += n
	}
}

func (k *tally) String() string {
	var b strings.Builder
	for _, kind := range sortedKeys(k.counts) {
		fmt.Fprintf(&b, "%s %d, ", kind, k.counts[kind])
	}
	return strings.TrimSuffix(b.String(), ", ")
}

// run plays the plan, lets things come to rest, checks, and ends the world.
func (w *world) run() {
	w.hist.note("seed %d: %d nodes, %d machines, %d jobs, %d events, tls %v", w.seed, len(w.nodes), len(w.machines), len(w.plan.jobs), len(w.plan.events), w.plan.tls)
	for _, n := range w.nodes {
		w.clocks.move(n, w.upTo(2*w.plan.offset+1)-w.plan.offset)
	}
	if w.plan.wrong != 0 {
		w.hist.fault("clock-off", "%s by %s", w.nodes[0].name, w.plan.wrong)
		w.clocks.move(w.nodes[0], w.plan.wrong)
	}
	w.start()
	w.readers.run()
	begun := time.Now()
	for _, ev := range w.plan.events {
		w.sleep(ev.at - time.Since(begun))
		if w.hist.failed() {
			break
		}
		w.play(ev)
	}
	w.sleep(w.plan.length - time.Since(begun))
	if !w.hist.failed() && w.rest() {
		w.check()
	}
	w.end()
	w.report()
}

// report fails the test, with the history, if a promise was broken.
func (w *world) report() {
	bad, lines := w.hist.verdict()
	if len(bad) > 0 || w.t.Failed() {
		w.t.Errorf("seed %d: %d broken:\n  %s\nhistory (play it again with SIM_SEED=%d):\n%s", w.seed, len(bad), strings.Join(bad, "\n  "), w.seed, strings.Join(lines, "\n"))
	} else if os.Getenv("SIM_LOG") != "" {
		w.t.Logf("history:\n%s", strings.Join(lines, "\n"))
	}
}

// rest ends all faults, has everything finish and says whether it did.
func (w *world) rest() bool {
	w.hist.note("faults stop")
	w.calm.Store(true)
	w.sleep(time.Second) // what lasts ends itself within half of one
	w.net.HealAll()
	w.net.SetLoss(0)
	for _, m := range w.machines {
		w.net.Resume(m.name)
		m.gate.open()
	}
	for _, n := range w.nodes {
		n.failLog.Store(false)
		n.disk.FailWrites(nil, 0)
		w.net.Resume(n.name)
		n.gate.open()
		n.start()
	}
	w.sleep(15 * time.Second)
	if !w.until(60*time.Second, "the last maintenance", func() bool { return w.operator.maintainOn("all", "", client.Span{Reason: "the end"}) }) {
		return false
	}
	return w.until(200*time.Second, "every run and every wrapper to end", func() bool { return w.busy() == "" })
}

// until waits for something to become true.
func (w *world) until(limit time.Duration, what string, done func() bool) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); w.sleep(time.Second) {
		if done() {
			return true
		}
	}
	w.hist.broken("liveness", "waited for %s in vain for %s: %s", what, limit, w.busy())
	return false
}

// busy says what is not finished.
func (w *world) busy() string {
	for _, m := range w.machines {
		for _, p := range m.alive() {
			return fmt.Sprintf("wrapper %d on %s", p.id, m.name)
		}
	}
	var open string
	n := w.operator.anyNode()
	err := w.operator.on(n, patience, func(ctx context.Context, c *client.Client) error {
		st, err := c.Status(ctx)
		if err != nil {
			return err
		}
		if st.Value.Runs.Unfinished > 0 {
			open = fmt.Sprintf("%d runs", st.Value.Runs.Unfinished)
		}
		return nil
	})
	if err != nil {
		return fmt.Sprintf("%s answers %v", n.name, err)
	}
	return open
}
