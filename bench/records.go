package main

import (
	"context"
	"fmt"
	"time"

	"github.com/syscollective/saltpeter/bench/rig"
)

const (
	recordMachines = 10_000
	recordRuns     = 100
)

// records measures a node whose record holds a million targets, each with its winner and result.
func records(ctx context.Context, b *bench) error {
	empty, err := b.emptyRestart(ctx)
	if err != nil {
		return err
	}
	files := settings(recordMachines, patient...) + "job: {schedule: '0 0 0 1 1 * 2099', targets: '*', command: 'true', " + overlapping + "}\n"
	n, err := b.node(ctx, "record", files, 1, rig.PublishAnswer, 0)
	if err != nil {
		return err
	}
	profiled := n.profiled("record")
	began := time.Now()
	for i := range recordRuns {
		if err := n.Ask("start", "job", nil); err != nil {
			return n.explain(err)
		}
		err := n.until(ctx, "the run's end", func(s rig.State) bool { return s.Targets >= (i+1)*recordMachines && s.Unfinished == 0 })
		if err != nil {
			return err
		}
	}
	rate := recordRuns * recordMachines / time.Since(began).Seconds()
	if err := profiled(); err != nil {
		return err
	}
	s, err := n.state()
	if err != nil {
		return err
	}
	peak, err := rig.StatusOf(n.PID(), "VmHWM")
	if err != nil {
		return err
	}
	used, err := n.Usage(true)
	if err != nil {
		return err
	}
	b.table.add(row{what: "targets claimed and ended, without gateway", figure: perSecond(rate)})
	b.memoryRows("after that", used)
	b.table.add(row{what: "  RSS, peak", figure: mib(float64(peak))})
	b.snapshotRows(s.Snapshots)
	return b.restartRows(ctx, n, empty, "1,000,000 targets", func(s rig.State) bool { return s.Targets == recordRuns*recordMachines })
}

func (b *bench) memoryRows(when string, u rig.Usage) {
	b.table.add(row{what: "RSS " + when, figure: mib(float64(u.RSS)), budget: "< 300 MiB", ok: u.RSS < 300<<20})
	b.table.add(row{what: "  anonymous, the rest being the mapped log", figure: mib(float64(u.Anon))})
	b.table.add(row{what: "  heap in use", figure: mib(float64(u.HeapInUse))})
}

func (b *bench) snapshotRows(list []rig.Snapshot) {
	if len(list) == 0 {
		b.table.add(row{what: "snapshot", figure: "none was taken", budget: "< 5 ms", ok: false})
		return
	}
	var longest time.Duration
	for _, s := range list {
		longest = max(longest, s.Pause)
	}
	last := list[len(list)-1]
	b.table.add(row{what: fmt.Sprintf("pause for a snapshot, longest of %d", len(list)), figure: ms(longest), budget: "< 5 ms", ok: longest < 5*time.Millisecond})
	b.table.add(row{what: fmt.Sprintf("  last: written with %d targets", last.Targets), figure: ms(last.Write) + ", " + mib(float64(last.Bytes))})
}

// restartRows kills the node and starts it again, twice, and shows the slower one.
func (b *bench) restartRows(ctx context.Context, n *aNode, empty time.Duration, what string, whole func(rig.State) bool) error {
	var slowest time.Duration
	for range 2 {
		took, err := n.restart(ctx, whole)
		if err != nil {
			return err
		}
		slowest = max(slowest, took)
	}
	used, err := n.Usage(true)
	if err != nil {
		return err
	}
	b.table.add(row{what: "kill -9 and start with " + what, figure: ms(slowest), limit: ms(empty) + " (an empty node)", ratio: float64(slowest) / float64(empty),
		budget: "< 10 s", ok: slowest < 10*time.Second})
	b.memoryRows("after a restart", used)
	return n.stop()
}

// restart kills the node, starts it and gives the time until it leads with its whole record.
func (n *aNode) restart(ctx context.Context, whole func(rig.State) bool) (time.Duration, error) {
	if err := n.Kill(); err != nil {
		return 0, err
	}
	if err := n.log.Close(); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := n.start(ctx); err != nil {
		return 0, err
	}
	err := n.until(ctx, "the record to be back", func(s rig.State) bool { return s.Serving && whole(s) })
	return time.Since(began), err
}

// emptyRestart gives the time in which a node starts that has nothing in its record.
func (b *bench) emptyRestart(ctx context.Context) (time.Duration, error) {
	n, err := b.node(ctx, "empty", settings(1), 0, rig.PublishNobody, 0)
	if err != nil {
		return 0, err
	}
	took, err := n.restart(ctx, func(rig.State) bool { return true })
	if err != nil {
		return 0, err
	}
	return took, n.stop()
}
