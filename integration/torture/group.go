package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Here one host plays all machines, so that hundreds of wrappers may want its cores at once after a pause, and three nodes
// would lose their leader for want of a core, which is not what is tried. So nodes go before wrappers, and both before others.

const (
	niceNodes    = -10
	niceWrappers = 29 // more than that
)

// goAhead takes this process, and all that it will start, into a control group of its own if the host lets it. Without one,
// kernels that group processes by their session give every wrapper as much as all nodes together, and no niceness helps.
func goAhead(name string) (grouped bool) {
	_ = syscall.Setpriority(syscall.PRIO_PGRP, 0, niceNodes)
	_ = os.WriteFile("/proc/self/autogroup", []byte("-15"), 0o644) // of use where there is no group
	path := groupPath(name)
	if path == "" || os.Mkdir(path, 0o755) != nil {
		return false
	}
	for file, much := range map[string]string{"cpu.shares": "4096", "cpu.weight": "400"} { // of cgroups v1, v2
		if _, err := os.Stat(filepath.Join(path, file)); err == nil {
			_ = os.WriteFile(filepath.Join(path, file), []byte(much), 0o644)
		}
	}
	return os.WriteFile(filepath.Join(path, "cgroup.procs"), []byte("0"), 0o644) == nil
}

// leaveNothing removes the group, in which nothing may run any more.
func leaveNothing(name string) {
	path := groupPath(name)
	for range 100 {
		if path == "" || os.Remove(path) == nil || errors.Is(os.Remove(path), fs.ErrNotExist) {
			return
		}
		time.Sleep(10 * time.Millisecond) // the last processes are just ending
	}
}

// groupPath gives where a group would be; it is empty if the host has no groups that share the cores.
func groupPath(name string) string {
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 3 && sharesCores(f[1], f[2], f[3]) {
			return filepath.Join(f[1], name)
		}
	}
	return ""
}

// sharesCores reports whether groups of a mount share the cores: it is that controller's, or has it on for its groups.
func sharesCores(dir, kind, options string) bool {
	if kind == "cgroup2" {
		on, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
		return err == nil && slices.Contains(strings.Fields(string(on)), "cpu")
	}
	return kind == "cgroup" && slices.Contains(strings.Split(options, ","), "cpu")
}

// shim gives the text of the program that stands for the wrapper, and turns into it behind the nodes.
func shim(wrapper string) string {
	return fmt.Sprintf("#!/bin/sh\nexec nice -n %d %s \"$@\"\n", niceWrappers, wrapper)
}
