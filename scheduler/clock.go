package scheduler

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"
)

const (
	// parting is how far wall and monotonic time may part between two looks.
	parting = 2 * time.Second
	// agreement is how near to the median of a majority a clock must be.
	agreement = time.Second
	// settleTime is how long a node alone waits before it believes its clock, and how long one of many may stay apart.
	settleTime = 10 * time.Second
	// recheck is the time between two looks at a clock in doubt.
	recheck = 500 * time.Millisecond
	// alarmEvery is the time between two log lines about a clock that nobody agrees upon.
	alarmEvery = time.Minute
	// tooFar is how far from the median of a majority the clock of a node may be that leads.
	tooFar = 5 * time.Second
	// takeoverWait is how long a new leader waits for a majority's clocks before it trusts its own.
	takeoverWait = 5 * time.Second
)

// clockWatch reads the wall clock and notices when it jumps. Only one goroutine uses it, but for alarmText.
type clockWatch struct {
	wall   func() time.Time
	clocks Clocks
	log    *slog.Logger
	seen   reading // the last one that was believed
	fit    bool    // not too far from a majority's when the leadership began
	alarm  atomic.Pointer[string]
}

// reading is both clocks at one instant.
type reading struct{ wall, mono time.Time }

// parted gives by how much the wall clock went farther than the monotonic one since an earlier reading.
func (r reading) parted(since reading) time.Duration {
	return r.wall.Sub(since.wall) - r.mono.Sub(since.mono)
}

func newClockWatch(o *Options, log *slog.Logger) *clockWatch {
	c := &clockWatch{wall: func() time.Time { return o.Wall().Round(0) }, clocks: o.Clocks, log: log}
	c.seen = c.look()
	return c
}

// look reads both clocks. A process that is stopped between the two would see them parted, so the monotonic one is read
// on both sides.
func (c *clockWatch) look() reading {
	for {
		before := time.Now()
		r := reading{c.wall(), time.Now()}
		if r.mono.Sub(before) < 100*time.Millisecond {
			return r
		}
	}
}

// read gives the wall clock's time once it can be believed, and whether it has jumped. It ends with ErrClockApart if that
// doesn't come to be.
func (c *clockWatch) read(ctx context.Context) (now time.Time, jumped bool, err error) {
	if !c.fit {
		if err := c.verify(ctx); err != nil {
			return time.Time{}, false, err
		}
		c.fit = true
	}
	r := c.look()
	if r.parted(c.seen).Abs() > parting {
		if err := c.settle(ctx, r); err != nil {
			return time.Time{}, true, err
		}
		return c.seen.wall, true, nil
	}
	c.seen = r
	return r.wall, false, nil
}

// verify compares the clock before anything is decided by it. It ends with ErrClockApart if it is too far away. A majority
// that does not answer, or agrees on nothing, does not keep a node from leading: the record would stand still.
func (c *clockWatch) verify(ctx context.Context) error {
	for begun := time.Now(); ; sleep(ctx, recheck) {
		offset, _, err := c.agreed(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil && offset.Abs() > tooFar:
			return fmt.Errorf("%w: by %s", ErrClockApart, offset)
		case err == nil:
			return nil
		case time.Since(begun) >= takeoverWait:
			c.log.Warn("leading without a majority that agrees on the time", "err", err)
			return nil
		}
	}
}

// doubt is the course of one doubt about the clock.
type doubt struct {
	steady time.Time // the clock has not jumped since
	apart  time.Time // a majority has been apart from it since; zero = it isn't
	told   time.Time // the last alarm
}

// settle waits until the clock is within agreement of a majority's, was steady for a while on a node alone, or has come
// back to where it was.
func (c *clockWatch) settle(ctx context.Context, r reading) error {
	c.log.Warn("wall clock jumped: nothing is claimed until it is agreed upon", "by", r.parted(c.seen))
	defer c.alarm.Store(nil)
	d := doubt{steady: time.Now()}
	for {
		believed, err := c.judge(ctx, &d)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		next := c.look()
		jumped := next.parted(r).Abs() > parting
		if back := next.parted(c.seen).Abs() <= parting; back || believed && !jumped {
			c.log.Info("wall clock is believed again", "back", back, "by", next.parted(c.seen))
			c.seen = next
			return nil
		}
		if jumped {
			d = doubt{steady: time.Now(), told: d.told}
		}
		r = next
		sleep(ctx, recheck)
	}
}

// judge asks once whether the clock may be believed.
func (c *clockWatch) judge(ctx context.Context, d *doubt) (believed bool, err error) {
	offset, alone, err := c.agreed(ctx)
	switch {
	case err != nil:
		d.apart = time.Time{}
		c.doubted(d, "no majority agrees on the time: "+err.Error())
		return false, nil //nolint:nilerr // without agreement the leader stays, and says so
	case alone:
		c.doubted(d, "this node is alone and waits until its clock is steady")
		return time.Since(d.steady) >= settleTime, nil
	case offset.Abs() <= agreement:
		return true, nil
	}
	c.doubted(d, fmt.Sprintf("wall clock is %s apart from that of a majority", offset))
	if d.apart.IsZero() {
		d.apart = time.Now()
	}
	if time.Since(d.apart) >= settleTime {
		return false, fmt.Errorf("%w: by %s", ErrClockApart, offset)
	}
	return false, nil
}

// agreed asks for the agreement, bounded.
func (c *clockWatch) agreed(ctx context.Context) (offset time.Duration, alone bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleTime/2)
	defer cancel()
	return c.clocks.Agreed(ctx)
}

// doubted shows why nothing is claimed, and logs it now and then.
func (c *clockWatch) doubted(d *doubt, why string) {
	c.alarm.Store(&why)
	if d.told.IsZero() || time.Since(d.told) >= alarmEvery {
		d.told = time.Now()
		c.log.Error("nothing is claimed", "err", why)
	}
}

func (c *clockWatch) alarmText() string {
	if why := c.alarm.Load(); why != nil {
		return *why
	}
	return ""
}
