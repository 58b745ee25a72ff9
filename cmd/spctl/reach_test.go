package main

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/apitest"
)

// fakeReach is two masters with some machines, of which one is known to neither.
type fakeReach struct{}

func (fakeReach) Match(_ context.Context, kind string, targets []string, ping bool) (api.Matched, error) {
	out := api.Matched{TargetType: kind, Targets: targets, Launcher: "salt", Pinged: ping, Machines: []api.MatchedMachine{}}
	switch {
	case kind == "nodegroup":
		return out, saltpeter.Errorf(saltpeter.CodeConfig, "nodegroup: %s: salt01: target expression is not understood by salt: unknown nodegroup", targets[0]).
			WithHint("correct targets or target_type of the job")
	case kind == "range":
		return out, saltpeter.Errorf(saltpeter.CodeUnavailable, "no Salt master could say: no Salt master is known").WithHint("see: spctl doctor")
	case slices.Contains(targets, "nothing*"):
		return out, nil
	}
	out.Failed = []string{"salt02: salt denies it: no right for wheel"}
	yes, no := true, false
	out.Machines = []api.MatchedMachine{{Machine: "db07", Known: true, Masters: []string{"salt01", "salt03"}}, {Machine: "db19", Known: true, Masters: []string{"salt01"}}, {Machine: "ghost"}}
	out.Unknown = 1
	if ping {
		out.Machines[0].Up, out.Machines[1].Up, out.Machines[2].Up = &yes, &no, &no
	}
	return out, nil
}

func (fakeReach) Diagnose(_ context.Context, machines []string) (api.Health, error) {
	if len(machines) == 0 {
		return api.Health{Healthy: true, Checks: []api.Check{{Level: api.LevelOK, Check: "master", Text: "salt01 answers"}}}, nil
	}
	return api.Health{Checks: []api.Check{
		{Level: api.LevelFail, Check: "wrapper", Machine: "web-12", Text: "minion web-12 answered ping but sp_wrapper is missing (exit 127)", Hint: "install with: salt 'web-12' state.apply saltpeter.wrapper"},
		{Level: api.LevelWarn, Check: "clock", Node: "sp-1", Text: "1.8s off the leader's (limit 1s)", Hint: "check NTP on it and on the leader"},
		{Level: api.LevelOK, Check: "ping", Machine: "web-12", Text: "answers"},
	}}, nil
}

// reachServer gives the address of a node with that reach, and its scene with jobs for it.
func reachServer(t *testing.T) (*apitest.Node, string) {
	t.Helper()
	n := apitest.Scene()
	job := func(name, kind, target string, f func(*saltpeter.Job)) {
		n.AddJob(name, func(j *saltpeter.JobStatus) {
			j.Job.TargetType, j.Job.Targets = kind, []string{target}
			if f != nil {
				f(j.Job)
			}
		})
	}
	job("match", "compound", "G@role:db or L@ghost", func(j *saltpeter.Job) { j.NumberOfTargets, j.Batch = 1, saltpeter.Batch{Size: 10} })
	job("group", "nodegroup", "nosuch", nil)
	job("range", "range", "%x", nil)
	job("none", "glob", "nothing*", func(j *saltpeter.Job) { j.Group = "frozen" })
	n.AddWindow(saltpeter.Window{Scope: saltpeter.ScopeMachine, Name: "db07", FromMillis: 1, Reason: "new disk"})
	n.AddWindow(saltpeter.Window{Scope: saltpeter.ScopeMachine, Name: "db19", FromMillis: 1, OffMillis: 2})
	n.AddWindow(saltpeter.Window{Scope: saltpeter.ScopeGroup, Name: "frozen", FromMillis: 1, Reason: "SAN firmware"})
	s, err := api.New(api.Config{Node: n, Reach: fakeReach{}, Now: n.Now})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler(api.OriginNetwork))
	t.Cleanup(srv.Close)
	return n, srv.URL
}

func TestTargetsCommand(t *testing.T) {
	n, addr := reachServer(t)
	tests := map[string]struct {
		args string
		code int
	}{
		"targets":           {"jobs targets match", 0},
		"targets-ping":      {"jobs targets match --ping", 0},
		"targets-json":      {"jobs targets match --ping -o json", 0},
		"targets-none":      {"jobs targets none", 0},
		"targets-typo":      {"jobs targets macth", exitNotFound},
		"targets-nodegroup": {"jobs targets group", exitInvalidConfig},
		"targets-no-master": {"jobs targets range", exitUnreachable},
		"targets-missing":   {"jobs targets", exitUsage},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			args := strings.Fields(tt.args)
			code, out, errs := spctl(t.Context(), n, addr, nil, args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			apitest.Golden(t, name+".golden", screen(code, out, errs, args))
		})
	}
}

func TestDoctorCommand(t *testing.T) {
	n, addr := reachServer(t)
	tests := map[string]struct {
		args string
		code int
	}{
		"doctor":         {"doctor", 0},
		"doctor-machine": {"doctor web-12", exitFailed},
		"doctor-json":    {"doctor web-12 -o json", exitFailed},
		"doctor-many":    {"doctor" + manyMachines(101), exitUsage},
		"doctor-help":    {"doctor --help", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			args := strings.Fields(tt.args)
			code, out, errs := spctl(t.Context(), n, addr, nil, args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			apitest.Golden(t, name+".golden", screen(code, out, errs, args))
		})
	}
}

// manyMachines names n machines.
func manyMachines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, " m%d", i)
	}
	return b.String()
}

func TestConfigCheckOnline(t *testing.T) {
	n, addr := reachServer(t)
	tests := map[string]struct {
		args string
		code int
	}{
		"config-online":           {"config check --online testdata/config/online", exitInvalidConfig},
		"config-online-json":      {"config check --online testdata/config/online -o json", exitInvalidConfig},
		"config-online-no-master": {"config check --online testdata/config/range", exitUnreachable},
		"config-offline":          {"config check testdata/config/online", 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			args := strings.Fields(tt.args)
			code, out, errs := spctl(t.Context(), n, addr, nil, args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			apitest.Golden(t, name+".golden", screen(code, out, errs, args))
		})
	}
}
