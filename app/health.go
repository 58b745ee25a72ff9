package app

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
	"golang.org/x/sys/unix"

	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/config"
)

const (
	diskWarn = 10 // % free of the data directory's file system
	diskFail = 3
	lagWarn  = 1000 // entries
)

// healthReport is what a node says of what may be wrong with it. Fields are keyed by number: later ones may be added.
type healthReport struct {
	DiskFree uint64   `cbor:"1,keyasint"` // bytes, of the data directory's file system
	DiskAll  uint64   `cbor:"2,keyasint"`
	Missing  int      `cbor:"3,keyasint,omitempty"` // segments
	Errors   int      `cbor:"4,keyasint,omitempty"` // in its configuration files
	Faults   []string `cbor:"5,keyasint,omitempty"`
	Wrappers int      `cbor:"6,keyasint,omitempty"` // connections of wrappers
	Leads    *leading `cbor:"7,keyasint,omitempty"` // set by who leads
}

// leading is what only the leader knows.
type leading struct {
	Millis  int64  `cbor:"1,keyasint"`           // since when
	Next    int64  `cbor:"2,keyasint,omitempty"` // next tick; 0 = none
	NextJob string `cbor:"3,keyasint,omitempty"`
	Claims  int    `cbor:"4,keyasint,omitempty"` // that Lag is of
	Lag     int64  `cbor:"5,keyasint,omitempty"` // ms, at the 99th percentile
}

// tellHealth says what may be wrong with this node.
func (a *App) tellHealth(struct{}) (healthReport, error) {
	var r healthReport
	var fs unix.Statfs_t
	if err := unix.Statfs(a.opts.Node.DataDir, &fs); err == nil {
		r.DiskFree, r.DiskAll = fs.Bavail*uint64(fs.Bsize), fs.Blocks*uint64(fs.Bsize)
	}
	for _, feed := range []bool{false, true} {
		if store := a.segments(feed); store != nil {
			r.Missing += len(store.Missing())
		}
	}
	for _, p := range a.files.problems() {
		if p.Level == config.LevelError {
			r.Errors++
		}
	}
	r.Faults = control{a}.Status(context.Background()).Faults
	if a.gateway != nil {
		r.Wrappers = a.gateway.Sessions().Sessions
	}
	r.Leads = a.tellLeading()
	return r, nil
}

// askHealth asks all members at once; who does not answer is not in it.
func (a *App) askHealth(ctx context.Context, list []cluster.Member) map[string]healthReport {
	return askMembers(ctx, list, func(ctx context.Context, m cluster.Member) (r healthReport, ok bool) {
		b, err := a.node.Ask(ctx, m.ID, cluster.High, peerHealth, []byte{0xf6}) // null: there is nothing to say
		ok = err == nil && cbor.Unmarshal(b, &r) == nil
		return r, ok
	})
}

// Health checks the cluster and all its members.
func (c members) Health(ctx context.Context) (api.Health, error) {
	cl, reports := c.look(ctx)
	return judgeHealth(&cl, reports), nil
}

// findings collects checks.
type findings []api.Check

func (f *findings) add(level, check, node, hint, format string, args ...any) {
	*f = append(*f, api.Check{Level: level, Check: check, Node: node, Hint: hint, Text: fmt.Sprintf(format, args...)})
}

// judgeHealth makes checks of what the members say, the worst first.
func judgeHealth(cl *api.Cluster, reports map[string]healthReport) api.Health {
	var f findings
	if cl.Forming != "" {
		f.add(api.LevelFail, "member", "", "", "this node is no working member: %s", cl.Forming)
	}
	f.quorum(cl)
	var leader *api.ClusterMember
	for i := range cl.Members {
		if cl.Members[i].Leader {
			leader = &cl.Members[i]
		}
	}
	for i := range cl.Members {
		before := len(f)
		m := &cl.Members[i]
		f.member(m, leader)
		if r, ok := reports[m.ID]; ok {
			f.host(m.Name, &r)
		}
		if len(f) == before {
			f.add(api.LevelOK, "member", m.Name, "", "answers, is caught up, and agrees with the leader")
		}
	}
	rank := map[string]int{api.LevelFail: 0, api.LevelWarn: 1, api.LevelOK: 2}
	slices.SortStableFunc(f, func(x, y api.Check) int { return cmp.Compare(rank[x.Level], rank[y.Level]) })
	return api.Health{Checks: f, Healthy: !slices.ContainsFunc(f, func(k api.Check) bool { return k.Level == api.LevelFail })}
}

