package app

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/config"
	"github.com/syscollective/saltpeter/fsm"
)

// Recovery is what recovering a stopped node means.
type Recovery struct {
	NodeID, ClusterID string
	cluster.Lost
	Pending bool // it was done before, and the node has not begun its new epoch yet
}

// InspectLost says what recovering the stopped node would do. Errors that people may see are *saltpeter.Error.
func InspectLost(n config.Node) (Recovery, error) {
	id, dir, err := recoverable(n)
	if err != nil {
		return Recovery{}, err
	}
	lost, err := cluster.Inspect(dir, id.NodeID)
	return Recovery{NodeID: id.NodeID, ClusterID: id.ClusterID, Lost: lost, Pending: id.Recovered}, explainRecovery(n, err)
}

// Recover makes the stopped node the only member of its cluster. It begins a new epoch when it starts. A crash in between
// leaves a node that is as it was, or one that is recovered; doing it again does no harm.
func Recover(n config.Node) error {
	id, dir, err := recoverable(n)
	if err != nil {
		return err
	}
	lost, err := cluster.Inspect(dir, id.NodeID)
	if err != nil {
		return explainRecovery(n, err)
	}
	if lost.Alone && !id.Recovered {
		return saltpeter.Errorf(saltpeter.CodeConflict, "this node is the only member of its cluster already").WithHint("start it")
	}
	// The note comes first: a node that is alone must not go on in the old epoch. One that has others ignores it.
	id.Recovered = true
	if err := id.save(n.DataDir); err != nil {
		return err
	}
	_, err = cluster.Recover(dir, id.NodeID)
	return explainRecovery(n, err)
}

// recoverable reads who the node is, and refuses what can't be recovered.
func recoverable(n config.Node) (identity, string, error) {
	id, known, err := readIdentity(n.DataDir)
	switch {
	case err != nil:
		return id, "", err
	case !known:
		return id, "", saltpeter.Errorf(saltpeter.CodeNotFound, "%s is not a data directory of a node", n.DataDir).WithHint("name it with --data-dir")
	case id.standing() == removed:
		return id, "", saltpeter.Errorf(saltpeter.CodeConflict, "%w: %s", errRemoved, id.Removed).WithHint("recover a node that was a member to the end")
	case id.standing() != several:
		return id, "", saltpeter.Errorf(saltpeter.CodeConflict, "this node is not a member of a cluster of several nodes: there is nothing to recover")
	}
	return id, filepath.Join(n.DataDir, "raft"), nil
}

func explainRecovery(n config.Node, err error) error {
	switch {
	case errors.Is(err, cluster.ErrNothingToRecover):
		return saltpeter.Errorf(saltpeter.CodeNotFound, "%w", err).WithHint("recover a node that has its data directory still")
	case errors.Is(err, cluster.ErrStore):
		return saltpeter.Errorf(saltpeter.CodeConflict, "%w", err).WithHint("the node must be stopped, and its data directory %s whole", n.DataDir)
	}
	return err
}

// finishRecovery begins the epoch of a recovered node before it does anything else. Which one is written down first, so that
// a crash on the way begins none twice.
func (a *App) finishRecovery(ctx context.Context, rec record) error {
	id := a.ident
	if !id.Recovered {
		return nil
	}
	if len(a.node.Members()) == 1 {
		if id.Epoch == 0 {
			id.Epoch = a.machine.View().Epoch() + 1
			if err := id.save(a.opts.Node.DataDir); err != nil {
				return err
			}
		}
		env := rec.env()
		env.Actor = "saltpeter recover"
		if _, err := a.propose(ctx, cluster.High, env, &fsm.BeginEpoch{Epoch: id.Epoch, Reason: "recovered from a lost majority"}); err != nil {
			return err
		}
		// Before anything is written behind what is lost.
		if err := a.giveUp(ctx, rec, losses{}); err != nil {
			return err
		}
		a.log.Warn("recovered: this node is the only member, maintenance is on", "index", a.machine.AppliedIndex())
	}
	id.Recovered, id.Epoch = false, 0
	a.ident = id
	return id.save(a.opts.Node.DataDir)
}
