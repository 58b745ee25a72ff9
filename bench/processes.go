package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// processesOf finds processes one of whose arguments lies in a directory.
func processesOf(dir string) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err != nil {
			continue // it has ended
		}
		for arg := range bytes.SplitSeq(line, []byte{0}) {
			if strings.HasPrefix(string(arg), dir+string(filepath.Separator)) {
				out = append(out, pid)
				break
			}
		}
	}
	return out
}
