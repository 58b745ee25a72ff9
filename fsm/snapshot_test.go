package fsm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"testing"
	"time"
	"unique"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/backup"
	"github.com/syscollective/saltpeter/internal/outlog"
)

// fullWorld has something of everything that a snapshot holds.
func fullWorld(t testing.TB) *world {
	w := liveWorld(t)
	mustDone(t, w.do(&InitCluster{ClusterID: "cluster-1"}))
	mustDone(t, w.do(&StartRun{Request: saltpeter.StartRequest{Job: "a", Key: "key-1", Note: "by hand", Machines: []string{"m2"}}}))
	w.plan(&SetTargets{Run: 5, Attempt: "1", Machines: []string{"m2", "m3"}, Down: []int{1}})
	st, _ := w.m.View().Job("a")
	w.now += 100_000
	w.plan(&ClaimRuns{Claims: []saltpeter.Claim{{Job: "a", Digest: st.Digest, Tick: t0 + 10, Last: t0 + 19, Count: 10, Skip: saltpeter.SkipMissed}}})
	w.do(&SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeGroup, Name: "g", Reason: "SAN"}})
	w.do(&SetWindow{Window: saltpeter.Window{Scope: saltpeter.ScopeJob, Name: "a", Pause: true}})
	w.do(&LiftWindow{Scope: saltpeter.ScopeJob, Name: "a", Pause: true})
	w.do(&SetNode{Node: NodeRecord{ID: "n1", Name: "sp-1", Version: "1.0", Commands: 20, Gateway: "wss://h", Files: "f", Envelope: 1, Snapshot: 1, Salt: true}})
	w.do(&Retain{Round: 1})
	w.plan(&ApplyConfig{ID: "half", Jobs: []saltpeter.JobDigest{{Name: "a", Digest: st.Digest}}})
	w.do(&PutDefinitions{Encoded: [][]byte{[]byte(`{"name":"not in force"}`)}})
	return w
}

func TestDamagedSnapshotsAreRefused(t *testing.T) {
	w := fullWorld(t)
	snap := encodeState(t, w.m)
	other := liveWorld(t)
	before, view := stateBytes(t, other.m.state), other.m.View()
	refused := func(what string, b []byte) {
		t.Helper()
		if err := other.m.Restore(io.NopCloser(bytes.NewReader(b))); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("%s: %v", what, err)
		}
	}
	for n := 0; n < len(snap); n += 1 + n%13 {
		refused("truncated", snap[:n])
		flipped := slices.Clone(snap)
		flipped[n] ^= 1 << (n % 8)
		refused("flipped", flipped)
	}
	refused("a byte too many", append(slices.Clone(snap), 0))
	refused("another format", sealed(append([]byte(snapshotMagic), snapshotVersion+1)))
	refused("a record kind of later", sealed(append([]byte(snapshotMagic), snapshotVersion, 2, 99, 0xa0)))
	refused("a huge record", sealed(append([]byte(snapshotMagic), snapshotVersion, 0xff, 0xff, 0xff, 0xff, 0x7f)))
	if other.m.View() != view || !bytes.Equal(stateBytes(t, other.m.state), before) {
		t.Fatal("a refused snapshot changed the state")
	}
	if other.m.Err() != nil || other.claim("a", t0+3).Outcome != saltpeter.ClaimRun {
		t.Fatal("the machine doesn't go on after a refused snapshot")
	}
}

// sealed gives bytes with their checksum, as a snapshot ends.
func sealed(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// TestContradictingSnapshotsAreRefused: what has a right checksum may still not be what apply trusts.
func TestContradictingSnapshotsAreRefused(t *testing.T) {
	tests := map[string]func(s *state){
		"run without definition": func(s *state) { s.mutRun(1).Digest[0]++ },
		"job without definition": func(s *state) { s.mutJob("a").digest[0]++ },
		"batch without targets":  func(s *state) { s.mutRun(1).Batches[0].Targets = []uint32{4} },
		"target without batch":   func(s *state) { s.mutRun(1).mutAt(0).batch = 1 },
		"batch below none":       func(s *state) { s.mutRun(1).mutAt(0).batch = -2 },
		"unknown state":          func(s *state) { s.mutRun(1).mutAt(0).state = 99 },
		"empty window":           func(s *state) { s.windows.list = []*saltpeter.Window{nil} },
		"settings":               func(s *state) { s.settings = []byte("{") },
		"definition":             func(s *state) { s.defs.Set("x", &definition{encoded: []byte("{")}) },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			w := liveWorld(t)
			spoil(w.m.state)
			if _, _, err := readSnapshot(bytes.NewReader(encodeState(t, w.m))); !errors.Is(err, ErrSnapshot) {
				t.Fatalf("got %v", err)
			}
		})
	}
}

