package crash

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
)

// job is one of the workload, as the oracle understands it: due at every second of a minute that every divides.
type job struct {
	name     string
	every    int // 0 = never
	targets  string
	machines int // how many of m1…m3 match
	bytes    int
	seconds  float64
	code     int
	overlap  bool
	lockfile string
	grace    int // misfire_grace in seconds; 0 = 60
	noGrace  bool
	timeout  int
	batch    int
	edited   bool // its definition changes with the cluster's edition
}

// due says whether a second is a tick. It is all that is known here of schedules.
func (j *job) due(second int64) bool {
	return j.every > 0 && second%60%int64(j.every) == 0
}

func (j *job) misfireGrace() int64 {
	switch {
	case j.noGrace:
		return 0
	case j.grace > 0:
		return int64(j.grace)
	default:
		return 60
	}
}

func (j *job) yaml(c *Cluster) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s:\n  targets: %q\n  target_type: list\n", j.name, j.targets)
	switch {
	case j.every == 0:
		b.WriteString("  sec: '0'\n  min: '0'\n  hour: '0'\n  dom: '1'\n  mon: '1'\n  dow: '*'\n  year: '2099'\n")
	case j.every == 1:
		b.WriteString("  schedule: '* * * * * *'\n")
	default:
		fmt.Fprintf(&b, "  schedule: '*/%d * * * * *'\n", j.every)
	}
	extra := ""
	if j.edited {
		extra = fmt.Sprintf(" edition-%d", c.edition)
	}
	fmt.Fprintf(&b, "  command: exec %s %s %d %g %d%s\n", c.bin.Ledger, c.ledgerDir(), j.bytes, j.seconds, j.code, extra)
	if j.overlap {
		b.WriteString("  allow_overlap: 'i know what i am doing!'\n")
	}
	if j.lockfile != "" {
		fmt.Fprintf(&b, "  lockfile: %s\n", filepath.Join(c.dir, j.lockfile))
	}
	if j.noGrace || j.grace > 0 {
		fmt.Fprintf(&b, "  misfire_grace: %d\n", j.misfireGrace())
	}
	if j.timeout > 0 {
		fmt.Fprintf(&b, "  timeout: %d\n", j.timeout)
	}
	if j.batch > 0 {
		fmt.Fprintf(&b, "  batch_size: %d\n", j.batch)
	}
	return b.String()
}

// Names that provocations need.
const (
	jobHand = "hand" // started by hand
	jobLong = "long" // started by hand, and killed
)

// workload gives jobs that together use every command: short and long ones, some with output, failing ones, some that meet a
// held lock, match nothing, run into their timeout, or are started by hand alone. The load stays below a core.
func workload(r *rand.Rand) []*job {
	return []*job{
		{name: "tick", every: 1, targets: "m1", machines: 1, bytes: 100, overlap: true},
		{name: "slow", every: 2, targets: "m1,m2", machines: 2, bytes: 3000 + r.IntN(3000), seconds: 2.5},
		{name: "chatty", every: 5, targets: "m2", machines: 1, bytes: 150_000, seconds: 1.5, code: 3, overlap: true},
		{name: "nograce", every: 3, targets: "m3", machines: 1, bytes: 10, overlap: true, noGrace: true},
		{name: "edited", every: 3, targets: "m2", machines: 1, bytes: 500, overlap: true, edited: true},
		{name: "batched", every: 6, targets: "m1,m2,m3", machines: 3, bytes: 700, seconds: 0.2, batch: 1, overlap: true},
		{name: "hold", every: 10, targets: "m3", machines: 1, bytes: 50, seconds: 8, lockfile: "shared.lock"},
		{name: "want", every: 10, targets: "m3", machines: 1, bytes: 50, seconds: 8, lockfile: "shared.lock"},
		{name: "nobody", every: 4, targets: "elsewhere", overlap: true},
		{name: "late", every: 15, targets: "m3", machines: 1, bytes: 100, seconds: 60, timeout: 1, overlap: true},
		{name: jobHand, targets: "m1,m3", machines: 2, bytes: 2000, seconds: 0.5, overlap: true},
		{name: jobLong, targets: "m2", machines: 1, bytes: 400, seconds: 300, overlap: true},
	}
}
