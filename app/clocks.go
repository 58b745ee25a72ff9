package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/syscollective/saltpeter/cluster"
)

// clocks compares this node's wall clock with those of the other voters.
type clocks struct{ a *App }

// Agreed implements scheduler.Clocks.
func (c clocks) Agreed(ctx context.Context) (ahead time.Duration, alone bool, err error) {
	others := slices.DeleteFunc(c.a.node.Members(), func(m cluster.Member) bool { return m.Self || !m.Voter })
	if len(others) == 0 {
		return 0, true, nil
	}
	offsets := []time.Duration{0} // this node's own
	for _, h := range c.a.askReports(ctx, others) {
		if h.ok {
			offsets = append(offsets, h.offset)
		}
	}
	ahead, err = aheadOf(offsets, len(others)+1)
	return ahead, false, err
}

const (
	// clockShown and clockLead are how far a clock may be off before that is shown, and before its node does not lead.
	clockShown = time.Second
	clockLead  = 5 * time.Second
	clockEvery = 2 * time.Second
)

// errClockOff ends a leadership: somebody with the right time should lead.
var errClockOff = errors.New("this node's wall clock is off")

// watchClock ends the leadership of a node whose clock is far off that of a majority, in two looks in a row. It looks at once,
// beside the leader's work: who is asked may be dead, and a takeover must not wait for that. Without a majority's answer the
// leader stays.
func (a *App) watchClock(ctx context.Context) error {
	for bad := 0; ; {
		ahead, alone, err := (clocks{a}).Agreed(ctx)
		if err != nil || alone || ahead.Abs() <= clockLead {
			bad = 0
		} else if bad++; bad > 1 {
			return fmt.Errorf("%w: %s ahead of the median of the nodes", errClockOff, ahead.Round(time.Millisecond))
		}
		if !sleep(ctx, clockEvery) {
			return nil
		}
	}
}

// aheadOf gives how far this node's clock is ahead of the median of all that answered, from how far each of them, this
// node's own included, is ahead of this node's. It takes a majority of the voters.
func aheadOf(offsets []time.Duration, voters int) (time.Duration, error) {
	n := len(offsets)
	if n <= voters/2 {
		return 0, fmt.Errorf("compare clocks: %d of %d voters answer", n, voters)
	}
	slices.Sort(offsets)
	return -(offsets[(n-1)/2] + offsets[n/2]) / 2, nil
}
