package fsm

import (
	"unique"

	"github.com/syscollective/saltpeter"
)

// Reasons of refusals that wrappers are told.
const (
	refusedUnknown = "the record has no such launch"
	refusedWaiting = "this machine's batch is not launched"
	refusedTaken   = "another wrapper has won this start"
	refusedStarted = "the command was started already"
	refusedMaint   = "the machine is under maintenance"
)

// find gives the run of a wrapper's ask and the position of its target; a refusal if launch, machine and target do not
// belong together.
func (a *applier) find(ref saltpeter.TargetRef, seen *saltpeter.LaunchSight) (*run, string) {
	r := a.s.mutRun(ref.Run)
	if r == nil || ref.Target >= r.size() {
		return nil, refusedUnknown
	}
	t := r.at(ref.Target)
	if t.batch < 0 {
		return nil, refusedWaiting
	}
	if t.machine.Value() != seen.Machine || r.Batches[t.batch].Launch != seen.Launch {
		return nil, refusedUnknown
	}
	return r, ""
}

func (c *StartTarget) apply(a *applier) any {
	ask := &c.Ask
	r, refusal := a.find(ask.Ref, &ask.Sight)
	if r == nil {
		return TargetAsked{Refusal: refusal}
	}
	i := ask.Ref.Target
	t := r.at(i)
	winner := t.nonce != nil && *t.nonce == ask.Nonce
	a.noteBoot(r, i, &ask.Sight)
	switch {
	case t.state == saltpeter.Launched:
		return a.grant(r, ask)
	case t.state == saltpeter.Granted && winner:
		return TargetAsked{Granted: true, Kill: t.has(flagKilling)}
	case t.state == saltpeter.Granted:
		return TargetAsked{Refusal: refusedTaken}
	case t.state == saltpeter.Started:
		return TargetAsked{Refusal: refusedStarted}
	case t.state == saltpeter.InMaintenance:
		return TargetAsked{Refusal: refusedMaint}
	default:
		return TargetAsked{Refusal: "this target has ended: " + t.state.String()}
	}
}

// noteBoot marks a machine under whose id a second boot id asks within one launch, after the winner's.
func (a *applier) noteBoot(r *run, i uint32, seen *saltpeter.LaunchSight) {
	t := r.at(i)
	if t.granted == 0 || t.has(flagTwoHosts) || seen.BootID == t.sight.Value().bootID {
		return
	}
	r.mutAt(i).flags |= flagTwoHosts
	a.touch(r.Num)
}

// grant gives the start to the one who asks. It is given only from Launched; a kill would have ended the target.
func (a *applier) grant(r *run, ask *saltpeter.StartAsk) TargetAsked {
	i := ask.Ref.Target
	if w := a.s.windows.activeForMachine(ask.Sight.Machine, a.env.Millis); w != nil {
		a.end(r, i, ending{state: saltpeter.InMaintenance, text: describeWindow(w)})
		a.finishIfDone(r)
		return TargetAsked{Refusal: refusedMaint}
	}
	t := a.move(r, i, saltpeter.Granted)
	nonce := ask.Nonce
	t.nonce = &nonce
	t.granted = a.env.Millis
	t.sight = unique.Make(sight{bootID: ask.Sight.BootID, host: ask.Sight.Host, version: ask.Sight.Version})
	t.text = ask.Sight.Remark
	return TargetAsked{Granted: true}
}

func (c *RefuseLock) apply(a *applier) any {
	r, refusal := a.find(c.Refusal.Ref, &c.Refusal.Sight)
	if r == nil {
		return TargetAsked{Refusal: refusal}
	}
	i := c.Refusal.Ref.Target
	a.noteBoot(r, i, &c.Refusal.Sight)
	if r.at(i).state == saltpeter.Launched {
		a.end(r, i, ending{state: saltpeter.NotStarted, text: c.Refusal.Text})
		a.finishIfDone(r)
	}
	return Done{}
}
