package fsm

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unique"

	"github.com/syscollective/saltpeter"
	"github.com/tidwall/btree"
)

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
	s.digests, s.launchKeys, s.outputKeys, s.losses = h.Digests, h.LaunchKeys, h.OutputKeys, h.Losses
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
