package app

import (
	"context"
	"errors"
	"slices"

	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/fsm"
)

// nodeRecord gives what a node has said of itself, as far as this node knows.
func (a *App) nodeRecord(id string) fsm.NodeRecord {
	for _, n := range a.machine.View().Nodes() {
		if n.ID == id {
			return n
		}
	}
	return fsm.NodeRecord{}
}

// strangers gives the ids of the nodes that have a record and are no members.
func strangers(members []cluster.Member, nodes []fsm.NodeRecord) (ids []string) {
	for _, n := range nodes {
		if !slices.ContainsFunc(members, func(m cluster.Member) bool { return m.ID == n.ID }) {
			ids = append(ids, n.ID)
		}
	}
	return ids
}

// forgetNodes drops the records of nodes that are no members any more: who was removed, who was lost with a majority, and who
// applied and was not admitted after all. It is done by looking, not by whoever removes, so that no crash leaves one behind. The
// members are held meanwhile: an applicant's record is written just before it becomes one. While a member's program is too old
// for it, the records stay.
func (a *App) forgetNodes(ctx context.Context, rec record) error {
	if len(strangers(a.node.Members(), a.machine.View().Nodes())) == 0 {
		return nil
	}
	if !fsm.Known().Covers(fsm.CodeForgetNode) {
		return nil
	}
	err := a.node.HoldMembers(ctx, func(members []cluster.Member) error {
		for _, id := range strangers(members, a.machine.View().Nodes()) {
			if _, err := a.proposeTo(ctx, members, cluster.Normal, rec.env(), &fsm.ForgetNode{ID: id}); err != nil {
				return err
			}
			a.log.Info("record of a node that is no member forgotten", "node", id)
		}
		return nil
	})
	if errors.Is(err, errTooOld) {
		a.log.Debug("records of nodes that are no members stay", "err", err)
		return nil
	}
	return err
}
