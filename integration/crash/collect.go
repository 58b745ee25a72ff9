package crash

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// rest waits until nothing is unfinished.
func (c *Cluster) rest(ctx context.Context, limit time.Duration) error {
	return waitFor(ctx, limit, "everything to come to rest", func() error {
		b, err := c.do(ctx, http.MethodGet, "/runs?state=unfinished&limit=5", nil, nil)
		if err != nil {
			return err
		}
		var p page[run]
		if err := json.Unmarshal(b, &p); err != nil {
			return err
		}
		if len(p.Items) > 0 {
			return fmt.Errorf("%s is %s", p.Items[0].ID, p.Items[0].State)
		}
		return nil
	})
}

// collect reads record and ledgers.
func (c *Cluster) collect(ctx context.Context, h *history, end *span) (evidence, error) {
	e := evidence{jobs: c.jobs, history: h, end: end, targets: map[string][]target{}, skips: map[string][]skip{}, output: map[key][]byte{}}
	var err error
	if e.crashed, err = readArmed(c.armedLog()); err != nil {
		return e, err
	}
	if e.ledger, err = readLedgers(c.ledgerDir()); err != nil {
		return e, err
	}
	if e.runs, err = list[run](ctx, c, "/runs"); err != nil {
		return e, err
	}
	for _, j := range c.jobs {
		if e.skips[j.name], err = list[skip](ctx, c, "/jobs/"+j.name+"/skips"); err != nil {
			return e, err
		}
	}
	return e, c.collectTargets(ctx, &e)
}

// collectTargets reads machines and outputs, from all nodes in turns.
func (c *Cluster) collectTargets(ctx context.Context, e *evidence) error {
	targets, outputs := make([][]target, len(e.runs)), make([]map[key][]byte, len(e.runs))
	var turn atomic.Uint32
	read := func(path string) ([]byte, error) {
		n := c.nodes[int(turn.Add(1))%len(c.nodes)]
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
			var p page[target]
			if err := json.Unmarshal(b, &p); err != nil {
				return err
			}
			targets[i], outputs[i] = p.Items, map[key][]byte{}
			for _, t := range p.Items {
				if outputs[i][key{e.runs[i].ID, t.Machine}], err = read(path + "/" + t.Machine + "/output?format=raw"); err != nil {
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
		e.targets[e.runs[i].ID] = targets[i]
		for k, b := range outputs[i] {
			e.output[k] = b
		}
	}
	return nil
}

// readArmed gives the launches and machines of wrappers that were to be killed.
func readArmed(path string) (map[key]bool, error) {
	out := make(map[key]bool)
	b, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return out, nil
	}
	for text := range strings.Lines(string(b)) {
		f := strings.Fields(text)
		if len(f) == 0 || !strings.HasSuffix(f[0], ":kill") {
			continue
		}
		var k key
		for i := 1; i+1 < len(f); i++ {
			switch f[i] {
			case "--id":
				k.instance = f[i+1]
			case "--machine":
				k.machine = f[i+1]
			}
		}
		out[k] = true
	}
	return out, err
}
