package scheduler

import (
	"context"
	"errors"
	"sync"

	"github.com/syscollective/saltpeter"
)

// errNoLauncher stands for a launcher's error where there is none.
var errNoLauncher = errors.New("no launcher is set up: see launcher in saltpeter_config")

// driver has one goroutine for each run that is to be driven. Whether a run was claimed by this leader or found at takeover makes no
// difference to it: both come from the record.
type driver struct {
	l    *leadership
	wake chan struct{} // capacity 1: fresh is not empty

	mu    sync.Mutex // guards runs and fresh
	runs  map[uint64]*driven
	fresh []uint64 // changed, and not driven
}

func newDriver(l *leadership) *driver {
	return &driver{l: l, wake: make(chan struct{}, 1), runs: make(map[uint64]*driven)}
}

// run starts a goroutine for each run that appears, until ctx ends, and waits for them.
func (d *driver) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	d.l.record.View().Unfinished(func(r *saltpeter.Run) bool {
		d.start(ctx, &wg, r.Num)
		return true
	})
	d.l.record.View().Backs(func(r *saltpeter.Run) bool {
		d.start(ctx, &wg, r.Num)
		return true
	})
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		}
		v := d.l.record.View()
		for _, num := range d.takeFresh() {
			if r, ok := v.Run(num); ok && toDrive(r) {
				d.start(ctx, &wg, num)
			}
		}
	}
}

// toDrive reports whether anything may have to be proposed for a run: it is not finished, or one of its machines came back
// after it was, and may fall silent again.
func toDrive(r *saltpeter.Run) bool { return !r.State.Final() || r.Backs > 0 }

func (d *driver) start(ctx context.Context, wg *sync.WaitGroup, num uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.runs[num] != nil {
		d.runs[num].poke()
		return
	}
	r := newDriven(d.l, num)
	d.runs[num] = r
	wg.Go(func() {
		defer d.forget(r)
		r.run(ctx)
	})
}

// forget takes out a run that has nothing to be driven. If it changed while it ended, it is looked at again: one of its
// machines may have come back.
func (d *driver) forget(r *driven) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.runs, r.num)
	select {
	case <-r.wake:
		d.fresh = append(d.fresh, r.num)
		d.poke()
	default:
	}
}

func (d *driver) takeFresh() []uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	fresh := d.fresh
	d.fresh = nil
	return fresh
}

// changed wakes the runs that are driven and notes the others.
func (d *driver) changed(runs []uint64) {
	if len(runs) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, num := range runs {
		if r := d.runs[num]; r != nil {
			r.poke()
		} else {
			d.fresh = append(d.fresh, num)
		}
	}
	if len(d.fresh) > 0 {
		d.poke()
	}
}

func (d *driver) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// end has a run's goroutine propose outcomes.
func (d *driver) end(run uint64, ends []saltpeter.TargetEnd) {
	d.mu.Lock()
	r := d.runs[run]
	d.mu.Unlock()
	if r != nil {
		r.end(ends)
	}
}

func (d *driver) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.runs)
}
