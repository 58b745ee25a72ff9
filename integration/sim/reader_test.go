package sim

import (
	"bytes"
	"context"
	"net/url"
	"sync"
	"time"

	"github.com/syscollective/saltpeter/api/client"
	"github.com/syscollective/saltpeter/internal/outlog"
)

// readers read through the API of any node all the time. A strong read shows whatever was acknowledged, or shown by another
// strong read, before it was sent (G6); a stale one may show less, but on one node never less than before; output is what the
// command wrote, also on a node that lacks it and has to ask another.
type readers struct {
	w *world

	mu    sync.Mutex // guards what follows
	floor uint64     // the highest index that was acknowledged, or shown by a strong read
	by    string     // what that was
}

// raise says that an index is known to be committed: what was sent after this must not show less.
func (r *readers) raise(index uint64, by string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if index > r.floor {
		r.floor, r.by = index, by
	}
}

func (r *readers) least() (index uint64, by string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.floor, r.by
}

// strong reads on a node and gives the index of what it showed; 0 if it did not answer.
func (r *readers) strong(n *node) uint64 {
	floor, by := r.least()
	seen := r.list(n, nil)
	if seen == 0 {
		return 0
	}
	if seen < floor {
		r.w.hist.broken("G6", "a strong read on %s shows index %d after %s had shown %d", n.name, seen, by, floor)
	}
	r.raise(seen, "a strong read on "+n.name)
	return seen
}

// stale reads on a node twice: the second time at the least index of what a strong read has shown anywhere.
func (r *readers) stale(n *node, last *uint64, life **life) {
	floor, _ := r.least()
	seen := r.list(n, url.Values{"consistency": {"stale"}})
	if now := n.life.Load(); seen > 0 && now != nil {
		if now == *life && seen < *last {
			r.w.hist.broken("G6", "a stale read on %s shows index %d, one before it has shown %d", n.name, seen, *last)
		}
		*life, *last = now, seen
	}
	if seen > 0 && seen < floor {
		r.w.hist.count("read-behind")
	}
}

// list reads a list and gives its index.
func (r *readers) list(n *node, query url.Values) (index uint64) {
	err := r.w.operator.on(n, patience, func(ctx context.Context, c *client.Client) error {
		l, err := c.Runs(ctx, query, 1)
		index = l.Index
		return err
	})
	if err != nil {
		return 0
	}
	return index
}

// run reads until the faults are over: one reader of all nodes, one of stale records for each node, one of output.
func (r *readers) run() {
	go1 := func(f func()) {
		r.w.wg.Go(func() {
			for !r.w.calm.Load() && r.w.ctx.Err() == nil {
				r.w.sleep(100*time.Millisecond + r.w.upTo(1500*time.Millisecond))
				f()
			}
		})
	}
	go1(func() { r.strong(r.w.operator.anyNode()) })
	go1(func() { r.output(r.w.operator.anyNode()) })
	for _, n := range r.w.nodes {
		var last uint64
		var life *life
		go1(func() { r.stale(n, &last, &life) })
	}
}

// output reads the output of one target on a node: it begins as the command's did, and holds at least what was stored before.
func (r *readers) output(n *node) {
	all := r.w.commits.facts()
	if len(all) == 0 {
		return
	}
	f := all[r.w.draw(len(all))]
	e := r.w.execsByPlace()[where{f.run, f.machine}]
	if e == nil || f.last.LeftOut > 0 {
		return
	}
	if l := n.life.Load(); l != nil && lacksOutput(l) {
		r.w.hist.count("read-output-elsewhere")
	}
	var got bytes.Buffer
	err := r.w.operator.on(n, patience, func(ctx context.Context, c *client.Client) error {
		return c.Output(ctx, f.run, f.machine, 0, false, &got)
	})
	if err != nil {
		return
	}
	r.w.hist.count("read-output")
	now, _ := r.w.commits.fact(f.ref)
	r.w.ledger.mu.Lock()
	wrote := e.wrote
	r.w.ledger.mu.Unlock()
	switch {
	case now.last.LeftOut > 0: // its pieces have places of their own
	case !bytes.HasPrefix(wrote, got.Bytes()):
		r.w.hist.broken("G3", "%s on %s: %s gives output that was not written so", f.run, f.machine, n.name)
	case uint64(got.Len()) < f.last.Stored:
		r.w.hist.broken("G6", "%s on %s: %s gives %d bytes, and %d were stored before", f.run, f.machine, n.name, got.Len(), f.last.Stored)
	}
}

func lacksOutput(l *life) bool {
	var store *outlog.Store
	if l.machine != nil {
		store = l.machine.Output()
	}
	return store != nil && len(store.Missing()) > 0
}
