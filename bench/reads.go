package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/syscollective/saltpeter/api/client"
	"github.com/syscollective/saltpeter/bench/rig"
)

const (
	readPairs   = 100_000
	readers     = 96 // pairs under way at one time; each has a job of its own
	readKills   = 8 * time.Second
	readPatient = 20 * time.Second
)

// pairs is what became of the pairs of a write and a read.
type pairs struct {
	begun, good, stale atomic.Int64
	unwritten          atomic.Int64 // writes without an acknowledgement: such a pair is made again
	moved              atomic.Int64 // reads that no node answered at first
	want               int64
}

// reads holds the promise that any node answers alike: what one node has acknowledged is seen by a read that another is asked
// for afterwards, without any index, while leaders are killed.
func reads(ctx context.Context, b *bench) error {
	p := &pairs{want: readPairs}
	if b.count > 0 {
		p.want = int64(b.count)
	}
	var files strings.Builder
	files.WriteString(settings(1))
	for i := range readers {
		fmt.Fprintf(&files, "j-%02d: {schedule: '0 0 1 1 *', targets: m-0, command: 'true'}\n", i)
	}
	c, err := b.cluster(ctx, "reads", clusterNodes, files.String(), readers, rig.NodeSpec{Publish: rig.PublishNobody})
	if err != nil {
		return err
	}
	apis := make([]*client.Client, len(c.nodes))
	for i, n := range c.nodes {
		if apis[i], err = n.client(); err != nil {
			return err
		}
		defer apis[i].Close()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	began := time.Now()
	var group, killing sync.WaitGroup
	kills, killErr := 0, error(nil)
	killing.Go(func() { kills, killErr = c.killLeaders(ctx) })
	for i := range readers {
		group.Go(func() { p.work(ctx, apis, fmt.Sprintf("j-%02d", i)) })
	}
	group.Wait()
	took := time.Since(began)
	cancel()
	killing.Wait()
	if killErr != nil {
		return killErr
	}
	b.table.add(row{what: "pairs of a write and a read elsewhere", figure: fmt.Sprintf("%d of %d", p.good.Load(), p.want)})
	b.table.add(row{what: "  per second", figure: perSecond(float64(p.good.Load()) / took.Seconds())})
	b.table.add(row{what: "  leaders killed meanwhile", figure: fmt.Sprint(kills)})
	b.table.add(row{what: "  writes without an answer, made again", figure: fmt.Sprint(p.unwritten.Load())})
	b.table.add(row{what: "  reads without an answer, asked again", figure: fmt.Sprint(p.moved.Load())})
	b.table.add(row{what: "stale reads", figure: fmt.Sprint(p.stale.Load()), budget: "0", ok: p.stale.Load() == 0 && p.good.Load() > 0})
	return nil
}

// work makes pairs until there are enough. Each write gives the job's pause another reason, which the read must show.
func (p *pairs) work(ctx context.Context, apis []*client.Client, job string) {
	for i := 0; ctx.Err() == nil && p.begun.Add(1) <= p.want; i++ {
		reason := fmt.Sprintf("%s %d", job, i)
		writer := rand.IntN(len(apis))
		for !p.write(ctx, apis[writer], job, reason) && ctx.Err() == nil {
			p.unwritten.Add(1)
			writer = rand.IntN(len(apis))
		}
		p.read(ctx, apis, (writer+1+rand.IntN(len(apis)-1))%len(apis), writer, job, reason)
	}
}

func (p *pairs) write(ctx context.Context, api *client.Client, job, reason string) bool {
	ctx, cancel := context.WithTimeout(ctx, readPatient)
	defer cancel()
	_, err := api.Pause(ctx, job, client.Span{Reason: reason})
	if err != nil {
		_ = pause(ctx, 50*time.Millisecond) // the caller sees the end of ctx
	}
	return err == nil
}

// read asks one node, and if that does not answer the next one that was not written to.
func (p *pairs) read(ctx context.Context, apis []*client.Client, node, writer int, job, reason string) {
	for ctx.Err() == nil {
		one, cancel := context.WithTimeout(ctx, readPatient)
		got, err := apis[node].Job(one, job)
		cancel()
		if err == nil {
			if got.Value.Paused == nil || got.Value.Paused.Reason != reason {
				p.stale.Add(1)
				fmt.Fprintf(os.Stderr, "stale: %s was acknowledged, %+v was read\n", reason, got.Value.Paused)
			}
			p.good.Add(1)
			return
		}
		p.moved.Add(1)
		_ = pause(ctx, 20*time.Millisecond) // the loop sees the end of ctx
		for node = (node + 1) % len(apis); node == writer; {
			node = (node + 1) % len(apis)
		}
	}
}

// killLeaders kills whoever leads, again and again, and starts it anew; it returns with ctx.
func (c *several) killLeaders(ctx context.Context) (kills int, err error) {
	for ; ctx.Err() == nil; kills++ {
		if err := pause(ctx, readKills); err != nil {
			return kills, whileAlive(ctx, err)
		}
		lead, err := c.leader(ctx)
		if err != nil {
			return kills, whileAlive(ctx, err)
		}
		if err := lead.Kill(); err != nil {
			return kills, whileAlive(ctx, err)
		}
		_ = lead.log.Close() // of a process that is gone
		if err := pause(ctx, time.Second); err != nil {
			return kills + 1, whileAlive(ctx, err)
		}
		if err := lead.start(ctx); err != nil {
			return kills, whileAlive(ctx, err)
		}
		if err := c.whole(ctx, lead); err != nil {
			return kills, whileAlive(ctx, err)
		}
	}
	return kills, nil
}

// whileAlive drops an error that came with the end of ctx.
func whileAlive(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}
