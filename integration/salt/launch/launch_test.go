package launch

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/saltclient"
)

// From minions that know nothing of Saltpeter to runs on them: what is missing is said, the states install it, and both ways of
// launching start wrappers that prove themselves by their minions' keys.
func TestFromBareMinionsToRuns(t *testing.T) {
	s := up(t)
	t.Run("what is missing is said", s.testMissing)
	t.Run("states", s.testStates)
	if t.Failed() {
		return
	}
	t.Run("argv", s.testArguments)
	t.Run("module", s.testModule)
	n := newNode(t, s)
	t.Run("runs by cmd.run_all", func(t *testing.T) { n.testRun(t, false) })
	t.Run("runs by the module", func(t *testing.T) { n.testRun(t, true) })
	t.Run("another minion's id", n.testStolen)
	t.Run("outlives its minion", n.testOutlives)
}

func (s *salted) publication(t *testing.T, module bool) *saltclient.Publication {
	t.Helper()
	p, err := s.starter(module).Publication(&saltpeter.Launch{ID: saltpeter.LaunchIDAt(time.Now())}, &saltpeter.Job{WrapperPath: s.path}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (s *salted) testMissing(t *testing.T) {
	for id, got := range s.do(t, s.publication(t, false)) {
		var ret struct {
			Retcode int    `json:"retcode"`
			Stderr  string `json:"stderr"`
		}
		if err := json.Unmarshal(got.Ret, &ret); err != nil || ret.Retcode != 127 || !strings.Contains(ret.Stderr, "not at "+s.path+": salt MINION state.apply saltpeter.wrapper") {
			t.Errorf("%s without the wrapper: %v", id, got)
		}
	}
	for id, got := range s.do(t, &saltclient.Publication{Function: "saltutil.sync_modules"}) {
		if !strings.Contains(got.String(), "modules.saltpeter") {
			t.Errorf("%s: %v", id, got)
		}
	}
	for id, got := range s.do(t, s.publication(t, true)) {
		if got.Retcode == 0 || !strings.Contains(got.String(), "not at "+s.path) || !strings.Contains(got.String(), "state.apply saltpeter.wrapper") {
			t.Errorf("%s without the wrapper, by the module: %v", id, got)
		}
	}
}

func (s *salted) testStates(t *testing.T) {
	changed := s.install(t, s.Minions[1])
	slices.Sort(changed)
	if !slices.Equal(changed, []string{"sp_wrapper", "sp_wrapper works"}) {
		t.Errorf("the first time it changed %q", changed)
	}
	if changed := s.install(t, s.Minions[0]); len(changed) != 0 {
		t.Errorf("the second time it changed %q", changed)
	}
	if info, err := os.Stat(s.path); err != nil || info.Mode() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.WriteFile(s.path, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if changed := s.install(t, s.Minions[1]); len(changed) != 2 {
		t.Errorf("a damaged one: it changed %q", changed)
	}
}

// What each minion makes of the text, with Salt's own jinja and splitter: the program writes its arguments down.
func (s *salted) testArguments(t *testing.T) {
	p := s.publication(t, false)
	p.Kwargs["cmd"] = strings.Replace(p.Kwargs["cmd"].(string), "/bin/sh -c", "/usr/bin/python3 -c 'import json, sys; json.dump(sys.argv[1:], sys.stdout)'", 1)
	pki := map[string]string{}
	for _, m := range s.Minions {
		pki[m.ID] = m.PKI
	}
	for id, got := range s.do(t, p) {
		var ret struct{ Stdout string }
		var argv []string
		if err := json.Unmarshal(got.Ret, &ret); err != nil || json.Unmarshal([]byte(ret.Stdout), &argv) != nil {
			t.Fatalf("%s: %v", id, got)
		}
		after := func(flag string) string { return argv[slices.Index(argv, flag)+1] }
		if argv[1] != s.path || after("--machine") != id || after("--key") != pki[id]+"/minion.pem" || !strings.HasSuffix(after("--state"), "/sp_wrapper") || len(argv) != 23 {
			t.Errorf("%s: %q", id, argv)
		}
	}
}

func (s *salted) testModule(t *testing.T) {
	version := &saltclient.Publication{Function: "saltpeter.version", Kwargs: map[string]any{"wrapper": s.path}}
	for id, got := range s.do(t, version) {
		if got.Retcode != 0 || len(got.String()) < 4 || strings.Contains(got.String(), "sp_wrapper") {
			t.Errorf("%s: %v", id, got)
		}
	}
	notOurs := s.publication(t, true)
	notOurs.Kwargs["wrapper"] = "/bin/false"
	wrong := s.publication(t, true)
	wrong.Kwargs["pin"] = "ab"
	for what, p := range map[string]*saltclient.Publication{"ended with code 1": notOurs, "pin": wrong} {
		for id, got := range s.do(t, p) {
			if got.Retcode == 0 || !strings.Contains(got.String(), "ERROR: ") || !strings.Contains(got.String(), what) {
				t.Errorf("%s: %s: %v", id, what, got)
			}
		}
	}
}
