package fsm

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
)

func encodedJob(t testing.TB, j *saltpeter.Job) ([]byte, saltpeter.JobDigest) {
	t.Helper()
	b, err := j.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b, saltpeter.JobDigest{Name: j.Name, Digest: saltpeter.DigestOf(b)}
}

func TestConfigurationInParts(t *testing.T) {
	w := newWorld(t)
	a, da := encodedJob(t, testJob("a"))
	b, db := encodedJob(t, testJob("b"))
	mustDone(t, w.do(&PutDefinitions{Encoded: [][]byte{a, b}}))
	part := func(id string, n int, last bool, jobs ...saltpeter.JobDigest) any {
		return w.plan(&ApplyConfig{ID: id, Part: n, Last: last, Jobs: jobs, Settings: []byte("{}"), FilesDigest: "f-" + id})
	}
	mustRefuse(t, part("x", 1, true, db), saltpeter.CodeConflict)
	mustRefuse(t, part("x", -1, true, db), saltpeter.CodeConflict)
	mustDone(t, part("x", 0, false, da))
	mustRefuse(t, part("y", 1, true, db), saltpeter.CodeConflict)
	mustRefuse(t, part("x", 2, true, db), saltpeter.CodeConflict)
	mustDone(t, part("x", 0, false, da))
	if w.m.View().JobCount() != 0 {
		t.Fatal("in force before its last part")
	}
	mustDone(t, part("x", 1, false, db))
	mustDone(t, part("x", 1, false, db)) // again
	mustDone(t, part("x", 2, true))
	v := w.m.View()
	if v.JobCount() != 2 || v.Revision().Number != 1 || v.Revision().FilesDigest != "f-x" || !v.KnowsFiles("f-x") || v.KnowsFiles("f-y") {
		t.Fatalf("%+v", v.Revision())
	}
	mustDone(t, part("x", 2, true))
	mustDone(t, part("x", 0, false))
	if w.m.View().Revision().Number != 1 || w.m.state.configDraft != nil {
		t.Fatal("a revision that is in force was applied again")
	}
	mustDone(t, part("z", 0, true, db))
	if w.m.View().JobCount() != 1 || w.m.View().Revision().Number != 2 || !w.m.View().KnowsFiles("f-x") {
		t.Fatalf("%+v", w.m.View().Revision())
	}
}

func TestConfigurationsThatMakeNoSense(t *testing.T) {
	w := newWorld(t)
	a, da := encodedJob(t, testJob("a"))
	b, db := encodedJob(t, testJob("b"))
	mustRefuse(t, w.do(&PutDefinitions{Encoded: [][]byte{a, []byte("{")}}), saltpeter.CodeInvalid)
	if w.m.state.defs.Len() != 0 {
		t.Fatal("a refused command put a definition")
	}
	mustRefuse(t, w.do(&PutDefinitions{Encoded: [][]byte{[]byte(`{"name":"a\n"}`)}}), saltpeter.CodeInvalid)
	mustDone(t, w.do(&PutDefinitions{Encoded: [][]byte{a, b}}))
	tests := map[string]struct {
		jobs     []saltpeter.JobDigest
		settings string
		want     saltpeter.ErrorCode
	}{
		"no definition":     {[]saltpeter.JobDigest{{Name: "c"}}, "{}", saltpeter.CodeConflict},
		"another's":         {[]saltpeter.JobDigest{{Name: "a", Digest: db.Digest}}, "{}", saltpeter.CodeInvalid},
		"not in order":      {[]saltpeter.JobDigest{db, da}, "{}", saltpeter.CodeInvalid},
		"twice":             {[]saltpeter.JobDigest{da, da}, "{}", saltpeter.CodeInvalid},
		"no settings":       {[]saltpeter.JobDigest{da}, "", saltpeter.CodeInvalid},
		"wrong settings":    {[]saltpeter.JobDigest{da}, "[]", saltpeter.CodeInvalid},
		"settings' numbers": {[]saltpeter.JobDigest{da}, `{"history_runs":"many"}`, saltpeter.CodeInvalid},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			mustRefuse(t, w.plan(&ApplyConfig{ID: name, Last: true, Jobs: test.jobs, Settings: []byte(test.settings)}), test.want)
		})
	}
	if w.m.View().Revision().Number != 0 || w.m.View().Settings().HistoryRuns != saltpeter.DefaultSettings().HistoryRuns {
		t.Fatal("a refused configuration changed something")
	}
	mustRefuse(t, w.do(&InitCluster{}), saltpeter.CodeInvalid)
	mustDone(t, w.do(&InitCluster{ClusterID: "c"}))
	mustRefuse(t, w.do(&InitCluster{ClusterID: "d"}), saltpeter.CodeConflict)
}

