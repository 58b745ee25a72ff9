package scheduler

import (
	"time"

	"github.com/syscollective/saltpeter"
)

const (
	// late is the age up to which a tick counts as claimed in time, whatever the job's misfire_grace.
	late = 2 * time.Second
	// ahead is how far a mark may lie in the future before it must have come from a wrong clock.
	ahead = 5 * time.Second

	// One plan is cut after so many claims, or so many ticks counted as missed: the rest follows in the next.
	maxClaims = 20_000
	maxCount  = 1_000_000
)

// Causes of a claim.
const (
	causeTick    = "tick"
	causeMisfire = "misfire"
)

// planned is a job in force as the planner knows it.
type planned struct {
	name   string
	digest saltpeter.Digest
	ticks  ticks         // nil if the schedule can't be compiled
	grace  time.Duration // ticks up to this age are claimed
	mark   int64         // ticks up to and including it are decided
	next   int64         // the first tick after mark; meaningful only while in the heap
	rank   int           // orders jobs that are due at the same second
	round  uint64        // of the last sync that saw the job
	slot   int
}

func (p *planned) before(o *planned) bool {
	return p.next < o.next || p.next == o.next && p.rank < o.rank
}

func (p *planned) place() *int { return &p.slot }

// step moves the mark to the present tick and finds the next one.
func (p *planned) step() (ok bool) {
	p.mark = p.next
	p.next, ok = p.ticks.NextUnix(p.mark)
	return ok
}

// planner decides what is due. It is pure: no clock, no goroutine, no effect but on itself. Marks advance in it as soon
// as it has planned; settle corrects that by the record's answers.
//
// The cost of a plan grows with the ticks that are due, never with the jobs that are not.
type planner struct {
	schedules *schedules
	jobs      map[string]*planned
	heap      heap[*planned]
	ranks     int
	round     uint64
}

func newPlanner(s *schedules) *planner {
	return &planner{schedules: s, jobs: make(map[string]*planned)}
}

// sync takes over what the view says of the jobs in force; only those that changed cost more than a comparison. It gives
// the latest mark of any job.
func (p *planner) sync(v View, bad func(job string, err error)) (latest int64) {
	p.round++
	v.Jobs("", func(st saltpeter.JobStatus) bool {
		latest = max(latest, st.Mark)
		p.load(st, bad)
		return true
	})
	for name, j := range p.jobs {
		if j.round != p.round {
			p.drop(name, j)
		}
	}
	return latest
}

// reload takes over what the view says of one job. It is queued again even where the planner has its mark right.
func (p *planner) reload(v View, name string, bad func(job string, err error)) {
	j := p.jobs[name]
	st, ok := v.Job(name)
	if !ok {
		if j != nil {
			p.drop(name, j)
		}
		return
	}
	if j != nil {
		j.mark = st.Mark - 1 // so that it has moved
	}
	p.load(st, bad)
}

func (p *planner) load(st saltpeter.JobStatus, bad func(job string, err error)) {
	j := p.jobs[st.Job.Name]
	if j == nil {
		j = &planned{name: st.Job.Name, rank: p.ranks, slot: -1}
		p.ranks++
		p.jobs[j.name] = j
	} else if j.digest == st.Digest && j.mark == st.Mark {
		j.round = p.round
		return
	}
	j.round = p.round
	if j.digest != st.Digest || j.ticks == nil {
		t, err := p.schedules.get(st.Job.Schedule)
		if err != nil {
			bad(j.name, err)
			t = nil
		}
		j.ticks = t
	}
	j.digest, j.mark, j.grace = st.Digest, st.Mark, st.Job.MisfireGrace
	p.queue(j)
}

// queue puts a job where its mark belongs.
func (p *planner) queue(j *planned) {
	ok := false
	if j.ticks != nil {
		j.next, ok = j.ticks.NextUnix(j.mark)
	}
	if ok {
		p.heap.push(j)
	} else {
		p.heap.remove(j)
	}
}

func (p *planner) drop(name string, j *planned) {
	p.heap.remove(j)
	delete(p.jobs, name)
}

// next gives the next undecided tick of any job, which may lie in the past, and a job whose it is.
func (p *planner) next() (tick int64, job string, ok bool) {
	j, ok := p.heap.first()
	if !ok {
		return 0, "", false
	}
	return j.next, j.name, true
}

// due plans everything that is due at now, in the order of the ticks, at most maxClaims of it. Without a launcher
// ticks are skipped for that reason. What follows a series of skips waits until settle has its answer: where a wrong clock
// has claimed the series' first tick, the others are not decided, and a claim behind them would carry the mark past them.
func (p *planner) due(now time.Time, launcher bool) []saltpeter.Claim {
	var claims []saltpeter.Claim
	count := 0
	for len(claims) < maxClaims && count < maxCount {
		j, ok := p.heap.first()
		if !ok || time.Unix(j.next, 0).After(now) {
			return claims
		}
		c := saltpeter.Claim{Job: j.name, Digest: j.digest, Tick: j.next}
		old := j.last(now)
		var more bool
		switch {
		case j.next <= old:
			c.Skip = saltpeter.SkipMissed
			j.series(&c, old, maxCount-count)
		case !launcher:
			c.Skip = saltpeter.SkipNoLauncher
			j.series(&c, now.Unix(), maxCount-count)
		default:
			c.Cause = causeTick
			if now.Sub(time.Unix(j.next, 0)) > late {
				c.Cause = causeMisfire
			}
			more = j.step()
		}
		count += int(c.Count)
		claims = append(claims, c)
		if more {
			p.heap.push(j)
		} else {
			p.heap.remove(j)
		}
	}
	return claims
}

// last gives the last second whose tick is too old to be claimed at now: older than 2 s, and not younger than the grace.
func (j *planned) last(now time.Time) int64 {
	if j.grace <= late {
		return ceil(now.Add(-late)) - 1
	}
	return now.Add(-j.grace).Unix()
}

// ceil gives the first whole second that is not before t.
func ceil(t time.Time) int64 {
	if t.Nanosecond() > 0 {
		return t.Unix() + 1
	}
	return t.Unix()
}

// series extends a skip over all ticks up to a second, at most limit of them.
func (j *planned) series(c *saltpeter.Claim, until int64, limit int) {
	for more := true; more && j.next <= until && c.Count < uint64(limit); more = j.step() {
		c.Last = j.next
		c.Count++
	}
}

// settle takes the record's answers to claims. It gives the runs that were claimed, and whether something has to be
// planned again.
func (p *planner) settle(v View, claims []saltpeter.Claim, results []saltpeter.ClaimResult, bad func(job string, err error)) (runs []uint64, again bool) {
	for i, r := range results {
		switch r.Outcome {
		case saltpeter.ClaimRun, saltpeter.ClaimSkipped:
			if r.Outcome == saltpeter.ClaimRun {
				runs = append(runs, r.Run)
			}
			if claims[i].Count > 0 { // a series: it goes on where the mark is now
				p.reload(v, claims[i].Job, bad)
			}
		default: // the view knows more than the planner did
			p.reload(v, claims[i].Job, bad)
			again = true
		}
	}
	return runs, again
}
