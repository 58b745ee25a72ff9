package launch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/spf13/pflag"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
	"github.com/syscollective/saltpeter/app"
	"github.com/syscollective/saltpeter/config"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/keys"
	"github.com/syscollective/saltpeter/saltclient"
	"github.com/syscollective/saltpeter/scheduler"
	"github.com/syscollective/saltpeter/wsgateway"
)

// node is a node that launches through Salt's own client.
type node struct {
	s       *salted
	c       *client.Client
	machine *fsm.Machine
	ring    *keys.Ring
	cluster string
	gateway string

	module bool
	only   string                          // if set, launches go to this minion alone
	change func(p *saltclient.Publication) // of what is published
}

func newNode(t *testing.T, s *salted) *node {
	t.Helper()
	dir := t.TempDir()
	wrapperPort, apiPort := freePort(t), freePort(t)
	n := &node{s: s, gateway: "127.0.0.1:" + wrapperPort, change: func(*saltclient.Publication) {}}
	conf, err := json.Marshal(map[string]any{ // JSON is YAML
		"saltpeter_config": map[string]any{"launcher": "local", "machines_ws_port": json.Number(wrapperPort), "start_window": 8, "silence_to_ping": 2, "ping_timeout": 2},
		"hello":            jobOf(s.path, "sleep 0.3; echo done by $PPID"),
		"long":             jobOf(s.path, "sleep 6; echo done"),
	})
	if err := errors.Join(err, os.Mkdir(dir+"/config", 0o755), os.WriteFile(dir+"/config/a.yaml", conf, 0o644), os.WriteFile(dir+"/node.yaml", []byte("{}"), 0o644)); err != nil {
		t.Fatal(err)
	}
	a, err := app.New(app.Options{Node: ownSettings(t, dir, apiPort), Log: slog.New(slog.NewTextHandler(t.Output(), nil)), Seams: app.Seams{
		FSM:      func(m *fsm.Machine) raft.FSM { n.machine = m; return m },
		Launcher: func(scheduler.Launcher) scheduler.Launcher { return launcher{n} },
		Identity: wsgateway.NewSaltKeys(n.key, 0),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if n.ring, err = keys.Load(dir + "/data/key"); err != nil {
		t.Fatal(err)
	}
	var ident struct {
		ClusterID string `json:"cluster_id"`
	}
	text, err := os.ReadFile(dir + "/data/node.json")
	if err := errors.Join(err, json.Unmarshal(text, &ident)); err != nil || ident.ClusterID == "" {
		t.Fatalf("%v: %s", err, text)
	}
	n.cluster = ident.ClusterID
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, a.Close()); err != nil {
			t.Error(err)
		}
	})
	addrs, err := client.ParseAddrs("unix://" + dir + "/sock")
	if err != nil {
		t.Fatal(err)
	}
	if n.c, err = client.New(client.Config{Addrs: addrs, UserAgent: "test"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.c.Close)
	return n
}

func jobOf(wrapper, command string) map[string]any {
	return map[string]any{"command": command, "targets": "*", "target_type": "glob", "user": "root", "cwd": "/", "wrapper_path": wrapper, "schedule": "@yearly"}
}

func freePort(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func ownSettings(t *testing.T, dir, port string) config.Node {
	t.Helper()
	fs := pflag.NewFlagSet("node", pflag.ContinueOnError)
	config.AddFlags(fs)
	if err := fs.Parse([]string{"-c", dir + "/config", "-l", dir + "/log", "--data-dir", dir + "/data", "--socket", dir + "/sock",
		"--bind", "127.0.0.1", "--port", port, "--name", "n", "--node-file", dir + "/node.yaml"}); err != nil {
		t.Fatal(err)
	}
	own, problems := config.ReadNode(fs, nil)
	for _, p := range problems {
		if p.Level == config.LevelError {
			t.Fatal(p.String())
		}
	}
	return own
}

// key reads what the master has accepted.
func (n *node) key(_ context.Context, machine string) ([]byte, error) {
	return os.ReadFile(filepath.Join(n.s.Masters[0].PKI, "minions", filepath.Base(machine)))
}

// launcher publishes what saltclient makes.
type launcher struct{ n *node }

func (l launcher) Resolve(_ context.Context, _ saltpeter.Job, subset []string, _ bool) ([]saltpeter.Resolved, error) {
	var out []saltpeter.Resolved
	for _, id := range l.n.s.IDs() {
		if len(subset) == 0 || slices.Contains(subset, id) {
			out = append(out, saltpeter.Resolved{Machine: id, Up: true})
		}
	}
	return out, nil
}

func (l launcher) Certain() bool { return false }

func (l launcher) Ping(_ context.Context, machines []string) ([]string, error) { return machines, nil }

func (l launcher) Publish(ctx context.Context, launch *saltpeter.Launch, job *saltpeter.Job, window time.Duration) error {
	n := l.n
	starter := n.s.starter(n.module)
	starter.Cluster, starter.URLs = n.cluster, func(*saltpeter.Job) []string { return []string{"wss://" + n.gateway} }
	starter.Secrets = func(id saltpeter.LaunchID) (string, string, error) {
		v := n.machine.View()
		token, pin, ok := n.ring.Launch(v.LaunchKey(id), v.Epoch(), n.cluster, id.String())
		if !ok {
			return "", "", errors.New("no such key")
		}
		return token, pin.String(), nil
	}
	p, err := starter.Publication(launch, job, window)
	if err != nil {
		return err
	}
	p.Target.Text = launch.Machines
	if n.only != "" {
		p.Target.Text = []string{n.only}
	}
	n.change(p)
	var minions []string
	if err := n.s.publish(ctx, p, false, &minions); err != nil {
		return err
	}
	if len(minions) != len(p.Target.Text) {
		return fmt.Errorf("only %q", minions)
	}
	return nil
}

// start starts a job by hand.
func (n *node) start(t *testing.T, job string, machines ...string) string {
	t.Helper()
	var run client.Answer[api.Run]
	await(t, "the start of "+job, 20*time.Second, func() (err error) {
		run, err = n.c.Start(t.Context(), client.Start{Job: job, Machines: machines})
		return err
	})
	return run.Value.ID
}

// ended waits for the outcome of all machines of a run.
func (n *node) ended(t *testing.T, run string) map[string]api.Machine {
	t.Helper()
	out := map[string]api.Machine{}
	await(t, "the end of "+run, 40*time.Second, func() error {
		list, err := n.c.Machines(t.Context(), run, nil, 100)
		if err != nil {
			return err
		}
		clear(out)
		for _, m := range list.Items {
			out[m.Machine] = m
			if !m.Final() {
				return fmt.Errorf("%s is %s", m.Machine, m.State)
			}
		}
		return nil
	})
	return out
}

func await(t *testing.T, what string, limit time.Duration, f func() error) {
	t.Helper()
	for end := time.Now().Add(limit); ; <-time.After(50 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", what, err)
		}
	}
}

func (n *node) testRun(t *testing.T, module bool) {
	n.module = module
	run := n.start(t, "hello")
	got := n.ended(t, run)
	if len(got) != len(n.s.Minions) {
		t.Errorf("%d machines", len(got))
	}
	for id, m := range got {
		var out strings.Builder
		if err := n.c.Output(t.Context(), run, id, 0, false, &out); err != nil || m.State != "ok" || !strings.HasPrefix(out.String(), "done by ") {
			t.Errorf("%s: %+v, %v, %q", id, m, err, out.String())
		}
	}
}

// A minion that uses the launch of another, token included, gets nothing.
func (n *node) testStolen(t *testing.T) {
	ids := n.s.IDs()
	n.module, n.only = false, ids[1]
	n.change = func(p *saltclient.Publication) {
		p.Kwargs["cmd"] = strings.Replace(p.Kwargs["cmd"].(string), "{{ opts['id'] | string | quote }}", ids[2], 1)
	}
	defer func() { n.only, n.change = "", func(*saltclient.Publication) {} }()
	if got := n.ended(t, n.start(t, "hello", ids[2])); len(got) != 1 || got[ids[2]].State != "not-started" || got[ids[2]].Host != "" {
		t.Errorf("got %+v", got)
	}
}

// The minion is killed, and comes back, while its wrapper works.
func (n *node) testOutlives(t *testing.T) {
	for _, n.module = range []bool{false, true} {
		m := n.s.Minions[2]
		run := n.start(t, "long", m.ID)
		await(t, "the command", 20*time.Second, func() error {
			got, err := n.c.Machine(t.Context(), run, m.ID)
			if err == nil && got.Value.State != "started" {
				err = errors.New(got.Value.State)
			}
			return err
		})
		stop := n.s.Kill
		if n.module {
			stop = n.s.Stop
		}
		if err := errors.Join(stop(m.Name), n.s.Start(m.Name)); err != nil {
			t.Fatal(err)
		}
		if got := n.ended(t, run)[m.ID]; got.State != "ok" || got.Presumed {
			t.Errorf("%+v", got)
		}
	}
}
