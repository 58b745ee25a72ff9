package fsm

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/backup"
	"github.com/syscollective/saltpeter/internal/outlog"
)

func framesOf(t testing.TB, list ...backup.Frame) []byte {
	t.Helper()
	b, err := cbor.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// save gives a backup's parts.
func (w *world) save(output bool) []RestorePart { return saveParts(w.t, w.m, output) }

func saveParts(t failer, m *Machine, output bool) (parts []RestorePart) {
	t.Helper()
	var b bytes.Buffer
	if _, err := m.WriteBackup(&b, backup.About{Output: output}); err != nil {
		t.Fatalf("save: %v", err)
	}
	_, totals, err := backup.Read(&b, func(k backup.Kind, body []byte) error {
		parts = append(parts, RestorePart{Part: len(parts), Kind: k, Data: slices.Clone(body)})
		return nil
	})
	if err != nil || totals.Parts != len(parts) {
		t.Fatalf("%+v: %v", totals, err)
	}
	return parts
}

// restore brings parts under an id and puts them in force.
func (w *world) restore(id string, parts []RestorePart) any {
	w.t.Helper()
	for _, p := range parts {
		p.ID = id
		if got := w.do(&p); got != (PartTaken{Next: p.Part + 1}) {
			w.t.Fatalf("part %d: %+v", p.Part, got)
		}
	}
	return w.do(&Restore{ID: id, Parts: len(parts)})
}

func out(seq uint64, text string) saltpeter.Word {
	return saltpeter.Word{Kind: saltpeter.WordOutput, Seq: seq, Data: []byte(text)}
}

func result(seq uint64, code int) saltpeter.Word {
	return saltpeter.Word{Kind: saltpeter.WordResult, Seq: seq, Code: code}
}

// stored reads a target's output where the record says that it is.
func (w *world) stored(ref saltpeter.TargetRef) string {
	w.t.Helper()
	key, ok := w.m.View().OutputKey(ref)
	if !ok {
		w.t.Fatalf("no key of %+v", ref)
	}
	var b strings.Builder
	err := w.m.Output().Frames(key, 0, func(f outlog.Frame) bool { b.Write(f.Data); return true })
	if err != nil && !errors.Is(err, outlog.ErrNoOutput) {
		w.t.Fatal(err)
	}
	return b.String()
}

// past is a world with a finished run 1 and a running run 2 of which a backup is made, and what came after.
func past(t *testing.T, output bool) (w *world, parts []RestorePart, done, live saltpeter.TargetRef) {
	w = newWorld(t)
	mustDone(t, w.do(&InitCluster{ClusterID: "cluster-1"}))
	w.config(saltpeter.DefaultSettings(), testJob("a"), testJob("b"))
	_, la := w.running("a", t0+1, "m1")
	_, lb := w.running("b", t0+1, "m1", "m2")
	done, live = refOf(la, 0), refOf(lb, 0)
	w.ask(la, 0, 1)
	w.say(done, 1, out(1, "all of a"), result(2, 0))
	w.ask(lb, 0, 2)
	w.say(live, 2, out(1, "b's beginning, "))
	parts = w.save(output)
	w.say(live, 2, out(2, "middle, "))
	w.now += 3_600_000
	w.running("a", t0+1800, "m3")
	mustDone(t, w.do(&SetNode{Node: NodeRecord{ID: "n9", Name: "new"}}))
	return w, parts, done, live
}

func TestRestoreBeginsANewEpoch(t *testing.T) {
	w, parts, done, live := past(t, true)
	before := w.m.View()
	got, ok := w.restore("r1", parts).(Restored)
	if !ok || got.Epoch != 2 || got.Ended != 2 || got.LeftOut != 0 || got.Index != w.index {
		t.Fatalf("%+v", got)
	}
	v := w.m.View()
	if v.Epoch() != 2 || v.ClusterID() != "cluster-1" || len(v.Nodes()) != 1 || v.Index() != w.index || v.FeedNext() <= before.FeedNext() {
		t.Errorf("epoch %d, cluster %q, %d nodes, index %d", v.Epoch(), v.ClusterID(), len(v.Nodes()), v.Index())
	}
	if _, ok := v.Run(3); ok || v.UnfinishedCount() != 0 {
		t.Error("a run that began after the backup is there, or one is unfinished")
	}
	for i := range uint32(2) {
		tg := w.target(saltpeter.TargetRef{Run: live.Run, Target: i})
		if tg.State != saltpeter.Lost || tg.Code != 253 || !tg.Presumed || tg.Text != "restored" {
			t.Errorf("target %d: %+v", i, tg)
		}
	}
	if tg := w.target(done); tg.State != saltpeter.OK || tg.Presumed {
		t.Errorf("the finished one: %+v", tg)
	}
	if a, b := w.stored(done), w.stored(live); a != "all of a" || b != "b's beginning, " {
		t.Errorf("output %q, %q", a, b)
	}
	if ws := v.Windows(); len(ws) != 1 || ws[0].Scope != saltpeter.ScopeAll || !ws[0].ActiveAt(w.now) {
		t.Errorf("maintenance %+v", ws)
	}
	st, _ := v.Job("a")
	if st.Mark != w.now/1000 || w.claim("a", t0+1801).Outcome != saltpeter.ClaimDecided {
		t.Errorf("mark %d: a tick of before would be made up", st.Mark)
	}
	if res := w.claim("a", w.now/1000+1); res.Outcome == saltpeter.ClaimRun {
		t.Error("something starts under the maintenance of a restore")
	}
}

// TestTheWinnerResumesAfterARestore: the secret's owner goes on from the number that the restored record expects.
func TestTheWinnerResumesAfterARestore(t *testing.T) {
	for _, output := range []bool{true, false} {
		w, parts, _, live := past(t, output)
		w.restore("r1", parts)
		if ans := w.say(live, 2, out(3, "end")); ans.Next != 2 || ans.Refused != "" {
			t.Fatalf("%+v", ans)
		}
		skip := saltpeter.Word{Kind: saltpeter.WordSkip, Seq: 2, Covers: 1, Skipped: 8}
		if ans := w.say(live, 2, skip, out(3, "end"), result(4, 7)); ans.Next != 5 || !ans.Done {
			t.Fatalf("%+v", ans)
		}
		tg := w.target(live)
		if tg.State != saltpeter.Failed || tg.Code != 7 || !tg.Replaced || tg.Presumed {
			t.Errorf("%+v", tg)
		}
		want, leftOut := "b's beginning, end", uint64(8)
		if !output {
			want, leftOut = "end", 8+15
		}
		if got := w.stored(live); got != want || tg.LeftOut != leftOut || tg.Stored != uint64(len(want)) {
			t.Errorf("with output %t: %q, %d left out, %d stored", output, got, tg.LeftOut, tg.Stored)
		}
	}
}

// TestRestoreWithoutOutputKeepsWhatIsHere: the output of a run that has not changed since stays; what nobody has is said.
func TestRestoreWithoutOutputKeepsWhatIsHere(t *testing.T) {
	w, parts, done, live := past(t, false)
	got := w.restore("r1", parts).(Restored)
	if got.LeftOut != 15 || w.stored(done) != "all of a" || w.stored(live) != "" {
		t.Errorf("%+v, %q, %q", got, w.stored(done), w.stored(live))
	}
	if tg := w.target(live); tg.Stored != 0 || tg.LeftOut != 15 {
		t.Errorf("%+v", tg)
	}
}

// TestRestoreTwice: the second restore of one backup is an epoch of its own and gives no number twice.
func TestRestoreTwice(t *testing.T) {
	w, parts, done, live := past(t, true)
	first := w.restore("r1", parts).(Restored)
	if again := w.do(&Restore{ID: "r1", Parts: len(parts)}); again != first {
		t.Errorf("asked again: %+v", again)
	}
	w.do(&LiftWindow{Scope: saltpeter.ScopeAll})
	r, _ := w.running("a", w.now/1000+5, "m1")
	second, ok := w.restore("r2", parts).(Restored)
	if !ok || second.Epoch != first.Epoch+1 {
		t.Fatalf("%+v", second)
	}
	w.do(&LiftWindow{Scope: saltpeter.ScopeAll})
	if r2, _ := w.running("a", w.now/1000+10, "m1"); r2.Num <= r.Num {
		t.Errorf("run %d after run %d", r2.Num, r.Num)
	}
	if w.stored(done) != "all of a" || w.stored(live) != "b's beginning, " {
		t.Error("output is not what the backup holds")
	}
}

func TestRestoreIsRefused(t *testing.T) {
	w, parts, _, _ := past(t, true)
	plain := func() []byte {
		c := w.m.state.freeze()
		c.index, c.used, c.outputKeys, c.restoring = 0, 0, 0, nil
		return stateBytes(t, c)
	}
	before := plain()
	same := func(what string) {
		t.Helper()
		if !bytes.Equal(plain(), before) {
			t.Errorf("%s: the state changed", what)
		}
	}
	mustRefuse(t, w.do(&Restore{ID: "x", Parts: 1}), saltpeter.CodeConflict)
	mustRefuse(t, w.do(&RestorePart{ID: "x", Part: 1, Kind: backup.KindRecord}), saltpeter.CodeConflict)
	mustRefuse(t, w.do(&RestorePart{ID: "x", Kind: backup.KindEnd}), saltpeter.CodeInvalid)
	mustRefuse(t, w.do(&RestorePart{ID: "x", Kind: backup.KindOutput, Data: []byte("nonsense")}), saltpeter.CodeInvalid)
	mustRefuse(t, w.do(&RestorePart{ID: "x", Kind: backup.KindOutput, Data: framesOf(t, backup.Frame{Run: 1})}), saltpeter.CodeInvalid)
	mustRefuse(t, w.restore("short", parts[:len(parts)-1]), saltpeter.CodeInvalid)
	same("a record that is not whole")
	foreign := newWorld(t)
	mustDone(t, foreign.do(&InitCluster{ClusterID: "another"}))
	theirs := foreign.save(true)
	mustRefuse(t, w.restore("foreign", theirs), saltpeter.CodeConflict)
	same("a foreign record")
	for _, p := range theirs {
		p.ID = "foreign"
		mustDone(t, w.do(&p))
	}
	if got, ok := w.do(&Restore{ID: "foreign", Parts: len(theirs), Foreign: true}).(Restored); !ok || w.m.View().ClusterID() != "cluster-1" {
		t.Errorf("%+v, cluster %s", got, w.m.View().ClusterID())
	}
}

// TestARestoreThatIsGivenUpLeavesNothing: the next one drops what it has brought.
func TestARestoreThatIsGivenUpLeavesNothing(t *testing.T) {
	w, parts, _, _ := past(t, true)
	first := parts[0]
	first.ID = "given up"
	mustDone(t, w.do(&first))
	if n := w.m.Output().Usage().Keys; n != 4 {
		t.Fatalf("%d keys", n)
	}
	w.restore("r1", parts)
	if n := w.m.Output().Usage().Keys; n != 2 {
		t.Errorf("%d keys are left", n)
	}
	mustRefuse(t, w.do(&Restore{ID: "given up", Parts: 1}), saltpeter.CodeConflict)
}

// TestARestoreOfAnEarlierEpochIsRefused: what began before another restore was in force can't begin again after it.
func TestARestoreOfAnEarlierEpochIsRefused(t *testing.T) {
	w, parts, done, _ := past(t, true)
	late := append([]RestorePart{}, parts...)
	for i := range late {
		late[i].ID, late[i].Epoch = "late", 1
	}
	mustDone(t, w.do(&late[0])) // and its client leaves
	if got, ok := w.restore("r1", parts).(Restored); !ok || got.Epoch != 2 {
		t.Fatalf("%+v", got)
	}
	plain := func() []byte {
		c := w.m.state.freeze()
		c.index = 0
		return stateBytes(t, c)
	}
	before := plain()
	for i := range late {
		mustRefuse(t, w.do(&late[i]), saltpeter.CodeConflict)
	}
	mustRefuse(t, w.do(&Restore{ID: "late", Parts: len(late)}), saltpeter.CodeConflict)
	if n := w.m.Output().Usage().Keys; n != 2 || w.stored(done) != "all of a" || w.m.View().Epoch() != 2 {
		t.Errorf("%d keys, epoch %d", n, w.m.View().Epoch())
	}
	if !bytes.Equal(plain(), before) {
		t.Error("something of it is left")
	}
	for i := range late {
		late[i].ID, late[i].Epoch = "anew", 2
		mustDone(t, w.do(&late[i]))
	}
	if got, ok := w.do(&Restore{ID: "anew", Parts: len(late)}).(Restored); !ok || got.Epoch != 3 {
		t.Errorf("begun again: %+v", got)
	}
}

// TestRestoreSurvivesSnapshots: parts that were brought before a snapshot are there after it.
func TestRestoreSurvivesSnapshots(t *testing.T) {
	w, parts, done, _ := past(t, true)
	half := len(parts) - 1
	for _, p := range parts[:half] {
		p.ID = "r1"
		mustDone(t, w.do(&p))
	}
	fs := outlog.NewLossy(1)
	replica := &world{t: t, index: w.index, term: 1, now: w.now, m: restored(t, fs, "/d", encodeState(t, w.m))}
	defer func() { _ = replica.m.Close() }()
	for _, x := range []*world{w, replica} {
		last := parts[half]
		last.ID = "r1"
		mustDone(t, x.do(&last))
		if _, ok := x.do(&Restore{ID: "r1", Parts: len(parts)}).(Restored); !ok {
			t.Fatal("refused")
		}
	}
	if !bytes.Equal(stateBytes(t, w.m.state), stateBytes(t, replica.m.state)) {
		t.Error("the replica that was fed by a snapshot has another state")
	}
	if w.stored(done) != "all of a" {
		t.Error("output is gone")
	}
}
