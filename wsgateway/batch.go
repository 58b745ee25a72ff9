package wsgateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

// reporters is how many Report calls are in flight at most: one commits while the next is gathered.
const reporters = 2

// A lane's share of one call, so that a chatty one leaves room for others.
const (
	laneWords = 64
	laneBytes = wire.MaxOutput + 4<<10
)

// Pauses after a Report that failed: a new leader is there after one or two seconds, and two callers that ask it every
// 200 ms are no load.
const (
	pauseMin = 10 * time.Millisecond
	pauseMax = 200 * time.Millisecond
)

var errAnswers = errors.New("answers don't fit the reports")

// batcher gathers the words of all sessions into Report calls. A lane is in its queue, or in one call, or nowhere.
type batcher struct {
	leader  Leader
	lim     Limits
	log     *slog.Logger
	stats   *metrics
	release func(int64) // budget

	words, bytes           atomic.Int64 // of words that wait or fly
	readyWords, readyBytes atomic.Int64 // of those that the next call could take

	gathering chan struct{} // 1 deep: one reporter gathers at a time
	wake      chan struct{} // 1 deep: the queue is not empty
	brim      chan struct{} // 1 deep: a call is full, don't linger

	mu          sync.Mutex
	first, last *lane
}

func newBatcher(leader Leader, lim Limits, log *slog.Logger, stats *metrics, release func(int64)) *batcher {
	return &batcher{
		leader: leader, lim: lim, log: log, stats: stats, release: release,
		gathering: make(chan struct{}, 1), wake: make(chan struct{}, 1), brim: make(chan struct{}, 1),
	}
}

func (b *batcher) queued() (words int, bytes int64) { return int(b.words.Load()), b.bytes.Load() }

