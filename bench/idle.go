package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/syscollective/saltpeter/bench/rig"
)

const idleFor = 30 * time.Second

// idle measures the CPU of a node whose jobs are all not due, beside a node with one job.
func idle(ctx context.Context, b *bench) error {
	one, err := b.idleNode(ctx, 1, idleFor/2)
	if err != nil {
		return err
	}
	many, err := b.idleNode(ctx, 10_000, idleFor)
	if err != nil {
		return err
	}
	b.table.add(row{what: "10,000 idle jobs, of a core", figure: fmt.Sprintf("%.2f %%", many*100), limit: fmt.Sprintf("%.2f %% (one job)", one*100),
		ratio: many / one, budget: "< 2 %", ok: many < 0.02})
	return nil
}

// idleNode gives the share of a core.
func (b *bench) idleNode(ctx context.Context, jobs int, length time.Duration) (float64, error) {
	var files strings.Builder
	files.WriteString(settings(1))
	then := time.Now().UTC().Add(12 * time.Hour)
	for i := range jobs {
		fmt.Fprintf(&files, "job-%05d: {schedule: '%d %d %d * * *', targets: '*', command: 'true'}\n", i, i%60, i/60%60, then.Hour())
	}
	n, err := b.node(ctx, fmt.Sprintf("idle-%d", jobs), files.String(), jobs, rig.PublishNobody, 0)
	if err != nil {
		return 0, err
	}
	if err := pause(ctx, 5*time.Second); err != nil { // until what loading the files left behind is collected
		return 0, err
	}
	profiled := n.profiled(fmt.Sprintf("idle-%d", jobs))
	before, err := n.Usage(true)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := pause(ctx, length); err != nil {
		return 0, err
	}
	after, err := n.Usage(false)
	if err != nil {
		return 0, err
	}
	used := (after.CPU - before.CPU).Seconds() / time.Since(began).Seconds()
	if err := profiled(); err != nil {
		return 0, err
	}
	return used, n.stop()
}
