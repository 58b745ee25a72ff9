package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/backup"
)

// Backups is what the API asks about saving and restoring the cluster's record. Errors that people may see are
// *saltpeter.Error.
type Backups interface {
	// Save writes a backup (internal/backup) to w. Nothing was written if it fails before it began; a backup that breaks off
	// has no valid end.
	Save(ctx context.Context, w io.Writer, o SaveOptions) error
	// Restore reads a whole backup from r, checks it, and puts it in the place of the record on all nodes.
	Restore(ctx context.Context, by saltpeter.Actor, r io.Reader, o RestoreOptions) (Restored, error)
}

// SaveOptions say what goes into a backup.
type SaveOptions struct {
	Output bool // the output of all runs
	Stale  bool // as the node knows it: works without a leader
}

// RestoreOptions say how to restore.
type RestoreOptions struct {
	DryRun  bool // check, and tell what would be
	Foreign bool // also the backup of another cluster
}

// Restored tells what a restore did, or would do.
type Restored struct {
	DryRun     bool          `json:"dry_run"`
	Backup     backup.About  `json:"backup"`
	Totals     backup.Totals `json:"totals"`
	Cluster    string        `json:"cluster"`    // that was, or would be, restored
	Before     uint64        `json:"before"`     // its index before
	Unfinished int           `json:"unfinished"` // its runs in progress before
	Index      uint64        `json:"index"`      // at which the restored record is in force; 0 with dry_run
	Epoch      uint64        `json:"epoch"`      // now
	Ended      int           `json:"ended"`      // machines that were unfinished in the backup
	LeftOut    uint64        `json:"left_out"`   // bytes of output that neither the backup nor the cluster has
	Members    int           `json:"members"`
	Reached    int           `json:"reached"` // members that have applied it by now
}

// snapshotRoutes lists the resources about backups.
func (s *Server) snapshotRoutes() map[string]map[string]route {
	if s.backups == nil {
		return nil
	}
	return map[string]map[string]route{"snapshot": {
		http.MethodGet: {handle: (*call).saveSnapshot, params: []string{"output"}, stream: true},
		http.MethodPut: {handle: (*call).restoreSnapshot, params: []string{"dry_run", "foreign"}, stream: true},
	}}
}

func (c *call) saveSnapshot() error {
	output, err := c.params.flag("output")
	if err != nil {
		return err
	}
	word, err := c.params.word("consistency", "strong", "stale")
	if err != nil {
		return err
	}
	if c.r.Method == http.MethodHead {
		return nil
	}
	release, err := c.stream()
	if err != nil {
		return err
	}
	defer release()
	w := &slowWriter{c: c}
	err = c.s.backups.Save(c.r.Context(), w, SaveOptions{Output: output, Stale: word == "stale"})
	if err != nil && w.begun { // it has no end, so nobody takes it for whole
		c.s.log.Warn("backup broke off", "request", c.by.Request, "err", err)
		return nil
	}
	return err
}

// slowWriter gives each write time of its own.
type slowWriter struct {
	c     *call
	begun bool
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if !w.begun {
		w.begun = true
		w.c.w.Header().Set("Content-Type", "application/octet-stream")
	}
	err := http.NewResponseController(w.c.w).SetWriteDeadline(time.Now().Add(streamWrite))
	if err := ignoreUnsupported(err); err != nil {
		return 0, err
	}
	return w.c.w.Write(p)
}

func (c *call) restoreSnapshot() error {
	dry, err := c.params.flag("dry_run")
	if err != nil {
		return err
	}
	foreign, err := c.params.flag("foreign")
	if err != nil {
		return err
	}
	if given := c.r.Header.Get("Content-Type"); given != "application/octet-stream" {
		return &statusError{http.StatusUnsupportedMediaType, saltpeter.Errorf(saltpeter.CodeInvalid, "content type %q is not taken", given).
			WithHint("send a backup with the header Content-Type: application/octet-stream")}
	}
	release, err := c.stream()
	if err != nil {
		return err
	}
	defer release()
	got, err := c.s.backups.Restore(c.r.Context(), c.by, &slowReader{c: c}, RestoreOptions{DryRun: dry, Foreign: foreign})
	c.lastWrite()
	if err != nil {
		return err
	}
	return c.reply(http.StatusOK, got)
}

// slowReader gives each read time of its own.
type slowReader struct{ c *call }

func (r *slowReader) Read(p []byte) (int, error) {
	err := http.NewResponseController(r.c.w).SetReadDeadline(time.Now().Add(bodyTimeout))
	if err := ignoreUnsupported(err); err != nil {
		return 0, fmt.Errorf("read body: %w", err)
	}
	return r.c.r.Body.Read(p)
}
