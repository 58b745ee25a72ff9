package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/syscollective/saltpeter/api/client"
	"github.com/syscollective/saltpeter/bench/rig"
)

const (
	joinRuns    = 200 // due in every second
	joinReaders = 4
)

// clusterJoin measures what a fresh follower costs a cluster that holds 2 GiB of output and starts 200 runs a second, and
// compares every output as the follower gives it with the leader's, while it is being fed and afterwards.
func clusterJoin(ctx context.Context, b *bench) error {
	var files strings.Builder
	files.WriteString(settings(outputTargets, append([]string{"output_total: 4GiB", "history_runs: 100"}, patient...)...))
	fmt.Fprintf(&files, "%s: {schedule: '0 0 0 1 1 * 2099', targets: '*', command: 'true'}\n", rig.WritingJob)
	for i := range joinRuns {
		fmt.Fprintf(&files, "tick-%03d: {schedule: '* * * * * *', targets: m-%d, command: 'true', %s}\n", i, i, overlapping)
	}
	c, err := b.cluster(ctx, "join", clusterNodes-1, files.String(), joinRuns+1, rig.NodeSpec{Publish: rig.PublishAnswer, Output: outputEach})
	if err != nil {
		return err
	}
	run, err := c.write(ctx)
	if err != nil {
		return err
	}
	lead, err := c.leader(ctx)
	if err != nil {
		return err
	}
	want, err := lead.sums(ctx, run)
	if err != nil {
		return err
	}
	calm, err := c.claimsDuring(func() error { return pause(ctx, 10*time.Second) })
	if err != nil {
		return err
	}
	var joined, fed time.Duration
	var meanwhile, after int
	busy, err := c.claimsDuring(func() (err error) {
		began := time.Now()
		fresh, err := c.add(ctx)
		if err != nil {
			return err
		}
		if err := c.untilVoters(ctx, clusterNodes); err != nil {
			return err
		}
		joined = time.Since(began)
		if meanwhile, err = fresh.differing(ctx, run, want); err != nil {
			return err
		}
		if err := fresh.untilFed(ctx, lead); err != nil {
			return err
		}
		fed = time.Since(began)
		after, err = fresh.differing(ctx, run, want)
		return err
	})
	if err != nil {
		return err
	}
	b.table.add(row{what: "a fresh node votes after", figure: ms(joined)})
	b.table.add(row{what: "  and holds 2 GiB of output after", figure: ms(fed)})
	b.table.add(row{what: fmt.Sprintf("  of %d outputs read on it meanwhile, not equal by sha256", len(want)), figure: fmt.Sprint(meanwhile), budget: "0", ok: meanwhile == 0})
	b.table.add(row{what: "  and afterwards", figure: fmt.Sprint(after), budget: "0", ok: after == 0})
	late, before := percentile(busy.Late, 99), percentile(calm.Late, 99)
	b.table.add(row{what: fmt.Sprintf("  p99 lateness of %d claims meanwhile", busy.Runs), figure: ms(late), limit: ms(before) + " (before)", ratio: float64(late) / float64(before)})
	return c.stop()
}

// write has the output written and gives the run that did.
func (c *several) write(ctx context.Context) (string, error) {
	lead, err := c.leader(ctx)
	if err != nil {
		return "", err
	}
	began := time.Now()
	if err := lead.Ask("start", rig.WritingJob, nil); err != nil {
		return "", lead.explain(err)
	}
	api, err := lead.client()
	if err != nil {
		return "", err
	}
	defer api.Close()
	for {
		runs, err := api.Runs(ctx, url.Values{"job": {rig.WritingJob}}, 1)
		if err != nil {
			return "", err
		}
		if len(runs.Items) == 1 && runs.Items[0].Ended != 0 {
			c.b.table.add(row{what: "output written through two nodes", figure: mib(outputTargets*outputEach/time.Since(began).Seconds()) + "/s"})
			return runs.Items[0].ID, nil
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return "", fmt.Errorf("wait for the output: %w", err)
		}
	}
}

// sums reads every output of a run through this node's API and gives the hash of each machine's.
func (n *aNode) sums(ctx context.Context, run string) (map[string]string, error) {
	api, err := n.client()
	if err != nil {
		return nil, err
	}
	defer api.Close()
	sums := make([]string, outputTargets)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(joinReaders)
	for i := range sums {
		g.Go(func() (err error) {
			sums[i], err = sumOf(ctx, api, run, rig.Machine(i))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, n.explain(err)
	}
	out := make(map[string]string, len(sums))
	for i, s := range sums {
		out[rig.Machine(i)] = s
	}
	return out, nil
}

func sumOf(ctx context.Context, api *client.Client, run, machine string) (string, error) {
	h := sha256.New()
	if err := api.Output(ctx, run, machine, 0, false, h); err != nil {
		return "", fmt.Errorf("output of %s: %w", machine, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// differing counts the outputs that are not as wanted.
func (n *aNode) differing(ctx context.Context, run string, want map[string]string) (int, error) {
	got, err := n.sums(ctx, run)
	if err != nil {
		return 0, err
	}
	differ := 0
	for machine, sum := range want {
		if got[machine] != sum {
			differ++
		}
	}
	return differ, nil
}

// untilFed waits until the node's segments are as large as the leader's.
func (n *aNode) untilFed(ctx context.Context, lead *aNode) error {
	for {
		want, _, err := readAll(filepath.Join(lead.dir, "data", "segments", "output"))
		if err != nil {
			return err
		}
		got, _, err := readAll(filepath.Join(n.dir, "data", "segments", "output"))
		if err != nil {
			return err
		}
		if got >= want {
			return nil
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil {
			return n.explain(fmt.Errorf("wait for %d bytes of output, %d are there: %w", want, got, err))
		}
	}
}
