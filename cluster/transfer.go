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

// TransferLeadership hands leadership to a voter that answers now and whose log is as long as this node's. It returns
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

// askAgain is how long to wait before a voter is asked again how far its log reaches.
const askAgain = 5 * time.Millisecond

// successor gives the first of the other voters, or the one with the id, whose log is found to reach as far as this node's does
// now. A follower that is in touch gets there within milliseconds. One that was dead may answer and yet not be sent anything
// for seconds, because Raft waits longer after every failure: a transfer to it would not end in time. Who doesn't get there
// within an election timeout is no successor.
func (n *Node) successor(ctx context.Context, id string) (Member, error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.Timings.Election)
	defer cancel()
	last := n.raft.LastIndex()
	var group sync.WaitGroup
	found := make(chan Member, len(n.otherVoters()))
	for _, m := range n.otherVoters() {
		if id != "" && m.ID != id {
			continue
		}
		group.Go(func() {
			if n.reaches(ctx, m, last) {
				found <- m
				cancel() // the others needn't be waited for
			}
		})
	}
	group.Wait()
	select {
	case m := <-found:
		return m, nil
	default:
		return Member{}, ErrNoSuccessor
	}
}

// reaches asks a voter until its log reaches an index, and reports whether it did before ctx ended.
func (n *Node) reaches(ctx context.Context, m Member, index uint64) bool {
	for {
		if state, err := n.askPeer(ctx, m); err == nil && state.lastIndex >= index {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(askAgain):
		}
	}
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
