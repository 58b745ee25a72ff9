package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/semaphore"

	"github.com/syscollective/saltpeter/internal/entry"
)

// proposer makes entries of what waits. One goroutine (run) takes from the queues and gives entries to Raft one after
// the other, so that their order is the queues'; another (complete) hands out the outcomes.
type proposer struct {
	raft     func() *raft.Raft
	linger   time.Duration
	healthy  func() error // the error that failed the node, if one did
	notLead  func() error
	metrics  *metrics
	contact  func(time.Time)
	wake     chan struct{}
	landed   chan struct{}
	flight   chan *flight
	room     [priorities]*semaphore.Weighted
	inFlight atomic.Int32
	returned atomic.Int32 // proposals of the entry that landed last

	committed atomic.Uint64 // entries that were committed and applied

	mu     sync.Mutex // guards what follows
	queues [priorities][]*proposal
	bytes  int // of all queues
	count  int // commands of all queues
	closed bool
}

// flight is an entry that Raft was given.
type flight struct {
	future raft.ApplyFuture
	items  []*proposal
	sent   time.Time
	size   int
}

func newProposer(linger time.Duration) *proposer {
	p := &proposer{
		linger: linger,
		wake:   make(chan struct{}, 1),
		landed: make(chan struct{}, maxFlight),
		flight: make(chan *flight, maxFlight),
	}
	for i := range p.room {
		p.room[i] = semaphore.NewWeighted(maxQueued)
	}
	return p
}

// put waits for room in the queue of its priority and adds the proposal.
func (p *proposer) put(ctx context.Context, item *proposal) error {
	if err := p.room[item.prio].Acquire(ctx, item.cost()); err != nil {
		return fmt.Errorf("propose: %w", err)
	}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		p.room[item.prio].Release(item.cost())
		return ErrClosed
	}
	p.queues[item.prio] = append(p.queues[item.prio], item)
	p.bytes += item.size
	p.count += len(item.cmds)
	p.mu.Unlock()
	p.poke()
	return nil
}

// enqueue adds a barrier without waiting for it. It returns a finished proposal if there is no room.
func (p *proposer) enqueue(ctx context.Context, prio Priority, cmds [][]byte) *proposal {
	item, err := newProposal(prio, cmds)
	if err == nil && p.room[prio].TryAcquire(item.cost()) {
		p.room[prio].Release(item.cost())
		err = p.put(ctx, item)
	}
	if err != nil {
		item.finish(outcome{}, err)
	}
	return item
}

func (p *proposer) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// run feeds Raft until ctx ends; then what still waits is refused, for good.
func (p *proposer) run(ctx context.Context) {
	defer close(p.flight)
	defer p.close()
	var timer <-chan time.Time
	overdue := false // what waits has waited for the linger time
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-p.landed:
		case <-timer:
			timer, overdue = nil, true
		}
		for p.ready(overdue) {
			p.send()
			timer, overdue = nil, false
		}
		if timer == nil && !overdue && p.waits() {
			timer = time.After(p.patience())
		}
	}
}

// ready says whether an entry is to be sent now. If none is on its way: as soon as as many wait as were just answered,
// since those who propose one command after the other come back together. Beside another one: only if it is full. And
// in both cases if it is overdue.
func (p *proposer) ready(overdue bool) bool {
	if !p.waits() {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	full := p.count >= maxBatch || p.bytes >= maxEntry
	switch n := p.inFlight.Load(); {
	case n == 0:
		return overdue || full || p.itemsLocked() >= int(p.returned.Load())
	case n < maxFlight:
		return overdue || full
	default:
		return false
	}
}

// patience is how long an entry waits to fill: beside another one the time of a sync or so, since a second one for few
// commands makes everybody slower; else only as long as those who were answered need to ask again.
func (p *proposer) patience() time.Duration {
	if p.inFlight.Load() == 0 {
		return p.linger / 5
	}
	return p.linger
}

func (p *proposer) itemsLocked() int {
	n := 0
	for _, q := range p.queues {
		n += len(q)
	}
	return n
}

// waits says whether a queue holds anything.
func (p *proposer) waits() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, q := range p.queues {
		if len(q) > 0 {
			return true
		}
	}
	return false
}

