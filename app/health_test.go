package app

import (
	"strings"
	"testing"

	"github.com/syscollective/saltpeter/api"
)

func healthyCluster() (*api.Cluster, map[string]healthReport) {
	lag, clock := int64(3), int64(20)
	cl := &api.Cluster{Leader: "n1", Term: 4, Voters: 3, CanLose: 1}
	reports := map[string]healthReport{}
	for _, name := range []string{"n1", "n2", "n3"} {
		m := api.ClusterMember{Member: api.Member{Name: name, ID: name, Voter: true, Version: "1.0", ConfigDigest: "d"}, State: "follower", Lag: &lag}
		if name == "n1" {
			m.Leader, m.State, m.Lag = true, "leader", nil
		} else {
			m.ClockMillis = &clock
		}
		cl.Members = append(cl.Members, m)
		reports[name] = healthReport{DiskFree: 50, DiskAll: 100}
	}
	return cl, reports
}

func TestHealth(t *testing.T) {
	tests := map[string]struct {
		spoil func(*api.Cluster, map[string]healthReport)
		level string
		want  string // check, node and a part of the text
	}{
		"well":          {func(*api.Cluster, map[string]healthReport) {}, api.LevelOK, ""},
		"no leader":     {func(c *api.Cluster, _ map[string]healthReport) { c.Leader = "" }, api.LevelFail, "leader//no leader"},
		"none may fail": {func(c *api.Cluster, _ map[string]healthReport) { c.CanLose = 0 }, api.LevelWarn, "quorum//no voter of 3"},
		"down":          {func(c *api.Cluster, _ map[string]healthReport) { c.Members[2].State = "unreachable" }, api.LevelFail, "member/n3/does not answer"},
		"no vote":       {func(c *api.Cluster, _ map[string]healthReport) { c.Members[2].Voter = false }, api.LevelWarn, "member/n3/does not vote"},
		"behind":        {func(c *api.Cluster, _ map[string]healthReport) { *c.Members[2].Lag = 5000 }, api.LevelWarn, "lag/n2/5000"},
		"clock shown":   {func(c *api.Cluster, _ map[string]healthReport) { *c.Members[1].ClockMillis = -1500 }, api.LevelWarn, "clock/n2/-1.5s off"},
		"clock":         {func(c *api.Cluster, _ map[string]healthReport) { *c.Members[1].ClockMillis = 5100 }, api.LevelFail, "clock/n2/5.1s off"},
		"version":       {func(c *api.Cluster, _ map[string]healthReport) { c.Members[1].Version = "0.9" }, api.LevelWarn, "version/n2/runs 0.9"},
		"files differ":  {func(c *api.Cluster, _ map[string]healthReport) { c.Members[1].ConfigDigest = "e" }, api.LevelWarn, "files/n2/differ"},
		"disk":          {func(_ *api.Cluster, r map[string]healthReport) { r["n3"] = healthReport{DiskFree: 9, DiskAll: 100} }, api.LevelWarn, "disk/n3/9 %"},
		"disk full":     {func(_ *api.Cluster, r map[string]healthReport) { r["n3"] = healthReport{DiskFree: 2, DiskAll: 100} }, api.LevelFail, "disk/n3/2 %"},
		"segments":      {func(_ *api.Cluster, r map[string]healthReport) { r["n2"] = healthReport{Missing: 4} }, api.LevelWarn, "segments/n2/lacks 4"},
		"broken files":  {func(_ *api.Cluster, r map[string]healthReport) { r["n2"] = healthReport{Errors: 1} }, api.LevelWarn, "files/n2/1 errors"},
		"faults": {func(_ *api.Cluster, r map[string]healthReport) {
			r["n1"] = healthReport{Faults: []string{"store failed"}}
		}, api.LevelFail, "node/n1/store failed"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			cl, reports := healthyCluster()
			test.spoil(cl, reports)
			h := judgeHealth(cl, reports)
			worst := h.Checks[0]
			if worst.Level != test.level || h.Healthy != (test.level != api.LevelFail) {
				t.Errorf("healthy %t, worst %+v", h.Healthy, worst)
			}
			want := strings.SplitN(test.want, "/", 3)
			if test.want != "" && (worst.Check != want[0] || worst.Node != want[1] || !strings.Contains(worst.Text, want[2])) {
				t.Errorf("%+v, want %s", worst, test.want)
			}
			if test.want == "" && len(h.Checks) != 5 {
				t.Errorf("%+v", h.Checks)
			}
		})
	}
}
