package fsm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/entry"
	"github.com/syscollective/saltpeter/internal/outlog"
	"pgregory.net/rapid"
)

// replica is one node's machine in the property test.
type replica struct {
	fs outlog.FS
	m  *Machine
}

func newReplica() *replica {
	r := &replica{fs: outlog.NewLossy(1)}
	r.m = New(propertyOptions(r.fs))
	return r
}

// propertyOptions make segments so small that they roll, are dropped and compacted.
func propertyOptions(fs outlog.FS) Options {
	return Options{FS: fs, Dir: "/d", Output: outlog.Options{SegmentBytes: 2 << 10}, Feed: outlog.Options{SegmentBytes: 4 << 10}}
}

func (r *replica) snapshot(t failer) []byte {
	snap, err := r.m.Snapshot()
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	var s sink
	if err := snap.Persist(&s); err != nil {
		t.Fatalf("persist: %v", err)
	}
	return slices.Clone(s.Bytes())
}

// restart makes a machine of a snapshot, on the same files or, fed by another node, on none.
func restart(t failer, fs outlog.FS, snap []byte) *replica {
	r := &replica{fs: fs, m: New(propertyOptions(fs))}
	if err := r.m.Restore(readCloser{bytes.NewReader(snap)}); err != nil {
		t.Fatalf("restore: %v", err)
	}
	return r
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

func (r *replica) apply(t failer, l *raft.Log) []any {
	res, ok := r.m.Apply(l).([]any)
	if !ok {
		t.Fatalf("entry %d: %v", l.Index, r.m.Err())
	}
	return res
}

// seenView is a view and what it showed when it was taken.
type seenView struct {
	v    *View
	want []byte
}

// random is one random world: four replicas that get the same commands.
type random struct {
	t      *rapid.T
	direct *replica // every command once
	twice  *replica // every command twice in a row
	again  *replica // restarted from its own snapshots
	fed    *replica // fed by a snapshot at a random point; has no segments from before
	since  []raft.Log
	snap   []byte // of again, before since

	index, term uint64
	now         int64
	hist        *history
	views       []seenView
	taken       map[saltpeter.TargetRef][]byte
	saved       []RestorePart // a backup with output, and what was taken then
	savedTaken  map[saltpeter.TargetRef][]byte
	restores    int
	launches    []*saltpeter.Launch
	configs     int
	commands    map[Code]int
}

func newRandom(t *rapid.T) *random {
	return &random{t: t, direct: newReplica(), twice: newReplica(), again: newReplica(), term: 1, now: t0 * 1000, hist: newHistory(),
		taken: make(map[saltpeter.TargetRef][]byte), commands: make(map[Code]int)}
}

func (w *random) intn(n int, what string) int { return rapid.IntRange(0, n-1).Draw(w.t, what) }
func (w *random) chance(percent int, what string) bool {
	return w.intn(100, what) < percent
}

func pick[T any](w *random, what string, from ...T) T { return from[w.intn(len(from), what)] }

// do applies a command on all replicas and checks everything.
func (w *random) do(c Command) any {
	w.t.Helper()
	env := Envelope{Millis: w.now, Actor: pick(w, "actor", "ann", "bob", ""), Origin: "test"}
	if w.chance(50, "planned") {
		env.Term = w.term - uint64(btoi(w.chance(5, "stale")))
	}
	b, err := Encode(env, c)
	if err != nil {
		w.t.Fatalf("encode: %v", err)
	}
	w.commands[c.Code()]++
	if w.chance(20, "view") {
		v := w.direct.m.View()
		w.views = append(w.views, seenView{v, stateBytes(w.t, v.s)})
	}
	held := w.starting()
	w.index++
	once := &raft.Log{Index: w.index, Term: w.term, Data: entry.Append(nil, b)}
	res := w.direct.apply(w.t, once)[0]
	w.compare(c, once, b, res)
	s := w.direct.m.state
	checkConsistent(w.t, s)
	w.hist.check(w.t, s, w.now/1000, c.Code() == CodePullMarks)
	w.nothingStarts(c, env, held)
	return res
}

func (w *random) compare(c Command, once *raft.Log, b []byte, want any) {
	double := &raft.Log{Index: w.index, Term: w.term, Data: entry.Append(entry.Append(nil, b), b)}
	if c.Code() == CodeCompactOutput { // rewrites the same frames under another generation
		double = once
	}
	for i, res := range w.twice.apply(w.t, double) {
		if !reflect.DeepEqual(res, want) {
			w.t.Fatalf("%T %+v: application %d of two gave %+v, once gave %+v", c, c, i+1, res, want)
		}
	}
	w.since = append(w.since, *once)
	for _, r := range []*replica{w.again, w.fed} {
		if r == nil {
			continue
		}
		if res := r.apply(w.t, once)[0]; !reflect.DeepEqual(res, want) {
			w.t.Fatalf("%T %+v: a restored replica gave %+v, want %+v", c, c, res, want)
		}
	}
	bytesOf := stateBytes(w.t, w.direct.m.state)
	for name, r := range map[string]*replica{"applied twice": w.twice, "restarted": w.again, "fed": w.fed} {
		if r == nil {
			continue
		}
		checkConsistent(w.t, r.m.state)
		checkSameTargets(w.t, w.direct.m.state, r.m.state)
		if !bytes.Equal(stateBytes(w.t, r.m.state), bytesOf) {
			w.t.Fatalf("after %T %+v the state of the replica that was %s is another", c, c, name)
		}
	}
}

// snapshots takes a snapshot of the replica that is restarted from time to time, restarts it, or feeds a new one.
func (w *random) snapshots() {
	switch w.intn(3, "snapshot") {
	case 0:
		w.snap, w.since = w.again.snapshot(w.t), nil
	case 1:
		if w.snap == nil {
			return
		}
		before := w.again.snapshotWithoutRelease(w.t)
		if err := w.again.m.Close(); err != nil {
			w.t.Fatalf("close: %v", err)
		}
		w.again = restart(w.t, w.again.fs, w.snap)
		for i := range w.since {
			w.again.apply(w.t, &w.since[i])
		}
		if !bytes.Equal(w.again.snapshotWithoutRelease(w.t), before) {
			w.t.Fatalf("snapshot and replay of %d entries differ from direct application", len(w.since))
		}
	case 2:
		w.fed = restart(w.t, outlog.NewLossy(1), w.direct.snapshot(w.t))
	}
}

// snapshotWithoutRelease gives a snapshot's bytes, manifests included, without its being durable.
func (r *replica) snapshotWithoutRelease(t failer) []byte {
	snap, err := r.m.Snapshot()
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	var s sink
	if err := snap.(*snapshot).persist(&s); err != nil {
		t.Fatalf("persist: %v", err)
	}
	return slices.Clone(s.Bytes())
}

// starting gives what has started so far: claimed runs and grants.
func (w *random) starting() (held struct{ runs, grants int }) {
	held.runs = int(w.direct.m.state.lastRun)
	for _, r := range w.direct.m.state.runs.Values() {
		for i := range r.size() {
			held.grants += btoi(r.at(i).granted != 0)
		}
	}
	return held
}

// nothingStarts checks G5: what a maintenance covers didn't start in the command.
func (w *random) nothingStarts(c Command, env Envelope, before struct{ runs, grants int }) {
	s := w.direct.m.state
	after := w.starting()
	on := func(match func(*saltpeter.Window) bool) bool {
		return slices.ContainsFunc(s.windows.list, func(win *saltpeter.Window) bool {
			return win.OffMillis == 0 && (win.UntilMillis == 0 || env.Millis < win.UntilMillis) && match(win)
		})
	}
	if c.Code() != CodeBeginEpoch && c.Code() != CodeRestore && after.runs > before.runs {
		for num := uint64(before.runs) + 1; num <= uint64(after.runs); num++ {
			r, ok := s.runs.Get(num)
			if ok && on(func(win *saltpeter.Window) bool {
				return win.CoversJob(r.Job, r.Group) && (!win.Pause || r.Tick != 0)
			}) {
				w.t.Fatalf("run %s started under maintenance", r.ID)
			}
		}
	}
	ask, ok := c.(*StartTarget)
	if ok && after.grants > before.grants && on(func(win *saltpeter.Window) bool {
		return win.Scope == saltpeter.ScopeMachine && win.Name == ask.Ask.Sight.Machine
	}) {
		w.t.Fatalf("machine %s was granted a start under maintenance", ask.Ask.Sight.Machine)
	}
}

// finish checks what is only looked at in the end.
func (w *random) finish() {
	for i, v := range w.views {
		if !bytes.Equal(stateBytes(w.t, v.v.s), v.want) {
			w.t.Fatalf("view %d of %d changed", i, len(w.views))
		}
	}
	for _, r := range []*replica{w.direct, w.twice, w.again} {
		checkOutput(w.t, r.m, w.taken)
	}
	for _, r := range []*replica{w.direct, w.twice, w.again, w.fed} {
		if r != nil {
			if err := r.m.Close(); err != nil {
				w.t.Fatalf("close: %v", err)
			}
		}
	}
}

func TestRandomWorlds(t *testing.T) {
	seen := make(map[Code]int)
	rapid.Check(t, func(t *rapid.T) {
		w := newRandom(t)
		w.config()
		for range rapid.IntRange(20, 120).Draw(t, "steps") {
			w.step()
		}
		w.finish()
		for code, n := range w.commands {
			seen[code] += n
		}
	})
	for code := Code(1); code <= NewestCode; code++ {
		if seen[code] == 0 && !t.Failed() {
			t.Errorf("no command with code %d was made", code)
		}
	}
}

func (w *random) config() {
	set := saltpeter.DefaultSettings()
	set.HistoryAge = pick(w, "age", 2*time.Hour, 30*24*time.Hour)
	set.HistoryRuns = pick(w, "runs", 1, 3, 100)
	set.HistoryTargets = pick(w, "targets", 5, 20, 1000)
	set.OutputTotal = pick(w, "output", int64(20), 1<<20)
	set.FeedTotal = pick(w, "feed", int64(8<<10), 16<<10)
	settings, err := json.Marshal(set)
	if err != nil {
		w.t.Fatalf("settings: %v", err)
	}
	w.configs++
	put, conf := &PutDefinitions{}, &ApplyConfig{ID: fmt.Sprint("c", w.configs), FilesDigest: fmt.Sprint("f", w.intn(3, "files"))}
	for _, name := range []string{"a", "b", "c"} {
		if w.configs > 1 && w.chance(15, "removed") {
			continue
		}
		j := testJob(name)
		j.AllowOverlap = name == "b"
		j.Command = pick(w, "command", "true", "false")
		j.Schedule.Sec = pick(w, "sec", "*", "5")
		j.OutputLimit = pick(w, "limit", int64(10), 1<<20)
		if name == "c" {
			j.NumberOfTargets, j.Batch = 3, saltpeter.Batch{Size: 1}
		}
		enc, err := j.Encode()
		if err != nil {
			w.t.Fatalf("encode: %v", err)
		}
		put.Encoded = append(put.Encoded, enc)
		conf.Jobs = append(conf.Jobs, saltpeter.JobDigest{Name: name, Digest: saltpeter.DigestOf(enc)})
	}
	w.do(put)
	if len(conf.Jobs) > 1 && w.chance(50, "parts") {
		w.do(&ApplyConfig{ID: conf.ID, Jobs: conf.Jobs[:1]})
		conf.Part, conf.Jobs = 1, conf.Jobs[1:]
		if w.chance(20, "half") {
			return
		}
	}
	conf.Last, conf.Settings = true, settings
	conf.Maintenance = saltpeter.FileMaintenance{Global: w.chance(5, "global"), Machines: pick(w, "machines", nil, nil, []string{"m1"})}
	w.do(conf)
}
