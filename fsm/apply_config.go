package fsm

import (
	"encoding/json"
	"slices"

	"github.com/syscollective/saltpeter"
)

func (c *InitCluster) apply(a *applier) any {
	if c.ClusterID == "" {
		return refuse(saltpeter.CodeInvalid, "a cluster needs an id")
	}
	switch a.s.clusterID {
	case "", c.ClusterID:
		a.s.clusterID = c.ClusterID
		a.s.epoch = max(a.s.epoch, 1)
		return Done{}
	default:
		return refuse(saltpeter.CodeConflict, "this cluster is %s, not %s", a.s.clusterID, c.ClusterID)
	}
}

func (c *SetNode) apply(a *applier) any {
	if old, ok := a.s.nodes.Get(c.Node.ID); ok && old == c.Node {
		return Done{}
	}
	a.s.nodes.Set(c.Node.ID, c.Node)
	a.event(saltpeter.Event{Type: saltpeter.EventNodeChanged, Actor: c.Node.Name, Text: c.Node.Version})
	return Done{}
}

func (c *ForgetNode) apply(a *applier) any {
	if r := a.stale(); r != nil { // only who leads knows the members
		return r
	}
	if old, ok := a.s.nodes.Delete(c.ID); ok {
		a.event(saltpeter.Event{Type: saltpeter.EventNodeChanged, Actor: old.Name, Text: "no member any more"})
	}
	return Done{}
}

func (c *PutDefinitions) apply(a *applier) any {
	fresh := make([]*definition, 0, len(c.Encoded))
	for _, enc := range c.Encoded {
		d := saltpeter.DigestOf(enc)
		if a.s.definition(d) != nil {
			continue
		}
		j, err := saltpeter.DecodeJob(enc)
		if err == nil {
			err = saltpeter.CheckJobName(j.Name)
		}
		if err != nil {
			return refuse(saltpeter.CodeInvalid, "definition %s: %v", d, err)
		}
		fresh = append(fresh, &definition{digest: d, job: j, encoded: enc})
	}
	for _, d := range fresh {
		a.s.defs.Set(string(d.digest[:]), d)
	}
	return Done{}
}

func (c *ApplyConfig) apply(a *applier) any {
	if r := a.stale(); r != nil {
		return r
	}
	s := a.s
	if s.revision.Number > 0 && s.revision.Proposal == c.ID {
		return Done{} // this very revision is in force already
	}
	draft := configDraft{id: c.ID}
	if c.Part != 0 {
		if s.configDraft == nil || s.configDraft.id != c.ID || c.Part < 0 || s.configDraft.next < c.Part {
			return refuse(saltpeter.CodeConflict, "part %d of configuration %s without the parts before it", c.Part, c.ID)
		}
		draft = *s.configDraft
	}
	if draft.next == c.Part { // else it is a repeated part
		draft.jobs = slices.Concat(draft.jobs, c.Jobs)
		draft.next++
	}
	if !c.Last {
		s.configDraft = &draft
		return Done{}
	}
	return a.enforce(c, draft.jobs)
}

// enforce puts a complete revision in force.
func (a *applier) enforce(c *ApplyConfig, jobs []saltpeter.JobDigest) any {
	s := a.s
	settings := saltpeter.DefaultSettings()
	if err := json.Unmarshal(c.Settings, &settings); err != nil {
		return refuse(saltpeter.CodeInvalid, "settings: %v", err)
	}
	if r := s.checkJobs(jobs); r != nil {
		return r
	}
	fm := c.Maintenance
	if len(fm.Machines) == 0 {
		fm.Machines = nil // one form, so that a restored replica has the same bytes
	}
	old := s.revision
	s.settings = c.Settings
	s.configDraft = nil
	s.revision = &saltpeter.Revision{
		Number: old.Number + 1, Millis: a.env.Millis, Actor: a.env.Actor, Proposal: c.ID, FilesDigest: c.FilesDigest,
		Settings: settings, Maintenance: fm, Jobs: jobs,
	}
	s.rememberFiles(c.FilesDigest)
	for _, jd := range jobs {
		s.ref(jd.Digest, +1)
	}
	a.replaceJobs(old.Jobs, jobs)
	for _, jd := range old.Jobs {
		s.ref(jd.Digest, -1)
	}
	s.dropUnneeded()
	s.noteOverfull()
	s.setFileMaintenance(fm, a.env.Millis, a.env.Actor)
	a.changed.Plan = true
	a.event(saltpeter.Event{Type: saltpeter.EventConfigApplied, Actor: a.env.Actor, Text: c.FilesDigest, Counted: len(jobs)})
	return Done{}
}

