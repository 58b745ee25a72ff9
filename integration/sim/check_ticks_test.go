package sim

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/fsm"
)

// seconds is the test's own reading of a schedule: a job is due at these seconds of every minute.
type seconds [60]bool

func parseSeconds(text string) (s seconds, ok bool) {
	if step, every := strings.CutPrefix(text, "*/"); every {
		n, err := strconv.Atoi(step)
		if err != nil || n < 1 {
			return s, false
		}
		for i := 0; i < 60; i += n {
			s[i] = true
		}
		return s, true
	}
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 || n > 59 {
			return s, false
		}
		s[n] = true
	}
	return s, true
}

func (s *seconds) due(tick int64) bool { return s[tick%60] }

// era is a time during which a job was in force under one schedule.
type era struct {
	job      string
	seconds  seconds
	grace    time.Duration
	after    int64 // ticks up to it are none of this era's
	settled  int64 // ticks up to it may be missing: the revision was on its way
	until    int64 // the last tick of the era; those after settles may follow
	ended    bool
	schedule saltpeter.Schedule
}

// eras reads from the log which job was due when.
func (w *world) eras(log []*commit) []*era {
	var out []*era
	open := map[string]*era{}
	defs := map[saltpeter.Digest]*saltpeter.Job{}
	seen := map[string]bool{}
	ahead := map[string]int64{} // the last tick of a job that was decided so far: where clocks jump it may lie in the future
	for _, k := range log {
		for i, cmd := range k.cmds {
			if _, refused := k.results[i].(*fsm.Refusal); refused {
				continue
			}
			switch x := cmd.(type) {
			case *fsm.PutDefinitions:
				for _, enc := range x.Encoded {
					if j, err := saltpeter.DecodeJob(enc); err == nil {
						defs[saltpeter.DigestOf(enc)] = j
					}
				}
			case *fsm.ClaimRuns:
				for _, c := range x.Claims {
					ahead[c.Job] = max(ahead[c.Job], c.Tick, c.Last)
				}
			case *fsm.ApplyConfig:
				if !x.Last || x.Part != 0 {
					w.hist.broken("G2", "the test does not know revisions of several parts")
				}
				if !seen[x.ID] {
					seen[x.ID] = true
					out = append(out, w.revise(open, defs, x, k.envs[i].Millis/1000, k.at, ahead)...)
				}
			}
		}
	}
	for _, e := range open {
		out = append(out, e)
	}
	return out
}

// revise ends the eras that a revision ends, and begins others.
func (w *world) revise(open map[string]*era, defs map[saltpeter.Digest]*saltpeter.Job, x *fsm.ApplyConfig, at int64, commit time.Time,
	ahead map[string]int64) (ended []*era) {
	inForce := map[string]bool{}
	for _, jd := range x.Jobs {
		settled := max(at, commit.Add(w.plan.offset).Unix()+1)
		if w.plan.jumps {
			settled = max(settled, ahead[jd.Name])
		}
		inForce[jd.Name] = true
		j := defs[jd.Digest]
		if e := open[jd.Name]; e != nil {
			if e.schedule == j.Schedule {
				continue
			}
			e.until, e.ended = at, true
			ended = append(ended, e)
		}
		s, ok := parseSeconds(j.Schedule.Sec)
		if !ok {
			w.hist.broken("G2", "the test can't read schedule %q", j.Schedule.Sec)
		}
		open[jd.Name] = &era{job: jd.Name, seconds: s, grace: j.MisfireGrace, after: at, settled: settled, schedule: j.Schedule}
	}
	for name, e := range open {
		if !inForce[name] {
			e.until, e.ended = at, true
			ended = append(ended, e)
			delete(open, name)
		}
	}
	return ended
}

// claimed is what the log says of one tick.
type claimed struct {
	run   uint64
	at    time.Time
	index uint64
}

// claims reads the runs of ticks from the log: one claim per tick (G7), none before its time.
func (w *world) claims(log []*commit) map[string]map[int64]claimed {
	out := map[string]map[int64]claimed{}
	known := map[uint64]bool{}
	for _, k := range log {
		for i, cmd := range k.cmds {
			x, ok := cmd.(*fsm.ClaimRuns)
			res, done := k.results[i].(fsm.Claimed)
			if !ok || !done {
				continue
			}
			for c, r := range res.Results {
				if r.Outcome != saltpeter.ClaimRun || known[r.Run] {
					continue
				}
				known[r.Run] = true
				w.claim(out, k, k.envs[i].Millis, &x.Claims[c], r.Run)
			}
		}
	}
	return out
}