func (f *findings) quorum(cl *api.Cluster) {
	if cl.Leader == "" {
		f.add(api.LevelFail, "leader", "", "runs in progress continue; start the nodes that are down, or see docs/operations.md, a lost majority", "no leader is known")
		return
	}
	f.add(api.LevelOK, "leader", "", "", "%s leads, term %d", cl.Leader, cl.Term)
	if cl.Voters > 1 && cl.CanLose == 0 {
		f.add(api.LevelWarn, "quorum", "", "bring the missing nodes back, or add one", "no voter of %d may fail any more", cl.Voters)
	} else {
		f.add(api.LevelOK, "quorum", "", "", "%d of %d voters may fail", cl.CanLose, cl.Voters)
	}
}

// member judges what a member says against what the leader says.
func (f *findings) member(m, leader *api.ClusterMember) {
	if m.State == "unreachable" {
		f.add(api.LevelFail, "member", m.Name, "is it running? if it is gone for good: spctl cluster remove "+m.Name, "does not answer")
		return
	}
	if !m.Voter {
		f.add(api.LevelWarn, "member", m.Name, "it gets its vote once it has caught up", "does not vote yet")
	}
	if m.Lag != nil && *m.Lag > lagWarn {
		f.add(api.LevelWarn, "lag", m.Name, "its disk or network may be slow", "%d entries behind the leader", *m.Lag)
	}
	if m.ClockMillis != nil {
		f.clock(m.Name, time.Duration(*m.ClockMillis)*time.Millisecond)
	}
	if leader == nil || m.Leader {
		return
	}
	if m.Version != "" && leader.Version != "" && m.Version != leader.Version {
		f.add(api.LevelWarn, "version", m.Name, "finish the upgrade", "runs %s, the leader %s", m.Version, leader.Version)
	}
	if m.ConfigDigest != "" && leader.ConfigDigest != "" && m.ConfigDigest != leader.ConfigDigest {
		f.add(api.LevelWarn, "files", m.Name, "bring the same files to all nodes", "its configuration files differ from the leader's")
	}
}

func (f *findings) clock(node string, off time.Duration) {
	switch hint := "check NTP on it and on the leader"; {
	case off.Abs() > clockLead:
		f.add(api.LevelFail, "clock", node, hint, "%s off the leader's (a node more than %s off the median does not lead)", off, clockLead)
	case off.Abs() > clockShown:
		f.add(api.LevelWarn, "clock", node, hint, "%s off the leader's (limit %s)", off, clockShown)
	}
}

// host judges what a node says of itself.
func (f *findings) host(node string, r *healthReport) {
	if len(r.Faults) > 0 {
		f.add(api.LevelFail, "node", node, "see its log", "%s", strings.Join(r.Faults, "; "))
	}
	if r.DiskAll > 0 {
		switch free := 100 * r.DiskFree / r.DiskAll; {
		case free < diskFail:
			f.add(api.LevelFail, "disk", node, "make room before the node ends", "%d %% of its disk are free", free)
		case free < diskWarn:
			f.add(api.LevelWarn, "disk", node, "make room", "%d %% of its disk are free", free)
		}
	}
	if r.Missing > 0 {
		f.add(api.LevelWarn, "segments", node, "it fetches them from the others", "lacks %d segments of output", r.Missing)
	}
	if r.Errors > 0 {
		f.add(api.LevelWarn, "files", node, "spctl config check on that node", "%d errors in its configuration files: the last good ones stay in force", r.Errors)
	}
}
