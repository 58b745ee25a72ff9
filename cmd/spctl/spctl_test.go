package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/apitest"
)

// buffer is what a command writes to, from several goroutines.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// serve gives the address of a node that anyone may use.
func serve(t *testing.T, n *apitest.Node) string {
	t.Helper()
	s, err := api.New(api.Config{Node: n, Now: n.Now, Socket: "/run/saltpeter/admin.sock"})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler(api.OriginNetwork))
	t.Cleanup(srv.Close)
	return srv.URL
}

// bannerLine is what follows everything on standard error where nobody is asked for a token.
const bannerLine = "! " + api.Banner + "\n"

// spctl runs a command line against addr. The banner is taken off: TestBanner looks for it.
func spctl(ctx context.Context, n *apitest.Node, addr string, vars map[string]string, args ...string) (code int, out, errs string) {
	var o, e buffer
	env := environment{
		out: &o, errs: &e, now: n.Now, socket: "/nonexistent",
		env: func(name string) string {
			if v, ok := vars[name]; ok {
				return v
			}
			return map[string]string{"SPCTL_ADDR": addr}[name]
		},
	}
	code = run(ctx, env, args)
	return code, o.String(), strings.TrimSuffix(e.String(), bannerLine)
}

var (
	drawnKey  = regexp.MustCompile(`spctl-[A-Z2-7]{26}`)
	requestID = regexp.MustCompile(`"request_id":"[0-9a-f]{16}"`)
	localAddr = regexp.MustCompile(`127\.0\.0\.1:\d+`)
)

// screen gives all that a command line showed, without what differs each time.
func screen(code int, out, errs string, args []string) []byte {
	text := fmt.Sprintf("$ spctl %s\n%s--- stderr\n%s--- exit %d\n", strings.Join(args, " "), out, errs, code)
	text = drawnKey.ReplaceAllString(text, "spctl-KEY")
	text = requestID.ReplaceAllString(text, `"request_id":"ID"`)
	return []byte(localAddr.ReplaceAllString(text, "ADDR"))
}

const (
	failedRun = "backup_databases_1795399500"
	goingRun  = "cache/warm ☃ 100%_1795417495"
)

