package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/bench/rig"
)

const (
	floodGiB    = 10
	floodLimit  = 1 << 20  // the default output_limit
	floodRate   = 64 << 10 // bytes per second after the first half of it
	floodWindow = 4        // seconds over which a rate is taken
)

// flood measures what a command costs the node that writes 10 GiB to its output.
func flood(ctx context.Context, b *bench) error {
	wrapper, err := filepath.Abs(b.wrapper)
	if err != nil {
		return err
	}
	if _, err := os.Stat(wrapper); err != nil {
		return err
	}
	command := fmt.Sprintf("head -c %dG /dev/zero", floodGiB)
	began := time.Now()
	if err := exec.CommandContext(ctx, "sh", "-c", command+" | cat >/dev/null").Run(); err != nil {
		return fmt.Errorf("write to a pipe: %w", err)
	}
	pipe := time.Since(began)
	files := settings(1, "default_wrapper_path: "+wrapper, "default_wrapper_logdir: "+filepath.Join(b.dir, "wrapper-log")) +
		"job: {schedule: '0 0 0 1 1 * 2099', targets: '*', command: '" + command + "'}\n"
	n, err := b.node(ctx, "flood", files, 1, rig.PublishReally, 0)
	if err != nil {
		return err
	}
	before, err := n.state()
	if err != nil {
		return err
	}
	cpu, err := n.Usage(false)
	if err != nil {
		return err
	}
	began = time.Now()
	out, fastest, err := n.followFlood(ctx)
	if err != nil {
		return n.explain(err)
	}
	took := time.Since(began)
	after, err := n.state()
	if err != nil {
		return err
	}
	used, err := n.Usage(false)
	if err != nil {
		return err
	}
	logged := float64(after.LogBytes - before.LogBytes)
	b.table.add(row{what: fmt.Sprintf("raft log for %d GiB", floodGiB), figure: mib(logged), limit: mib(float64(out.Stored)) + " (output stored)",
		ratio: logged / float64(out.Stored), budget: "< 5 MB", ok: logged < 5e6})
	b.table.add(row{what: "  rate after the first half of the limit, at most", figure: kib(fastest) + "/s", budget: "≤ 64 KiB/s + ¼", ok: fastest <= 1.25*floodRate})
	whole := out.State == "ok" && out.Stored+out.LeftOut == floodGiB<<30
	b.table.add(row{what: "  stored and left out together", figure: fmt.Sprintf("%d bytes, %s", out.Stored+out.LeftOut, out.State), budget: "all", ok: whole})
	b.table.add(row{what: "  CPU of the node", figure: ms(used.CPU - cpu.CPU)})
	b.table.add(row{what: "  time of the command", figure: ms(took), limit: ms(pipe) + " (a bare pipe)", ratio: float64(took) / float64(pipe)})
	return n.stop()
}

// followFlood starts the job and gives what was stored at its end, and the highest rate at which output came once the first
// half of the limit was stored and while the command ran.
func (n *aNode) followFlood(ctx context.Context) (out rig.OutputOf, fastest float64, err error) {
	var run uint64
	if err := n.Ask("start", "job", &run); err != nil {
		return out, 0, err
	}
	var seen []uint64 // every second, from the first half on
	next := time.Now()
	for {
		if err := n.Ask("output", run, &out); err != nil {
			return out, 0, err
		}
		if state, known := saltpeter.ParseTargetState(out.State); known && state.Final() {
			break
		}
		if out.Stored >= floodLimit/2 && !time.Now().Before(next) {
			seen = append(seen, out.Stored)
			next = time.Now().Add(time.Second)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return out, 0, err
		}
	}
	for i := floodWindow; i < len(seen); i++ {
		fastest = max(fastest, float64(seen[i]-seen[i-floodWindow])/floodWindow)
	}
	return out, fastest, nil
}
