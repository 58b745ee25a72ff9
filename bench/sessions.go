package main

import (
	"context"
	"fmt"
	"time"

	"github.com/syscollective/saltpeter/bench/rig"
)

const (
	sessionCount = 10_000
	sessionKiB   = 64
	dialers      = 64 // connections that are being opened at one time
)

// patient keeps a node from giving up on machines while thousands of sessions are being opened.
var patient = []string{"start_window: 15m", "silence_to_ping: 10m"}

// sessionCost is what sessions cost the process that serves them.
type sessionCost struct {
	heap, anon float64       // bytes per session, idle
	start      time.Duration // CPU of one accept, with the start claim where there are claims
	send       time.Duration // CPU of the output of one session
	perSecond  float64       // accepts
}

// sessions measures what 10,000 wrappers on one node cost it, beside the bare library under TLS.
func sessions(ctx context.Context, b *bench) error {
	bare, err := b.bareSessions(ctx)
	if err != nil {
		return err
	}
	ours, err := b.ourSessions(ctx)
	if err != nil {
		return err
	}
	t := b.table
	t.add(row{what: "heap and stack per session", figure: kib(ours.heap), limit: kib(bare.heap), ratio: ours.heap / bare.heap,
		budget: "≤ 1.5 ×", ok: ours.heap <= 1.5*bare.heap})
	t.add(row{what: "anonymous memory per session", figure: kib(ours.anon), limit: kib(bare.anon), ratio: ours.anon / bare.anon})
	t.add(row{what: "TLS accept + start claim per core", figure: perCore(ours.start), limit: perCore(bare.start) + " (accept alone)",
		ratio: float64(ours.start) / float64(bare.start), budget: "≥ 1000/s", ok: ours.start <= time.Millisecond})
	t.add(row{what: "TLS accept + start claim, all cores, clients beside", figure: perSecond(ours.perSecond), limit: perSecond(bare.perSecond)})
	t.add(row{what: fmt.Sprintf("CPU for %d KiB of output", sessionKiB), figure: ms(ours.send), limit: ms(bare.send), ratio: float64(ours.send) / float64(bare.send)})
	return nil
}

func perCore(cpu time.Duration) string { return perSecond(float64(time.Second) / float64(cpu)) }
func perSecond(v float64) string       { return fmt.Sprintf("%.0f/s", v) }

func (b *bench) ourSessions(ctx context.Context) (c sessionCost, err error) {
	files := settings(sessionCount, patient...) + "job: {schedule: '0 0 0 1 1 * 2099', targets: '*', command: 'true'}\n"
	n, err := b.node(ctx, "sessions", files, 1, rig.PublishTell, 0)
	if err != nil {
		return c, err
	}
	l, err := n.launch(ctx, "job")
	if err != nil {
		return c, err
	}
	f, err := n.fleet(ctx, sessionCount, 0)
	if err != nil {
		return c, err
	}
	profiled := n.profiled("sessions")
	if c, err = costOf(n.Proc, f, l); err != nil {
		return c, n.explain(err)
	}
	if err := profiled(); err != nil {
		return c, err
	}
	if err := f.Stop(); err != nil {
		return c, err
	}
	return c, n.stop()
}

func (b *bench) bareSessions(ctx context.Context) (c sessionCost, err error) {
	var ready rig.BareReady
	server, err := b.proc(ctx, "bare-ws", nil, &ready, nil, nil)
	if err != nil {
		return c, err
	}
	f, err := b.bareFleet(ctx, ready)
	if err != nil {
		return c, err
	}
	if c, err = costOf(server, f, rig.LaunchTold{Machines: machines(sessionCount)}); err != nil {
		return c, err
	}
	if err := f.Stop(); err != nil {
		return c, err
	}
	return c, server.Stop()
}

// costOf has a fleet open its sessions and send, and measures the server.
func costOf(server, f *rig.Proc, l rig.LaunchTold) (c sessionCost, err error) {
	before, err := server.Usage(true)
	if err != nil {
		return c, err
	}
	var took time.Duration
	if err := f.Ask("win", rig.Win{LaunchTold: l, Parallel: dialers}, &took); err != nil {
		return c, err
	}
	won, err := server.Usage(false)
	if err != nil {
		return c, err
	}
	if err := f.Ask("send", sessionKiB, nil); err != nil {
		return c, err
	}
	sent, err := server.Usage(false)
	if err != nil {
		return c, err
	}
	after, err := server.Usage(true)
	if err != nil {
		return c, err
	}
	n := len(l.Machines)
	c.heap = float64(after.HeapInUse+after.StackInUse-before.HeapInUse-before.StackInUse) / float64(n)
	c.anon = float64(after.Anon-before.Anon) / float64(n)
	c.start = (won.CPU - before.CPU) / time.Duration(n)
	c.send = (sent.CPU - won.CPU) / time.Duration(n)
	c.perSecond = float64(n) / took.Seconds()
	return c, nil
}