// TestScreens pins what every command shows, for people and as JSON, and its exit code.
func TestScreens(t *testing.T) {
	tests := []struct {
		name string
		args []string
	}{
		{"bare", nil},
		{"status", []string{"status"}},
		{"status-color", []string{"status", "--color", "always"}},
		{"status-argument", []string{"status", "now"}},
		{"jobs", []string{"jobs"}},
		{"jobs-group", []string{"jobs", "--group", "infra"}},
		{"jobs-show", []string{"jobs", "show", "backup_databases"}},
		{"jobs-show-typo", []string{"jobs", "show", "backup_databses"}},
		{"jobs-skips", []string{"jobs", "skips", "backup_databases"}},
		{"jobs-skips-none", []string{"jobs", "skips", "rotate_certs"}},
		{"jobs-skips-typo", []string{"jobs", "skips", "rotate"}},
		{"jobs-typo", []string{"jobs", "puase"}},
		{"jobs-pause", []string{"jobs", "pause", "backup_databases", "--for", "2h", "--reason", "SAN firmware"}},
		{"jobs-pause-json", []string{"jobs", "pause", "backup_databases", "-o", "json"}},
		{"jobs-pause-typo", []string{"jobs", "pause", "rotate_cert"}},
		{"jobs-pause-duration", []string{"jobs", "pause", "backup_databases", "--for", "soon"}},
		{"jobs-resume", []string{"jobs", "resume", "rotate_certs"}},
		{"jobs-resume-not-paused", []string{"jobs", "resume", "backup_databases"}},
		{"explain", []string{"jobs", "explain", "--expr", "30 2 * * mon", "--timezone", "Europe/Bucharest", "--after", "2026-11-23T00:00:00Z", "-n", "3"}},
		{"explain-json", []string{"jobs", "explain", "--expr", "0 0 2 13 * 5 *", "--after", "2026-11-23T00:00:00Z", "-n", "2", "-o", "json"}},
		{"explain-or", []string{"jobs", "explain", "--expr", "0 2 13 * 5", "--day-match", "or", "--after", "2026-11-23T00:00:00Z", "-n", "3"}},
		{"explain-and", []string{"jobs", "explain", "--expr", "0 2 13 * 5", "--day-match", "and", "--after", "2026-11-23T00:00:00Z", "-n", "2"}},
		{"explain-never", []string{"jobs", "explain", "--expr", "0 0 2 30 2 * *"}},
		{"explain-invalid", []string{"jobs", "explain", "--expr", "*/60 25 * * *"}},
		{"explain-invalid-json", []string{"jobs", "explain", "--expr", "*/60 * * * *", "-o", "json"}},
		{"explain-zone", []string{"jobs", "explain", "--expr", "@daily", "--timezone", "Mars/Olympus"}},
		{"explain-no-expr", []string{"jobs", "explain"}},
		{"explain-empty", []string{"jobs", "explain", "--expr", ""}},
		{"explain-n", []string{"jobs", "explain", "--expr", "@daily", "-n", "-1"}},
		{"explain-after", []string{"jobs", "explain", "--expr", "@daily", "--after", "noon"}},
		{"explain-day-match", []string{"jobs", "explain", "--expr", "@daily", "--day-match", "xor"}},
		{"start", []string{"start", "backup_databases", "-m", "db07,db19", "--note", "again"}},
		{"start-json", []string{"start", "backup_databases", "-o", "json"}},
		{"start-typo", []string{"start", "backup-databases"}},
		{"start-typo-json", []string{"start", "backup-databases", "-o", "json"}},
		{"start-no-job", []string{"start"}},
		{"start-two-jobs", []string{"start", "a", "b"}},
		{"start-no-machine", []string{"start", "a", "-m", ","}},
		{"start-empty-key", []string{"start", "a", "--idempotency-key", ""}},
		{"runs", []string{"runs"}},
		{"runs-limit", []string{"runs", "--limit", "2"}},
		{"runs-job", []string{"runs", "backup_databases"}},
		{"runs-job-json", []string{"runs", "backup_databases", "--limit", "1", "-o", "json"}},
		{"runs-job-typo", []string{"runs", "backup_database"}},
		{"runs-state", []string{"runs", "--state", "unfinished"}},
		{"runs-state-typo", []string{"runs", "--state", "fialed"}},
		{"runs-none", []string{"runs", "--state", "killed"}},
		{"runs-limit-bad", []string{"runs", "--limit", "0"}},
		{"runs-show", []string{"runs", "show", failedRun}},
		{"runs-show-json", []string{"runs", "show", failedRun, "-o", "json"}},
		{"runs-show-typo", []string{"runs", "show", "backup_databases_1795399501"}},
		{"runs-show-job", []string{"runs", "show", "backup_databases"}},
		{"runs-machines", []string{"runs", "machines", failedRun}},
		{"runs-machines-state", []string{"runs", "machines", failedRun, "--state", "failed,unreachable"}},
		{"runs-machines-json", []string{"runs", "machines", goingRun, "-o", "json"}},
		{"logs", []string{"logs", failedRun}},
		{"logs-machine", []string{"logs", failedRun, "-m", "db19"}},
		{"logs-machine-typo", []string{"logs", failedRun, "-m", "db9"}},
		{"logs-job", []string{"logs", "backup_databases", "-m", "db07"}},
		{"logs-typo", []string{"logs", "backup_database"}},
		{"logs-raw-many", []string{"logs", failedRun, "--raw"}},
		{"logs-json", []string{"logs", failedRun, "-o", "json"}},
		{"logs-none", []string{"logs", "rotate_certs_1795410300"}},
		{"kill", []string{"kill", goingRun}},
		{"kill-machine", []string{"kill", goingRun, "-m", "web2"}},
		{"kill-machine-typo", []string{"kill", goingRun, "-m", "web3"}},
		{"kill-json", []string{"kill", goingRun, "-o", "json"}},
		{"kill-finished", []string{"kill", failedRun}},
		{"kill-unknown", []string{"kill", "nothing"}},
		{"maintenance", []string{"maintenance"}},
		{"maintenance-show-json", []string{"maintenance", "show", "-o", "json"}},
		{"maintenance-on", []string{"maintenance", "on", "--group", "db", "--for", "2h", "--reason", "SAN firmware"}},
		{"maintenance-on-all", []string{"maintenance", "on", "--all", "--forever"}},
		{"maintenance-on-json", []string{"maintenance", "on", "-m", "db07", "--forever", "-o", "json"}},
		{"maintenance-on-nothing", []string{"maintenance", "on", "--forever"}},
		{"maintenance-on-two", []string{"maintenance", "on", "--all", "--job", "x", "--forever"}},
		{"maintenance-on-no-length", []string{"maintenance", "on", "--all"}},
		{"maintenance-on-two-lengths", []string{"maintenance", "on", "--all", "--for", "2h", "--forever"}},
		{"maintenance-on-empty", []string{"maintenance", "on", "--group", "", "--forever"}},
		{"maintenance-on-group-typo", []string{"maintenance", "on", "--group", "dbs", "--forever"}},
		{"maintenance-on-job-typo", []string{"maintenance", "on", "--job", "backup", "--forever"}},
		{"maintenance-off", []string{"maintenance", "off", "--all"}},
		{"maintenance-off-file", []string{"maintenance", "off", "-m", "server01"}},
		{"maintenance-typo", []string{"maintenance", "of"}},
		{"version", []string{"version", "-o", "json"}},
		{"config-check", []string{"config", "check", "testdata/config/bad"}},
		{"config-check-json", []string{"config", "check", "testdata/config/bad", "-o", "json"}},
		{"config-check-good", []string{"config", "check", "testdata/config/good"}},
		{"config-check-missing", []string{"config", "check", "testdata/config/none"}},
		{"config-typo", []string{"config", "chek"}},
		{"typo", []string{"strat", "backup_databases"}},
		{"flag-typo", []string{"start", "backup_databases", "--fllow"}},
		{"format", []string{"status", "-o", "yaml"}},
		{"color", []string{"status", "--color", "purple"}},
		{"timeout", []string{"status", "--timeout", "later"}},
		{"addr", []string{"status", "--addr", "ftp://x"}},
		{"events", []string{"events"}},
		{"events-topic", []string{"events", "--topics", "skips", "--since", "1-1", "-o", "json"}},
		{"events-bad-topic", []string{"events", "--topics", "job"}},
		{"events-bad-id", []string{"events", "--since", "yesterday"}},
		{"help", []string{"--help"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			n := apitest.Scene()
			code, out, errs := spctl(t.Context(), n, serve(t, n), nil, test.args...)
			if test.name == "version" {
				out = regexp.MustCompile(`"version":"devel[^"]*"`).ReplaceAllString(out, `"version":"BUILD"`)
			}
			apitest.Golden(t, test.name+".golden", screen(code, out, errs, test.args))
		})
	}
}