// checkJobs says what keeps a list of jobs from being in force, nil for nothing.
func (s *state) checkJobs(jobs []saltpeter.JobDigest) *Refusal {
	for i, jd := range jobs {
		def := s.definition(jd.Digest)
		switch {
		case def == nil:
			return refuse(saltpeter.CodeConflict, "the definition of job %q (%s) was not put before its revision", jd.Name, jd.Digest)
		case def.job.Name != jd.Name:
			return refuse(saltpeter.CodeInvalid, "the definition %s of job %q is that of %q", jd.Digest, jd.Name, def.job.Name)
		case i > 0 && jobs[i-1].Name >= jd.Name:
			return refuse(saltpeter.CodeInvalid, "jobs %q and %q are not in order", jobs[i-1].Name, jd.Name)
		}
	}
	return nil
}

// replaceJobs puts the new list in force. New, re-added and rescheduled jobs start at the time of this commit.
func (a *applier) replaceJobs(old, jobs []saltpeter.JobDigest) {
	s, now := a.s, a.env.Tick()
	inForce := make(map[string]bool, len(jobs))
	for _, jd := range jobs {
		inForce[jd.Name] = true
		def := s.definition(jd.Digest)
		j := s.mutJob(jd.Name)
		switch {
		case j == nil:
			j = &job{gen: s.gen, name: jd.Name, mark: now}
			s.jobs.Set(jd.Name, j)
		case !j.inForce:
			j.startAt(now)
		case j.digest == jd.Digest:
			continue
		case s.definition(j.digest).job.Schedule != def.job.Schedule:
			j.startAt(now)
		}
		s.gone.Delete(jd.Name)
		j.inForce, j.digest, j.group, j.revision = true, jd.Digest, def.job.Group, s.revision.Number
	}
	for _, jd := range old {
		if inForce[jd.Name] {
			continue
		}
		j := s.mutJob(jd.Name)
		j.inForce = false
		s.noteGone(j)
	}
}

// startAt begins the job's ticks after now. A series of skips doesn't go on over the ticks that this passes over.
func (j *job) startAt(now int64) {
	j.mark, j.inRow = max(j.mark, now), false
}

// noteGone notes a job that is not in force and has no runs: retention will forget it.
func (s *state) noteGone(j *job) {
	if !j.inForce && len(j.runs) == 0 {
		s.gone.Set(j.name, struct{}{})
	}
}

// dropUnneeded forgets definitions that came for a revision that was never completed.
func (s *state) dropUnneeded() {
	var gone []string
	s.defs.Scan(func(k string, d *definition) bool {
		if d.refs == 0 {
			gone = append(gone, k)
		}
		return true
	})
	for _, k := range gone {
		s.defs.Delete(k)
	}
}

// noteOverfull finds the jobs with more runs than the settings, which may have changed, allow.
func (s *state) noteOverfull() {
	s.jobs.Scan(func(name string, j *job) bool {
		if len(j.runs) > s.revision.Settings.HistoryRuns {
			s.overfull.Set(name, struct{}{})
		}
		return true
	})
}

// keepDigests is how many revisions' files are remembered.
const keepDigests = 1000

// rememberFiles notes whose files have been in force: a node whose files lag behind must never turn the cluster back.
func (s *state) rememberFiles(digest string) {
	kept := slices.DeleteFunc(slices.Clone(s.digests), func(d string) bool { return d == digest })
	if len(kept) >= keepDigests {
		kept = kept[1:]
	}
	s.digests = slices.Concat(kept, []string{digest})
}
