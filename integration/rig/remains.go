package rig

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"
)

// AllUp says which node ended without being asked to.
func (c *Cluster) AllUp() error {
	for _, n := range c.Nodes {
		if !n.Alive() {
			return fmt.Errorf("%s ended by itself: %s", n.Name, n.Proc.ProcessState)
		}
	}
	return nil
}

// OnlyNodes says what else runs.
func (c *Cluster) OnlyNodes() error {
	nodes := make(map[int]bool)
	for _, n := range c.Nodes {
		if n.Alive() {
			nodes[n.Pid()] = true
			nodes[n.Proc.Process.Pid] = true
		}
	}
	for _, pid := range leftovers(c.Dir) {
		if !nodes[pid] {
			return fmt.Errorf("process %d still runs", pid)
		}
	}
	return nil
}

// Complaints finds what a node's log must not have. Each is of the time of the last line before it that bears one.
func (c *Cluster) Complaints() []Violation {
	var out []Violation
	for _, n := range c.Nodes {
		b, err := os.ReadFile(n.logFile())
		if err != nil {
			continue
		}
		at := time.Now()
		for text := range strings.Lines(string(b)) {
			if stamp, ok := strings.CutPrefix(text, "time="); ok {
				stamp, _, _ = strings.Cut(stamp, " ")
				if t, err := time.Parse(time.RFC3339, stamp); err == nil {
					at = t
				}
			}
			if strings.HasPrefix(text, "panic:") || strings.HasPrefix(text, "error:") || strings.Contains(text, "DATA RACE") || strings.Contains(text, "level=ERROR") {
				out = append(out, Violation{"log", at, n.Name + ": " + strings.TrimSpace(text)})
			}
		}
	}
	return out
}

// LastWords gives the end of the nodes' logs.
func (c *Cluster) LastWords() string {
	var b strings.Builder
	for _, n := range c.Nodes {
		text, err := os.ReadFile(n.logFile())
		if err != nil {
			continue
		}
		from := max(0, len(text)-600)
		if i := bytes.LastIndex(text, []byte("\npanic:")); i >= 0 {
			from = i
		}
		fmt.Fprintf(&b, "\n%s: …%s", n.Name, text[from:min(len(text), from+2000)])
	}
	return b.String()
}
