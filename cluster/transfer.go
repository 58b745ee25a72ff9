package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// peerState is what a node says of its log when another looks for a successor.
type peerState struct {
	term, lastIndex uint64
}

func (n *Node) peerState() peerState {
	return peerState{term: n.raft.CurrentTerm(), lastIndex: n.raft.LastIndex()}
}

func (p peerState) encode() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, p.term), p.lastIndex)
}

func decodePeerState(data []byte) (peerState, error) {
	if len(data) != 16 {
		return peerState{}, fmt.Errorf("%w: peer state of %d bytes", errFrame, len(data))
	}
	return peerState{term: binary.BigEndian.Uint64(data), lastIndex: binary.BigEndian.Uint64(data[8:])}, nil
}

// TransferLeadership hands leadership to the voter with the longest log among those that answer now. It returns
// ErrNotLeader or ErrNoSuccessor, with nothing changed, or nil once this node no longer leads. A transfer that was begun
// and failed ends the node: it can leave Raft refusing every write for ever, in this leadership and in later ones.
func (n *Node) TransferLeadership(ctx context.Context) error { return n.TransferTo(ctx, "") }

// TransferTo hands leadership to one voter, or to any if id is empty, as TransferLeadership does.
func (n *Node) TransferTo(ctx context.Context, id string) error {
	if n.raft.State() != raft.Leader {
		return n.notLeader()
	}
	if len(n.otherVoters()) == 0 {
		return ErrNoSuccessor
	}
	to, err := n.successor(ctx, id)
	if err != nil {
		return err
	}
	if !n.transferring.CompareAndSwap(false, true) {
		return fmt.Errorf("%w: a transfer is under way", ErrNoSuccessor)
	}
	defer n.transferring.Store(false)
	begun := time.Now()
	err = n.raft.LeadershipTransferToServer(raft.ServerID(to.ID), raft.ServerAddress(to.Addr)).Error()
	if errors.Is(err, raft.ErrNotLeader) {
		return n.notLeader()
	}
	if err != nil {
		err = fmt.Errorf("transfer leadership to %s: %w", to.ID, err)
		n.fail(err)
		return err
	}
	n.log.Info("leadership handed on", "leader", to.ID, "dur", time.Since(begun))
	return nil
}

func (n *Node) otherVoters() []Member {
	var others []Member
	for _, m := range n.Members() {
		if m.Voter && m.ID != n.cfg.ID {
			others = append(others, m)
		}
	}
	return others
}

// successor asks all other voters, or the one with the id, and takes the one whose log reaches furthest. One that doesn't answer within an election
// timeout is cut off, or as good as.
func (n *Node) successor(ctx context.Context, id string) (Member, error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timings.Election)
	defer cancel()
	var (
		group sync.WaitGroup
		mu    sync.Mutex // guards best and log
		best  Member
		log   peerState
	)
	for _, m := range n.otherVoters() {
		if id != "" && m.ID != id {
			continue
		}
		group.Go(func() {
			state, err := n.askPeer(ctx, m)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && (best.ID == "" || state.lastIndex > log.lastIndex) {
				best, log = m, state
			}
		})
	}
	group.Wait()
	if best.ID == "" {
		return Member{}, ErrNoSuccessor
	}
	return best, nil
}

func (n *Node) askPeer(ctx context.Context, m Member) (peerState, error) {
	l, err := n.links.to(m)
	if err != nil {
		return peerState{}, err
	}
	answer, err := l.do(ctx, framePeer, High, 0, nil)
	if err != nil {
		return peerState{}, err
	}
	return decodePeerState(answer)
}
