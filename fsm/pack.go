package fsm

import (
	"math"

	"github.com/fxamacker/cbor/v2"
	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/outlog"
)

// snapMode reads snapshots: unlike a command, a record has no limit to its lists but its own size.
var snapMode = mustDec(cbor.DecOptions{
	DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxArrayElements: math.MaxInt32, MaxNestedLevels: 16, UTF8: cbor.UTF8DecodeInvalid,
})

// The shapes of a snapshot's records, format version 1. Fields are keyed by number: later ones may be added, none may
// change its meaning.

type head struct {
	ClusterID  string                `cbor:"1,keyasint,omitempty"`
	Epoch      uint64                `cbor:"2,keyasint,omitempty"`
	Index      uint64                `cbor:"3,keyasint,omitempty"`
	LastRun    uint64                `cbor:"4,keyasint,omitempty"`
	LastLaunch int64                 `cbor:"5,keyasint,omitempty"`
	Ends       uint64                `cbor:"6,keyasint,omitempty"`
	FeedNext   uint64                `cbor:"7,keyasint,omitempty"`
	Revision   packedRevision        `cbor:"8,keyasint"`
	DraftID    string                `cbor:"9,keyasint,omitempty"`
	DraftNext  int                   `cbor:"10,keyasint,omitempty"`
	DraftJobs  []saltpeter.JobDigest `cbor:"11,keyasint,omitempty"`
	Windows    []*saltpeter.Window   `cbor:"12,keyasint,omitempty"`
	Overfull   []string              `cbor:"13,keyasint,omitempty"`
	Outputs    outlog.Manifest       `cbor:"14,keyasint"`
	Events     outlog.Manifest       `cbor:"15,keyasint"`
	Digests    []string              `cbor:"16,keyasint,omitempty"`
	Retained   packedRetain          `cbor:"17,keyasint,omitzero"`
	RetainNext string                `cbor:"18,keyasint,omitempty"`
	Early      uint64                `cbor:"19,keyasint,omitempty"`
	Used       Code                  `cbor:"20,keyasint,omitempty"`
	Tokens     []saltpeter.Token     `cbor:"21,keyasint,omitempty"`
	LaunchKeys []saltpeter.LaunchKey `cbor:"22,keyasint,omitempty"`
	OutputKeys uint64                `cbor:"23,keyasint,omitempty"`
	Restored   packedRestore         `cbor:"24,keyasint,omitzero"`
	Losses     uint64                `cbor:"25,keyasint,omitempty"`
}

// packedRestore is the newest restore, and what has come of another.
type packedRestore struct {
	_       struct{} `cbor:",toarray"`
	ID      string
	Epoch   uint64
	Index   uint64
	Ended   int
	LeftOut uint64
	Draft   string
	Next    int
	Keys    [][2]uint64 // run of the backup and its output's key, by run
}

type packedRetain struct {
	_       struct{} `cbor:",toarray"`
	Round   uint64
	Runs    int
	Targets int
	Early   int
	More    bool
}

type packedRevision struct {
	Number      uint64                    `cbor:"1,keyasint,omitempty"`
	Millis      int64                     `cbor:"2,keyasint,omitempty"`
	Actor       string                    `cbor:"3,keyasint,omitempty"`
	Proposal    string                    `cbor:"4,keyasint,omitempty"`
	FilesDigest string                    `cbor:"5,keyasint,omitempty"`
	Settings    []byte                    `cbor:"6,keyasint,omitempty"` // JSON
	Maintenance saltpeter.FileMaintenance `cbor:"7,keyasint,omitzero"`
	Jobs        []saltpeter.JobDigest     `cbor:"8,keyasint,omitempty"`
}

