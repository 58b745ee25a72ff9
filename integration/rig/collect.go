package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Rest waits until nothing is unfinished.
func (c *Cluster) Rest(ctx context.Context, limit time.Duration) error {
	return WaitFor(ctx, limit, "everything to come to rest", func() error {
		b, err := c.do(ctx, http.MethodGet, "/runs?state=unfinished&limit=5", nil, nil)
		if err != nil {
			return err
		}
		var p page[Run]
		if err := json.Unmarshal(b, &p); err != nil {
			return err
		}
		if len(p.Items) > 0 {
			return fmt.Errorf("%s is %s", p.Items[0].ID, p.Items[0].State)
		}
		return nil
	})
}

// Collect reads record and ledgers.
func (c *Cluster) Collect(ctx context.Context, h *History, end *Span) (Evidence, error) {
	e := Evidence{jobs: c.jobs, history: h, end: end, Targets: map[string][]Target{}, skips: map[string][]skip{}, output: map[Key][]byte{}}
	var err error
	if e.ledger, err = ReadLedgers(c.LedgerDir()); err != nil {
		return e, err
	}
	if e.runs, err = List[Run](ctx, c, "/runs"); err != nil {
		return e, err
	}
	for _, j := range c.jobs {
		if e.skips[j.Name], err = List[skip](ctx, c, "/jobs/"+j.Name+"/skips"); err != nil {
			return e, err
		}
	}
	return e, errors.Join(c.collectTargets(ctx, &e), c.collectGaps(ctx, &e), c.collectMembers(ctx, &e))
}

// Finished reads the runs that are over and adds them to what was read before.
func (c *Cluster) Finished(ctx context.Context, into *Evidence) error {
	now := Evidence{Targets: map[string][]Target{}, output: map[Key][]byte{}}
	runs, err := List[Run](ctx, c, "/runs")
	if err != nil {
		return err
	}
	for _, r := range runs {
		if r.Ended != nil {
			now.runs = append(now.runs, r)
		}
	}
	if err := c.collectTargets(ctx, &now); err != nil {
		return err
	}
	now.Add(into)
	*into = now
	return nil
}

// Add adds the runs of another evidence that this one has not.
func (e *Evidence) Add(other *Evidence) {
	known := make(map[string]bool)
	for _, r := range e.runs {
		known[r.ID] = true
	}
	for _, r := range other.runs {
		if known[r.ID] {
			continue
		}
		e.runs = append(e.runs, r)
		e.Targets[r.ID] = other.Targets[r.ID]
		for _, t := range e.Targets[r.ID] {
			k := Key{r.ID, t.Machine}
			e.output[k] = other.output[k]
		}
	}
}

// collectTargets reads machines and outputs, from all nodes in turns.
func (c *Cluster) collectTargets(ctx context.Context, e *Evidence) error {
	targets, outputs := make([][]Target, len(e.runs)), make([]map[Key][]byte, len(e.runs))
	var turn atomic.Uint32
	read := func(path string) ([]byte, error) {
		n := c.Nodes[int(turn.Add(1))%len(c.Nodes)]
		return n.call(ctx, http.MethodGet, path, nil, nil)
	}
	g := new(errgroup.Group)
	g.SetLimit(8)
	for i := range e.runs {
		g.Go(func() error {
			path := "/runs/" + url.PathEscape(e.runs[i].ID) + "/machines"
			b, err := read(path)
			if err != nil {
				return err
			}
			var p page[Target]
			if err := json.Unmarshal(b, &p); err != nil {
				return err
			}
			targets[i], outputs[i] = p.Items, map[Key][]byte{}
			for _, t := range p.Items {
				if outputs[i][Key{e.runs[i].ID, t.Machine}], err = read(path + "/" + t.Machine + "/output?format=raw"); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("read machines and outputs: %w", err)
	}
	for i := range e.runs {
		e.Targets[e.runs[i].ID] = targets[i]
		for k, b := range outputs[i] {
			e.output[k] = b
		}
	}
	return nil
}
