package api

import (
	"context"
	"net/http"

	"github.com/syscollective/saltpeter"
)

// Membership is what the API asks about the cluster's members. Errors that people may see are *saltpeter.Error.
type Membership interface {
	// Cluster tells how every member is, as far as they answer at once.
	Cluster(ctx context.Context) (Cluster, error)
	// Health looks for everything that somebody should do something about.
	Health(ctx context.Context) (Health, error)
	// Init makes this node the first of a cluster; the node begins again after the answer.
	Init(ctx context.Context, by saltpeter.Actor) (ClusterBegun, error)
	// Remove takes a member out, named by name or id; Leave takes this node out.
	Remove(ctx context.Context, by saltpeter.Actor, node string, force bool) (Removed, error)
	Leave(ctx context.Context, by saltpeter.Actor, force bool) (Removed, error)
	// Transfer hands leadership to a member, or to the one that is the furthest if none is named.
	Transfer(ctx context.Context, by saltpeter.Actor, node string) (Transferred, error)
}

// Cluster is the cluster as the node that answers finds it.
type Cluster struct {
	ID      string          `json:"id"`
	Leader  string          `json:"leader"` // name; empty if none is known
	Term    uint64          `json:"term"`
	Healthy bool            `json:"healthy"`  // there is a leader, and every member answers, votes and has caught up
	CanLose int             `json:"can_lose"` // voters that may still die before nothing starts any more
	Voters  int             `json:"voters"`
	Members []ClusterMember `json:"members"`
	Forming string          `json:"forming,omitempty"` // why the node that answers is no working member
	// LedMillis is for how long the leader has led; null where it does not say.
	LedMillis *int64     `json:"led_ms"`
	Schedules *Schedules `json:"schedules"` // null on a node that is no working member
}

// Schedules is how the cluster's jobs are.
type Schedules struct {
	Jobs    int    `json:"jobs"`
	Running int    `json:"running"`    // runs that are not finished
	Missed  uint64 `json:"missed_24h"` // ticks of the last 24 hours that were recorded as missed
	// Next is the time of the next tick and NextJob one that is due then; null and empty where the leader does not say.
	Next    *Time  `json:"next"`
	NextJob string `json:"next_job,omitempty"`
	// LagMillis is how long after its tick a run was claimed, at the 99th percentile of the leader's newest 1,000; null where this leader has claimed none.
	LagMillis *int64 `json:"lag_p99_ms"`
}

// ClusterMember is one member with what it says of itself.
type ClusterMember struct {
	Member
	State string `json:"state"` // "leader", "follower", "candidate", "unreachable"
	Self  bool   `json:"self"`  // the node that answers
	Lag   *int64 `json:"lag"`   // entries that it has applied less than the leader; null for the leader and where not known
	// Seen is what gossip says: "alive", "gone" or nothing, with the node's address as the node gives it. It needs no leader, and
	// nothing is decided on it.
	Seen        string `json:"seen,omitempty"`
	SeenAddress string `json:"seen_address,omitempty"`
	// DiskUsed is how much of the file system of its data directory is used, in percent; Wrappers counts the connections of wrappers.
	// Both are null where the member does not say.
	DiskUsed *int `json:"disk_used"`
	Wrappers *int `json:"wrappers"`
}

// Health is what the checks of a cluster found.
type Health struct {
	Healthy bool    `json:"healthy"` // no check failed; warnings are well enough
	Checks  []Check `json:"checks"`  // the worst first
}

// The levels of a check.
const (
	LevelOK   = "ok"
	LevelWarn = "warn"
	LevelFail = "fail"
)

// Check is one thing that was looked at.
type Check struct {
	Level string `json:"level"` // "ok", "warn" or "fail"
	Check string `json:"check"`
	Node  string `json:"node,omitempty"` // that it is about; empty = the cluster
	// Machine is the one that it is about, if it is about one.
	Machine string `json:"machine,omitempty"`
	Text    string `json:"text"`           // what was found
	Hint    string `json:"hint,omitempty"` // what to do
}

// ClusterBegun tells what a cluster is like that has just begun.
type ClusterBegun struct {
	ID      string `json:"id"`
	Node    string `json:"node"`
	Address string `json:"address"` // for the --join of others
}

// Removed tells who is no member any more.
type Removed struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Voters int    `json:"voters"` // that are left
}

// Transferred tells who led and who leads.
type Transferred struct {
	From   string `json:"from"`
	To     string `json:"to"`
	Term   uint64 `json:"term"`
	Millis int64  `json:"ms"` // from the request until the next leader was known
}

// clusterRoutes lists the resources about the cluster.
func (s *Server) clusterRoutes() map[string]map[string]route {
	if s.members == nil {
		return nil
	}
	post := func(h handler) map[string]route { return map[string]route{http.MethodPost: {handle: h}} }
	return map[string]map[string]route{
		"cluster":                 {http.MethodGet: {handle: (*call).getCluster, access: accessRead}},
		"cluster/health":          {http.MethodGet: {handle: (*call).getHealth, access: accessRead}},
		"cluster/init":            post((*call).initCluster),
		"cluster/leave":           post((*call).leaveCluster),
		"cluster/transfer-leader": post((*call).transferLeader),
		"cluster/members/{node}":  {http.MethodDelete: {handle: (*call).removeMember, params: []string{"force"}}},
	}
}

func (c *call) getCluster() error {
	got, err := c.s.members.Cluster(c.r.Context())
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, got)
}

func (c *call) getHealth() error {
	got, err := c.s.members.Health(c.r.Context())
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, got)
}

func (c *call) initCluster() error {
	if err := c.body(nil); err != nil {
		return err
	}
	got, err := c.s.members.Init(c.r.Context(), c.by)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, got)
}

func (c *call) removeMember() error {
	force, err := c.params.flag("force")
	if err != nil {
		return err
	}
	got, err := c.s.members.Remove(c.r.Context(), c.by, c.r.PathValue("node"), force)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, got)
}

func (c *call) leaveCluster() error {
	var force bool
	if err := c.body(fields{"force": &force}); err != nil {
		return err
	}
	got, err := c.s.members.Leave(c.r.Context(), c.by, force)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, got)
}

func (c *call) transferLeader() error {
	var to string
	if err := c.body(fields{"to": &to}); err != nil {
		return err
	}
	got, err := c.s.members.Transfer(c.r.Context(), c.by, to)
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, got)
}