func (w *world) claim(out map[string]map[int64]claimed, k *commit, millis int64, c *saltpeter.Claim, run uint64) {
	if out[c.Job] == nil {
		out[c.Job] = map[int64]claimed{}
	}
	if first, twice := out[c.Job][c.Tick]; twice {
		w.hist.broken("G7", "tick %d of %s has run %d and run %d", c.Tick, c.Job, first.run, run)
	}
	out[c.Job][c.Tick] = claimed{run, k.at, k.index}
	if millis < c.Tick*1000 {
		w.hist.broken("G7", "tick %d of %s was claimed at %d ms", c.Tick, c.Job, millis)
	}
	if early := time.Unix(c.Tick, 0).Sub(k.at); early > w.plan.offset && !w.plan.jumps {
		w.hist.broken("G7", "tick %d of %s was claimed %s before its time", c.Tick, c.Job, early)
	}
	if c.Skip != 0 {
		w.hist.broken("G2", "tick %d of %s has a run though it was planned as skipped", c.Tick, c.Job)
	}
}

// checkTicks: every due second of every job is a run or a recorded skip (G2), by brute force.
func (w *world) checkTicks(log []*commit, v *fsm.View) {
	claims := w.claims(log)
	end := time.Now().Add(-w.plan.offset).Unix() - 3
	if w.plan.jumps { // who leads may be as far behind as a leader may be, or twice that where two nodes are up
		end -= 11
	}
	eras := w.eras(log)
	for _, e := range eras {
		until := end
		if e.ended {
			until = min(until, e.until)
		}
		skips := v.Skips(e.job)
		for tick := e.settled + 1; tick <= until; tick++ {
			if !e.seconds.due(tick) {
				continue
			}
			_, ran := claims[e.job][tick]
			skipped := slices.ContainsFunc(skips, func(s saltpeter.Skip) bool { return s.First <= tick && tick <= s.Last })
			if !ran && !skipped && !w.forgotten(v, e.job) {
				w.hist.broken("G2", "tick %d (%s) of %s has no run and no skip", tick, w.hist.clock(time.Unix(tick, 0)), e.job)
			}
			if ran && skipped && !w.plan.jumps {
				w.hist.broken("G2", "tick %d of %s has a run and is recorded as skipped", tick, e.job)
			}
		}
	}
	w.checkDueOnly(claims, eras)
	w.checkMissed(log)
	w.checkCounts(v, eras)
}

// forgotten says whether a job is not in force and has no history left that could tell.
func (w *world) forgotten(v *fsm.View, job string) bool {
	_, inForce := v.Job(job)
	return !inForce && len(v.Skips(job)) == 0
}

// checkDueOnly: nothing was claimed that was not due.
func (w *world) checkDueOnly(claims map[string]map[int64]claimed, eras []*era) {
	for job, ticks := range claims {
		for tick, c := range ticks {
			due := slices.ContainsFunc(eras, func(e *era) bool { return e.job == job && e.seconds.due(tick) && (tick > e.after || w.plan.jumps) })
			if !due {
				w.hist.broken("G2", "tick %d of %s has run %d and was not due", tick, job, c.run)
			}
		}
	}
}

// checkMissed: what was recorded as missed was older than the grace when it was decided (the rule of gaps).
func (w *world) checkMissed(log []*commit) {
	defs := map[saltpeter.Digest]*saltpeter.Job{}
	for _, k := range log {
		for i, cmd := range k.cmds {
			if x, ok := cmd.(*fsm.PutDefinitions); ok {
				for _, enc := range x.Encoded {
					if j, err := saltpeter.DecodeJob(enc); err == nil {
						defs[saltpeter.DigestOf(enc)] = j
					}
				}
			}
			x, ok := cmd.(*fsm.ClaimRuns)
			res, done := k.results[i].(fsm.Claimed)
			if !ok || !done {
				continue
			}
			for n, c := range x.Claims {
				if res.Results[n].Skip != saltpeter.SkipMissed || c.Skip != saltpeter.SkipMissed {
					continue
				}
				age := time.Duration(k.envs[i].Millis)*time.Millisecond - time.Duration(max(c.Tick, c.Last))*time.Second
				if j := defs[c.Digest]; j != nil && age < max(j.MisfireGrace, 2*time.Second) {
					w.hist.broken("G2", "ticks up to %d of %s were given up at an age of %s, the grace is %s", max(c.Tick, c.Last), c.Job, age, j.MisfireGrace)
				}
			}
		}
	}
}

// checkCounts: a series of skips counts exactly the ticks that it stands for.
func (w *world) checkCounts(v *fsm.View, eras []*era) {
	if w.plan.jumps { // marks that were pulled back count again
		return
	}
	perJob := map[string][]*era{}
	for _, e := range eras {
		perJob[e.job] = append(perJob[e.job], e)
	}
	for job, list := range perJob {
		if len(list) > 1 { // ticks at the borders may belong to either
			continue
		}
		for _, s := range v.Skips(job) {
			n := uint64(0)
			for tick := s.First; tick <= s.Last; tick++ {
				if list[0].seconds.due(tick) {
					n++
				}
			}
			if n != s.Count {
				w.hist.broken("G2", "skips of %s %+v: %d ticks were due in them", job, s, n)
			}
		}
	}
}
