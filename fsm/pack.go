package fsm

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"unique"

	"github.com/fxamacker/cbor/v2"
	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/outlog"
	"github.com/tidwall/btree"
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
		OutputKeys: s.outputKeys, Restored: packRestore(s),
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

func (b *builder) unpackRestore(p *packedRestore) {
	s := b.s
	s.restored = lastRestore{id: p.ID, answer: Restored{Epoch: p.Epoch, Index: p.Index, Ended: p.Ended, LeftOut: p.LeftOut}}
	if p.Next == 0 {
		return
	}
	s.restoring = &restoring{id: p.Draft, next: p.Next, keys: new(btree.Map[uint64, uint64])}
	for _, pair := range p.Keys {
		s.restoring.keys.Set(pair[0], pair[1])
	}
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

// builder builds a state from records. Runs come before their pages.
type builder struct {
	s       *state
	head    *head
	current *run
}

func (b *builder) add(kind recordKind, body []byte) error {
	switch kind {
	case recordHead:
		return b.addHead(body)
	case recordDefinition:
		return b.addDefinition(body)
	case recordJob:
		return b.addJob(body)
	case recordRun:
		return b.addRun(body)
	case recordPage:
		return b.addPage(body)
	case recordKey:
		var k packedKey
		if err := snapMode.Unmarshal(body, &k); err != nil {
			return fmt.Errorf("key: %w", err)
		}
		b.s.keys.Set(k.Key, startKey{run: k.Run, runID: k.RunID, sum: k.Sum, millis: k.Millis})
	case recordNode:
		var n NodeRecord
		if err := snapMode.Unmarshal(body, &n); err != nil {
			return fmt.Errorf("node: %w", err)
		}
		b.s.nodes.Set(n.ID, n)
	case recordRestoring:
		var chunk []byte
		if err := snapMode.Unmarshal(body, &chunk); err != nil || b.s.restoring == nil {
			return errors.Join(errors.New("a piece of a backup stands elsewhere"), err)
		}
		b.s.restoring.record = append(b.s.restoring.record, chunk)
	default:
		return fmt.Errorf("record kind %d", kind)
	}
	return nil
}

func (b *builder) addHead(body []byte) error {
	h := b.head
	if err := snapMode.Unmarshal(body, h); err != nil {
		return fmt.Errorf("head: %w", err)
	}
	if h.Used > newestKnown {
		return fmt.Errorf("head: %w: commands up to %d were used (this program knows codes up to %d)", ErrUnknownCommand, h.Used, newestKnown)
	}
	s, rev := b.s, &h.Revision
	s.clusterID, s.epoch, s.index, s.lastRun, s.ends, s.feedNext = h.ClusterID, h.Epoch, h.Index, h.LastRun, h.Ends, h.FeedNext
	s.lastLaunch = saltpeter.LaunchID(h.LastLaunch)
	if slices.Contains(h.Windows, nil) {
		return errors.New("head: an empty window")
	}
	s.windows = indexWindows(h.Windows)
	s.retainNext, s.early, s.used, s.settings = h.RetainNext, h.Early, h.Used, rev.Settings
	s.retained = lastRetain{round: h.Retained.Round, answer: Retained{Runs: h.Retained.Runs, Targets: h.Retained.Targets,
		Early: h.Retained.Early, More: h.Retained.More}}
	s.digests, s.launchKeys, s.outputKeys = h.Digests, h.LaunchKeys, h.OutputKeys
	for _, t := range h.Tokens {
		s.tokens.Set(string(t.Hash[:]), t)
	}
	b.unpackRestore(&h.Restored)
	for _, name := range h.Overfull {
		s.overfull.Set(name, struct{}{})
	}
	if h.DraftNext > 0 {
		s.configDraft = &configDraft{id: h.DraftID, next: h.DraftNext, jobs: h.DraftJobs}
	}
	s.revision = &saltpeter.Revision{Number: rev.Number, Millis: rev.Millis, Actor: rev.Actor, Proposal: rev.Proposal,
		FilesDigest: rev.FilesDigest, Maintenance: rev.Maintenance, Jobs: rev.Jobs, Settings: saltpeter.DefaultSettings()}
	if len(rev.Settings) > 0 { // else none was committed yet
		if err := json.Unmarshal(rev.Settings, &s.revision.Settings); err != nil {
			return fmt.Errorf("settings: %w", err)
		}
	}
	return nil
}

func (b *builder) addDefinition(body []byte) error {
	var enc []byte
	if err := snapMode.Unmarshal(body, &enc); err != nil {
		return fmt.Errorf("definition: %w", err)
	}
	j, err := saltpeter.DecodeJob(enc)
	if err != nil {
		return err
	}
	d := saltpeter.DigestOf(enc)
	b.s.defs.Set(string(d[:]), &definition{digest: d, job: j, encoded: enc})
	return nil
}

func (b *builder) addJob(body []byte) error {
	var p packedJob
	if err := snapMode.Unmarshal(body, &p); err != nil {
		return fmt.Errorf("job: %w", err)
	}
	b.s.jobs.Set(p.Name, &job{gen: b.s.gen, name: p.Name, group: p.Group, inForce: p.InForce, digest: p.Digest,
		revision: p.Revision, mark: p.Mark, maxTick: p.MaxTick, active: p.Active, runs: p.Runs, lastOK: p.LastOK,
		lastFail: p.LastFail, lastEnd: p.LastEnd, skips: p.Skips, inRow: p.InRow, skipped: p.Skipped})
	return nil
}

func (b *builder) addRun(body []byte) error {
	var p packedRun
	if err := snapMode.Unmarshal(body, &p); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	r := &run{gen: b.s.gen, endOrder: p.EndOrder, batchSize: p.BatchSize, taken: p.Taken, allTaken: p.AllTaken, outputKey: p.OutputKey,
		Run: saltpeter.Run{Num: p.Num, ID: p.ID, Job: p.Job, Group: p.Group, Digest: p.Digest, State: p.State, Tick: p.Tick,
			Key: p.Key, Note: p.Note, Machines: p.Machines, Actor: p.Actor, Origin: p.Origin, Parent: p.Parent, Cause: p.Cause,
			ClaimedMillis: p.Claimed, StartedMillis: p.Started, EndedMillis: p.Ended, Term: p.Term, Batches: p.Batches,
			Text: p.Text, KilledBy: p.KilledBy, KilledMillis: p.Killed, Backs: p.Backs}}
	if p.DraftNext > 0 {
		r.draft = &targetDraft{attempt: p.Attempt, next: p.DraftNext, machines: p.DraftList, down: p.DraftDown}
	}
	s := b.s
	s.runs.Set(r.Num, r)
	s.runIDs.Set(r.ID, r.Num)
	s.ref(r.Digest, +1)
	if r.State.Final() {
		s.finished.Set(r.endOrder, r.Num)
	} else {
		s.unfinished.Set(r.Num, struct{}{})
	}
	if r.Backs > 0 {
		s.backs.Set(r.Num, struct{}{})
	}
	for i, batch := range r.Batches {
		s.launches.Set(int64(batch.Launch), launchRef{run: r.Num, batch: i})
	}
	b.current = r
	return nil
}

func (b *builder) addPage(body []byte) error {
	var p packedPage
	if err := snapMode.Unmarshal(body, &p); err != nil {
		return fmt.Errorf("page: %w", err)
	}
	r := b.current
	if r == nil || r.Num != p.Run || r.size()%pageSize != 0 || len(p.Targets) == 0 || len(p.Targets) > pageSize {
		return fmt.Errorf("a page of run %d with %d targets stands elsewhere", p.Run, len(p.Targets))
	}
	targets := make([]target, len(p.Targets))
	for i := range p.Targets {
		t := unpackTarget(&p.Targets[i])
		if !t.state.Valid() || t.batch < -1 || int(t.batch) >= len(r.Batches) {
			return fmt.Errorf("target %d of run %d has state %d, batch %d", int(r.size())+i, r.Num, t.state, t.batch)
		}
		r.presumed += btoi(t.has(flagPresumed))
		b.s.output += t.stored
		targets[i] = t
	}
	r.addPage(targets)
	b.s.targets += len(targets)
	return nil
}

func unpackTarget(p *packedTarget) target {
	t := target{machine: unique.Make(p.Machine), sight: unique.Make(sight{p.BootID, p.Host, p.Version}), text: p.Text,
		granted: p.Granted, started: p.Started, ended: p.Ended, nextSeq: p.NextSeq, stored: p.Stored, leftOut: p.LeftOut,
		code: p.Code, batch: p.Batch, state: p.State, signal: p.Signal, flags: targetFlags(p.Flags)}
	if len(p.Nonce) == len(saltpeter.Nonce{}) {
		n := saltpeter.Nonce(p.Nonce)
		t.nonce = &n
	}
	return t
}

// finish makes what follows from the records, and refuses records that contradict each other: apply trusts them.
func (b *builder) finish() error {
	for _, jd := range b.s.revision.Jobs {
		b.s.ref(jd.Digest, +1)
	}
	var err error
	b.s.jobs.Scan(func(_ string, j *job) bool {
		if j.inForce && b.s.definition(j.digest) == nil {
			err = fmt.Errorf("job %q has no definition", j.name)
		}
		b.s.noteGone(j)
		return err == nil
	})
	b.s.runs.Scan(func(_ uint64, r *run) bool {
		err = errors.Join(err, b.finishRun(r))
		return err == nil
	})
	return err
}

func (b *builder) finishRun(r *run) error {
	if b.s.definition(r.Digest) == nil {
		return fmt.Errorf("run %d has no definition", r.Num)
	}
	for _, batch := range r.Batches {
		for _, i := range batch.Targets {
			if i >= r.size() {
				return fmt.Errorf("a batch of run %d has target %d of %d", r.Num, i, r.size())
			}
		}
	}
	if r.State.Final() && r.size() == 0 {
		b.s.empty++
	}
	if !r.State.Final() {
		r.indexMachines()
	}
	return nil
}
