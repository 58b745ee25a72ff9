package main

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/apitest"
)

// guarded gives the addresses of a node that asks for tokens: its port, and what stands for its unix socket.
func guarded(t *testing.T, n *apitest.Node) (port, socket string) {
	t.Helper()
	n.Configure(func(s *saltpeter.Settings) { s.Auth = "token" })
	s, err := api.New(api.Config{Node: n, Now: n.Now, Socket: "/run/saltpeter/admin.sock"})
	if err != nil {
		t.Fatal(err)
	}
	out, in := httptest.NewServer(s.Handler(api.OriginNetwork)), httptest.NewServer(s.Handler(api.OriginSocket))
	t.Cleanup(out.Close)
	t.Cleanup(in.Close)
	return out.URL, in.URL
}

func TestTokenCommands(t *testing.T) {
	n := apitest.Scene()
	port, socket := guarded(t, n)
	sp := func(addr, token string, args ...string) (int, string, string) {
		return spctl(t.Context(), n, addr, map[string]string{"SPCTL_TOKEN": token}, args...)
	}
	code, secret, errs := sp(socket, "", "token", "create", "ci", "--role", "viewer", "--expires", "90d")
	secret = strings.TrimSuffix(secret, "\n")
	if code != 0 || !api.IsSecret(secret) || errs != "token ci, role viewer, until 2027-02-21 07:05:00 UTC; it is not shown again:\n" {
		t.Fatalf("exit %d, %q, %q", code, secret, errs)
	}
	code, out, errs := sp(socket, "", "token", "create", "boss", "--role", "admin", "-o", "json")
	var boss api.Token
	if err := json.Unmarshal([]byte(out), &boss); err != nil || code != 0 || errs != "" || !api.IsSecret(boss.Secret) || boss.Role != "admin" || boss.Expires != 0 {
		t.Fatalf("exit %d, %q, %q, %v", code, out, errs, err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(t.TempDir(), "open")
	if err := os.WriteFile(open, []byte(secret), 0o604); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		addr, token string
		args        []string
		code        int
		out, errs   string // parts
	}{
		{port, "", []string{"jobs"}, 4, "", "error: this needs a token of the role viewer or higher, and none was given\n"},
		{port, secret, []string{"jobs"}, 0, "backup_databases", ""},
		{port, "", []string{"jobs", "--token-file", file}, 0, "backup_databases", ""},
		{port, "", []string{"jobs", "--token-file", open}, 0, "backup_databases", "warning: every user of this host can read " + open},
		{port, "", []string{"jobs", "--token-file", file + "x"}, 2, "", "no such file"},
		{port, "", []string{"jobs", "--token", secret}, 0, "backup_databases", "warning: --token shows the token"},
		{port, "nonsense", []string{"jobs"}, 2, "", "error: SPCTL_TOKEN does not hold a token\n"},
		{port, secret, []string{"whoami"}, 0, "ci, role viewer (token)\n", ""},
		{socket, "", []string{"whoami"}, 0, "unknown user, role admin (socket)\n", ""},
		{port, secret, []string{"start", "backup_databases"}, 4, "", "error: ci has the role viewer, and this needs operator\n"},
		{port, secret, []string{"start", "backup_databases", "-o", "json"}, 4, "", `"code":"forbidden"`},
		{port, secret, []string{"token", "list"}, 4, "", "this needs admin"},
		{port, boss.Secret, []string{"start", "backup_databases", "-o", "json"}, 0, `"actor":"boss"`, ""},
		{port, boss.Secret, []string{"token"}, 0, "ci", ""},
		{socket, "", []string{"token", "create", "ci", "--role", "viewer"}, 5, "", `there is a token "ci" already`},
		{socket, "", []string{"token", "create", "c i", "--role", "viewer"}, 2, "", `"c i" can't name a token`},
		{socket, "", []string{"token", "create", "x"}, 2, "", `--role "" is none of viewer, operator, admin`},
		{socket, "", []string{"token", "create", "x", "--role", "root"}, 2, "", `--role "root" is none of`},
		{socket, "", []string{"token", "create", "x", "--role", "admin", "--expires", "never"}, 2, "", `--expires "never" is not a duration`},
		{socket, "", []string{"token", "create", "--role", "admin"}, 2, "", "NAME is missing"},
		{port, boss.Secret, []string{"token", "revoke", "ci"}, 0, "token ci (viewer) is revoked\n", ""},
		{port, boss.Secret, []string{"token", "revoke", "ci"}, 3, "", `there is no token "ci"`},
		{port, secret, []string{"jobs"}, 4, "", "error: token ci was revoked at 2026-11-23T07:05:00Z\n"},
		{socket, "", []string{"token", "list", "--all"}, 0, "revoked", ""},
	}
	for _, s := range steps {
		code, out, errs := sp(s.addr, s.token, s.args...)
		if code != s.code || !strings.Contains(out, s.out) || !strings.Contains(errs, s.errs) {
			t.Errorf("%v: exit %d, %q, %q; want exit %d, %q, %q", s.args, code, out, errs, s.code, s.out, s.errs)
		}
		if strings.Contains(out+errs, secret) || strings.Contains(out+errs, boss.Secret) {
			t.Errorf("%v: shows a secret: %q, %q", s.args, out, errs)
		}
	}
	if _, out, _ := sp(socket, "", "token", "list"); strings.Contains(out, "ci") || !strings.Contains(out, "boss") {
		t.Errorf("list: %q", out)
	}
}

// TestBanner: that nobody is asked for a token is told with every answer, but never between the bytes of one.
func TestBanner(t *testing.T) {
	n := apitest.Scene()
	addr := serve(t, n)
	for _, test := range []struct {
		args []string
		ends bool
	}{
		{[]string{"jobs"}, true}, {[]string{"jobs", "-o", "json"}, true}, {[]string{"runs", "show", "nothing"}, true},
		{[]string{"runs", "show", "nothing", "-o", "json"}, false}, {[]string{"status"}, false}, {[]string{"status", "-o", "json"}, true},
	} {
		var out, errs buffer
		env := environment{out: &out, errs: &errs, now: n.Now, socket: "/nonexistent", env: func(string) string { return "" }}
		run(t.Context(), env, append([]string{"--addr", addr}, test.args...))
		if strings.HasSuffix(errs.String(), bannerLine) != test.ends || strings.Count(out.String()+errs.String(), api.Banner) > 2 {
			t.Errorf("%v: %q, %q", test.args, out.String(), errs.String())
		}
		if test.args[0] == "status" && !strings.Contains(out.String(), api.Banner) {
			t.Errorf("%v: %q", test.args, out.String())
		}
	}
}
