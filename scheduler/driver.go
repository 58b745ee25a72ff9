package scheduler

import (
	"context"
	"errors"
	"sync"

	"github.com/syscollective/saltpeter"
)

// errNoLauncher stands for a launcher's error where there is none.
var errNoLauncher = errors.New("no launcher is set up: see launcher in saltpeter_config")

// driver has one goroutine for each unfinished run. Whether a run was claimed by this leader or found at takeover makes no
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
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		}
		v := d.l.record.View()
		for _, num := range d.takeFresh() {
			if r, ok := v.Run(num); ok && !r.State.Final() {
				d.start(ctx, &wg, num)
			}
		}
	}
}

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
		defer d.forget(num)
		r.run(ctx)
	})
}

func (d *driver) forget(num uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.runs, num)
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
		select {
		case d.wake <- struct{}{}:
		default:
		}
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
