package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
)

// tools are the programs that make and hurt networks and disks, with the packages that have them.
var tools = []struct{ program, pack string }{
	{"ip", "iproute2"}, {"nft", "nftables"}, {"mkfs.ext4", "e2fsprogs"}, {"fsfreeze", "util-linux"}, {"mount", "mount"},
	{"nsenter", "util-linux"}, {"strace", "strace"},
}

// checkNeeds says what is missing to hurt nodes.
func checkNeeds() error {
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "root (networks and disks of its own are made and hurt)")
	}
	for _, t := range tools {
		if _, err := exec.LookPath(t.program); err != nil {
			missing = append(missing, fmt.Sprintf("%s (package %s)", t.program, t.pack))
		}
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		missing = append(missing, "loop devices (/dev/loop-control)")
	}
	if len(missing) > 0 {
		return fmt.Errorf("torture needs %s", strings.Join(missing, ", "))
	}
	return nil
}

var errEnded = errors.New("the inner program ended with an error")

// outside runs the program again in namespaces of its own, waits for it, and ends what it left.
func outside(ctx context.Context, s settings) error {
	var err error
	if s.dir == "" {
		s.dir, err = os.MkdirTemp("", "sp-torture.")
	} else if err = os.MkdirAll(s.dir, 0o755); err == nil {
		s.dir, err = filepath.Abs(s.dir)
	}
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "-inner", "-dir", s.dir, "-seconds", fmt.Sprint(s.seconds), "-seed", fmt.Sprint(s.seed), "-jobs", fmt.Sprint(s.jobs))
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	// Go makes all mounts private to the new namespace when it unshares it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET, Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("begin in namespaces of our own: %w (unprivileged containers forbid it)", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = end(cmd.Process, ended)
	}
	rig.KillLeft(s.dir)
	leaveNothing(filepath.Base(s.dir))
	if err != nil && ctx.Err() == nil { // the data of what failed is kept
		return fmt.Errorf("%w: %w", errEnded, err)
	}
	if removed := os.RemoveAll(s.dir); err == nil {
		return removed
	}
	return fmt.Errorf("%w: %w", errEnded, err)
}

// end asks the inner program to clean up, and gives it a minute.
func end(p *os.Process, ended <-chan error) error {
	_ = p.Signal(syscall.SIGTERM)
	select {
	case err := <-ended:
		return err
	case <-time.After(time.Minute):
		_ = p.Kill()
		return <-ended
	}
}
