package wsgateway

import (
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

// lane is one target on one session: the words that its winner tells, and how far the record has them. All below ref is
// guarded by the session's mu.
type lane struct {
	s   *session
	run int // ordinal
	ref saltpeter.TargetRef

	nonce saltpeter.Nonce
	won   bool // by a grant or a resume on this session
	moved bool // a newer session of the same winner is on this node
	gone  bool // the session has ended
	over  bool // the record has the final word

	next      uint64           // the number that the next numbered word must have
	waiting   []saltpeter.Word // in order
	waitBytes int64            // weight of waiting
	flying    []saltpeter.Word // in a Report call, before all that waits
	queued    bool             // is in the batcher's queue or in a call
	link      *lane            // the next in the batcher's queue; guarded by the batcher's mu

	gap       bool // expect was sent and not heeded yet
	expectDue bool

	acked          uint64 // the record's next number
	started, ended bool   // as in the last answer
	ackDue         bool

	killed   bool // a kill is committed
	killTold bool
	grace    time.Duration
}

// maxWord bounds what one word weighs.
const maxWord = wire.MaxOutput + maxText + wordOverhead

// wordOverhead is what a word weighs beside its data, reportOverhead what a report does: numbers and keys in the log entry.
const (
	wordOverhead   = 24
	reportOverhead = 64
)

func weigh(w *saltpeter.Word) int64 { return int64(len(w.Data) + len(w.Text) + wordOverhead) }

func numbered(k saltpeter.WordKind) bool {
	return k == saltpeter.WordOutput || k == saltpeter.WordSkip || k == saltpeter.WordResult
}

// after gives the number that follows w.
func after(w *saltpeter.Word) uint64 { return w.Seq + max(w.Covers, 1) }

// offer decides about a word: take it, or leave it. The wrapper hears why it was left.
func (l *lane) offer(w *saltpeter.Word) (take bool) {
	switch {
	case l.moved:
		return false
	case l.over:
		l.ackDue = true
		return false
	case !numbered(w.Kind):
		return true
	case w.Seq == l.next:
		l.next = after(w)
		l.gap = false
		return true
	case after(w) <= l.next:
		// A repetition. What the record has is acked again; what is under way will be.
		l.ackDue = l.ackDue || after(w) <= l.acked
		return false
	}
	// A gap, or a skip that begins below what was taken and reaches beyond it. Asked for once, and again with every
	// heartbeat, since frames that were under way come too early as well.
	l.expectDue = l.expectDue || !l.gap
	l.gap = true
	return false
}

// hold makes the lane a winner's: next is the record's expected number. What waited from before is dropped, the wrapper
// sends it again from next.
func (l *lane) hold(nonce saltpeter.Nonce, next uint64, over bool) (dropped []saltpeter.Word) {
	if l.won && l.nonce == nonce && next == 0 {
		return nil // a grant repeated on the session that has it
	}
	dropped = l.dropWaiting()
	l.nonce, l.won, l.moved, l.over, l.gap = nonce, true, false, over, false
	l.next = max(next, 1)
	l.acked = l.next
	return dropped
}

// settle takes the answer to the words that were flying. It gives the words that wait in vain.
func (l *lane) settle(a *saltpeter.ReportAnswer) (dropped []saltpeter.Word) {
	var last uint64
	for i := range l.flying {
		if numbered(l.flying[i].Kind) {
			last = after(&l.flying[i])
		}
	}
	l.flying = nil
	if a.Refused != "" {
		l.won = false
		return l.dropWaiting()
	}
	l.acked, l.started, l.ended, l.ackDue = a.Next, a.Started, a.Done, true
	l.over = l.over || a.Done
	switch {
	case a.Done:
		dropped = l.dropWaiting()
	case a.Next < last:
		// Not all was taken: what waits behind it would leave a gap.
		dropped = l.dropWaiting()
		l.next, l.gap, l.expectDue = a.Next, true, true
	case a.Next > l.next:
		l.next = a.Next // another session of this winner told more
	}
	return dropped
}

func (l *lane) dropWaiting() []saltpeter.Word {
	dropped := l.waiting
	l.waiting, l.waitBytes = nil, 0
	return dropped
}

// back puts words whose Report failed in front of those that wait.
func (l *lane) back() {
	for i := range l.flying {
		l.waitBytes += weigh(&l.flying[i])
	}
	// flying has no spare room (see launch), so that this never writes over what waits.
	l.waiting, l.flying = append(l.flying, l.waiting...), nil
}
