package rig

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// slackOfEpoch is what may pass, on a busy host, between a grant and the command's first line, or a tick and its claim.
const slackOfEpoch = 3 * time.Second

// Epoch is a change of the record for one of another time, as the one who asked for it saw it: a restored backup, or what the
// survivor of a lost majority has.
type Epoch struct {
	from, by  time.Time // between them the record was taken
	sent, got time.Time // between them it got into force, with a maintenance
	forgets   bool      // what happened between taking it and sending it
	before    []Run     // that the record had when it was sent
	backup    []byte
	window    *Span
}

// Save takes a backup.
func (o *Operator) Save(ctx context.Context, output bool) (*Epoch, error) {
	e := &Epoch{from: time.Now(), forgets: true}
	var err error
	e.backup, err = o.C.insist(ctx, http.MethodGet, fmt.Sprintf("/snapshot?output=%t", output), nil, nil)
	e.by = time.Now()
	return e, err
}

// Lose begins an epoch in which nothing is forgotten: kill ends all nodes.
func (o *Operator) Lose(kill func() error) (*Epoch, error) {
	e := &Epoch{from: time.Now()}
	err := kill()
	e.by = time.Now()
	return e, err
}

// Restore brings a backup in force: it is repeated until it is acknowledged, by whichever node. One that is stopped meanwhile
// has the time to go on, so that no restore is left half done that would go on after another was acknowledged.
func (o *Operator) Restore(ctx context.Context, e *Epoch) error {
	var err error
	if e.before, err = List[Run](ctx, o.C, "/runs"); err != nil {
		return err
	}
	return o.enter(ctx, e, func(n *Node) error {
		_, err := n.call(ctx, http.MethodPut, "/snapshot", e.backup, nil)
		return err
	})
}

// Recovered waits until a node says that it is in the new epoch.
func (o *Operator) Recovered(ctx context.Context, e *Epoch) error {
	return o.enter(ctx, e, func(*Node) error {
		var page page[struct {
			Scope  string `json:"scope"`
			Active bool   `json:"active"`
		}]
		if err := o.C.Get(ctx, "/maintenance", &page); err != nil {
			return err
		}
		for _, w := range page.Items {
			if w.Scope == "all" && w.Active {
				return nil
			}
		}
		return errors.New("there is no maintenance")
	})
}

// enter asks living nodes in turns until one says that the epoch is in force.
func (o *Operator) enter(ctx context.Context, e *Epoch, ask func(n *Node) error) error {
	e.sent = time.Now()
	e.window = &Span{scope: "all", onSent: e.sent, onUnknown: true}
	o.H.mu.Lock()
	o.H.epochs, o.H.spans = append(o.H.epochs, e), append(o.H.spans, e.window)
	o.H.mu.Unlock()
	err := WaitFor(ctx, time.Minute, "the new epoch", func() error {
		n := o.C.Nodes[int(o.C.turn.Add(1))%len(o.C.Nodes)]
		if !n.Alive() {
			return fmt.Errorf("%s is down", n.Name)
		}
		return ask(n)
	})
	e.got = time.Now()
	e.window.onAcked, e.window.onUnknown = e.got, err != nil
	return err
}

// Leave ends the maintenance of an epoch, after some seconds in which nothing may begin.
func (o *Operator) Leave(ctx context.Context, e *Epoch) error {
	time.Sleep(time.Until(e.got.Add(slackOfEpoch + time.Second)))
	return o.lift(ctx, e.window)
}

// decided reports whether a tick may have been decided in a record that is gone: it has a run or skip there, or none.
func (o *oracle) decided(tick time.Time) bool {
	return slices.ContainsFunc(o.history.epochs, func(e *Epoch) bool {
		return tick.After(e.from.Add(-slackOfEpoch)) && !tick.After(e.got)
	})
}

// spansEpoch reports whether an epoch began between two instants.
func (o *oracle) spansEpoch(from, to time.Time) bool {
	return slices.ContainsFunc(o.history.epochs, func(e *Epoch) bool { return !from.After(e.got) && !to.Before(e.from) })
}

// forgotten reports whether what was seen at an instant may be missing in the record. Commands that were granted then may
// begin some moments later.
func (o *oracle) forgotten(at time.Time, moments time.Duration) bool {
	return slices.ContainsFunc(o.history.epochs, func(e *Epoch) bool {
		return e.forgets && !at.Before(e.from) && at.Before(e.got.Add(moments))
	})
}

// restored reports whether a run may have been unfinished in a record that was brought in force again.
func (o *oracle) restored(r *Run) bool {
	return slices.ContainsFunc(o.history.epochs, func(e *Epoch) bool {
		return !r.Claimed.After(e.by) && (r.Ended == nil || !r.Ended.Before(e.from))
	})
}

// forgottenTicks adds the runs of ticks that are not in the record any more: none may have been claimed again.
func (o *oracle) forgottenTicks(job string, runs map[int64]int) {
	known := make(map[string]bool)
	for i := range o.runs {
		known[o.runs[i].ID] = true
	}
	for _, e := range o.history.epochs {
		for _, r := range e.before {
			if r.Job == job && r.Scheduled != nil && !known[r.ID] {
				known[r.ID] = true
				runs[r.Scheduled.Unix()]++
			}
		}
	}
}

// closedEpochs holds every command to the maintenance with which an epoch begins: no token of before is good any more, and
// nothing is launched until it is lifted.
func (o *oracle) closedEpochs() {
	for k, all := range o.ledger {
		for _, x := range all {
			at := time.Unix(0, x.Start.nanos)
			for _, e := range o.history.epochs {
				if at.After(e.got.Add(slackOfEpoch)) && e.window.mustCover(at) {
					o.add("G5", at, "%s on %s began in the maintenance of a new epoch", k.Instance, k.Machine)
				}
			}
		}
	}
}

// locked reports whether a command of the job from before an epoch, which the record may not know or took for lost, ran on the
// machine in a run's time: it held the job's lock.
func (o *oracle) locked(job, machine string, r *Run) bool {
	for k, all := range o.ledger {
		for _, x := range all {
			at := time.Unix(0, x.Start.nanos)
			if k.Machine != machine || x.Start.Job != job || k.Instance == r.ID || x.end == nil || !o.spansEpoch(at, *r.Claimed) {
				continue
			}
			if at.Before(r.endOr(time.Now())) && x.end.nanos > r.Claimed.UnixNano() {
				return true
			}
		}
	}
	return false
}

// inPieces reports whether got is what is left of want without some pieces.
func inPieces(want, got []byte) bool {
	for len(got) > 0 {
		i := bytes.Index(want, got[:min(probe, len(got))])
		if i < 0 {
			return false
		}
		n := commonPrefix(want[i:], got)
		want, got = want[i+n:], got[n:]
	}
	return true
}
