package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/syscollective/saltpeter/bench/rig"
)

const (
	clusterNodes   = 3
	clusterLives   = 256     // wrappers under way at one time
	clusterHistory = 100_000 // history_targets: reached in the second minute
	clusterSlices  = 10
)

// clusterRuns measures runs through three nodes, from claim to result. The leader's launcher plays the wrappers, in its process,
// and they go to the gateways of all three nodes in turn. They speak without TLS, whose cost on both ends has its own program:
// these two cores carry all of it.
func clusterRuns(ctx context.Context, b *bench) error {
	var files strings.Builder
	files.WriteString(settings(runsMachines, fmt.Sprintf("history_targets: %d", clusterHistory)))
	for i := range runsOffered {
		fmt.Fprintf(&files, "job-%04d: {schedule: '* * * * * *', targets: m-%d, command: 'true', %s}\n", i, i%runsMachines, overlapping)
	}
	c, err := b.cluster(ctx, "runs", clusterNodes, files.String(), runsOffered, rig.NodeSpec{Publish: rig.PublishPlay, Plain: true})
	if err != nil {
		return err
	}
	if err := c.play(runsMachines, clusterLives); err != nil {
		return err
	}
	profiled := c.profiled("cluster-runs")
	length := runsSlice
	if b.long {
		length = time.Minute
	}
	var slices []slice
	for range clusterSlices {
		s, err := sliceOf(ctx, c, length)
		if err != nil {
			return err
		}
		slices = append(slices, s)
	}
	if err := profiled(); err != nil {
		return err
	}
	b.clusterRows(slices, length)
	l, err := c.lives()
	if err != nil {
		return err
	}
	b.table.add(row{what: "wrappers that failed", figure: fmt.Sprintf("%d %.80s", l.Failed, l.Trouble)})
	left, err := c.unfinished(ctx)
	if err != nil {
		return err
	}
	b.table.add(row{what: "runs not ended when it was over", figure: fmt.Sprint(left)})
	var errs []error // what is under way does not matter any more
	for _, n := range c.nodes {
		errs = append(errs, n.Kill(), n.log.Close())
	}
	return errors.Join(errs...)
}

func (b *bench) clusterRows(slices []slice, length time.Duration) {
	second, last := slices[1], slices[len(slices)-1]
	b.table.add(row{what: "runs per second through three nodes, last of ten slices", figure: perSecond(last.done), limit: perSecond(runsOffered) + " (offered)",
		ratio: last.done / runsOffered, budget: "≥ 1000/s", ok: last.done >= 0.99*runsOffered})
	b.table.add(row{what: "  p99 lateness of the claims", figure: ms(last.late), budget: "< 250 ms", ok: last.late < 250*time.Millisecond})
	b.table.add(row{what: "  beside the second slice", figure: ms(last.late), limit: ms(second.late), ratio: float64(last.late) / float64(second.late),
		budget: "≤ 1.3 ×", ok: float64(last.late) <= 1.3*float64(second.late)})
	b.table.add(row{what: "  cores of the three nodes", figure: fmt.Sprintf("%.2f", last.cpu), limit: fmt.Sprintf("%.2f (second slice)", second.cpu), ratio: last.cpu / second.cpu})
	minutes := (length * time.Duration(len(slices)-2)).Minutes()
	b.table.add(row{what: "  memory of the largest node", figure: mib(float64(last.rss)), limit: mib(float64(second.rss)) + " (second slice)", ratio: float64(last.rss) / float64(second.rss)})
	b.table.add(row{what: "  its slope", figure: fmt.Sprintf("%+.1f MiB a minute", float64(last.rss-second.rss)/(1<<20)/minutes)})
}
