package rig

import (
	"slices"
	"time"
)

// slack is what a node may take to come back after an outage, on a busy host, beyond the outage itself.
const slack = 20 * time.Second

// ticks judges a job's ticks: each has exactly one run, or one recorded skip with a reason that holds.
func (o *oracle) ticks(j *Job) {
	runs := make(map[int64]int)
	for _, r := range o.runs {
		if r.Job == j.Name && r.Scheduled != nil {
			runs[r.Scheduled.Unix()]++
			if !j.due(r.Scheduled.Unix()) {
				o.add("G2", *r.Scheduled, "run %s for a second at which %s is not due", r.ID, j.Name)
			}
		}
	}
	o.forgottenTicks(j.Name, runs)
	skips := o.skipsOf(j)
	for s := o.history.Seen.Unix() + 1; s < o.end.onSent.Unix(); s++ {
		if !j.due(s) {
			continue
		}
		at := time.Unix(s, 0)
		n := runs[s] + len(skips[s])
		if o.history.wrongBy(at) > 0 && runs[s] <= 1 {
			n = min(n, 1) // a tick that was skipped comes again when its mark is pulled back
		}
		if n != 1 && (n > 1 || !o.decided(at)) {
			o.add("G2", at, "tick %d of %s has %d runs and the skips %v", s, j.Name, runs[s], skips[s])
		}
		if runs[s] > 0 && o.covered(j.Name, at) {
			o.add("G5", at, "tick %d of %s has a run, within a maintenance", s, j.Name)
		}
		for _, reason := range skips[s] {
			if !o.holds(j, at, reason) {
				o.add("G2", at, "tick %d of %s is skipped (%s) without cause", s, j.Name, reason)
			}
		}
	}
}

// skipsOf gives the reasons of skips by second, and holds the counts of the series to the schedule.
func (o *oracle) skipsOf(j *Job) map[int64][]string {
	out := make(map[int64][]string)
	for _, sk := range o.skips[j.Name] {
		n, unsure := 0, 0
		for s := sk.First.Unix(); s <= sk.Last.Unix(); s++ {
			switch {
			case !j.due(s):
			case o.spansEpoch(sk.First, sk.Last) && o.decided(time.Unix(s, 0)):
				unsure++ // what was decided between two skips of the series may be forgotten
			default:
				out[s] = append(out[s], sk.Reason)
				n++
			}
		}
		n += min(unsure, max(sk.Count-n, 0))
		if o.history.wrongBy(sk.First) > 0 || o.history.wrongBy(sk.Last) > 0 {
			n = min(n, sk.Count) // runs that the wrong clock had claimed may lie within
		}
		if n != sk.Count {
			o.add("G2", sk.First, "a series of %d skips (%s) of %s spans %d ticks", sk.Count, sk.Reason, j.Name, n)
		}
	}
	return out
}

func (o *oracle) covered(job string, at time.Time) bool {
	return slices.ContainsFunc(o.history.spans, func(s *Span) bool { return s.covers(job) && s.mustCover(at) })
}

// holds reports whether a skip's reason can be true.
func (o *oracle) holds(j *Job, at time.Time, reason string) bool {
	switch reason {
	case "overlap":
		return !j.Overlap
	case "maintenance": // one that covers the tick, or the time of its decision
		return slices.ContainsFunc(o.history.spans, func(s *Span) bool {
			return s.covers(j.Name) && s.onSent.Before(at.Add(time.Minute)) && (s.offAcked.IsZero() || s.offAcked.After(at))
		})
	case "missed": // its age passed the grace while nothing could be decided
		if o.history.wrongBy(at) > 0 {
			return true
		}
		grace := max(time.Duration(j.misfireGrace())*time.Second, 2*time.Second)
		return slices.ContainsFunc(o.history.downs, func(d outage) bool {
			return d.from.Before(at.Add(grace)) && d.to.Add(slack).After(at.Add(grace)) && d.to.Sub(d.from)+slack >= grace
		})
	default:
		return false
	}
}

// overlaps holds a job without overlap to one command at a time on each machine.
func (o *oracle) overlaps(j *Job) {
	byMachine := make(map[string][]Execution)
	for k, all := range o.ledger {
		for _, e := range all {
			if e.Start.Job == j.Name {
				byMachine[k.Machine] = append(byMachine[k.Machine], e)
			}
		}
	}
	for m, list := range byMachine {
		slices.SortFunc(list, func(a, b Execution) int { return int(a.Start.nanos - b.Start.nanos) })
		for i := 1; i < len(list); i++ {
			if before := list[i-1]; before.end != nil && before.end.nanos > list[i].Start.nanos {
				o.add("overlap", time.Unix(0, list[i].Start.nanos), "%s on %s began while %s ran", list[i].Start.instance, m, before.Start.instance)
			}
		}
	}
}

// byHand judges the starts by hand: one run for every key that was acknowledged, none for one that was refused.
func (o *oracle) byHand() {
	byKey := make(map[string][]string)
	for _, r := range o.runs {
		if r.Key != "" {
			byKey[r.Key] = append(byKey[r.Key], r.ID)
			if o.history.refused[r.Key] {
				o.add("G4", *r.Claimed, "run %s was refused when it was asked for", r.ID)
			}
		}
	}
	for k, id := range o.history.Started {
		if len(byKey[k]) == 0 && o.forgotten(o.history.startedAt[k], 0) {
			continue
		}
		if len(byKey[k]) != 1 || byKey[k][0] != id {
			o.add("G4", o.end.onSent, "start %s was acknowledged as %s, the record has %v", k, id, byKey[k])
		}
	}
}
