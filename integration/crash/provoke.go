package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
)

// keptBytes is what is kept of output for a while: less than bulkRuns write, and so much more than is written meanwhile that
// nothing is dropped that was not over when it began.
const (
	keptBytes = 3 << 19
	bulkRuns  = 8
)

// keep limits what is kept of output. Files as they have been before would not get into force if the leader changed meanwhile.
func (ch *chain) keep(bytes int) error {
	ch.c.OutputTotal = bytes
	ch.c.Edition++
	return ch.c.WriteConfig()
}

// keepAll has no output dropped.
func (ch *chain) keepAll(ctx context.Context) error {
	if err := ch.keep(0); err != nil {
		return err
	}
	return rig.WaitFor(ctx, 40*time.Second, "all output to be kept", func() error {
		var j struct {
			OutputLimit int `json:"output_limit"`
		}
		err := ch.c.Get(ctx, "/jobs/"+jobBulk, &j)
		if err == nil && j.OutputLimit != 1<<20 {
			err = fmt.Errorf("the limit of a machine is %d", j.OutputLimit)
		}
		return err
	})
}

// fillUp has more output written than is going to be kept, and takes all that is over into evidence before it is dropped.
func (ch *chain) fillUp(ctx context.Context) error {
	if err := ch.keepAll(ctx); err != nil {
		return err
	}
	for _, n := range ch.c.Nodes {
		if err := armPoint(n, ""); err != nil { // segments of an earlier case may still be compacted
			return err
		}
	}
	var ids []string
	for range bulkRuns {
		id, err := ch.fill.StartByHand(ctx, jobBulk)
		if err != nil {
			return err
		}
		ids = append(ids, id)
	}
	for _, id := range ids {
		err := rig.WaitFor(ctx, 30*time.Second, "the end of "+id, func() error {
			var r rig.Run
			if err := ch.c.Get(ctx, "/runs/"+id, &r); err != nil {
				return err
			}
			if r.Ended == nil {
				return fmt.Errorf("it is %s", r.State)
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return ch.c.Finished(ctx, &ch.early)
}

// turnClocks sets all clocks ahead until ticks of the future are claimed, and back with the point armed: the marks that are
// left lie far in the future.
func (ch *chain) turnClocks(ctx context.Context, p point, setting string) error {
	alone := len(ch.c.Nodes) == 1
	ahead := 15 * time.Second
	if alone { // and 10 s pass before it believes its clock
		ahead = 30 * time.Second
	}
	from := time.Now()
	err := ch.setClocks(ahead, "")
	if err == nil {
		err = rig.WaitFor(ctx, 40*time.Second, "a tick of the future to be claimed", func() error { return ch.claimedAfter(ctx, time.Now().Add(ahead-5*time.Second)) })
	}
	if err == nil && !alone {
		var armed []*rig.Node
		armed, err = ch.choose(ctx, p)
		for _, n := range armed {
			err = errors.Join(err, armPoint(n, setting))
		}
	}
	err = errors.Join(err, ch.setClocks(0, setting))
	ch.h.ClocksAhead(from, time.Now(), ahead)
	return err
}

// claimedAfter says that no tick after a time is claimed yet.
func (ch *chain) claimedAfter(ctx context.Context, at time.Time) error {
	runs, err := rig.List[rig.Run](ctx, ch.c, "/jobs/"+jobTick+"/runs")
	if err != nil {
		return err
	}
	for _, r := range runs {
		if r.Scheduled != nil && r.Scheduled.After(at) {
			return nil
		}
	}
	return errors.New("none")
}

// setClocks sets the wall clocks of all nodes by how far they are ahead. A node alone does not believe a jump for a while, so
// it is started anew, with a point that is set.
func (ch *chain) setClocks(ahead time.Duration, point string) error {
	n, alone, from := ch.c.Nodes[0], len(ch.c.Nodes) == 1, time.Now()
	if alone {
		if err := n.End(syscall.SIGKILL, 10*time.Second); err != nil {
			return err
		}
	}
	tmp := clockFile(ch.c) + ".new"
	err := os.WriteFile(tmp, []byte(ahead.String()), 0o644)
	if err == nil {
		err = os.Rename(tmp, clockFile(ch.c))
	}
	if err == nil && alone {
		err = n.Start("SP_CRASHPOINT=" + point)
		ch.h.Down(from, time.Now())
	}
	return err
}
