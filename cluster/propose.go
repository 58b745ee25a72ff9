package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/syscollective/saltpeter/internal/entry"
)

const (
	// MaxCommand is the largest command, or the largest sum of the commands of one ProposeAll, in bytes.
	MaxCommand = maxEntry - 16
	maxEntry   = 256 << 10 // bytes of one entry
	maxBatch   = 1024      // commands of one entry
	maxFlight  = 2         // entries between Apply and their outcome
	maxQueued  = 4 << 20   // bytes waiting, per priority; who comes then waits for room
	// itemCost is what a waiting proposal counts beside its bytes, so that empty ones are bounded as well.
	itemCost = 128
)

// Result is the outcome of a committed command.
type Result struct {
	Index uint64 // of the entry that holds it
	Value any    // what the state machine returned for it
}

// Propose has one command committed and applied here, and returns what the state machine made of it. Commands of one
// priority are appended in the order of their calls. See the package comment for what errors mean.
func (n *Node) Propose(ctx context.Context, prio Priority, cmd []byte) (Result, error) {
	results, err := n.ProposeAll(ctx, prio, [][]byte{cmd})
	if err != nil {
		return Result{}, err
	}
	return results[0], nil
}

// ProposeAll has the commands committed in one entry, so all or none of them, and returns a result for each.
func (n *Node) ProposeAll(ctx context.Context, prio Priority, cmds [][]byte) ([]Result, error) {
	if len(cmds) == 0 {
		return nil, errors.New("propose: no command")
	}
	p, err := n.submit(ctx, prio, cmds)
	if err != nil {
		return nil, err
	}
	out, err := p.wait(ctx)
	if err != nil {
		return nil, err
	}
	results := make([]Result, len(cmds))
	for i := range results {
		results[i] = Result{Index: out.index, Value: out.results[i]}
	}
	return results, nil
}

// proposeBarrier commits an entry, with or without others' commands, and returns its index and term.
func (n *Node) proposeBarrier(ctx context.Context) (outcome, error) {
	p, err := n.submit(ctx, High, nil)
	if err != nil {
		return outcome{}, err
	}
	return p.wait(ctx)
}

// submit puts commands in the queue if this node believes to lead; whether it does is for the commit to say.
func (n *Node) submit(ctx context.Context, prio Priority, cmds [][]byte) (*proposal, error) {
	if n.raft.State() != raft.Leader {
		return nil, n.notLeader()
	}
	p, err := newProposal(prio, cmds)
	if err != nil {
		return nil, err
	}
	if err := n.proposer.put(ctx, p); err != nil {
		return nil, err
	}
	return p, nil
}

// outcome is where a proposal ended up.
type outcome struct {
	index, term uint64
	results     []any
}

// proposal is commands that wait for their entry. Who waits may abandon it as long as it was not taken into one.
type proposal struct {
	prio  Priority
	cmds  [][]byte
	size  int // bytes in the entry
	state atomic.Int32
	done  chan struct{} // closed once out and err are set
	out   outcome
	err   error
}

const (
	waiting int32 = iota
	taken
	abandoned
)

func newProposal(prio Priority, cmds [][]byte) (*proposal, error) {
	if prio >= priorities {
		return nil, fmt.Errorf("propose: unknown priority %d", prio)
	}
	size := 0
	for _, cmd := range cmds {
		size += len(cmd) + entry.Overhead(len(cmd))
	}
	if size > maxEntry-1 || len(cmds) > maxBatch {
		return nil, fmt.Errorf("%w: %d commands of %d bytes (allowed: %d of %d together)", ErrTooLarge, len(cmds), size, maxBatch, MaxCommand)
	}
	return &proposal{prio: prio, cmds: cmds, size: size, done: make(chan struct{})}, nil
}

func (p *proposal) cost() int64 { return int64(p.size + itemCost) }

func (p *proposal) finish(out outcome, err error) {
	p.out, p.err = out, err
	close(p.done)
}

func (p *proposal) finished() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// wait returns the outcome. If ctx ends first, the error says whether the commands can still be appended.
func (p *proposal) wait(ctx context.Context) (outcome, error) {
	select {
	case <-p.done:
		return p.out, p.err
	case <-ctx.Done():
	}
	if p.state.CompareAndSwap(waiting, abandoned) {
		return outcome{}, fmt.Errorf("propose: %w", ctx.Err())
	}
	select {
	case <-p.done: // both were ready
		return p.out, p.err
	default:
		return outcome{}, unknown(ctx.Err())
	}
}
