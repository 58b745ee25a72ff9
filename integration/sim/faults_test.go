package sim

import (
	"context"
	"time"
)

// play makes an event happen, in a goroutine of its own where it lasts.
func (w *world) play(ev event) {
	n := w.nodes[ev.x%uint64(len(w.nodes))]
	other := w.nodes[(ev.x+1+ev.y%uint64(max(1, len(w.nodes)-1)))%uint64(len(w.nodes))]
	m := w.machines[ev.x%uint64(len(w.machines))]
	leader := w.leads.Load()
	if leader == nil {
		leader = n
	}
	w.trouble.around(5 * time.Second)
	switch ev.kind {
	case "isolate-leader":
		w.isolate(ev, leader)
	case "isolate-node":
		w.isolate(ev, n)
	case "cut-one-way":
		w.lasting(ev, n.name+" to "+other.name, func() { w.net.Cut(n.name, other.name) }, func() { w.net.Heal(n.name, other.name) })
	case "pause-leader":
		w.stopProcess(ev, leader)
	case "pause-node", "pause-long":
		w.stopProcess(ev, n)
	case "kill-leader", "power-leader":
		w.killNode(ev, leader)
	case "kill-node", "power-node":
		w.killNode(ev, n)
	case "power-all":
		for _, n := range w.nodes {
			w.killNode(ev, n)
		}
	case "stop-node":
		w.lasting(ev, n.name, n.stop, n.start)
	case "transfer":
		w.transfer(ev, leader)
	case "disk-log":
		w.hist.fault(ev.kind, "%s", leader.name)
		leader.failing.Store(true)
		leader.failLog.Store(true)
	case "disk-segments":
		w.hist.fault(ev.kind, "%s", n.name)
		n.failing.Store(true)
		n.disk.FailWrites(errDisk, int(ev.y%3))
	case "reset":
		w.reset(ev, n, other, m)
	case "loss":
		w.lossy.Store(true)
		w.lasting(ev, "", func() { w.net.SetLoss(0.01) }, func() { w.net.SetLoss(0) })
	case "clock-jump":
		w.jump(ev, n)
	case "config":
		w.files.change(ev)
	case "config-lag":
		w.files.lag(ev, n)
	default:
		w.playMachine(ev, m)
	}
}

// playMachine does what happens on machines, and what operators do.
func (w *world) playMachine(ev event, m *machine) {
	switch ev.kind {
	case "wrapper-kill":
		if alive := m.alive(); len(alive) > 0 {
			p := alive[ev.y%uint64(len(alive))]
			w.hist.fault(ev.kind, "wrapper %d on %s", p.id, m.name)
			w.orphan(p)
			p.kill()
		}
	case "machine-pause", "machine-pause-long":
		w.lasting(ev, m.name, func() { m.gate.close(); w.net.Pause(m.name) }, func() { w.net.Resume(m.name); m.gate.open() })
	case "machine-cut":
		w.lasting(ev, m.name, func() { w.cutMachine(m, w.net.CutBoth) }, func() {
			w.cutMachine(m, func(a, b string) { w.net.Heal(a, b); w.net.Heal(b, a) })
		})
	case "machine-reboot":
		w.hist.fault(ev.kind, "%s for %s", m.name, ev.dur)
		w.wg.Go(func() { m.reboot(ev.dur) })
	default:
		w.wg.Go(func() { w.operator.act(ev) })
	}
}

// lasting begins something and ends it after its time, or when faults stop.
func (w *world) lasting(ev event, what string, begin, end func()) {
	w.hist.fault(ev.kind, "%s for %s", what, ev.dur)
	over := w.trouble.begin()
	w.wg.Go(func() {
		begin()
		w.sleepWhileFaults(ev.dur)
		end()
		over()
		w.hist.note("%s of %s is over", ev.kind, what)
	})
}

func (w *world) sleepWhileFaults(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end) && !w.calm.Load() && w.ctx.Err() == nil; {
		w.sleep(min(time.Until(end), 500*time.Millisecond))
	}
}

// isolate cuts a node off from the others, and half the times from the machines too.
func (w *world) isolate(ev event, n *node) {
	each := func(do func(a, b string)) {
		for _, o := range w.nodes {
			if o != n {
				do(n.name, o.name)
			}
		}
		for _, m := range w.machines {
			if ev.y%2 == 0 {
				do(n.name, m.name)
			}
		}
	}
	w.lasting(ev, n.name, func() { each(w.net.CutBoth) }, func() {
		each(func(a, b string) { w.net.Heal(a, b); w.net.Heal(b, a) })
	})
}

func (w *world) cutMachine(m *machine, do func(a, b string)) {
	for _, n := range w.nodes {
		do(m.name, n.name)
	}
}

// stopProcess is SIGSTOP and SIGCONT.
func (w *world) stopProcess(ev event, n *node) {
	w.lasting(ev, n.name, func() {
		n.stopped.Store(time.Now().Add(ev.dur).UnixNano())
		n.gate.close()
		w.net.Pause(n.name)
	}, func() {
		n.stopped.Store(time.Now().UnixNano())
		w.net.Resume(n.name)
		n.gate.open()
		w.files.noteChange(n) // what was written meanwhile is read now
	})
}

func (w *world) killNode(ev event, n *node) {
	power := ev.kind == "kill-leader" || ev.kind == "kill-node"
	w.lasting(ev, n.name, func() { n.kill(power) }, n.start)
}

func (w *world) transfer(ev event, leader *node) {
	l := leader.life.Load()
	if l == nil || l.raft == nil {
		return
	}
	w.hist.fault(ev.kind, "from %s", leader.name)
	leader.stopped.Store(time.Now().UnixNano()) // a transfer that fails ends the node
	w.wg.Go(func() {
		leader.turn <- struct{}{} // Raft forgets who waits for a transfer when it is closed
		defer func() { <-leader.turn }()
		if leader.life.Load() != l {
			return
		}
		ctx, cancel := context.WithTimeout(w.ctx, 5*time.Second)
		defer cancel()
		if err := l.raft.TransferLeadership(ctx); err != nil {
			w.hist.note("transfer from %s: %v", leader.name, err)
		}
	})
}

func (w *world) reset(ev event, n, other *node, m *machine) {
	if ev.y%2 == 0 {
		w.hist.fault(ev.kind, "%s and %s", n.name, m.name)
		w.net.Reset(n.name, m.name)
		return
	}
	w.hist.fault(ev.kind, "%s and %s", n.name, other.name)
	w.net.Reset(n.name, other.name)
}

// jump moves a wall clock; later it is set right again.
func (w *world) jump(ev event, n *node) {
	by := time.Duration(ev.y%60_000) * time.Millisecond
	if ev.y/60_000%2 == 0 {
		by = -by
	}
	w.lasting(ev, n.name+" by "+by.String(), func() { w.clocks.move(n, by) }, func() { w.clocks.move(n, -by) })
}

// orphan marks what a wrapper that is about to be killed leaves behind.
func (w *world) orphan(p *wrapperProcess) {
	w.ledger.mu.Lock()
	defer w.ledger.mu.Unlock()
	for _, e := range w.ledger.execs {
		if e.wrapper == p.id {
			e.orphan = true
		}
	}
}
