package app

import (
	"context"
	"errors"

	"github.com/syscollective/saltpeter/internal/buildinfo"
)

// ErrRestart ends Run when the node's standing in a cluster has changed: it was admitted, removed, or has begun a cluster.
// All its parts are to be made anew.
var ErrRestart = errors.New("the node begins again")

// Serve makes a node and runs it until ctx ends or a part fails, again whenever its standing changes. Commands that run on
// machines don't notice.
func Serve(ctx context.Context, opts Options) error {
	for {
		a, err := New(opts)
		if err != nil {
			return err
		}
		a.log.Info("node started", "node", a.opts.Node.Name, "version", buildinfo.Version(), "config", a.opts.Node.ConfigDir, "data", a.opts.Node.DataDir)
		err = a.Run(ctx)
		closed := a.Close()
		if !errors.Is(err, ErrRestart) || closed != nil || ctx.Err() != nil {
			if errors.Is(err, ErrRestart) {
				err = nil
			}
			return errors.Join(err, closed)
		}
	}
}

// watchRestart ends Run when the standing has changed.
func (a *App) watchRestart(ctx context.Context) error {
	select {
	case err := <-a.restart:
		return err
	case <-ctx.Done():
		return nil
	}
}

// become writes a new standing and has the node begin again.
func (a *App) become(id identity) error {
	if err := id.save(a.opts.Node.DataDir); err != nil {
		return err
	}
	select {
	case a.restart <- ErrRestart:
	default: // it will anyway
	}
	return nil
}
