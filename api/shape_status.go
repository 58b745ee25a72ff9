package api

import "github.com/syscollective/saltpeter"

// Status is how the node that answers sees itself, its cluster and the record.
type Status struct {
	Node     NodeInfo    `json:"node"`
	Cluster  ClusterInfo `json:"cluster"`
	Version  string      `json:"version"`
	Time     Time        `json:"time"` // of the node's clock
	Index    uint64      `json:"index"`
	Stale    bool        `json:"stale"` // there was no leader to ask: this is what the node knows
	Auth     string      `json:"auth"`
	Banner   string      `json:"banner,omitempty"`
	Forming  string      `json:"forming,omitempty"` // why the node is no working member of a cluster
	Launcher Launcher    `json:"launcher"`
	Config   ConfigInfo  `json:"config"`
	Jobs     JobsInfo    `json:"jobs"`
	Runs     RunsInfo    `json:"runs"`
	Feed     FeedInfo    `json:"feed"`
	// Maintenance lists the active maintenances, without the pauses of jobs.
	Maintenance []Window `json:"maintenance"`
	Faults      []string `json:"faults"`
}

// NodeInfo is the node that answers.
type NodeInfo struct {
	Name    string `json:"name"`
	ID      string `json:"id"`
	Role    string `json:"role"`
	Started Time   `json:"started"`
	Applied uint64 `json:"applied"`
	Commit  uint64 `json:"commit"`
}

// ClusterInfo is the cluster as that node sees it.
type ClusterInfo struct {
	ID      string   `json:"id"`
	Leader  string   `json:"leader"` // empty if none is known
	Term    uint64   `json:"term"`
	Members []Member `json:"members"`
}

// Launcher is what starts wrappers.
type Launcher struct {
	Kind    string       `json:"kind"`
	Problem string       `json:"problem,omitempty"`
	Masters []SaltMaster `json:"masters,omitempty"` // of Salt, where that is the launcher; the answering node's preferred one first
}

// SaltMaster is a way to a Salt master as the answering node sees it.
type SaltMaster struct {
	Name       string `json:"name"`
	Version    string `json:"version"` // of Salt; empty before its first answer
	Problem    string `json:"problem,omitempty"`
	Notes      string `json:"notes,omitempty"`
	Since      Time   `json:"since"` // since when it works, or doesn't
	PingMillis int64  `json:"ping_ms"`
	Minions    int    `json:"minions"` // accepted keys
	Waiting    int    `json:"waiting"` // calls that wait for its limits
	InFlight   int    `json:"in_flight"`
}

// ConfigInfo is the configuration in force, with what is wrong in the answering node's files.
type ConfigInfo struct {
	Revision uint64              `json:"revision"` // 0 = none yet
	Since    Time                `json:"since"`
	Actor    string              `json:"actor"`
	Digest   string              `json:"digest"` // of the files that it was made from
	Valid    bool                `json:"valid"`  // no error in the files: they are or will be in force
	Problems []saltpeter.Problem `json:"problems"`
}

// JobsInfo counts jobs.
type JobsInfo struct {
	Total  int `json:"total"`
	Paused int `json:"paused"`
}

// RunsInfo counts runs.
type RunsInfo struct {
	Unfinished int  `json:"unfinished"`
	Last       *Run `json:"last"` // newest of all
	// DroppedEarly counts the runs that history_targets or output_total made go before history_age and history_runs would.
	DroppedEarly uint64 `json:"dropped_early"`
}

// FeedInfo is the change feed: what log files are written from.
type FeedInfo struct {
	First   uint64 `json:"first"`   // number of the oldest event that is kept
	Next    uint64 `json:"next"`    // that the next event will have
	Dropped uint64 `json:"dropped"` // events that feed_total has made go
}

// Version is the version of a node.
type Version struct {
	Version string `json:"version"`
	API     string `json:"api"`
}