// TestSettingsComeBackAsTheyWereCommitted: a value that equals no default must not become one by a snapshot.
func TestSettingsComeBackAsTheyWereCommitted(t *testing.T) {
	w := newWorld(t)
	mustDone(t, w.plan(&ApplyConfig{ID: "x", Last: true, Settings: []byte(`{"elasticsearch_index":"","history_runs":7}`)}))
	s, _, err := readSnapshot(strings.NewReader(string(encodeState(t, w.m))))
	if err != nil {
		t.Fatal(err)
	}
	if got := s.revision.Settings; got.ElasticsearchIndex != "" || got.HistoryRuns != 7 || got.OpensearchIndex != "saltpeter" {
		t.Fatalf("%+v", got)
	}
}

// TestRunsKeepTheirDefinition: a change of configuration never changes a run in progress.
func TestRunsKeepTheirDefinition(t *testing.T) {
	w := newWorld(t)
	set := saltpeter.DefaultSettings()
	old := testJob("j")
	w.config(set, old)
	r, _ := w.running("j", t0+1, "m")
	for i := range 3 {
		j := testJob("j")
		j.Command = fmt.Sprint(i)
		w.config(set, j)
	}
	if def, ok := w.m.View().Definition(r.Digest); !ok || def.Command != "true" {
		t.Fatal("the run's definition is gone")
	}
	if n := w.m.state.defs.Len(); n != 2 {
		t.Fatalf("%d definitions, want 2", n)
	}
	// Whoever has seen a definition here doesn't bring it again: it stays until the next revision, needed or not.
	w.do(&Kill{Run: r.Num})
	w.now += 2 * keepPresumed
	w.m.state.revision.Settings.HistoryTargets = 0
	w.do(&Retain{})
	if _, ok := w.m.View().Run(r.Num); ok || w.m.state.defs.Len() != 2 {
		t.Fatalf("run kept: %t, %d definitions", ok, w.m.state.defs.Len())
	}
	b, err := json.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	mustDone(t, w.plan(&ApplyConfig{ID: "back", Last: true, Settings: b, Jobs: []saltpeter.JobDigest{{Name: "j", Digest: r.Digest}}}))
	if w.m.state.defs.Len() != 1 {
		t.Fatalf("%d definitions, want 1", w.m.state.defs.Len())
	}
}

func TestRemovedJobs(t *testing.T) {
	w := newWorld(t)
	set := saltpeter.DefaultSettings()
	w.config(set, testJob("a"), testJob("b"))
	w.now = (t0 + 20) * 1000
	first := w.claim("a", t0+20)
	w.config(set)
	mustRefuse(t, w.do(&StartRun{Request: saltpeter.StartRequest{Job: "a", Key: "k"}}), saltpeter.CodeNotFound)
	count := 0
	w.m.View().RunsOfJob("a", 0, func(*saltpeter.Run) bool { count++; return true })
	if count != 1 {
		t.Fatal("the history of a removed job is gone")
	}
	w.now += 10_000
	w.config(set, testJob("a"))
	if st := w.job("a"); st.Mark != t0+30 || st.Active != 1 || st.LastRun.Num != first.Run {
		t.Fatalf("%+v", st)
	}
	if got := w.claim("a", t0+25); got.Outcome != saltpeter.ClaimDecided {
		t.Fatalf("%+v", got)
	}
	// b had no run. Its mark is kept for a while, for a clock that goes back.
	w.now = (t0 + keepGone) * 1000
	w.do(&Retain{})
	if _, ok := w.m.state.jobs.Get("b"); !ok {
		t.Fatal("b was forgotten within a day")
	}
	w.now += 2000
	w.do(&Retain{})
	if _, ok := w.m.state.jobs.Get("b"); ok || w.m.state.gone.Len() != 0 {
		t.Fatal("b was not forgotten")
	}
}

func TestFilesAreRememberedInOrder(t *testing.T) {
	s := newState()
	for i := range keepDigests + 2 {
		s.rememberFiles(fmt.Sprint(i))
		s.rememberFiles("2")
	}
	v := View{s}
	if v.KnowsFiles("0") || v.KnowsFiles("1") || !v.KnowsFiles("2") || !v.KnowsFiles(fmt.Sprint(keepDigests+1)) || len(s.digests) != keepDigests {
		t.Fatalf("%d digests are kept", len(s.digests))
	}
}
