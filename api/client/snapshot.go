package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/syscollective/saltpeter/api"
)

// restoreWait is how long a node may take to put a backup into force after it has taken it, at the most.
const restoreWait = 30 * time.Minute

// SaveSnapshot writes a backup of the cluster to w. Whether it is whole only its own end tells: read it again.
func (c *Client) SaveSnapshot(ctx context.Context, w io.Writer, output, stale bool) error {
	query := url.Values{}
	if output {
		query.Set("output", "true")
	}
	if stale {
		query.Set("consistency", "stale")
	}
	resp, err := c.send(ctx, request{method: http.MethodGet, path: "snapshot", query: query, wait: restoreWait})
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("save snapshot: %w", err)
	}
	return nil
}

// RestoreSnapshot sends a backup, which is read once, to one node.
func (c *Client) RestoreSnapshot(ctx context.Context, backup io.Reader, dryRun, foreign bool) (Answer[api.Restored], error) {
	query := url.Values{}
	if dryRun {
		query.Set("dry_run", "true")
	}
	if foreign {
		query.Set("foreign", "true")
	}
	return call[api.Restored](ctx, c, request{method: http.MethodPut, path: "snapshot", query: query, stream: backup, once: true, wait: restoreWait})
}
