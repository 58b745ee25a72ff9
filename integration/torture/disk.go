package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// disk is a file system on a loop device.
type disk struct {
	dir     string
	mounted bool
	freezer *os.Process
	thawed  chan struct{} // closed when the last freeze is over
}

// makeDisk makes one of so many bytes and mounts it. The loop device goes with the mount.
func makeDisk(image, dir string, size int64) (*disk, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.Create(image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return nil, err
	}
	err = commands("mkfs.ext4 -q -F -m 0 -E nodiscard "+image, "mount -o loop "+image+" "+dir)
	if err != nil {
		return nil, fmt.Errorf("make a disk for a node: %w (containers without loop devices forbid it)", err)
	}
	return &disk{dir: dir, mounted: true}, nil
}

// freeze stops all writes for a time. Another process ends it, so that the disk thaws even if this program is killed.
func (d *disk) freeze(length time.Duration) error {
	script := `fsfreeze -f . && echo frozen && sleep "$1"; fsfreeze -u .`
	cmd := exec.Command("sh", "-c", script, "sh", fmt.Sprintf("%.1f", length.Seconds()))
	cmd.Dir = d.dir // its arguments don't tell whose it is: who ends what is left must not end it
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	said, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	word := make([]byte, 7)
	n, _ := said.Read(word)
	d.freezer, d.thawed = cmd.Process, make(chan struct{})
	go func(thawed chan struct{}) {
		_ = cmd.Wait() // it may have been thawed by clean already
		close(thawed)
	}(d.thawed)
	if string(word[:n]) != "frozen\n" {
		<-d.thawed
		return fmt.Errorf("freeze %s: %s", d.dir, cmd.ProcessState)
	}
	return nil
}

func (d *disk) ballast() string { return filepath.Join(d.dir, "ballast") }

// fill takes all of the disk that is free.
func (d *disk) fill() error {
	f, err := os.Create(d.ballast())
	if err != nil {
		return err
	}
	defer f.Close()
	size := int64(0)
	for step := int64(1 << 30); step >= 4096; {
		switch err := syscall.Fallocate(int(f.Fd()), 0, size, step); {
		case err == nil:
			size += step
		case errors.Is(err, syscall.ENOSPC):
			step /= 2
		default:
			return fmt.Errorf("fill %s: %w", d.dir, err)
		}
	}
	return nil
}

// free gives back what fill took.
func (d *disk) free() error { return os.Remove(d.ballast()) }

// remove thaws and unmounts; nothing may run on it any more. What was killed a moment ago may take another one to let go.
func (d *disk) remove() {
	d.thaw()
	for deadline := time.Now().Add(5 * time.Second); d.mounted && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		d.mounted = commands("umount "+d.dir) != nil
	}
}

// thaw ends a freeze early.
func (d *disk) thaw() {
	if d.thawed == nil {
		return
	}
	_ = commands("fsfreeze -u " + d.dir) // it may be over already, as may be the process
	_ = syscall.Kill(-d.freezer.Pid, syscall.SIGKILL)
	<-d.thawed
	d.thawed = nil
}