// send makes one entry and gives it to Raft.
func (p *proposer) send() {
	items := p.take()
	if len(items) == 0 {
		return
	}
	data := entry.Append(nil, nil)
	if size := totalSize(items); size > 0 {
		data = entry.Append(make([]byte, 0, size+1), nil)
	}
	for _, item := range items {
		for _, cmd := range item.cmds {
			data = entry.Append(data, cmd)
		}
	}
	f := &flight{items: items, sent: time.Now(), size: len(data)}
	p.inFlight.Add(1)
	if err := p.healthy(); err != nil {
		f.future = refused{err}
	} else {
		f.future = p.raft().Apply(data, 0)
	}
	p.flight <- f // never blocks: it holds as many as may be in flight
}

func totalSize(items []*proposal) int {
	size := 0
	for _, item := range items {
		size += item.size
	}
	return size
}

// take removes the next entry's proposals from the queues, the most urgent first, each queue in order. Where the next one
// of a queue does not fit, the entry is closed, so that a large urgent one is not overtaken for ever by small ones.
func (p *proposer) take() []*proposal {
	p.mu.Lock()
	defer p.mu.Unlock()
	var items []*proposal
	size, count := 1, 0
	for prio := range p.queues {
		seen := 0
		for _, item := range p.queues[prio] {
			if count > 0 && (size+item.size > maxEntry || count+len(item.cmds) > maxBatch) {
				p.dropLocked(prio, seen)
				return items
			}
			seen++
			if !item.state.CompareAndSwap(waiting, taken) {
				continue
			}
			items = append(items, item)
			size += item.size
			count += len(item.cmds)
		}
		p.dropLocked(prio, seen)
	}
	return items
}

// dropLocked forgets the first n proposals of a queue.
func (p *proposer) dropLocked(prio, n int) {
	var cost int64
	for _, item := range p.queues[prio][:n] {
		p.bytes -= item.size
		p.count -= len(item.cmds)
		cost += item.cost()
	}
	p.queues[prio] = slices.Delete(p.queues[prio], 0, n)
	if cost > 0 {
		p.room[prio].Release(cost)
	}
}

// close refuses what waits and whatever comes later.
func (p *proposer) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	for items := p.take(); len(items) > 0; items = p.take() {
		for _, item := range items {
			item.finish(outcome{}, ErrClosed)
		}
	}
}

// complete hands out outcomes in the order of the entries. It ends when run has ended and Raft has answered.
func (p *proposer) complete() {
	for f := range p.flight {
		out, err := p.outcome(f)
		at := 0
		for _, item := range f.items {
			mine := out
			if err == nil {
				mine.results = out.results[at : at+len(item.cmds)]
				at += len(item.cmds)
			}
			item.finish(mine, err)
		}
		p.metrics.entry(f, err)
		p.returned.Store(int32(len(f.items)))
		p.inFlight.Add(-1)
		select {
		case p.landed <- struct{}{}:
		default:
		}
	}
}

// outcome waits for Raft and says what became of the entry, by the rules of the package comment.
func (p *proposer) outcome(f *flight) (outcome, error) {
	switch err := f.future.Error(); {
	case err == nil:
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return outcome{}, p.notLead()
	case errors.Is(err, ErrClosed), errors.Is(err, raft.ErrEnqueueTimeout):
		return outcome{}, err
	default:
		return outcome{}, unknown(err)
	}
	if err := p.healthy(); err != nil { // nothing is acknowledged by a node that has failed
		return outcome{}, unknown(err)
	}
	response, ok := f.future.Response().(applied)
	if !ok {
		return outcome{}, unknown(fmt.Errorf("unexpected response %T", f.future.Response()))
	}
	if response.err != nil {
		return outcome{}, unknown(response.err)
	}
	p.committed.Add(1)
	p.contact(f.sent)
	return outcome{index: f.future.Index(), term: response.term, results: response.results}, nil
}

// refused is the future of an entry that Raft was never given.
type refused struct{ cause error }

func (r refused) Error() error  { return fmt.Errorf("%w: %w", ErrClosed, r.cause) }
func (r refused) Index() uint64 { return 0 }
func (r refused) Response() any { return nil }
