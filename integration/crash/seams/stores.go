//go:build crashpoints

package seams

import (
	"github.com/hashicorp/raft"

	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/entry"
)

// commands are the names of the commands by code.
var commands = map[fsm.Code]string{
	fsm.CodeInitCluster: "InitCluster", fsm.CodePutDefinitions: "PutDefinitions", fsm.CodeApplyConfig: "ApplyConfig",
	fsm.CodeClaimRuns: "ClaimRuns", fsm.CodeStartRun: "StartRun", fsm.CodeSetTargets: "SetTargets", fsm.CodeLaunchBatch: "LaunchBatch",
	fsm.CodeStartTarget: "StartTarget", fsm.CodeRefuseLock: "RefuseLock", fsm.CodeReport: "Report", fsm.CodeEndTargets: "EndTargets",
	fsm.CodeEndRun: "EndRun", fsm.CodeKill: "Kill", fsm.CodeSetWindow: "SetWindow", fsm.CodeLiftWindow: "LiftWindow",
	fsm.CodeRetain: "Retain", fsm.CodeCompactOutput: "CompactOutput", fsm.CodeSetNode: "SetNode", fsm.CodePullMarks: "PullMarks",
	fsm.CodeBeginEpoch: "BeginEpoch", fsm.CodePutToken: "PutToken", fsm.CodeRevokeToken: "RevokeToken",
	fsm.CodeSetLaunchKey: "SetLaunchKey", fsm.CodeRestorePart: "RestorePart", fsm.CodeRestore: "Restore",
	fsm.CodeForgetNode: "ForgetNode", fsm.CodeLoseSegments: "LoseSegments",
}

func commandName(cmd []byte) string {
	if len(cmd) == 0 {
		return "none"
	}
	if name, ok := commands[fsm.Code(cmd[0])]; ok {
		return name
	}
	return "unknown"
}

// namesIn gives the names of the commands in some entries, each once, in order.
func namesIn(logs ...*raft.Log) []string {
	var names []string
	seen := make(map[string]bool)
	for _, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		cmds, err := entry.Split(l.Data)
		if err != nil {
			continue // the state machine says so
		}
		for _, cmd := range cmds {
			if name := commandName(cmd); !seen[name] {
				seen[name] = true
				names = append(names, name)
			}
		}
	}
	return names
}

func (c *crash) hitAll(point string, names []string) {
	for _, n := range names {
		c.hit(point + n)
	}
}

// around runs one call between its two points.
func (c *crash) around(point string, call func() error) error {
	c.hit(point + ".before")
	err := call()
	c.hit(point + ".after")
	return err
}

type logStore struct {
	raft.LogStore
	c *crash
}

func (s logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

func (s logStore) StoreLogs(logs []*raft.Log) error {
	names := namesIn(logs...)
	s.c.hitAll("commit.before.", names)
	err := s.LogStore.StoreLogs(logs)
	s.c.mark("stored " + okOr(err))
	s.c.hitAll("commit.after.", names)
	return err
}

func (s logStore) DeleteRange(first, last uint64) error {
	return s.c.around("cut", func() error { return s.LogStore.DeleteRange(first, last) })
}

type stableStore struct {
	raft.StableStore
	c *crash
}

func (s stableStore) Set(key, val []byte) error {
	return s.c.around("vote", func() error { return s.StableStore.Set(key, val) })
}

func (s stableStore) SetUint64(key []byte, val uint64) error {
	return s.c.around("vote", func() error { return s.StableStore.SetUint64(key, val) })
}

type machine struct {
	*fsm.Machine
	c *crash
}

func (m machine) Apply(l *raft.Log) any {
	names := namesIn(l)
	m.c.hitAll("apply.before.", names)
	out := m.Machine.Apply(l)
	m.c.hitAll("apply.after.", names)
	return out
}

func (m machine) Snapshot() (snap raft.FSMSnapshot, err error) {
	err = m.c.around("snapshot", func() error { snap, err = m.Machine.Snapshot(); return err })
	return snapshot{snap, m.c}, err
}

type snapshot struct {
	raft.FSMSnapshot
	c *crash
}

func (s snapshot) Persist(sink raft.SnapshotSink) error {
	return s.c.around("persist", func() error { return s.FSMSnapshot.Persist(sink) })
}