func TestRestoreTellsWhoWaits(t *testing.T) {
	w := fullWorld(t)
	var told []Change
	m := New(Options{FS: outlog.NewLossy(1), Dir: "/d", Changed: func(c Change) { told = append(told, c) }})
	moved, empty := m.Moved(), m.View()
	if err := m.Restore(io.NopCloser(bytes.NewReader(encodeState(t, w.m)))); err != nil {
		t.Fatal(err)
	}
	select {
	case <-moved:
	default:
		t.Fatal("Moved is not closed by a restore")
	}
	if len(told) != 1 || !told[0].Plan || told[0].Index != w.index || m.AppliedIndex() != w.index {
		t.Fatalf("told %+v at index %d", told, m.AppliedIndex())
	}
	if m.View() == empty || empty.JobCount() != 0 || m.View().JobCount() != 2 {
		t.Fatal("the view is the old one, or the old one changed")
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

// failingSink fails after some bytes and notes how it was ended.
type failingSink struct {
	sink
	left             int
	canceled, closed bool
}

var errSink = errors.New("disk full")

func (s *failingSink) Write(p []byte) (int, error) {
	if s.left -= len(p); s.left < 0 {
		return 0, errSink
	}
	return s.sink.Write(p)
}

func (s *failingSink) Cancel() error { s.canceled = true; return nil }
func (s *failingSink) Close() error  { s.closed = true; return nil }

func TestSnapshotThatCannotBeWrittenIsCanceled(t *testing.T) {
	w := fullWorld(t)
	whole := len(encodeState(t, w.m))
	for _, left := range []int{0, whole / 2, whole - 1, whole} {
		snap, err := w.m.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		s := &failingSink{left: left}
		err = snap.Persist(s)
		if fails := left < whole; errors.Is(err, errSink) != fails || s.canceled != fails || s.closed == fails {
			t.Fatalf("%d of %d bytes: %v, canceled %t, closed %t", left, whole, err, s.canceled, s.closed)
		}
		snap.Release()
	}
}

// TestSnapshotOfVersion1LoadsForEver: the file is never written again; a later format gets a file of its own.
func TestSnapshotOfVersion1LoadsForEver(t *testing.T) {
	const file = "testdata/snapshot-v1.snap"
	if _, err := os.Stat(file); *update && errors.Is(err, os.ErrNotExist) {
		if err := os.WriteFile(file, encodeState(t, fullWorld(t).m), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	m := restored(t, outlog.NewLossy(1), "/d", b)
	checkConsistent(t, m.state)
	checkVersion1(t, m.View())
	if s := m.state; s.configDraft == nil || s.configDraft.id != "half" || len(s.configDraft.jobs) != 1 || s.defs.Len() != 3 {
		t.Errorf("draft %+v, %d definitions", s.configDraft, s.defs.Len())
	}
	if d := m.state.mutRun(5).draft; d == nil || d.next != 1 || !slices.Equal(d.machines, []string{"m2", "m3"}) || !slices.Equal(d.down, []bool{false, true}) {
		t.Errorf("targets' draft %+v", d)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

// checkVersion1 says what testdata/snapshot-v1.snap holds.
func checkVersion1(t *testing.T, v *View) {
	t.Helper()
	check := func(what string, got, want any) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	check("cluster", v.ClusterID(), "cluster-1")
	check("epoch", v.Epoch(), uint64(1))
	check("index", v.Index(), uint64(31))
	check("revision", v.Revision().Number, uint64(1))
	check("history_runs", v.Settings().HistoryRuns, 1000)
	check("start window", v.Settings().StartWindow, time.Minute)
	check("jobs", v.JobCount(), 2)
	check("known files", v.KnowsFiles("f"), true)
	check("targets", v.TargetCount(), 7)
	check("next round of retention", v.NextRetain(), uint64(2))
	check("next event", v.FeedNext(), uint64(21))

	a, _ := v.Job("a")
	check("command", a.Job.Command, "true")
	check("mark", a.Mark, int64(t0+19))
	check("active", a.Active, 3)
	check("skips", v.Skips("a")[0], saltpeter.Skip{Reason: saltpeter.SkipMissed, First: t0 + 10, Last: t0 + 19, Count: 10})
	b, _ := v.Job("b")
	check("last end", b.LastEnd.ID, "b_1795392003")

	r, _ := v.RunByID("a_1795392001")
	check("run", r.State, saltpeter.RunRunning)
	check("tick", r.Tick, int64(t0+1))
	check("cause", r.Cause, "tick")
	check("granted", r.Counts[saltpeter.Granted], uint32(1))
	check("batch", len(r.Batches[0].Targets), 4)
	granted, _ := v.Target(saltpeter.TargetRef{Run: 1, Target: 0})
	check("nonce", granted.Nonce, saltpeter.Nonce{1})
	check("won", granted.Won, true)
	check("boot id", granted.BootID, "boot")
	started, _ := v.FindTarget(1, "m1")
	check("started", started.State, saltpeter.Started)
	check("next number", started.NextSeq, uint64(2))
	check("stored", started.Stored, uint64(1))
	lost, _ := v.FindTarget(1, "m2")
	check("lost", lost.State, saltpeter.Lost)
	check("presumed", lost.Presumed, true)
	check("launch", v.LaunchedOn(r.Batches[0].Launch, "m3")[0].State, saltpeter.Launched)

	hand, _ := v.Run(5)
	check("note", hand.Note, "by hand")
	check("key", hand.Key, "key-1")
	check("windows", len(v.Windows()), 2)
	check("reason", v.Windows()[0].Reason, "SAN")
	check("lifted", v.Windows()[1].OffMillis, int64(t0+103)*1000)
	check("node", v.Nodes()[0], NodeRecord{ID: "n1", Name: "sp-1", Version: "1.0", Commands: 20, Gateway: "wss://h", Files: "f"})
}

// TestTheWinnerSurvivesARestart: who won, what is expected next and what is to be told are in the snapshot.
func TestTheWinnerSurvivesARestart(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	r, l := w.running("j", t0+1, "a", "b")
	w.ask(l, 0, 1)
	w.ask(l, 1, 1)
	w.say(refOf(l, 0), 1, saltpeter.Word{Kind: saltpeter.WordOutput, Seq: 1, Data: []byte("x")}, saltpeter.Word{Kind: saltpeter.WordSoftTimeout})
	w.do(&Kill{Run: r.Num, Machines: []string{"b"}})
	again := &world{t: t, index: w.index, term: 1, now: w.now, m: restored(t, outlog.NewLossy(1), "/d", encodeState(t, w.m))}
	for _, x := range []*world{w, again} {
		if x.ask(l, 1, 2).Granted || x.ask(l, 1, 1) != (TargetAsked{Granted: true, Kill: true}) {
			t.Fatal("another is the winner, or the kill is forgotten")
		}
		if x.say(refOf(l, 0), 2).Refused == "" || x.say(refOf(l, 0), 1, saltpeter.Word{Kind: saltpeter.WordSoftTimeout}).Next != 2 {
			t.Fatal("another resumes, or another number is expected")
		}
	}
	if w.m.View().FeedNext() != again.m.View().FeedNext() {
		t.Fatal("the soft timeout was told twice")
	}
	if err := again.m.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestARestartFromASnapshotKeepsOutputAndFeed: what lies before the snapshot is not in the log any more.
func TestARestartFromASnapshotKeepsOutputAndFeed(t *testing.T) {
	w := newWorld(t)
	w.config(saltpeter.DefaultSettings(), testJob("j"))
	_, l := w.running("j", t0+1, "a")
	w.ask(l, 0, 1)
	w.say(refOf(l, 0), 1, saltpeter.Word{Kind: saltpeter.WordOutput, Seq: 1, Data: []byte("hello")})
	told := len(w.events())
	snap := encodeState(t, w.m)
	if err := w.m.Close(); err != nil {
		t.Fatal(err)
	}
	w.m = restored(t, w.m.opts.FS, "/d", snap)
	out := make([]byte, 10)
	if n, _ := w.m.Output().ReadAt(outKey(refOf(l, 0)), out, 0); string(out[:n]) != "hello" {
		t.Errorf("output %q", out[:n])
	}
	if got := len(w.events()); got != told || told == 0 {
		t.Errorf("%d events of %d", got, told)
	}
}

// TestSnapshotHoldsEverything: each field of each record is written for something in a world that has everything.
func TestSnapshotHoldsEverything(t *testing.T) {
	w := fullWorld(t)
	w.now += 1000
	w.m.state.used, w.m.state.retainNext, w.m.state.early, w.m.state.retained.answer = newestKnown, "a", 1, Retained{Runs: 1, Targets: 1, Early: 1, More: true}
	w.m.state.overfull.Set("a", struct{}{})
	w.m.state.revision.Maintenance.Global = true
	mustDone(t, w.do(&PutToken{Token: saltpeter.Token{Name: "ci", Role: saltpeter.RoleViewer, Hash: saltpeter.Digest{1}}}))
	mustDone(t, w.plan(&SetLaunchKey{Key: "k1"}))
	mustDone(t, w.do(&LoseSegments{Round: 1, Segments: []LostSegment{{No: 900, Last: 900}}}))
	w.m.state.mutJob("a").maxTick++ // a world in which marks were pulled back
	j := w.m.state.mutJob("b")
	j.lastFail = j.lastOK
	w.m.state.restored = lastRestore{id: "r", answer: Restored{Epoch: 1, Index: 1, Ended: 1, LeftOut: 1}}
	mustDone(t, w.do(&RestorePart{ID: "draft", Kind: backup.KindOutput, Data: framesOf(t, backup.Frame{Run: 1, Seq: 1, Data: []byte("x")})}))
	r := w.m.state.mutRun(4)
	r.outputKey = 1
	r.Key, r.Note, r.Parent, r.Text, r.KilledBy, r.KilledMillis, r.Backs = "k", "n", "p", "t", "b", 1, 1
	*r.mutAt(0) = target{machine: r.at(0).machine, state: saltpeter.Failed, flags: 0x7f, code: 1, signal: 9, batch: 0, granted: 1, started: 1, ended: 1,
		nextSeq: 2, stored: 1, leftOut: 1, text: "t", sight: unique.Make(sight{"b", "h", "v"}), nonce: &saltpeter.Nonce{1}}
	sr := &snapshotReader{r: bufio.NewReader(bytes.NewReader(encodeState(t, w.m))), sum: sha256.New()}
	sr.take(len(snapshotMagic) + 1)
	set := make(map[string]bool)
	all := map[recordKind]any{recordHead: head{}, recordJob: packedJob{}, recordRun: packedRun{}, recordPage: packedPage{}, recordKey: packedKey{}, recordNode: NodeRecord{}}
	for {
		kind, body := sr.record()
		if sr.err != nil {
			t.Fatal(sr.err)
		}
		if kind == recordEnd {
			break
		}
		if all[kind] == nil {
			continue
		}
		v := reflect.New(reflect.TypeOf(all[kind]))
		if err := snapMode.Unmarshal(body, v.Interface()); err != nil {
			t.Fatal(err)
		}
		noteSet(set, v.Elem())
	}
	for _, v := range []any{head{}, packedRevision{}, packedRetain{}, packedRestore{}, packedJob{}, packedRun{}, packedPage{}, packedTarget{}, packedKey{}, NodeRecord{}} {
		typ := reflect.TypeOf(v)
		for i := range typ.NumField() {
			if name := typ.Name() + "." + typ.Field(i).Name; typ.Field(i).Name != "_" && !set[name] {
				t.Errorf("%s is never written", name)
			}
		}
	}
}

// noteSet notes which fields are set, also in the packed structures inside.
func noteSet(set map[string]bool, v reflect.Value) {
	for i := range v.NumField() {
		f := v.Field(i)
		if f.IsZero() {
			continue
		}
		set[v.Type().Name()+"."+v.Type().Field(i).Name] = true
		switch {
		case f.Kind() == reflect.Struct:
			noteSet(set, f)
		case f.Kind() == reflect.Slice && f.Type().Elem() == reflect.TypeFor[packedTarget]():
			for k := range f.Len() {
				noteSet(set, f.Index(k))
			}
		}
	}
}
