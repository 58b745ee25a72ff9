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
	runsOffered  = 1000 // jobs that are due in every second
	runsSlices   = 6
	runsSlice    = 10 * time.Second
	runsMachines = 16
	runsLives    = 128    // wrappers under way at one time
	runsHistory  = 20_000 // history_targets: reached within half a minute
)

// slice is what happened in a part of the time.
type slice struct {
	done float64 // runs that ended, per second
	late time.Duration
	cpu  float64 // cores of the node, or of all nodes
	rss  int64   // bytes, of the largest node
}

// runs measures runs from claim to result on one node: played wrappers that connect, claim their start and report a result,
// and then the same without the gateway, answered in the node's own process.
func runs(ctx context.Context, b *bench) error {
	accepts, err := b.bareAccepts(ctx)
	if err != nil {
		return err
	}
	for _, way := range []struct{ name, publish string }{{"through the gateway", rig.PublishTell}, {"answered in the process", rig.PublishAnswer}} {
		slices, behind, err := b.runsPer(ctx, way.publish)
		if err != nil {
			return fmt.Errorf("%s: %w", way.name, err)
		}
		second, last := slices[1], slices[len(slices)-1]
		r := row{what: "runs per second, " + way.name, figure: perSecond(last.done), limit: perSecond(runsOffered) + " (offered)",
			ratio: last.done / runsOffered, budget: "≥ 1000/s", ok: last.done >= 0.99*runsOffered}
		if way.publish == rig.PublishTell {
			r.limit, r.ratio = perSecond(accepts)+" (TLS accepts alone)", last.done/accepts
		}
		b.table.add(r)
		b.table.add(row{what: "  p99 lateness of the claims, last slice", figure: ms(last.late), budget: "< 250 ms", ok: last.late < 250*time.Millisecond})
		b.table.add(row{what: "  rate, last slice beside the second", figure: perSecond(last.done), limit: perSecond(second.done), ratio: last.done / second.done,
			budget: "≥ 0.9 ×", ok: last.done >= 0.9*second.done})
		b.table.add(row{what: "  cores of the node, last beside second", figure: fmt.Sprintf("%.2f", last.cpu), limit: fmt.Sprintf("%.2f", second.cpu),
			ratio: last.cpu / second.cpu})
		b.table.add(row{what: "  runs per second and core of the node", figure: perSecond(last.done / last.cpu)})
		b.table.add(row{what: "  runs not ended when it was over", figure: fmt.Sprint(behind)})
	}
	return nil
}

// bareAccepts gives how many TLS connections per second the bare library accepts here, its clients beside it.
func (b *bench) bareAccepts(ctx context.Context) (float64, error) {
	var ready rig.BareReady
	server, err := b.proc(ctx, "bare-ws", nil, &ready, nil, nil)
	if err != nil {
		return 0, err
	}
	f, err := b.bareFleet(ctx, ready)
	if err != nil {
		return 0, err
	}
	const count = 4000
	began := time.Now()
	if err := f.Ask("live", rig.LaunchTold{Machines: machines(count)}, nil); err != nil {
		return 0, err
	}
	for l := (rig.Lives{Under: 1}); l.Under > 0; {
		if err := f.Ask("lives", nil, &l); err != nil {
			return 0, err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return 0, err
		}
	}
	took := time.Since(began)
	return count / took.Seconds(), errors.Join(f.Stop(), server.Stop())
}

func (b *bench) runsPer(ctx context.Context, publish string) (slices []slice, behind int, err error) {
	var files strings.Builder
	files.WriteString(settings(runsMachines, fmt.Sprintf("history_targets: %d", runsHistory)))
	for i := range runsOffered {
		fmt.Fprintf(&files, "job-%04d: {schedule: '* * * * * *', targets: m-%d, command: 'true', %s}\n", i, i%runsMachines, overlapping)
	}
	n, err := b.node(ctx, "runs-"+publish, files.String(), runsOffered, publish, 0)
	if err != nil {
		return nil, 0, err
	}
	f, err := n.fleet(ctx, runsMachines, runsLives)
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go forward(ctx, n.told, f)
	profiled := n.profiled("runs-" + publish)
	length := runsSlice
	if b.long {
		length = 100 * time.Second
	}
	for range runsSlices {
		s, err := sliceOf(ctx, n, length)
		if err != nil {
			return nil, 0, n.explain(err)
		}
		slices = append(slices, s)
	}
	if err := profiled(); err != nil {
		return nil, 0, err
	}
	s, err := n.state()
	if err != nil {
		return nil, 0, err
	}
	var l rig.Lives
	if err := f.Ask("lives", nil, &l); err != nil {
		return nil, 0, err
	}
	if l.Failed > 0 {
		b.table.add(row{what: "wrappers that failed", figure: fmt.Sprintf("%d: %.80s", l.Failed, l.Trouble)})
	}
	// What is under way does not matter any more.
	return slices, s.Unfinished, errors.Join(n.Kill(), f.Kill(), n.log.Close())
}

// sliced is one node, or several.
type sliced interface {
	unfinished(ctx context.Context) (int, error)
	usage() (rig.Usage, error)
	claimsDuring(f func() error) (rig.Claims, error)
}

// sliceOf lets some time pass and tells what happened in it.
func sliceOf(ctx context.Context, n sliced, length time.Duration) (s slice, err error) {
	before, err := n.unfinished(ctx)
	if err != nil {
		return s, err
	}
	cpu, err := n.usage()
	if err != nil {
		return s, err
	}
	began := time.Now()
	claims, err := n.claimsDuring(func() error { return pause(ctx, length) })
	if err != nil {
		return s, err
	}
	after, err := n.unfinished(ctx)
	if err != nil {
		return s, err
	}
	used, err := n.usage()
	if err != nil {
		return s, err
	}
	took := time.Since(began).Seconds()
	return slice{done: float64(claims.Runs-after+before) / took, late: percentile(claims.Late, 99), cpu: (used.CPU - cpu.CPU).Seconds() / took, rss: used.RSS}, nil
}

func (n *aNode) unfinished(context.Context) (int, error) {
	s, err := n.state()
	return s.Unfinished, err
}

func (n *aNode) usage() (rig.Usage, error) { return n.Usage(false) }
