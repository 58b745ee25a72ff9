package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/syscollective/saltpeter/api"
)

// Cluster tells how the members are, as the node that answers finds them.
func (c *Client) Cluster(ctx context.Context) (Answer[api.Cluster], error) {
	return call[api.Cluster](ctx, c, request{method: http.MethodGet, path: "cluster"})
}

// Health tells what the node that answers finds wrong with the cluster.
func (c *Client) Health(ctx context.Context) (Answer[api.Health], error) {
	return call[api.Health](ctx, c, request{method: http.MethodGet, path: "cluster/health"})
}

// InitCluster makes the node the first of a cluster. It begins again after it has answered.
func (c *Client) InitCluster(ctx context.Context) (Answer[api.ClusterBegun], error) {
	return call[api.ClusterBegun](ctx, c, request{method: http.MethodPost, path: "cluster/init", body: struct{}{}})
}

// TransferLeader hands leadership to a member; an empty name leaves the choice to the leader. A node that knows no leader, as
// one that has just started, has handed on nothing: the next one is asked.
func (c *Client) TransferLeader(ctx context.Context, to string) (Answer[api.Transferred], error) {
	body := map[string]any{}
	if to != "" {
		body["to"] = to
	}
	return call[api.Transferred](ctx, c, request{method: http.MethodPost, path: "cluster/transfer-leader", body: body, once: true, idle: true})
}

// RemoveMember takes a member out, named by name or id.
func (c *Client) RemoveMember(ctx context.Context, node string, force bool) (Answer[api.Removed], error) {
	r := request{method: http.MethodDelete, path: "cluster/members/" + seg(node), once: true}
	if force {
		r.query = url.Values{"force": {"true"}}
	}
	return call[api.Removed](ctx, c, r)
}

// LeaveCluster takes the node that answers out.
func (c *Client) LeaveCluster(ctx context.Context, force bool) (Answer[api.Removed], error) {
	body := map[string]any{}
	if force {
		body["force"] = true
	}
	return call[api.Removed](ctx, c, request{method: http.MethodPost, path: "cluster/leave", body: body, once: true})
}
