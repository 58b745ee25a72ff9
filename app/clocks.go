package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/syscollective/saltpeter/cluster"
)

const (
	// clockShown and clockLead are how far a clock may be off before that is shown, and before its node does not lead.
	clockShown = time.Second
	clockLead  = 5 * time.Second
	clockEvery = 2 * time.Second
	// stragglers is how long the other clocks are waited for once a majority's are known: a node that is down must not hold a
	// new leader up.
	stragglers = 50 * time.Millisecond
)

// errNoAgreement says that clocks answer, and that no majority of them is near to each other.
var errNoAgreement = errors.New("no majority of the nodes agrees on the time")

// clocks compares this node's wall clock with those of the other voters.
type clocks struct{ a *App }

// Agreed implements scheduler.Clocks. A node that leads although its clock is off, for want of a better one, is agreed with by
// nobody: it stays.
func (c clocks) Agreed(ctx context.Context) (ahead time.Duration, alone bool, err error) {
	others := c.a.otherVoters()
	if len(others) == 0 {
		return 0, true, nil
	}
	if why := c.a.clockAlarm.Load(); why != nil {
		return 0, false, fmt.Errorf("%w: %s", errNoAgreement, *why)
	}
	offsets := []time.Duration{0} // this node's own
	for _, o := range c.a.askClocks(ctx, others, func(map[string]time.Duration) bool { return false }) {
		offsets = append(offsets, o)
	}
	ahead, err = aheadOf(offsets, len(others)+1)
	return ahead, false, err
}

func (a *App) otherVoters() []cluster.Member {
	return slices.DeleteFunc(a.node.Members(), func(m cluster.Member) bool { return m.Self || !m.Voter })
}

// askClocks asks other voters how far their clocks are ahead of this node's, until enough says so, and only for a moment more
// once a majority's are known.
func (a *App) askClocks(ctx context.Context, others []cluster.Member, enough func(map[string]time.Duration) bool) map[string]time.Duration {
	ctx, cancel := context.WithTimeout(ctx, reportLimit)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	type answer struct {
		id string
		heard
	}
	answers := make(chan answer, len(others))
	for _, m := range others {
		group.Go(func() { answers <- answer{m.ID, a.askReport(ctx, m)} })
	}
	out := map[string]time.Duration{}
	var last <-chan time.Time
	for range others {
		select {
		case got := <-answers:
			if got.ok {
				out[got.id] = got.offset
			}
		case <-last:
			return out
		}
		if enough(out) {
			return out
		}
		if last == nil && len(out)+1 > (len(others)+1)/2 {
			last = time.After(stragglers)
		}
	}
	return out
}

// aheadOf gives how far this node's clock is ahead of the median of all that answered, from how far each of them, this
// node's own included, is ahead of this node's. It takes a majority of the voters, whose clocks are near to it: two that are far
// apart say nothing of which is wrong (errNoAgreement).
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
		return 0, fmt.Errorf("%w: %d of %d clocks are within %s of their median", errNoAgreement, near, n, clockLead)
	}
	return -median, nil
}

// timekeeping is what a leader finds out about its clock.
type timekeeping struct {
	off    bool          // it should not lead, or nobody can tell
	ahead  time.Duration // of the median
	better string        // id of the voter that should lead instead; empty where no majority agrees on the time
}

// judgeClocks judges this node's clock by how far those of the other voters are ahead of it.
func judgeClocks(others map[string]time.Duration, voters int) timekeeping {
	ahead, err := aheadOf(append(slices.Collect(maps.Values(others)), 0), voters)
	switch {
	case errors.Is(err, errNoAgreement):
		return timekeeping{off: true}
	case err != nil || ahead.Abs() <= clockLead:
		return timekeeping{}
	}
	// The one with the best clock, not the one with the longest log: that one's may be off too.
	best := slices.MinFunc(slices.Sorted(maps.Keys(others)), func(x, y string) int {
		return cmp.Compare((others[x] + ahead).Abs(), (others[y] + ahead).Abs())
	})
	return timekeeping{off: true, ahead: ahead, better: best}
}

// agreeSoon judges this node's clock. Once a majority's clocks are near it, so is their median, whatever the rest says: a takeover
// doesn't wait for a dead node then.
func (a *App) agreeSoon(ctx context.Context) timekeeping {
	others := a.otherVoters()
	voters := len(others) + 1
	agreed := func(got map[string]time.Duration) bool {
		near := 1
		for _, o := range got {
			if o.Abs() <= clockLead {
				near++
			}
		}
		return near > voters/2
	}
	got := a.askClocks(ctx, others, agreed)
	if agreed(got) {
		return timekeeping{}
	}
	return judgeClocks(got, voters)
}

// keepTime hands leadership on if this node's clock is too far off, and says whether it did. Where nobody else can lead, or no
// majority agrees on the time, this node stays and says so. It doesn't end itself: it would do so again and again.
func (a *App) keepTime(ctx context.Context, t timekeeping) (handed bool) {
	if !t.off {
		a.clockAlarm.Store(nil)
		return false
	}
	ahead := t.ahead.Round(time.Millisecond)
	why := errNoAgreement.Error() + ": this node leads on by its own clock"
	if t.better != "" {
		a.log.Error("this node's wall clock is off: leadership is handed on", "by", ahead, "node", a.nameOf(t.better))
		err := a.node.TransferTo(ctx, t.better)
		if err == nil || errors.Is(err, cluster.ErrNotLeader) || ctx.Err() != nil {
			return true
		}
		why = fmt.Sprintf("this node's wall clock is %s ahead of the median of the nodes, and leadership can't be handed on: %v", ahead, err)
	}
	if old := a.clockAlarm.Swap(&why); old == nil {
		a.log.Error("this node leads with a wall clock that is off", "err", why)
	}
	return false
}

// watchClock hands leadership on once this node's clock is far off in two looks in a row: one may have been slow.
func (a *App) watchClock(ctx context.Context) error {
	defer a.clockAlarm.Store(nil)
	for bad := false; sleep(ctx, clockEvery); {
		t := a.agreeSoon(ctx)
		if t.off && !bad {
			bad = true
			continue
		}
		bad = t.off
		if a.keepTime(ctx, t) {
			<-ctx.Done() // the cluster ends what is handed on
		}
	}
	return nil
}