// TestExitCodes pins the exit code of every error code that a node may answer with, and the form of the error.
func TestExitCodes(t *testing.T) {
	want := map[saltpeter.ErrorCode]int{
		saltpeter.CodeInvalid: 2, saltpeter.CodeTooLarge: 2, saltpeter.CodeNotFound: 3, saltpeter.CodeUnauthenticated: 4, saltpeter.CodeForbidden: 4,
		saltpeter.CodeConflict: 5, saltpeter.CodeMismatch: 5, saltpeter.CodeTooMany: 6, saltpeter.CodeNoLeader: 6, saltpeter.CodeUnavailable: 6,
		saltpeter.CodeTimeout: 7, saltpeter.CodeConfig: 8, saltpeter.CodeInternal: 1,
	}
	if len(want) != len(exitCodes) {
		t.Errorf("the table has %d codes, the test %d", len(exitCodes), len(want))
	}
	for code, exit := range want {
		t.Run(string(code), func(t *testing.T) {
			t.Parallel()
			n := apitest.Scene()
			n.Fail(saltpeter.Errorf(code, "it went wrong").WithHint("mend it"))
			addr := serve(t, n)
			got, out, errs := spctl(t.Context(), n, addr, nil, "jobs")
			if got != exit || out != "" || errs != "error: it went wrong\n  mend it\n" {
				t.Errorf("exit %d, stdout %q, stderr %q; want exit %d", got, out, errs, exit)
			}
			got, out, errs = spctl(t.Context(), n, addr, nil, "jobs", "-o", "json")
			var p api.Problem
			if err := json.Unmarshal([]byte(errs), &p); err != nil || got != exit || out != "" || p.Code != code || p.Hint != "mend it" {
				t.Errorf("json: exit %d, stdout %q, stderr %q (%v)", got, out, errs, err)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	n := apitest.New()
	code, _, errs := spctl(t.Context(), n, "http://"+addr, nil, "status")
	if code != exitUnreachable || !strings.HasPrefix(errs, "error: http://"+addr+" does not answer: ") {
		t.Errorf("exit %d, %q", code, errs)
	}
	code, out, _ := spctl(t.Context(), n, "http://"+addr, nil, "version")
	if code != 0 || !strings.Contains(out, "does not answer") {
		t.Errorf("version: exit %d, %q", code, out)
	}
}

func TestNotAuthenticated(t *testing.T) {
	n := apitest.Scene()
	n.Configure(func(s *saltpeter.Settings) { s.Auth = "token" })
	code, _, errs := spctl(t.Context(), n, serve(t, n), nil, "jobs")
	if code != exitForbidden || !strings.Contains(errs, "\n  SPCTL_ADDR=unix:///run/saltpeter/admin.sock spctl token create") {
		t.Errorf("exit %d, %q", code, errs)
	}
}

func TestStatusTellsIllHealth(t *testing.T) {
	n := apitest.Scene()
	n.SetStatus(func(s *api.NodeStatus) { s.Leader = "" })
	n.Fail(saltpeter.Errorf(saltpeter.CodeNoLeader, "no leader"))
	code, out, _ := spctl(t.Context(), n, serve(t, n), nil, "status")
	if code != exitFailed || !strings.Contains(out, "no leader") || !strings.Contains(out, "! this is what the node knows by itself") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

// TestAddresses pins the order of flag, variable, socket and default.
func TestAddresses(t *testing.T) {
	n := apitest.Scene()
	addr := serve(t, n)
	path := filepath.Join(t.TempDir(), "admin.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := api.New(api.Config{Node: n, Now: n.Now})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, ln, api.OriginSocket) }()
	defer func() {
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	ask := func(vars map[string]string, socket string, args ...string) int {
		return run(t.Context(), environment{out: io.Discard, errs: io.Discard, now: n.Now, socket: socket, env: func(k string) string { return vars[k] }}, append(args, "jobs", "pause", "rotate_certs"))
	}
	tests := []struct {
		name   string
		vars   map[string]string
		socket string
		args   []string
		origin string
	}{
		{"socket", nil, path, nil, "unix socket"},
		{"variable before socket", map[string]string{"SPCTL_ADDR": addr}, path, nil, "127.0.0.1"},
		{"flag before variable", map[string]string{"SPCTL_ADDR": addr}, path, []string{"--addr", "unix://" + path}, "unix socket"},
		{"a list", map[string]string{"SPCTL_ADDR": "unix:///nonexistent," + addr}, path, nil, "127.0.0.1"},
	}
	for _, test := range tests {
		if code := ask(test.vars, test.socket, test.args...); code != 0 {
			t.Errorf("%s: exit %d", test.name, code)
		}
		actors := n.Actors()
		if last := actors[len(actors)-1]; !strings.HasPrefix(last.Origin, test.origin) {
			t.Errorf("%s: came from %q, want %q", test.name, last.Origin, test.origin)
		}
	}
}

func TestColor(t *testing.T) {
	tests := []struct {
		tty  bool
		flag string
		vars map[string]string
		want bool
	}{
		{false, "auto", nil, false}, {true, "auto", nil, true}, {true, "never", nil, false}, {false, "always", nil, true},
		{true, "auto", map[string]string{"NO_COLOR": "1"}, false}, {false, "auto", map[string]string{"CLICOLOR_FORCE": "1"}, true},
		{true, "auto", map[string]string{"TERM": "dumb"}, false}, {false, "auto", map[string]string{"CLICOLOR_FORCE": "0"}, false},
	}
	for _, test := range tests {
		c := &cli{environment: environment{tty: test.tty, env: func(k string) string { return test.vars[k] }}, color: test.flag}
		if got := c.paint(red, "x") != "x"; got != test.want {
			t.Errorf("%+v: painted %v", test, got)
		}
	}
}

// TestNothingOfOthersSteersTheTerminal: names and notes come from files and people.
func TestNothingOfOthersSteersTheTerminal(t *testing.T) {
	n := apitest.New()
	n.AddJob("evil\u009b31m", func(s *saltpeter.JobStatus) { s.Job.Group = "g\x1b[2J" })
	n.AddRun("evil\u009b31m", n.Now(), "m\r\x07")
	addr := serve(t, n)
	for _, args := range [][]string{{"jobs"}, {"runs"}, {"status"}, {"jobs", "show", "evil\u009b31m"}, {"jobs", "show", "evil\u009b31"}, {"jobs", "pause", "evil\u009b31m"}} {
		_, out, errs := spctl(t.Context(), n, addr, nil, args...)
		if strings.ContainsAny(out+errs, "\x1b\r\x07\u009b") {
			t.Errorf("%q shows control characters:\n%q\n%q", args, out, errs)
		}
	}
}
