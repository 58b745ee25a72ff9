package fsm

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/syscollective/saltpeter"
)

// keepSkips bounds the series of skips kept per job.
const keepSkips = 100

func (c *ClaimRuns) apply(a *applier) any {
	if r := a.stale(); r != nil {
		return r
	}
	out := Claimed{Results: make([]saltpeter.ClaimResult, len(c.Claims))}
	for i := range c.Claims {
		out.Results[i] = a.claim(&c.Claims[i])
	}
	return out
}

// claim decides one tick from replicated state alone.
func (a *applier) claim(c *saltpeter.Claim) saltpeter.ClaimResult {
	s := a.s
	known, ok := s.jobs.Get(c.Job)
	if !ok || !known.inForce || known.digest != c.Digest {
		return saltpeter.ClaimResult{Outcome: saltpeter.ClaimStale}
	}
	if res, ok := s.decided(known, c.Tick); ok {
		if c.Tick > known.mark && c.Tick <= a.env.Tick() { // its run comes from a clock that was ahead
			s.mutJob(c.Job).mark = c.Tick
		}
		return res
	}
	last, count := c.Tick, uint64(1)
	if plannersSkip(c.Skip) { // only a skip may stand for more than its own tick
		last = max(c.Tick, c.Last)
		count = min(max(c.Count, 1), uint64(last-c.Tick)+1)
	}
	if last > a.env.Tick() {
		return saltpeter.ClaimResult{Outcome: saltpeter.ClaimEarly}
	}
	j := s.mutJob(c.Job)
	j.mark = last
	def := s.definition(j.digest).job
	if reason, detail := a.whyNot(j, def, c); reason != 0 {
		a.skip(j, saltpeter.Skip{Reason: reason, First: c.Tick, Last: last, Count: count, Detail: detail})
		return saltpeter.ClaimResult{Outcome: saltpeter.ClaimSkipped, Skip: reason}
	}
	r := a.newRun(j, def, c.Tick)
	r.Tick, r.Cause, r.Actor, r.Origin = c.Tick, c.Cause, a.env.Actor, a.env.Origin
	a.begin(j, r)
	return saltpeter.ClaimResult{Outcome: saltpeter.ClaimRun, Run: r.Num, RunID: r.ID}
}

// decided gives the answer to a tick about which the record has decided before.
func (s *state) decided(j *job, tick int64) (saltpeter.ClaimResult, bool) {
	if tick <= 0 {
		return saltpeter.ClaimResult{Outcome: saltpeter.ClaimDecided}, true
	}
	if r := s.runOfTick(j, tick); r != nil {
		return saltpeter.ClaimResult{Outcome: saltpeter.ClaimRun, Run: r.Num, RunID: r.ID}, true
	}
	if tick > j.mark {
		return saltpeter.ClaimResult{}, false
	}
	for _, sk := range slices.Backward(j.skips) {
		if sk.First <= tick && tick <= sk.Last {
			return saltpeter.ClaimResult{Outcome: saltpeter.ClaimSkipped, Skip: sk.Reason}, true
		}
	}
	return saltpeter.ClaimResult{Outcome: saltpeter.ClaimDecided}, true
}

// plannersSkip reports whether a reason is one that only the planner can know. Any other is for the record to find.
func plannersSkip(r saltpeter.SkipReason) bool {
	return r == saltpeter.SkipMissed || r == saltpeter.SkipNoLauncher
}

// runOfTick finds the run of a tick. Ticks above the highest that has a run cost nothing.
func (s *state) runOfTick(j *job, tick int64) *run {
	if tick > j.maxTick {
		return nil
	}
	for i := len(j.runs) - 1; i >= 0; i-- {
		if r, ok := s.runs.Get(j.runs[i]); ok && r.Tick == tick {
			return r
		}
	}
	return nil
}

func (a *applier) whyNot(j *job, def *saltpeter.Job, c *saltpeter.Claim) (saltpeter.SkipReason, string) {
	if plannersSkip(c.Skip) {
		return c.Skip, ""
	}
	if w := a.s.windows.coveringTick(j.name, j.group, c.Tick, a.env.Millis); w != nil {
		if w.Pause {
			return saltpeter.SkipPaused, describeWindow(w)
		}
		return saltpeter.SkipMaintenance, describeWindow(w)
	}
	if j.active > 0 && !def.AllowOverlap {
		return saltpeter.SkipOverlap, a.s.activeRun(j)
	}
	return 0, ""
}

// activeRun names the newest run that counts for overlap.
func (s *state) activeRun(j *job) string {
	for i := len(j.runs) - 1; i >= 0; i-- {
		if r, ok := s.runs.Get(j.runs[i]); ok && (!r.State.Final() || r.Backs > 0) {
			return r.ID
		}
	}
	return ""
}

func describeWindow(w *saltpeter.Window) string {
	what := "maintenance"
	if w.Pause {
		what = "pause"
	}
	if w.File {
		return what + " of the configuration files"
	}
	text := fmt.Sprintf("%s of %s", what, w.Scope)
	if w.Name != "" {
		text += " " + strconv.Quote(w.Name)
	}
	if w.Actor != "" {
		text += " by " + w.Actor
	}
	if w.Reason != "" {
		text += " (" + w.Reason + ")"
	}
	return text
}

