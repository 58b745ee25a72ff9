package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/backup"
	"github.com/syscollective/saltpeter/internal/buildinfo"
	"github.com/syscollective/saltpeter/internal/outlog"
)

const (
	// restoreSpool is what files are called that are on their way into the record.
	restoreSpool = "restore-*.tmp"
	// restoredWait is how long a restore waits for the members that answer.
	restoredWait = 10 * time.Second
	restoredLook = 100 * time.Millisecond
)

// backups saves and restores the record as the API asks for it.
type backups struct{ a *App }

// Save writes the record as it is after a barrier, or as this node knows it.
func (b backups) Save(ctx context.Context, w io.Writer, opts api.SaveOptions) error {
	a := b.a
	if !a.serves() {
		return saltpeter.Errorf(saltpeter.CodeConflict, "this node is no member of a cluster: it has nothing to save")
	}
	if !opts.Stale {
		if _, err := a.node.Barrier(ctx); err != nil {
			return noLeader(err)
		}
	}
	_, err := a.machine.WriteBackup(w, backup.About{Term: a.node.Status().Term, Created: a.wall().UnixMilli(), Node: a.opts.Node.Name,
		Program: buildinfo.Version(), Output: opts.Output})
	if errors.Is(err, outlog.ErrNotHere) {
		return saltpeter.Errorf(saltpeter.CodeUnavailable, "this node has not fetched all output yet").WithHint("ask another node, or save without output")
	}
	return err
}

// Restore checks a backup as a whole, then puts it in the place of the record.
func (b backups) Restore(ctx context.Context, by saltpeter.Actor, r io.Reader, opts api.RestoreOptions) (api.Restored, error) {
	a := b.a
	if !a.serves() {
		return api.Restored{}, saltpeter.Errorf(saltpeter.CodeConflict, "this node is no member of a cluster").WithHint("spctl cluster init makes it one")
	}
	if _, err := a.node.Barrier(ctx); err != nil {
		return api.Restored{}, noLeader(err)
	}
	epoch := a.machine.View().Epoch() // before the backup is taken, which may be slow
	file, err := os.CreateTemp(a.opts.Node.DataDir, restoreSpool)
	if err != nil {
		return api.Restored{}, fmt.Errorf("keep the backup: %w", err)
	}
	defer func() {
		_ = file.Close()
		_ = os.Remove(file.Name())
	}()
	about, totals, err := a.takeBackup(r, file)
	if err != nil {
		return api.Restored{}, err
	}
	v := a.machine.View()
	out := api.Restored{DryRun: opts.DryRun, Backup: about, Totals: totals, Cluster: v.ClusterID(), Before: v.Index(), Epoch: v.Epoch(),
		Members: len(a.node.Members()), Unfinished: v.UnfinishedCount()}
	if about.Cluster != v.ClusterID() && !opts.Foreign {
		return out, saltpeter.Errorf(saltpeter.CodeConflict, "the backup is of cluster %s, this is cluster %s", about.Cluster, v.ClusterID()).
			WithHint("--foreign takes it all the same, where this cluster takes the place of one that is lost")
	}
	if opts.DryRun {
		return out, nil
	}
	got, err := a.restore(ctx, by, file, epoch, fsm.Restore{ID: newUUID(), Parts: totals.Parts, Foreign: opts.Foreign})
	if err != nil {
		return out, err
	}
	a.log.Warn("restored from a backup", "actor", by.Name, "index", about.Index, "epoch", got.Epoch)
	out.Epoch, out.Index, out.Ended, out.LeftOut = got.Epoch, got.Index, got.Ended, got.LeftOut
	out.Reached = a.countApplied(ctx, got.Index)
	return out, nil
}

// takeBackup keeps a backup in a file while it is checked, its record too. The cluster knows nothing of it yet.
func (a *App) takeBackup(r io.Reader, file *os.File) (backup.About, backup.Totals, error) {
	var record [][]byte
	about, totals, err := backup.Read(io.TeeReader(r, file), func(kind backup.Kind, body []byte) error {
		if kind == backup.KindRecord {
			record = append(record, append([]byte(nil), body...))
		}
		return nil
	})
	if err == nil {
		err = fsm.CheckBackup(record)
	}
	switch {
	case err == nil:
		return about, totals, nil
	case errors.Is(err, backup.ErrNewer), errors.Is(err, fsm.ErrUnknownCommand):
		return about, totals, saltpeter.Errorf(saltpeter.CodeInvalid, "%w", err).WithHint("it was saved by version %s, this is %s: upgrade first", about.Program, buildinfo.Version())
	case errors.Is(err, backup.ErrForeign), errors.Is(err, backup.ErrDamaged), errors.Is(err, fsm.ErrSnapshot):
		return about, totals, saltpeter.Errorf(saltpeter.CodeInvalid, "%w", err).WithHint("nothing was changed; look at it with: spctl snapshot inspect FILE")
	}
	return about, totals, fmt.Errorf("take the backup: %w", err)
}

// restore commits a checked backup part by part, then the change itself. Until the last step nothing changes; a restore that
// ends before it leaves parts behind that the next one drops. One that was asked for in an earlier epoch is refused: another was
// in force since.
func (a *App) restore(ctx context.Context, by saltpeter.Actor, file *os.File, epoch uint64, whole fsm.Restore) (fsm.Restored, error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fsm.Restored{}, fmt.Errorf("read the backup again: %w", err)
	}
	part := 0
	_, _, err := backup.Read(file, func(kind backup.Kind, body []byte) error {
		_, err := asked[fsm.PartTaken](ctx, a, by, &fsm.RestorePart{ID: whole.ID, Part: part, Kind: kind, Data: body, Epoch: epoch})
		part++
		return err
	})
	if err != nil {
		return fsm.Restored{}, err
	}
	return asked[fsm.Restored](ctx, a, by, &whole)
}

// countApplied waits until all members have applied an entry, or the time for it is over, and gives how many have.
func (a *App) countApplied(ctx context.Context, index uint64) int {
	until := time.Now().Add(restoredWait)
	for {
		done, silent := 0, 0
		list := a.node.Members()
		for _, h := range a.askReports(ctx, list) {
			switch {
			case !h.ok:
				silent++
			case h.Applied >= index:
				done++
			}
		}
		if done+silent >= len(list) || time.Now().After(until) || !sleep(ctx, restoredLook) {
			return done
		}
	}
}

// dropRestoreSpool removes what a crash left of backups that were being taken.
func dropRestoreSpool(dir string) error {
	names, err := filepath.Glob(filepath.Join(dir, restoreSpool))
	for _, name := range names {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}
