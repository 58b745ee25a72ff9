package app

import (
	"context"
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
	// clockShown and clockLead are how far a clock may be off before that is a warning, and before it is a failure.
	clockShown = time.Second
	clockLead  = 5 * time.Second
)

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