// skip records ticks without a run. A series with one reason is one record.
func (a *applier) skip(j *job, sk saltpeter.Skip) {
	j.skipped += sk.Count
	if sk.Reason == saltpeter.SkipOverlap {
		a.event(saltpeter.Event{Type: saltpeter.EventOverlap, Job: j.name, Group: j.group, Run: sk.Detail, Text: sk.Detail})
	}
	if n := len(j.skips); n > 0 && j.inRow && j.skips[n-1].Reason == sk.Reason {
		j.skips = slices.Clone(j.skips) // views share it; appending and cutting don't change what they see
		last := &j.skips[n-1]
		last.Last, last.Detail = sk.Last, sk.Detail
		last.Count += sk.Count
		return
	}
	if len(j.skips) >= keepSkips {
		j.skips = j.skips[1:]
	}
	j.skips = append(j.skips, sk)
	j.inRow = true
	if sk.Reason != saltpeter.SkipOverlap {
		a.event(saltpeter.Event{Type: saltpeter.EventSkipped, Job: j.name, Group: j.group, State: sk.Reason.String(), Text: sk.Detail, Code: int(sk.First)})
	}
}

// newRun makes a run that is not in the record yet; at is the second that its name begins with.
func (a *applier) newRun(j *job, def *saltpeter.Job, at int64) *run {
	s := a.s
	s.lastRun++
	id := j.name + "_" + strconv.FormatInt(at, 10)
	for {
		if _, taken := s.runIDs.Get(id); !taken {
			break
		}
		at++
		id = j.name + "_" + strconv.FormatInt(at, 10)
	}
	return &run{gen: s.gen, Run: saltpeter.Run{
		Num: s.lastRun, ID: id, Job: j.name, Group: def.Group, Digest: j.digest,
		ClaimedMillis: a.env.Millis, Term: a.term,
	}}
}

// begin puts a new run into the record.
func (a *applier) begin(j *job, r *run) {
	s := a.s
	s.runs.Set(r.Num, r)
	s.runIDs.Set(r.ID, r.Num)
	s.unfinished.Set(r.Num, struct{}{})
	s.ref(r.Digest, +1)
	j.runs = append(j.runs, r.Num)
	j.maxTick = max(j.maxTick, r.Tick)
	j.active++
	j.inRow = false
	if len(j.runs) > s.revision.Settings.HistoryRuns {
		s.overfull.Set(j.name, struct{}{})
	}
	a.touch(r.Num)
	a.runEvent(r, saltpeter.Event{Type: saltpeter.EventRunClaimed, Actor: r.Actor})
}

func (c *StartRun) apply(a *applier) any {
	s, req := a.s, &c.Request
	if req.Key == "" {
		return refuse(saltpeter.CodeInvalid, "a start by hand needs an idempotency key")
	}
	sum := requestSum(req)
	if k, ok := s.keys.Get(req.Key); ok {
		if k.sum != sum {
			return refuse(saltpeter.CodeMismatch, "idempotency key %q was used for another request, which made run %s", req.Key, k.runID).
				hint("use a new key for a new request")
		}
		return RunStarted{Run: k.run, RunID: k.runID}
	}
	j := s.mutJob(req.Job)
	if j == nil || !j.inForce {
		return refuse(saltpeter.CodeNotFound, "job %q not found", req.Job)
	}
	def := s.definition(j.digest).job
	if w := s.windows.activeForJob(j.name, j.group, a.env.Millis, false); w != nil {
		return refuse(saltpeter.CodeConflict, "not started: %s", describeWindow(w)).hint("%s", liftHint(w))
	}
	if j.active > 0 && !def.AllowOverlap {
		return refuse(saltpeter.CodeConflict, "not started: previous run %s is still running (allow_overlap is off)", s.activeRun(j)).
			hint("wait for it, or: spctl kill %s", s.activeRun(j))
	}
	r := a.newRun(j, def, a.env.Tick())
	r.Key, r.Note, r.Machines, r.Parent = req.Key, req.Note, req.Machines, req.Parent
	r.Cause, r.Actor, r.Origin = "manual", a.env.Actor, a.env.Origin
	a.begin(j, r)
	s.keys.Set(req.Key, startKey{run: r.Num, runID: r.ID, sum: sum, millis: a.env.Millis})
	return RunStarted{Run: r.Num, RunID: r.ID}
}

func liftHint(w *saltpeter.Window) string {
	if w.File {
		return "take it out of saltpeter_maintenance in the configuration files"
	}
	switch w.Scope {
	case saltpeter.ScopeGroup:
		return "lift it: spctl maintenance off --group " + w.Name
	case saltpeter.ScopeJob:
		return "lift it: spctl maintenance off --job " + w.Name
	default:
		return "lift it: spctl maintenance off --all"
	}
}

// requestSum identifies a request's content beside its key.
func requestSum(req *saltpeter.StartRequest) saltpeter.Digest {
	c := *req
	c.Key = ""
	b, err := encMode.Marshal(c)
	if err != nil { // strings only
		return saltpeter.Digest{}
	}
	return saltpeter.DigestOf(b)
}
