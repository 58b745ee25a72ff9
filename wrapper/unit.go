package wrapper

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"time"
)

const (
	systemdDir = "/run/systemd/system" // there exactly if systemd runs
	unitLimit  = 2 * time.Second
)

// moveToUnit moves this process into a scope of its own where systemd runs, so that an upgrade of the minion, which ends its
// whole unit, ends no command. The channel is closed when the move is over, or has failed: then things stay as they are.
//
// This is the call that `systemd-run --scope` makes for a process that is still to be started; here it is made by busctl for the one
// that runs already, so that a systemd that refuses costs nothing.
func moveToUnit(ctx context.Context, launch string, log *slog.Logger) <-chan struct{} {
	done := make(chan struct{})
	if _, err := os.Stat(systemdDir); err != nil {
		close(done)
		return done
	}
	go func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(ctx, unitLimit)
		defer cancel()
		pid := strconv.Itoa(os.Getpid())
		unit := fmt.Sprintf("sp_wrapper-%s-%s.scope", launch, pid)
		out, err := exec.CommandContext(ctx, "busctl", unitCall(unit, pid)...).CombinedOutput()
		if err != nil {
			log.Info("stays in the unit of its caller", "err", err, "text", string(bytes.TrimSpace(out)))
			return
		}
		awaitUnit(ctx, unit)
	}()
	return done
}

func unitCall(unit, pid string) []string {
	bus := "--system"
	if os.Geteuid() != 0 {
		bus = "--user"
	}
	return []string{
		bus, "--quiet", "call", "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager",
		"StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "fail",
		"2", "Description", "s", "Saltpeter command", "PIDs", "au", "1", pid,
		"0",
	}
}

// awaitUnit waits until the move has happened: the call only asks for it.
func awaitUnit(ctx context.Context, unit string) {
	for {
		b, err := os.ReadFile("/proc/self/cgroup")
		if err != nil || bytes.Contains(b, []byte(unit)) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Millisecond):
		}
	}
}
