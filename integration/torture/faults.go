package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
)

// result is what came of a fault.
type result struct {
	fault
	node     string
	hit      bool
	from, to time.Time     // until all three nodes worked again
	pause    time.Duration // the longest in which nothing was started
	ended    int           // long runs that ended in the pause
	died     bool          // the node ended, by itself or at a signal
	broken   []string
}

// host is a node with what it stands on.
type host struct {
	*rig.Node
	net  *network
	disk *disk
}

const endLimit = 20 * time.Second // in which a node has to end by itself, or at a signal

// hurt does a fault and undoes it. It fails only where the fault could not be done or undone; a node that doesn't do what it
// should is a violation.
func (t *torture) hurt(ctx context.Context, r *result, h *host) error {
	switch r.kind {
	case killed:
		return t.endAndStart(ctx, r, h, syscall.SIGKILL)
	case ended:
		return t.endAndStart(ctx, r, h, syscall.SIGTERM)
	case stopped:
		if err := h.Signal(syscall.SIGSTOP); err != nil {
			return err
		}
		t.rest(ctx, r)
		return h.Signal(syscall.SIGCONT)
	case cutOff, deaf, dumb:
		if err := h.net.cut(r.kind != dumb, r.kind != deaf); err != nil {
			return err
		}
		t.rest(ctx, r)
		return h.net.heal()
	case frozen, frozenLong:
		return t.freeze(ctx, r, h)
	case full:
		return t.fill(ctx, r, h)
	case failing:
		return t.failSyncs(ctx, r, h)
	}
	return fmt.Errorf("no fault %q", r.kind)
}

// rest lets a fault last.
func (t *torture) rest(ctx context.Context, r *result) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Until(r.from.Add(r.length))):
	}
}

func (r *result) say(format string, args ...any) {
	r.broken = append(r.broken, fmt.Sprintf(format, args...))
}

func (t *torture) endAndStart(ctx context.Context, r *result, h *host, s syscall.Signal) error {
	if err := h.End(s, endLimit); err != nil {
		r.say("%v", err)
		if err := h.End(syscall.SIGKILL, endLimit); err != nil {
			return err
		}
	}
	r.died = true
	if code := h.Proc.ProcessState.ExitCode(); s == syscall.SIGTERM && code != 0 {
		r.say("%s ended with %s after SIGTERM", h.Name, h.Proc.ProcessState)
	}
	t.rest(ctx, r)
	return h.Start()
}

// freeze freezes the node's disk. If that lasts longer than the watchdog waits, the node has to end; the kernel lets it end
// only once the disk has thawed, if it is at a write.
func (t *torture) freeze(ctx context.Context, r *result, h *host) error {
	if err := h.disk.freeze(r.length); err != nil {
		return err
	}
	select {
	case <-h.disk.thawed:
	case <-ctx.Done():
		h.disk.thaw()
		return ctx.Err()
	}
	if r.kind == frozenLong {
		return startAgain(r, h, endLimit, true)
	}
	return nil
}

// fill fills the node's disk and frees it again. The node may live on that, or end.
func (t *torture) fill(ctx context.Context, r *result, h *host) error {
	if err := h.disk.fill(); err != nil {
		return err
	}
	t.rest(ctx, r)
	if err := h.disk.free(); err != nil {
		return err
	}
	return startAgain(r, h, time.Second, false)
}

// failSyncs makes every sync of the node fail from now on, until it has ended. Its children are let go as they begin.
func (t *torture) failSyncs(ctx context.Context, r *result, h *host) error {
	t.traces++
	strace := exec.Command("strace", "-f", "-b", "execve", "-qq", "-p", fmt.Sprint(h.Pid()), "-e", "trace=fdatasync,fsync",
		"-e", "signal=none", "-e", "inject=fdatasync,fsync:error=EIO", "-o", filepath.Join(t.c.Dir, fmt.Sprintf("trace.%d", t.traces)))
	if err := strace.Start(); err != nil {
		return err
	}
	err := startAgain(r, h, endLimit, true)
	_ = strace.Process.Signal(syscall.SIGTERM)
	_ = strace.Wait() // it has ended with what it traced
	return errors.Join(err, ctx.Err())
}

// startAgain waits for a node that may end by itself, or has to, and starts it again if it did.
func startAgain(r *result, h *host, limit time.Duration, must bool) error {
	select {
	case <-h.Gone:
	case <-time.After(limit):
		if must {
			r.say("%s lives on", h.Name)
		}
		return nil
	}
	r.died = true
	if code := h.Proc.ProcessState.ExitCode(); code == 0 {
		r.say("%s ended with success", h.Name)
	}
	return h.Start()
}
