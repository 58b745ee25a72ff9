package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
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
	ahead, err = aheadOf(c.offsets(ctx, others), len(others)+1)
	return ahead, false, err
}

const (
	// clockShown and clockLead are how far a clock may be off before that is shown, and before its node does not lead.
	clockShown = time.Second
	clockLead  = 5 * time.Second
	clockEvery = 2 * time.Second
	// stragglers is how long the other clocks are waited for once a majority's are known: a node that is down must not hold a
	// new leader up.
	stragglers = 50 * time.Millisecond
)

// errClockOff ends a leadership: somebody with the right time should lead.
var errClockOff = errors.New("this node's wall clock is off")

// watchClock ends the leadership of a node whose clock is far off that of a majority, in two looks in a row: one that
// is carried away in steps that are no jumps. At the beginning of a leadership the scheduler looks, before it claims anything.
// Without a majority that agrees the leader stays.
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

// offsets gives how far the clocks that answer are ahead of this node's; its own is the first.
func (c clocks) offsets(ctx context.Context, others []cluster.Member) []time.Duration {
	ctx, cancel := context.WithTimeout(ctx, reportLimit)
	defer cancel()
	answers := make(chan heard, len(others))
	var group sync.WaitGroup
	for _, m := range others {
		group.Go(func() { answers <- c.a.askReport(ctx, m) })
	}
	defer group.Wait()
	defer cancel()
	out := []time.Duration{0}
	var enough <-chan time.Time
	for range others {
		select {
		case h := <-answers:
			if h.ok {
				out = append(out, h.offset)
			}
		case <-enough:
			return out
		}
		if enough == nil && len(out) > (len(others)+1)/2 {
			enough = time.After(stragglers)
		}
	}
	return out
}

// aheadOf gives how far this node's clock is ahead of the median of all that answered, from how far each of them, this
// node's own included, is ahead of this node's. It takes a majority of the voters, whose clocks are near to it: two that are far
// apart say nothing of which is wrong.
func aheadOf(offsets []time.Duration, voters int) (time.Duration, error) {
	n := len(offsets)
	if n <= voters/2 {
		return 0, fmt.Errorf("compare clocks: %d of %d voters answer", n, voters)
	}
	slices.Sort(offsets)
	median := (offsets[(n-1)/2] + offsets[n/2]) / 2
	near := 0
	for _, o := range offsets {
		if (o - median).Abs() <= clockLead {
			near++
		}
	}
	if near <= voters/2 {
		return 0, fmt.Errorf("compare clocks: those of %d voters are more than %s apart from each other", n, clockLead)
	}
	return -median, nil
}
