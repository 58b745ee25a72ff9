package main

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/apitest"
)

// fakeMembers is a cluster of three of which one is down.
type fakeMembers struct{ asked []string }

func (f *fakeMembers) Cluster(context.Context) (api.Cluster, error) {
	contact, clock, lag := int64(31), int64(1800), int64(7)
	led, late, next := int64(6*24*3_600_000), int64(18), api.TimeOf(apitest.Scene().Now().Add(3*time.Second))
	disk, wrappers := 4, 3402
	return api.Cluster{ID: "prod", Leader: "sp-2", Term: 41, Voters: 3, LedMillis: &led, Schedules: &api.Schedules{
		Jobs: 412, Running: 7, Missed: 2, Next: &next, NextJob: "cache_warm", LagMillis: &late,
	}, Members: []api.ClusterMember{
		{Member: api.Member{Name: "sp-1", ID: "1", Address: "10.0.1.11:8890", Voter: true, Version: "1.3.2", Applied: 93, ContactMillis: &contact, ClockMillis: &clock, ConfigDigest: "old"}, State: "follower", Lag: &lag},
		{Member: api.Member{Name: "sp-2", ID: "2", Address: "10.0.1.12:8890", Voter: true, Leader: true, Version: "1.4.0", Applied: 100, ConfigDigest: "new"}, State: "leader", Self: true, DiskUsed: &disk, Wrappers: &wrappers},
		{Member: api.Member{Name: "sp-3", ID: "3", Address: "10.0.1.13:8890", Voter: true, Version: "1.4.0"}, State: "unreachable", Seen: "alive", SeenAddress: "10.0.1.99:8890"},
	}}, nil
}

func (f *fakeMembers) Health(context.Context) (api.Health, error) {
	return api.Health{Checks: []api.Check{
		{Level: api.LevelFail, Check: "member", Node: "sp-3", Text: "does not answer", Hint: "is it running? spctl cluster remove sp-3 if it is gone for good"},
		{Level: api.LevelWarn, Check: "clock", Node: "sp-1", Text: "1.8s ahead (limit 1s)"},
		{Level: api.LevelOK, Check: "leader", Text: "sp-2 leads"},
	}}, nil
}

func (f *fakeMembers) Init(context.Context, saltpeter.Actor) (api.ClusterBegun, error) {
	return api.ClusterBegun{}, saltpeter.Errorf(saltpeter.CodeConflict, "this node is a member of cluster prod already")
}

func (f *fakeMembers) Remove(_ context.Context, _ saltpeter.Actor, node string, force bool) (api.Removed, error) {
	f.asked = append(f.asked, node)
	if !force {
		return api.Removed{}, saltpeter.Errorf(saltpeter.CodeConflict, "removing %s leaves 2 voters (no node may fail)", node).WithHint("add a node first, or use --force")
	}
	return api.Removed{ID: "3", Name: node, Voters: 2}, nil
}

func (f *fakeMembers) Leave(ctx context.Context, by saltpeter.Actor, force bool) (api.Removed, error) {
	return f.Remove(ctx, by, "sp-2", force)
}

func (f *fakeMembers) Transfer(_ context.Context, _ saltpeter.Actor, node string) (api.Transferred, error) {
	return api.Transferred{From: "sp-2", To: node, Term: 42, Millis: 12}, nil
}

func TestClusterCommands(t *testing.T) {
	n := apitest.Scene()
	s, err := api.New(api.Config{Node: n, Cluster: new(fakeMembers), Now: n.Now})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler(api.OriginNetwork))
	defer srv.Close()
	tests := map[string]struct {
		args string
		code int
	}{
		"cluster-status":   {"cluster status", exitFailed},
		"cluster-members":  {"cluster members", 0},
		"cluster-health":   {"cluster health", exitFailed},
		"cluster-init":     {"cluster init", exitConflict},
		"cluster-remove":   {"cluster remove sp-3", exitConflict},
		"cluster-force":    {"cluster remove sp-3 --force", 0},
		"cluster-leave":    {"cluster leave --force", 0},
		"cluster-transfer": {"cluster transfer-leader sp-1", 0},
		"cluster-typo":     {"cluster stauts", exitUsage},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			args := strings.Fields(tt.args)
			code, out, errs := spctl(t.Context(), n, srv.URL, nil, args...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			apitest.Golden(t, name+".golden", screen(code, out, errs, args))
		})
	}
}
