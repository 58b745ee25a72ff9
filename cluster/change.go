package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// settleEvery is how often a leader looks for members that wait for their vote.
	settleEvery = 250 * time.Millisecond
	// caughtUp is how many entries a new member may be behind when it gets its vote: the leader goes on writing meanwhile.
	caughtUp = 64
)

// RefusedError says why a change of the members is refused; nothing was changed.
type RefusedError struct {
	Reason string
	Hint   string
}

func (e *RefusedError) Error() string { return e.Reason }

// lockMembership lets one change of the members happen at a time.
func (n *Node) lockMembership(ctx context.Context) (unlock func(), err error) {
	select {
	case n.changing <- struct{}{}:
		return func() { <-n.changing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// HoldMembers calls f while no member is admitted, removed or given its vote: what f finds out about all members stays true
// until it returns, as long as this node leads.
func (n *Node) HoldMembers(ctx context.Context, f func(members []Member) error) error {
	unlock, err := n.lockMembership(ctx)
	if err != nil {
		return fmt.Errorf("hold members: %w", err)
	}
	defer unlock()
	return f(n.Members())
}

// changeErr says what is known of a change of the members that failed.
func (n *Node) changeErr(err error) error {
	if errors.Is(err, raft.ErrNotLeader) || errors.Is(err, raft.ErrLeadershipTransferInProgress) || errors.Is(err, raft.ErrEnqueueTimeout) {
		return n.notLeader()
	}
	return unknown(fmt.Errorf("change members: %w", err))
}

// settle does what the configuration lacks while this node leads: its own address if that has changed, and the vote of
// members that have caught up.
func (n *Node) settle(ctx context.Context) {
	ticker := time.NewTicker(settleEvery)
	defer ticker.Stop()
	for {
		for _, m := range n.Members() {
			if err := n.settleMember(ctx, m); err != nil && ctx.Err() == nil {
				n.log.Debug("member not settled", "node", m.ID, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (n *Node) settleMember(ctx context.Context, m Member) error {
	switch {
	case m.Self && m.Addr != n.cfg.Advertise:
		m.Addr = n.cfg.Advertise
	case m.Self || m.Voter:
		return nil
	default:
		short, cancel := context.WithTimeout(ctx, n.cfg.Timings.Election)
		state, err := n.askPeer(short, m)
		cancel()
		if err != nil || state.lastIndex+caughtUp < n.raft.CommitIndex() {
			return err
		}
	}
	unlock, err := n.lockMembership(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if !n.isMember(m.ID) { // removed meanwhile
		return nil
	}
	if err := n.raft.AddVoter(raft.ServerID(m.ID), raft.ServerAddress(m.Addr), 0, n.cfg.Timings.RPC).Error(); err != nil {
		return n.changeErr(err)
	}
	n.log.Info("voter", "node", m.ID, "addr", m.Addr)
	return nil
}

func (n *Node) isMember(id string) bool {
	for _, m := range n.Members() {
		if m.ID == id {
			return true
		}
	}
	return false
}

// Alive asks every member and says which answer within an exchange's time, this node among them.
func (n *Node) Alive(ctx context.Context) map[string]bool {
	ctx, cancel := context.WithTimeout(ctx, min(time.Second, n.cfg.Timings.RPC))
	defer cancel()
	var (
		group sync.WaitGroup
		mu    sync.Mutex // guards alive
		alive = map[string]bool{}
	)
	for _, m := range n.Members() {
		if m.Self {
			mu.Lock()
			alive[m.ID] = true
			mu.Unlock()
			continue
		}
		group.Go(func() {
			_, err := n.askPeer(ctx, m)
			mu.Lock()
			defer mu.Unlock()
			alive[m.ID] = err == nil
		})
	}
	group.Wait()
	return alive
}

// CanLose is how many more voters may die before nothing commits any more; it is negative where that is so now.
func CanLose(members []Member, alive map[string]bool) int {
	voters, up := 0, 0
	for _, m := range members {
		if m.Voter {
			voters++
			if alive[m.ID] {
				up++
			}
		}
	}
	return up - (voters/2 + 1)
}

// Remove takes a member out of the configuration; only the leader can. One that leads hands leadership on and gives
// ErrNotLeader: the next leader removes it. A *RefusedError says why it is not done; force overrides the one about a
// cluster that can lose no node afterwards, nothing overrides that a majority must remain.
func (n *Node) Remove(ctx context.Context, id string, force bool) error {
	unlock, err := n.lockMembership(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if n.raft.State() != raft.Leader {
		return n.notLeader()
	}
	if err := n.mayRemove(ctx, id, force); err != nil {
		return err
	}
	if id == n.cfg.ID {
		if err := n.TransferLeadership(ctx); err != nil {
			return err
		}
		return n.notLeader()
	}
	if err := n.raft.RemoveServer(raft.ServerID(id), 0, n.cfg.Timings.RPC).Error(); err != nil {
		return n.changeErr(err)
	}
	n.log.Info("node removed", "node", n.name(id), "id", id)
	return nil
}

func (n *Node) mayRemove(ctx context.Context, id string, force bool) error {
	members, found := n.Members(), false
	var rest []Member
	for _, m := range members {
		found = found || m.ID == id
		if m.ID != id {
			rest = append(rest, m)
		}
	}
	if !found {
		return &RefusedError{Reason: fmt.Sprintf("there is no member %s", n.name(id)), Hint: "see: spctl cluster members"}
	}
	alive := n.Alive(ctx)
	before, after := CanLose(members, alive), CanLose(rest, alive)
	voters := 0
	for _, m := range rest {
		if m.Voter {
			voters++
		}
	}
	switch {
	case voters == 0:
		return &RefusedError{Reason: fmt.Sprintf("%s is the last voter", n.name(id)), Hint: "stop it and delete its data directory to end the cluster"}
	case after < 0:
		return &RefusedError{Reason: fmt.Sprintf("removing %s leaves %d voters of which fewer than a majority answer", n.name(id), voters),
			Hint: "bring the nodes that are down back first, or remove them first"}
	case after == 0 && before > 0 && !force:
		return &RefusedError{Reason: fmt.Sprintf("removing %s leaves %d voters (no node may fail)", n.name(id), voters),
			Hint: "add a node first, or use --force"}
	}
	return nil
}
