package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/syscollective/saltpeter/bench/rig"
)

const (
	pushWrappers = 200
	pushJobs     = 50 // due in every second
	pushFor      = 20 * time.Second
	pushFrame    = 32 << 10 // as the wrapper cuts a command's output that does not end
	pushWindow   = 32       // as the wrapper's
)

// pushed is one node, or several.
type pushed interface {
	launch(ctx context.Context, job string) (rig.LaunchTold, error)
	fleet(ctx context.Context, machines, lives int) (*rig.Proc, error)
	claimsDuring(f func() error) (rig.Claims, error)
	profiled(name string) (stop func() error)
	stop() error
}

// push measures when ticks are claimed while wrappers push output as fast as the node takes it, beside the same node before.
func push(ctx context.Context, b *bench) error {
	n, err := b.node(ctx, "push", pushFiles(), pushJobs+1, rig.PublishTell, 0)
	if err != nil {
		return err
	}
	return b.pushOn(ctx, n)
}

// clusterPush does it with three nodes, whose gateways the wrappers go to in turn.
func clusterPush(ctx context.Context, b *bench) error {
	c, err := b.cluster(ctx, "push", clusterNodes, pushFiles(), pushJobs+1, rig.NodeSpec{Publish: rig.PublishTell})
	if err != nil {
		return err
	}
	return b.pushOn(ctx, c)
}

func pushFiles() string {
	var files strings.Builder
	files.WriteString(settings(pushWrappers, patient...))
	files.WriteString("pusher: {schedule: '0 0 0 1 1 * 2099', targets: '*', command: 'true', output_limit: 256MiB}\n")
	for i := range pushJobs {
		fmt.Fprintf(&files, "job-%02d: {schedule: '* * * * * *', targets: m-0, command: 'true', %s}\n", i, overlapping)
	}
	return files.String()
}

func (b *bench) pushOn(ctx context.Context, n pushed) error {
	l, err := n.launch(ctx, "pusher")
	if err != nil {
		return err
	}
	f, err := n.fleet(ctx, pushWrappers, 0)
	if err != nil {
		return err
	}
	if err := f.Ask("win", rig.Win{LaunchTold: l, Parallel: dialers}, nil); err != nil {
		return err
	}
	calm, err := n.claimsDuring(func() error { return pause(ctx, pushFor/2) })
	if err != nil {
		return err
	}
	profiled := n.profiled("push")
	var got rig.Pushed
	began := time.Now()
	busy, err := n.claimsDuring(func() error {
		return f.Ask("push", rig.Push{For: pushFor, Size: pushFrame, Window: pushWindow}, &got)
	})
	if err != nil {
		return err
	}
	if err := profiled(); err != nil {
		return err
	}
	b.table.add(row{what: "output of 200 wrappers", figure: mib(float64(got.Bytes)/pushFor.Seconds()) + "/s"})
	b.table.add(row{what: "  from word to ack, p50 / p99", figure: ms(got.P50) + " / " + ms(got.P99)})
	p99, before := percentile(busy.Late, 99), percentile(calm.Late, 99)
	b.table.add(row{what: fmt.Sprintf("lateness of %d claims meanwhile, p99", busy.Runs), figure: ms(p99), limit: ms(before) + " (no output)",
		ratio: float64(p99) / float64(before), budget: "< 250 ms", ok: p99 < 250*time.Millisecond})
	b.table.add(row{what: "  min / p50 / max", figure: ms(percentile(busy.Late, 0)) + " / " + ms(percentile(busy.Late, 50)) + " / " + ms(percentile(busy.Late, 100))})
	want := int(time.Since(began).Seconds()-1) * pushJobs
	b.table.add(row{what: "  claimed of those due", figure: fmt.Sprint(busy.Runs), budget: fmt.Sprintf("≥ %d", want), ok: busy.Runs >= want})
	if err := f.Stop(); err != nil {
		return err
	}
	return n.stop()
}

// claimsDuring gives the claims that were committed while f ran.
func (n *aNode) claimsDuring(f func() error) (c rig.Claims, err error) {
	if err := n.Ask("claims", nil, nil); err != nil {
		return c, n.explain(err)
	}
	if err := f(); err != nil {
		return c, err
	}
	return c, n.explain(n.Ask("claims", nil, &c))
}