// add puts a lane that has words at the queue's end. Called with the session's mu held; queued was false.
func (b *batcher) add(l *lane) {
	l.queued = true
	b.mu.Lock()
	if b.last == nil {
		b.first = l
	} else {
		b.last.link = l
	}
	b.last = l
	b.mu.Unlock()
	nudge(b.wake)
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// came notes a word that was taken.
func (b *batcher) came(weight int64) {
	b.words.Add(1)
	b.bytes.Add(weight)
}

// settled notes words that are done with.
func (b *batcher) settled(words int, weight int64) {
	b.words.Add(int64(-words))
	b.bytes.Add(-weight)
	b.release(weight)
}

// ready notes words that entered or left the queue with their lane.
func (b *batcher) ready(words int, weight int64) {
	w, by := b.readyWords.Add(int64(words)), b.readyBytes.Add(weight)
	if w >= int64(b.lim.BatchWords) || by >= b.lim.BatchBytes {
		nudge(b.brim)
	}
}

func (b *batcher) pop() *lane {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.first
	if l == nil {
		return nil
	}
	if b.first = l.link; b.first == nil {
		b.last = nil
	}
	l.link = nil
	return l
}

// putBack puts a popped lane in front again.
func (b *batcher) putBack(l *lane) {
	b.mu.Lock()
	l.link = b.first
	b.first = l
	if b.last == nil {
		b.last = l
	}
	b.mu.Unlock()
	nudge(b.wake)
}

// call is what one Report carries.
type call struct {
	lanes   []*lane
	reports []saltpeter.Report
	words   int
	bytes   int64
}

// run is one reporter.
func (b *batcher) run(ctx context.Context) {
	pause := pauseMin
	for {
		c, ok := b.gather(ctx)
		if !ok {
			return
		}
		if err := b.report(ctx, c); err == nil {
			pause = pauseMin
			continue
		} else if ctx.Err() == nil {
			b.log.Debug("report not taken", "words", c.words, "err", err)
		}
		if !sleep(ctx, pause/2+rand.N(pause/2)) {
			return
		}
		pause = min(2*pause, pauseMax)
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// gather waits for words, lingers for more, and takes what fits one call.
func (b *batcher) gather(ctx context.Context) (*call, bool) {
	select {
	case b.gathering <- struct{}{}:
	case <-ctx.Done():
		return nil, false
	}
	defer func() { <-b.gathering }()
	for {
		select {
		case <-b.wake:
		case <-ctx.Done():
			return nil, false
		}
		if !b.linger(ctx) {
			return nil, false
		}
		if c := b.take(); len(c.reports) > 0 {
			return c, true
		}
	}
}

// linger gives others time to join, unless there is enough for a whole call.
func (b *batcher) linger(ctx context.Context) bool {
	select {
	case <-b.brim: // of a call that has gone
	default:
	}
	if b.readyWords.Load() >= int64(b.lim.BatchWords) || b.readyBytes.Load() >= b.lim.BatchBytes {
		return true
	}
	t := time.NewTimer(b.lim.BatchLinger)
	defer t.Stop()
	select {
	case <-t.C:
	case <-b.brim:
	case <-ctx.Done():
		return false
	}
	return true
}

func (b *batcher) take() *call {
	c := &call{}
	for c.words < b.lim.BatchWords {
		l := b.pop()
		if l == nil {
			return c
		}
		r, weight, fits := b.launch(l, b.lim.BatchWords-c.words, b.lim.BatchBytes-c.bytes, len(c.reports) == 0)
		if !fits {
			b.putBack(l)
			return c
		}
		if len(r.Words) == 0 {
			continue
		}
		c.lanes = append(c.lanes, l)
		c.reports = append(c.reports, r)
		c.words += len(r.Words)
		c.bytes += weight
	}
	nudge(b.wake) // the queue may hold more
	return c
}

// launch moves the lane's share of a call from waiting to flying. fits is false if not even its first word has room;
// alone, a first word always has.
func (b *batcher) launch(l *lane, maxWords int, maxBytes int64, alone bool) (r saltpeter.Report, weight int64, fits bool) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if len(l.waiting) == 0 {
		l.queued = false
		return r, 0, true
	}
	maxWords, maxBytes = min(maxWords, laneWords), min(maxBytes, laneBytes)
	weight = reportOverhead
	n := 0
	ready, readyBytes := len(l.waiting), l.waitBytes
	for ; n < len(l.waiting) && n < maxWords; n++ {
		w := weigh(&l.waiting[n])
		if weight+w > maxBytes && (n > 0 || !alone) {
			break
		}
		weight += w
	}
	if n == 0 {
		return r, 0, false
	}
	b.ready(-ready, -readyBytes) // what stays waits for this call's end
	l.waitBytes -= weight - reportOverhead
	l.flying = l.waiting[:n:n]
	if l.waiting = l.waiting[n:]; len(l.waiting) == 0 {
		l.waiting = nil
	}
	return saltpeter.Report{Ref: l.ref, Nonce: l.nonce, Words: l.flying}, weight, true
}

// report makes the call and hands the answers to the lanes.
func (b *batcher) report(ctx context.Context, c *call) error {
	began := time.Now()
	answers, err := b.ask(ctx, c.reports)
	b.stats.reported(began, c, err)
	if err != nil {
		for _, l := range c.lanes {
			l.s.failed(l)
		}
		return err
	}
	for i, l := range c.lanes {
		l.s.answered(l, &answers[i])
	}
	return nil
}

func (b *batcher) ask(ctx context.Context, reports []saltpeter.Report) ([]saltpeter.ReportAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, b.lim.Report)
	defer cancel()
	answers, err := b.leader.Report(ctx, reports)
	if err != nil {
		return nil, fmt.Errorf("report words: %w", err)
	}
	if len(answers) != len(reports) {
		return nil, fmt.Errorf("report words: %w: %d for %d", errAnswers, len(answers), len(reports))
	}
	for i := range answers {
		if answers[i].Ref != reports[i].Ref {
			return nil, fmt.Errorf("report words: %w: another target", errAnswers)
		}
	}
	return answers, nil
}
