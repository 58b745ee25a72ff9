package client

import (
	"context"
	"net/http"
	"time"

	"github.com/syscollective/saltpeter/api"
)

// diagnoseWait is how long a node may take to ask machines, beside what every answer may take.
const diagnoseWait = 30 * time.Second

// Targets gives the machines that a job would run on if it started now; with ping the machines are asked who is up.
func (c *Client) Targets(ctx context.Context, job string, ping bool) (Answer[api.JobTargets], error) {
	r := request{method: http.MethodGet, path: "jobs/" + seg(job) + "/targets"}
	if ping {
		r.method, r.body, r.wait = http.MethodPost, struct{}{}, diagnoseWait
	}
	return call[api.JobTargets](ctx, c, r)
}

// Match gives the machines that an expression matches now.
func (c *Client) Match(ctx context.Context, kind string, targets []string) (Answer[api.Matched], error) {
	body := map[string]any{"target_type": kind, "targets": targets}
	return call[api.Matched](ctx, c, request{method: http.MethodPost, path: "targets", body: body})
}

// Doctor tells what is wrong between the node that answers, Salt and machines.
func (c *Client) Doctor(ctx context.Context, machines []string) (Answer[api.Health], error) {
	body := map[string]any{"machines": machines}
	return call[api.Health](ctx, c, request{method: http.MethodPost, path: "doctor", body: body, wait: diagnoseWait})
}