type packedJob struct {
	Name     string           `cbor:"1,keyasint"`
	Group    string           `cbor:"2,keyasint,omitempty"`
	InForce  bool             `cbor:"3,keyasint,omitempty"`
	Digest   saltpeter.Digest `cbor:"4,keyasint"`
	Revision uint64           `cbor:"5,keyasint,omitempty"`
	Mark     int64            `cbor:"6,keyasint,omitempty"`
	MaxTick  int64            `cbor:"7,keyasint,omitempty"`
	Active   int              `cbor:"8,keyasint,omitempty"`
	Runs     []uint64         `cbor:"9,keyasint,omitempty"`
	LastOK   uint64           `cbor:"10,keyasint,omitempty"`
	LastFail uint64           `cbor:"11,keyasint,omitempty"`
	LastEnd  uint64           `cbor:"12,keyasint,omitempty"`
	Skips    []saltpeter.Skip `cbor:"13,keyasint,omitempty"`
	InRow    bool             `cbor:"14,keyasint,omitempty"`
	Skipped  uint64           `cbor:"15,keyasint,omitempty"`
}

type packedRun struct {
	Num       uint64               `cbor:"1,keyasint"`
	ID        string               `cbor:"2,keyasint"`
	Job       string               `cbor:"3,keyasint"`
	Group     string               `cbor:"4,keyasint,omitempty"`
	Digest    saltpeter.Digest     `cbor:"5,keyasint"`
	State     saltpeter.RunState   `cbor:"6,keyasint,omitempty"`
	Tick      int64                `cbor:"7,keyasint,omitempty"`
	Key       string               `cbor:"8,keyasint,omitempty"`
	Note      string               `cbor:"9,keyasint,omitempty"`
	Machines  []string             `cbor:"10,keyasint,omitempty"`
	Actor     string               `cbor:"11,keyasint,omitempty"`
	Origin    string               `cbor:"12,keyasint,omitempty"`
	Parent    string               `cbor:"13,keyasint,omitempty"`
	Cause     string               `cbor:"14,keyasint,omitempty"`
	Claimed   int64                `cbor:"15,keyasint,omitempty"`
	Started   int64                `cbor:"16,keyasint,omitempty"`
	Ended     int64                `cbor:"17,keyasint,omitempty"`
	Term      uint64               `cbor:"18,keyasint,omitempty"`
	Batches   []saltpeter.RunBatch `cbor:"19,keyasint,omitempty"`
	Text      string               `cbor:"20,keyasint,omitempty"`
	KilledBy  string               `cbor:"21,keyasint,omitempty"`
	Killed    int64                `cbor:"22,keyasint,omitempty"`
	Backs     int                  `cbor:"23,keyasint,omitempty"`
	EndOrder  uint64               `cbor:"24,keyasint,omitempty"`
	BatchSize int                  `cbor:"25,keyasint,omitempty"`
	Taken     int                  `cbor:"26,keyasint,omitempty"`
	AllTaken  bool                 `cbor:"27,keyasint,omitempty"`
	Attempt   string               `cbor:"28,keyasint,omitempty"` // draft
	DraftNext int                  `cbor:"29,keyasint,omitempty"`
	DraftList []string             `cbor:"30,keyasint,omitempty"`
	DraftDown []bool               `cbor:"31,keyasint,omitempty"`
	OutputKey uint64               `cbor:"32,keyasint,omitempty"`
}

type packedPage struct {
	_       struct{} `cbor:",toarray"`
	Run     uint64
	Targets []packedTarget
}

type packedTarget struct {
	_       struct{} `cbor:",toarray"`
	Machine string
	State   saltpeter.TargetState
	Flags   uint8
	Code    int32
	Signal  uint8
	Batch   int32
	Granted int64
	Started int64
	Ended   int64
	NextSeq uint64
	Stored  uint64
	LeftOut uint64
	Text    string
	BootID  string
	Host    string
	Version string
	Nonce   []byte
}

type packedKey struct {
	_      struct{} `cbor:",toarray"`
	Key    string
	Run    uint64
	RunID  string
	Sum    saltpeter.Digest
	Millis int64
}

