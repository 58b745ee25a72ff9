package apitest

import (
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
)

// Scene gives a node with a bit of everything, the same in all tests that compare screens or shapes: three jobs, one
// of them paused and one never due; five runs, among them one in progress, one failed on some machines and one that
// found no machines; skips; a maintenance of the files.
func Scene() *Node {
	n := New()
	n.AddJob("backup_databases", func(s *saltpeter.JobStatus) {
		s.Job.Group, s.Job.Command, s.Job.User, s.Job.Timeout = "db", "/usr/local/bin/backup --all", "backup", time.Hour
		s.Job.Schedule.Hour, s.Job.Schedule.Timezone = "2", "Europe/Bucharest"
		s.Job.Targets, s.Job.TargetType = []string{"db07", "db19", "db33"}, "list"
		s.Job.Env, s.Job.Batch = map[string]string{"MODE": "full"}, saltpeter.Batch{Size: 50, Percent: true}
		s.Job.Written, s.Skipped = []byte(`{"hour":2,"min":0}`), 12
	})
	n.AddJob("cache/warm ☃ 100%", func(s *saltpeter.JobStatus) { s.Job.Schedule.Sec, s.Job.Schedule.Min = "*/10", "*" })
	n.AddJob("rotate_certs", func(s *saltpeter.JobStatus) {
		s.Job.Group, s.Job.Schedule.Year = "infra", "2020"
		s.Paused = &saltpeter.Window{
			Scope: saltpeter.ScopeJob, Name: "rotate_certs", Pause: true, FromMillis: start.Add(-time.Hour).UnixMilli(), Actor: "mira", Reason: "CA moves",
		}
	})
	n.AddWindow(saltpeter.Window{Scope: saltpeter.ScopeJob, Name: "rotate_certs", Pause: true, FromMillis: start.Add(-time.Hour).UnixMilli(), Actor: "mira", Reason: "CA moves"})
	n.AddWindow(saltpeter.Window{Scope: saltpeter.ScopeMachine, Name: "server01", File: true, FromMillis: start.Add(-2 * time.Hour).UnixMilli(), Actor: "sp-1"})
	n.AddSkips("backup_databases",
		saltpeter.Skip{Reason: saltpeter.SkipMaintenance, First: at(-30 * time.Hour).Unix(), Last: at(-26 * time.Hour).Unix(), Count: 9, Detail: "all, by mira"},
		saltpeter.Skip{Reason: saltpeter.SkipOverlap, First: at(-3 * time.Hour).Unix(), Last: at(-time.Hour).Unix(), Count: 3, Detail: "backup_databases_1795410000"})
	n.sceneRuns()
	n.rec.droppedEarly = 3
	n.Emit(
		saltpeter.Event{Millis: at(-5 * time.Hour).UnixMilli(), Type: saltpeter.EventRunClaimed, Job: "backup_databases", Run: "backup_databases_1795399500"},
		saltpeter.Event{Millis: at(-4 * time.Hour).UnixMilli(), Type: saltpeter.EventMachineResult, Job: "backup_databases", Run: "backup_databases_1795399500",
			Machine: "db19", State: "failed", Code: 28, Again: true},
		saltpeter.Event{Millis: at(-4 * time.Hour).UnixMilli(), Type: saltpeter.EventRunFinished, Job: "backup_databases", Run: "backup_databases_1795399500",
			State: "failed", OK: 2, Counted: 3},
		saltpeter.Event{Millis: at(-3 * time.Hour).UnixMilli(), Type: saltpeter.EventSkipped, Job: "rotate_certs", Text: "paused", Actor: "mira"},
	)
	n.SetStatus(func(s *api.NodeStatus) {
		s.Feed = api.FeedInfo{First: 801, Next: 950, Dropped: 800}
		s.Problems = []saltpeter.Problem{{File: "db.yaml", Line: 14, Col: 9, Path: "backup.min", Level: "warning", Message: "step is odd", Hint: "write */5"}}
	})
	return n
}

func at(d time.Duration) time.Time { return start.Add(d) }

func (n *Node) sceneRuns() {
	old := n.AddRun("backup_databases", at(-29*time.Hour), "db07")
	n.finish(old.Num, 0, saltpeter.OK, 0, at(-29*time.Hour), time.Minute)
	failed := n.AddRun("backup_databases", at(-5*time.Hour), "db07", "db19", "db33")
	n.Print(failed.Num, 0, []byte("dumping users\ndone\n"))
	n.Print(failed.Num, 1, []byte("tar: No space left on device\n"))
	n.LeaveOut(failed.Num, 1, 3<<20)
	n.finish(failed.Num, 0, saltpeter.OK, 0, at(-5*time.Hour), 42*time.Second)
	n.finish(failed.Num, 1, saltpeter.Failed, 28, at(-5*time.Hour), 11*time.Second)
	n.Target(failed.Num, 2, func(t *saltpeter.Target) {
		t.State, t.Code, t.Presumed, t.Text = saltpeter.Unreachable, 255, true, "no answer in 20 s"
		t.LaunchedMillis, t.EndedMillis = at(-5*time.Hour).UnixMilli(), at(-5*time.Hour+20*time.Second).UnixMilli()
	})
	none := n.AddRun("rotate_certs", at(-2*time.Hour))
	n.End(none.Num, saltpeter.RunNoTargets, "nothing matched")
	binary := n.AddRun("cache/warm ☃ 100%", at(-10*time.Second), "web/1 ü%2F")
	n.Print(binary.Num, 0, []byte{0, 0xff, '\n', 0x1b})
	n.finish(binary.Num, 0, saltpeter.OK, 0, at(-10*time.Second), 3*time.Second)
	going := n.AddRun("cache/warm ☃ 100%", at(-5*time.Second), "web/1 ü%2F", "web2")
	n.Target(going.Num, 0, func(t *saltpeter.Target) {
		t.State, t.Launch = saltpeter.Started, saltpeter.LaunchIDAt(at(-5*time.Second))
		t.LaunchedMillis, t.GrantedMillis, t.StartedMillis = at(-5*time.Second).UnixMilli(), at(-4900*time.Millisecond).UnixMilli(), at(-4800*time.Millisecond).UnixMilli()
		t.Host, t.BootID, t.WrapperVersion = "web1", "b00t", "0.1.0"
	})
	n.Print(going.Num, 0, []byte("warming\n"))
}

// finish gives a machine a witnessed outcome.
func (n *Node) finish(num uint64, i int, state saltpeter.TargetState, code int, from time.Time, took time.Duration) {
	n.Target(num, i, func(t *saltpeter.Target) {
		t.State, t.Code = state, code
		t.LaunchedMillis, t.StartedMillis, t.EndedMillis = from.UnixMilli(), from.UnixMilli()+200, from.Add(took).UnixMilli()
	})
}

// Finish gives a machine of a run a witnessed outcome, now.
func (n *Node) Finish(num uint64, i int, state saltpeter.TargetState, code int) {
	n.Target(num, i, func(t *saltpeter.Target) {
		t.State, t.Code, t.EndedMillis = state, code, start.UnixMilli()
	})
}

// Begin lets the command of a machine start, now.
func (n *Node) Begin(num uint64, i int) {
	n.Target(num, i, func(t *saltpeter.Target) {
		t.State, t.LaunchedMillis, t.StartedMillis = saltpeter.Started, start.UnixMilli(), start.UnixMilli()
	})
}
