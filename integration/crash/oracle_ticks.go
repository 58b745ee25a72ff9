package crash

import (
	"slices"
	"time"
)

// slack is what a node may take to come back after an outage, on a busy host, beyond the outage itself.
const slack = 20 * time.Second

// ticks judges a job's ticks: each has exactly one run, or one recorded skip with a reason that holds.
func (o *oracle) ticks(j *job) {
	runs := make(map[int64]int)
	for _, r := range o.runs {
		if r.Job == j.name && r.Scheduled != nil {
			runs[r.Scheduled.Unix()]++
			if !j.due(r.Scheduled.Unix()) {
				o.add("G2", *r.Scheduled, "run %s for a second at which %s is not due", r.ID, j.name)
			}
		}
	}
	skips := o.skipsOf(j)
	for s := o.history.seen.Unix() + 1; s < o.end.onSent.Unix(); s++ {
		if !j.due(s) {
			continue
		}
		at := time.Unix(s, 0)
		if n := runs[s] + len(skips[s]); n != 1 {
			o.add("G2", at, "tick %d of %s has %d runs and the skips %v", s, j.name, runs[s], skips[s])
		}
		if runs[s] > 0 && o.covered(j.name, at) {
			o.add("G5", at, "tick %d of %s has a run, within a maintenance", s, j.name)
		}
		for _, reason := range skips[s] {
			if !o.holds(j, at, reason) {
				o.add("G2", at, "tick %d of %s is skipped (%s) without cause", s, j.name, reason)
			}
		}
	}
}

// skipsOf gives the reasons of skips by second, and holds the counts of the series to the schedule.
func (o *oracle) skipsOf(j *job) map[int64][]string {
	out := make(map[int64][]string)
	for _, sk := range o.skips[j.name] {
		n := 0
		for s := sk.First.Unix(); s <= sk.Last.Unix(); s++ {
			if j.due(s) {
				out[s] = append(out[s], sk.Reason)
				n++
			}
		}
		if n != sk.Count {
			o.add("G2", sk.First, "a series of %d skips (%s) of %s spans %d ticks", sk.Count, sk.Reason, j.name, n)
		}
	}
	return out
}

func (o *oracle) covered(job string, at time.Time) bool {
	return slices.ContainsFunc(o.history.spans, func(s *span) bool { return s.covers(job) && s.mustCover(at) })
}

// holds reports whether a skip's reason can be true.
func (o *oracle) holds(j *job, at time.Time, reason string) bool {
	switch reason {
	case "overlap":
		return !j.overlap
	case "maintenance": // one that covers the tick, or the time of its decision
		return slices.ContainsFunc(o.history.spans, func(s *span) bool {
			return s.covers(j.name) && s.onSent.Before(at.Add(time.Minute)) && (s.offAcked.IsZero() || s.offAcked.After(at))
		})
	case "missed": // its age passed the grace while nothing could be decided
		grace := max(time.Duration(j.misfireGrace())*time.Second, 2*time.Second)
		return slices.ContainsFunc(o.history.downs, func(d outage) bool {
			return d.from.Before(at.Add(grace)) && d.to.Add(slack).After(at.Add(grace)) && d.to.Sub(d.from)+slack >= grace
		})
	default:
		return false
	}
}

// overlaps holds a job without overlap to one command at a time on each machine.
func (o *oracle) overlaps(j *job) {
	byMachine := make(map[string][]execution)
	for k, all := range o.ledger {
		for _, e := range all {
			if e.start.job == j.name {
				byMachine[k.machine] = append(byMachine[k.machine], e)
			}
		}
	}
	for m, list := range byMachine {
		slices.SortFunc(list, func(a, b execution) int { return int(a.start.nanos - b.start.nanos) })
		for i := 1; i < len(list); i++ {
			if before := list[i-1]; before.end != nil && before.end.nanos > list[i].start.nanos {
				o.add("overlap", time.Unix(0, list[i].start.nanos), "%s on %s began while %s ran", list[i].start.instance, m, before.start.instance)
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
	for k, id := range o.history.started {
		if len(byKey[k]) != 1 || byKey[k][0] != id {
			o.add("G4", o.end.onSent, "start %s was acknowledged as %s, the record has %v", k, id, byKey[k])
		}
	}
}