func headOf(s *state, outputs, events outlog.Manifest) *head {
	rev, kept := s.revision, &s.retained
	h := &head{
		ClusterID: s.clusterID, Epoch: s.epoch, Index: s.index, LastRun: s.lastRun, LastLaunch: int64(s.lastLaunch),
		Ends: s.ends, FeedNext: s.feedNext, Windows: s.windows.list, Overfull: s.overfull.Keys(), Digests: s.digests,
		Revision: packedRevision{Number: rev.Number, Millis: rev.Millis, Actor: rev.Actor, Proposal: rev.Proposal,
			FilesDigest: rev.FilesDigest, Settings: s.settings, Maintenance: rev.Maintenance, Jobs: rev.Jobs},
		Outputs: outputs, Events: events, RetainNext: s.retainNext, Early: s.early, Used: s.used, Tokens: s.tokens.Values(), LaunchKeys: s.launchKeys,
		Retained: packedRetain{Round: kept.round, Runs: kept.answer.Runs, Targets: kept.answer.Targets,
			Early: kept.answer.Early, More: kept.answer.More},
		OutputKeys: s.outputKeys, Restored: packRestore(s), Losses: s.losses,
	}
	if d := s.configDraft; d != nil {
		h.DraftID, h.DraftNext, h.DraftJobs = d.id, d.next, d.jobs
	}
	return h
}

func packRestore(s *state) packedRestore {
	last := &s.restored
	p := packedRestore{ID: last.id, Epoch: last.answer.Epoch, Index: last.answer.Index, Ended: last.answer.Ended, LeftOut: last.answer.LeftOut}
	if d := s.restoring; d != nil {
		p.Draft, p.Next = d.id, d.next
		d.keys.Scan(func(num, key uint64) bool {
			p.Keys = append(p.Keys, [2]uint64{num, key})
			return true
		})
	}
	return p
}

func packJob(j *job) *packedJob {
	return &packedJob{Name: j.name, Group: j.group, InForce: j.inForce, Digest: j.digest, Revision: j.revision, Mark: j.mark,
		MaxTick: j.maxTick, Active: j.active, Runs: j.runs, LastOK: j.lastOK, LastFail: j.lastFail, LastEnd: j.lastEnd,
		Skips: j.skips, InRow: j.inRow, Skipped: j.skipped}
}

func packRun(r *run) *packedRun {
	p := &packedRun{Num: r.Num, ID: r.ID, Job: r.Job, Group: r.Group, Digest: r.Digest, State: r.State, Tick: r.Tick, Key: r.Key,
		Note: r.Note, Machines: r.Machines, Actor: r.Actor, Origin: r.Origin, Parent: r.Parent, Cause: r.Cause,
		Claimed: r.ClaimedMillis, Started: r.StartedMillis, Ended: r.EndedMillis, Term: r.Term, Batches: r.Batches, Text: r.Text,
		KilledBy: r.KilledBy, Killed: r.KilledMillis, Backs: r.Backs, EndOrder: r.endOrder, BatchSize: r.batchSize,
		Taken: r.taken, AllTaken: r.allTaken, OutputKey: r.outputKey}
	if d := r.draft; d != nil {
		p.Attempt, p.DraftNext, p.DraftList, p.DraftDown = d.attempt, d.next, d.machines, d.down
	}
	return p
}

func packPage(num uint64, p *page) *packedPage {
	out := &packedPage{Run: num, Targets: make([]packedTarget, len(p.targets))}
	for i := range p.targets {
		t := &p.targets[i]
		seen := t.sight.Value()
		out.Targets[i] = packedTarget{Machine: t.machine.Value(), State: t.state, Flags: uint8(t.flags), Code: t.code,
			Signal: t.signal, Batch: t.batch, Granted: t.granted, Started: t.started, Ended: t.ended, NextSeq: t.nextSeq,
			Stored: t.stored, LeftOut: t.leftOut, Text: t.text, BootID: seen.bootID, Host: seen.host, Version: seen.version}
		if t.nonce != nil {
			out.Targets[i].Nonce = t.nonce[:]
		}
	}
	return out
}

func packKey(key string, k startKey) *packedKey {
	return &packedKey{Key: key, Run: k.run, RunID: k.runID, Sum: k.sum, Millis: k.millis}
}
