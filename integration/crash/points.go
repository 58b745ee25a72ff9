package crash

import (
	"strings"
	"time"
)

// point is one place at which a process can be hurt.
type point struct {
	name    string
	provoke provocation
}

// provocation says what makes a point be passed, where the workload and the operator don't within seconds.
type provocation int

const (
	byItself   provocation = iota
	byEdit                 // the files change
	byStart                // a node starts, and leads
	byReturn               // wrappers come back to a node
	bySilence              // a wrapper dies before its start claim
	byWindow               // a maintenance is set and lifted
	byDeath                // old output is dropped
	byClock                // a clock was ahead
	byToken                // a token is made and revoked
	byKeys                 // the cluster's key changes
	byRestore              // a backup is restored
	byRecovery             // a majority is lost
	byRemoval              // a member is removed
	byLoss                 // segments of output are lost on all nodes
)

// patience is how long a point is waited for before it is provoked again.
func (p provocation) patience() time.Duration {
	switch p {
	case byDeath: // a configuration, then the leader's housekeeping every 5 s
		return 13 * time.Second
	case byClock: // a node alone looks at its clock for 10 s before it believes it
		return 20 * time.Second
	case byRestore, byRecovery, byLoss: // the leader looks twice for what is lost
		return 20 * time.Second
	case byRemoval:
		return 12 * time.Second
	default:
		return 6 * time.Second
	}
}

// alone says what chains of their own are made for: their clocks are wrong, their record is of another time or lacks output, or
// their members change.
func (p provocation) alone() bool {
	switch p {
	case byClock, byRestore, byRecovery, byRemoval, byLoss:
		return true
	default:
		return false
	}
}

// several says what takes more than one node: there must be somebody to lose, or to remove.
func (p provocation) several() bool { return p == byRecovery || p == byRemoval }

// commands lists every command that a cluster proposes.
var commands = map[string]provocation{
	"ClaimRuns": byItself, "SetTargets": byItself, "LaunchBatch": byItself, "StartTarget": byItself, "Report": byItself,
	"EndRun": byItself, "StartRun": byItself, "Kill": byItself, "Retain": byItself, "RefuseLock": byItself,
	"SetWindow": byWindow, "LiftWindow": byWindow,
	"PutDefinitions": byEdit, "ApplyConfig": byEdit, "SetNode": byEdit,
	"InitCluster": byStart, "EndTargets": bySilence, "CompactOutput": byDeath, "PullMarks": byClock,
	"PutToken": byToken, "RevokeToken": byToken, "SetLaunchKey": byKeys,
	"RestorePart": byRestore, "Restore": byRestore, "BeginEpoch": byRecovery,
	"ForgetNode": byRemoval, "LoseSegments": byLoss,
}

// requests lists the requests to the leader.
var requests = map[string]provocation{
	"hello": byItself, "start": byItself, "report": byItself, "heard": byItself, "change": byItself, "lock": byItself, "resume": byReturn,
}

// nodePoints gives every point in a node, in a fixed order.
func nodePoints() []point {
	var out []point
	for _, name := range sortedKeys(commands) {
		for _, where := range []string{"propose", "commit", "apply"} {
			out = append(out, point{where + ".before." + name, commands[name]}, point{where + ".after." + name, commands[name]})
		}
	}
	for _, name := range sortedKeys(requests) {
		out = append(out, point{"reply.before." + name, requests[name]}, point{"reply.after." + name, requests[name]})
	}
	for _, name := range []string{"publish", "resolve", "snapshot", "persist", "cut"} {
		out = append(out, point{name + ".before", byItself}, point{name + ".after", byItself})
	}
	return append(out, point{"vote.before", byStart}, point{"vote.after", byStart})
}

// wrapperPoints gives every point in a wrapper.
func wrapperPoints() []point {
	var out []point
	for _, name := range []string{"claim", "grant", "journal", "exec", "result"} {
		out = append(out, point{name + ".before", byItself}, point{name + ".after", byItself})
	}
	return out
}

// ofWrapper tells the wrapper's points from the node's.
func (p point) ofWrapper() bool {
	where, _, _ := strings.Cut(p.name, ".")
	switch where {
	case "claim", "grant", "journal", "exec", "result":
		return true
	}
	return false
}

// onFollowers reports whether nodes that don't lead pass the point too.
func (p point) onFollowers() bool {
	where, _, _ := strings.Cut(p.name, ".")
	switch where {
	case "commit", "apply", "snapshot", "persist", "cut", "vote":
		return true
	}
	return false
}
