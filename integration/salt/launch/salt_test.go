package launch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/integration/rig"
	"github.com/syscollective/saltpeter/integration/salt/saltrig"
	"github.com/syscollective/saltpeter/saltclient"
)

// publishing has Salt's own client publish what is on stdin, and prints what it expects or, if asked for, what came back.
const publishing = `
import json, sys, salt.client, salt.config
p = json.load(sys.stdin)
c = salt.client.LocalClient(mopts=salt.config.master_config(p["conf"]))
if p["wait"]:
    json.dump(c.cmd(p["tgt"], p["fun"], [], tgt_type="list", kwarg=p["kwarg"], full_return=True, timeout=20), sys.stdout)
else:
    json.dump(c.run_job(p["tgt"], p["fun"], [], tgt_type="list", jid=p["jid"], kwarg=p["kwarg"])["minions"], sys.stdout)
`

// returned is what a minion gave back.
type returned struct {
	Ret     json.RawMessage `json:"ret"`
	Retcode int             `json:"retcode"`
}

func (r returned) String() string { return string(r.Ret) }

// salted is a Salt with our states, and the programs under test.
type salted struct {
	*saltrig.Rig
	path string // where the wrapper is to be on the machines
}

const (
	oddID     = "Büro 1,'x'$(y) {z}"
	oddFolder = "it's a {folder}" // of the wrapper
)

// up starts a master with minions, with the states of deploy/salt and the wrapper built now.
func up(t *testing.T) *salted {
	t.Helper()
	if os.Getenv("SALT_RIG") == "" {
		t.Skip("needs real Salt: make integration")
	}
	root, err := rig.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	states := t.TempDir()
	if err := errors.Join(os.Chmod(states, 0o755), os.CopyFS(states, os.DirFS(filepath.Join(root, "deploy/salt"))), os.MkdirAll(states+"/saltpeter/files", 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", states+"/saltpeter/files/sp_wrapper-linux-"+arch, "./cmd/sp_wrapper")
		build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	s := &salted{path: filepath.Join(t.TempDir(), oddFolder, "sp_wrapper")}
	s.Rig = saltrig.Start(t, saltrig.Options{Masters: 1, Minions: 3, IDs: []string{oddID}, States: states})
	return s
}

// publish gives what run_job or, with wait, every minion's return says.
func (s *salted) publish(ctx context.Context, p *saltclient.Publication, wait bool, out any) error {
	in, err := json.Marshal(map[string]any{
		"conf": filepath.Join(s.Masters[0].Conf, "master"), "tgt": p.Target.Text, "fun": p.Function, "kwarg": p.Kwargs, "jid": p.ID.String(), "wait": wait,
	})
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, s.Python, "-c", publishing)
	cmd.Stdin = bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if err != nil {
		return errors.Join(err, errors.New(stderr.String()))
	}
	return json.Unmarshal(b, out)
}

// do publishes for a test and waits for the returns.
func (s *salted) do(t *testing.T, p *saltclient.Publication) map[string]returned {
	t.Helper()
	p.Target = saltclient.Expression{Type: "list", Text: s.IDs()}
	var got map[string]returned
	if err := s.publish(t.Context(), p, true, &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(s.Minions) {
		t.Fatalf("%d of %d minions returned: %v", len(got), len(s.Minions), got)
	}
	return got
}

// install applies the state on a machine and gives what it changed.
func (s *salted) install(t *testing.T, m saltrig.Minion) (changed []string) {
	t.Helper()
	pillar, err := json.Marshal(map[string]any{"saltpeter": map[string]any{"wrapper": map[string]any{"path": s.path}}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Call(t.Context(), m, "state.apply", "saltpeter.wrapper", "pillar="+string(pillar))
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var answer struct {
		Local map[string]struct {
			Result  bool           `json:"result"`
			Changes map[string]any `json:"changes"`
			Comment string         `json:"comment"`
		} `json:"local"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil || len(answer.Local) != 2 {
		t.Fatalf("%v: %s", err, out)
	}
	for id, state := range answer.Local {
		if !state.Result {
			t.Fatalf("%s: %s", id, state.Comment)
		}
		if len(state.Changes) > 0 {
			changed = append(changed, strings.Split(id, "_|-")[1])
		}
	}
	return changed
}

// starter makes publications as a node does.
func (s *salted) starter(module bool) *saltclient.Starter {
	return &saltclient.Starter{
		Cluster: "0b7e5c1e-5d5c-4f0e-9a37-1c2f6d1f0a11", Module: module,
		Identity: func() string { return saltpeter.IdentitySaltKey },
		URLs:     func(*saltpeter.Job) []string { return []string{"wss://127.0.0.1:1"} },
		Secrets:  func(saltpeter.LaunchID) (string, string, error) { return "token", strings.Repeat("ab", 32), nil },
	}
}
