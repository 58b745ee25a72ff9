package api

import (
	"context"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
)

// statusWait is how long a status waits for a leader before it tells what the node knows by itself.
const statusWait = 2 * time.Second

// getStatus works without a leader, for that is when it is needed most.
func (c *call) getStatus() error {
	ctx, cancel := context.WithTimeout(c.r.Context(), statusWait)
	defer cancel()
	word, err := c.params.word("consistency", "strong", "stale")
	if err != nil {
		return err
	}
	// A node that is no working member has nobody to wait for.
	stale := word == "stale" || c.s.node.Status(c.r.Context()).Forming != ""
	v, err := c.read(ctx, stale)
	if err != nil && c.r.Context().Err() == nil {
		stale = true
		v, err = c.local()
	}
	if err != nil {
		return err
	}
	status := c.s.status(v, c.s.node.Status(c.r.Context()))
	status.Stale = stale
	return c.reply(http.StatusOK, status)
}

func (s *Server) status(v View, n NodeStatus) Status {
	now := s.now()
	set, rev := v.Settings(), v.Revision()
	st := Status{
		Node: NodeInfo{
			Name: n.Name, ID: n.ID, Role: n.Role, Started: started(n.Started), Applied: n.Applied, Commit: n.Commit,
		},
		Cluster: ClusterInfo{ID: v.ClusterID(), Leader: n.Leader, Term: n.Term, Members: append([]Member{}, n.Members...)},
		Version: n.Version, Time: TimeOf(now), Index: v.Index(), Auth: set.Auth, Forming: n.Forming,
		Launcher: Launcher{Kind: set.Launcher, Problem: n.Launcher, Masters: n.Salt},
		Config: ConfigInfo{
			Revision: rev.Number, Since: Time(rev.Millis), Actor: rev.Actor, Digest: rev.FilesDigest,
			Valid: !slices.ContainsFunc(n.Problems, isError), Problems: append([]saltpeter.Problem{}, n.Problems...),
		},
		Jobs:        JobsInfo{Total: v.JobCount()},
		Runs:        RunsInfo{DroppedEarly: v.DroppedEarly()},
		Feed:        n.Feed,
		Maintenance: []Window{},
		Faults:      append([]string{}, n.Faults...),
	}
	if set.Auth == "none" {
		st.Banner = Banner
	}
	for _, w := range v.Windows() {
		switch shape := windowOf(&w, now); {
		case !shape.Active:
		case shape.Pause:
			st.Jobs.Paused++
		default:
			st.Maintenance = append(st.Maintenance, shape)
		}
	}
	v.Unfinished(func(*saltpeter.Run) bool { st.Runs.Unfinished++; return true })
	v.Runs(0, func(r *saltpeter.Run) bool { st.Runs.Last = runOrNil(r); return false })
	return st
}

func isError(p saltpeter.Problem) bool { return p.Level == "error" }

func started(t time.Time) Time {
	if t.IsZero() {
		return 0
	}
	return TimeOf(t)
}

func (c *call) getVersion() error {
	return c.reply(http.StatusOK, Version{Version: c.s.node.Status(c.r.Context()).Version, API: "v1"})
}

// readyLag is how many committed entries a node may have to apply yet and be ready, where max_lag does not say otherwise: one
// that has just begun reads its log first.
const readyLag = 1000

// healthz answers 200 while nothing in this process is broken.
func (c *call) healthz() error { return c.health(c.s.node.Status(c.r.Context()).Faults) }

// readyz answers 200 where requests should go: there is a leader, a configuration is in force, the record is as new as asked
// for, nothing is broken.
func (c *call) readyz() error {
	maxLag, err := c.params.number("max_lag", readyLag, 0, math.MaxInt64)
	if err != nil {
		return err
	}
	n := c.s.node.Status(c.r.Context())
	why := slices.Concat(n.Faults, n.Unready)
	if n.Leader == "" {
		why = append(why, "no leader is known")
	}
	if n.Commit > n.Applied && n.Commit-n.Applied > uint64(maxLag) {
		why = append(why, fmt.Sprintf("%d entries are to be applied yet (max_lag %d)", n.Commit-n.Applied, maxLag))
	}
	v, err := c.s.node.Read(c.r.Context(), true)
	switch {
	case err != nil:
		why = append(why, "the record can't be read")
	case v.Revision().Number == 0:
		why = append(why, "no configuration is in force yet")
	}
	return c.health(why)
}

// leader answers 200 on the leader only.
func (c *call) leader() error {
	n := c.s.node.Status(c.r.Context())
	if n.Leader == "" || n.Leader != n.Name || n.Role != "leader" {
		return c.health([]string{"this node does not lead"})
	}
	return c.health(nil)
}

// health answers in plain text, as load balancers read it. Reasons are told only where they are asked for: the
// resource is open.
func (c *call) health(why []string) error {
	verbose, err := c.params.flag("verbose")
	if err != nil {
		return err
	}
	status, text := http.StatusOK, "ok\n"
	if len(why) > 0 {
		status, text = http.StatusServiceUnavailable, "not ok\n"
	}
	if len(why) > 0 && verbose {
		text = "not ok: " + strings.Join(why, "; ") + "\n"
	}
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	c.w.WriteHeader(status)
	if _, err := io.WriteString(c.w, text); err != nil {
		c.s.log.Debug("client is gone", "request", c.by.Request, "err", err)
	}
	return nil
}

func (c *call) serveMetrics() error {
	c.s.metrics.ServeHTTP(c.w, c.r)
	return nil
}
