package rig

import (
	"cmp"
	"fmt"
	"path/filepath"
	"strings"
)

// Job is one of the workload, as the oracle understands it: due at every second of a minute that every divides.
type Job struct {
	Name     string
	Every    int // 0 = never
	Targets  string
	Type     string // of the targets; empty = list
	Machines int    // how many of m1…m3 match
	Bytes    int
	Seconds  float64
	Until    string // a file of the cluster's directory; with it, in place of Seconds, commands end in the second after it is made
	Code     int
	Overlap  bool
	Lockfile string
	Grace    int // misfire_grace in seconds; 0 = 60
	NoGrace  bool
	Timeout  int
	Batch    int
	Edited   bool // its definition changes with the cluster's edition
}

// due says whether a second is a tick. It is all that is known here of schedules.
func (j *Job) due(second int64) bool {
	return j.Every > 0 && second%60%int64(j.Every) == 0
}

func (j *Job) misfireGrace() int64 {
	switch {
	case j.NoGrace:
		return 0
	case j.Grace > 0:
		return int64(j.Grace)
	default:
		return 60
	}
}

func (j *Job) yaml(c *Cluster) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s:\n  targets: %q\n  target_type: %s\n", j.Name, j.Targets, cmp.Or(j.Type, "list"))
	switch {
	case j.Every == 0:
		b.WriteString("  sec: '0'\n  min: '0'\n  hour: '0'\n  dom: '1'\n  mon: '1'\n  dow: '*'\n  year: '2099'\n")
	case j.Every == 1:
		b.WriteString("  schedule: '* * * * * *'\n")
	default:
		fmt.Fprintf(&b, "  schedule: '*/%d * * * * *'\n", j.Every)
	}
	extra := ""
	if j.Edited {
		extra = fmt.Sprintf(" edition-%d", c.Edition)
	}
	length := fmt.Sprintf("%g", j.Seconds)
	if j.Until != "" {
		length = "@" + filepath.Join(c.Dir, j.Until)
	}
	fmt.Fprintf(&b, "  command: exec %s %s %d %s %d%s\n", c.Bin.Ledger, c.LedgerDir(), j.Bytes, length, j.Code, extra)
	if j.Overlap {
		b.WriteString("  allow_overlap: 'i know what i am doing!'\n")
	}
	if j.Lockfile != "" {
		fmt.Fprintf(&b, "  lockfile: %s\n", filepath.Join(c.Dir, j.Lockfile))
	}
	if j.NoGrace || j.Grace > 0 {
		fmt.Fprintf(&b, "  misfire_grace: %d\n", j.misfireGrace())
	}
	if j.Timeout > 0 {
		fmt.Fprintf(&b, "  timeout: %d\n", j.Timeout)
	}
	if j.Batch > 0 {
		fmt.Fprintf(&b, "  batch_size: %d\n", j.Batch)
	}
	return b.String()
}

// Names that provocations need.
const (
	JobHand = "hand" // started by hand
	JobLong = "long" // started by hand, and killed
)
