package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/bench/rig"
)

const (
	startRounds = 21
	startBudget = 15 * time.Millisecond
	rssBudget   = 12 << 20
	fileBudget  = 8 << 20
)

// wrappers measures sp_wrapper: how long it takes to start, what it needs while its command runs, and how large it is.
func wrappers(ctx context.Context, b *bench) error {
	wrapper, err := filepath.Abs(b.wrapper)
	if err != nil {
		return err
	}
	info, err := os.Stat(wrapper)
	if err != nil {
		return err
	}
	if err := b.startTimes(ctx, wrapper); err != nil {
		return err
	}
	if err := b.wrapperMemory(ctx, wrapper); err != nil {
		return err
	}
	b.table.add(row{what: "file", figure: mib(float64(info.Size())), budget: "< 8 MiB", ok: info.Size() < fileBudget})
	return nil
}

// startTimes starts wrappers, one after the other, towards a port that only listens.
func (b *bench) startTimes(ctx context.Context, wrapper string) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close()
	var exec0, detached, network []time.Duration
	for i := range startRounds {
		began := time.Now()
		if err := exec.CommandContext(ctx, wrapper, "version").Run(); err != nil {
			return fmt.Errorf("ask the wrapper's version: %w", err)
		}
		exec0 = append(exec0, time.Since(began))
		gone, first, err := b.startOnce(ctx, wrapper, ln, i)
		if err != nil {
			return err
		}
		detached, network = append(detached, gone), append(network, first)
	}
	limit := percentile(exec0, 50)
	for _, r := range []struct {
		what string
		list []time.Duration
	}{{"from exec to detached", detached}, {"from exec to the first byte on the network", network}} {
		p50 := percentile(r.list, 50)
		b.table.add(row{what: r.what + ", p50", figure: ms(p50), limit: ms(limit) + " (its version)", ratio: float64(p50) / float64(limit),
			budget: "< 15 ms", ok: p50 < startBudget})
		b.table.add(row{what: "  min / p90", figure: ms(percentile(r.list, 0)) + " / " + ms(percentile(r.list, 90))})
	}
	return nil
}

// startOnce gives the times until the wrapper has detached itself and until its first byte is here. The wrapper, which would
// go on looking for a node that leads, is killed.
func (b *bench) startOnce(ctx context.Context, wrapper string, ln net.Listener, i int) (detached, network time.Duration, err error) {
	began := time.Now()
	first := make(chan error, 1)
	go func() {
		conn, err := ln.Accept()
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
			network = time.Since(began)
			conn.Close()
		}
		first <- err
	}()
	cmd := exec.CommandContext(ctx, wrapper, "launch", "--id", saltpeter.LaunchIDAt(began).String(), "--machine", rig.Machine(i),
		"--cluster", "00000000-0000-4000-8000-000000000000", "--urls", "wss://"+ln.Addr().String(), "--token", "none",
		"--pin", hex.EncodeToString(make([]byte, 32)), "--window", "100ms", "--identity", "token", "--state", filepath.Join(b.dir, "state", rig.Machine(i)))
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, 0, fmt.Errorf("start the wrapper: %w: %s", err, out)
	}
	detached = time.Since(began)
	if err := <-first; err != nil {
		return 0, 0, err
	}
	// The next is not to share the machine with it.
	for pids := b.startedOnes(); len(pids) > 0; pids = b.startedOnes() {
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return 0, 0, err
		}
	}
	return detached, network, nil
}

// startedOnes are the wrappers of startOnce.
func (b *bench) startedOnes() []int { return processesOf(filepath.Join(b.dir, "state")) }

// wrapperMemory reads the memory of a wrapper whose command runs.
func (b *bench) wrapperMemory(ctx context.Context, wrapper string) error {
	files := settings(1, "default_wrapper_path: "+wrapper, "default_wrapper_logdir: "+filepath.Join(b.dir, "wrapper-log")) +
		"job: {schedule: '0 0 0 1 1 * 2099', targets: '*', command: 'seq 100000; sleep 5'}\n"
	n, err := b.node(ctx, "wrapper", files, 1, rig.PublishReally, 0)
	if err != nil {
		return err
	}
	var run uint64
	if err := n.Ask("start", "job", &run); err != nil {
		return n.explain(err)
	}
	var out rig.OutputOf
	for out.Stored < 400_000 { // most of what seq writes
		if err := n.Ask("output", run, &out); err != nil {
			return n.explain(err)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	largest := int64(0)
	for _, pid := range processesOf(n.dir) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || !strings.HasPrefix(string(line), "sp_wrapper\x00") {
			continue
		}
		rss, err := rig.StatusOf(pid, "VmHWM")
		if err != nil {
			return err
		}
		largest = max(largest, rss)
	}
	b.table.add(row{what: "RSS while its command runs, peak", figure: mib(float64(largest)), budget: "< 12 MiB", ok: largest > 0 && largest < rssBudget})
	for out.State != "ok" {
		if err := n.Ask("output", run, &out); err != nil {
			return n.explain(err)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return n.stop()
}
