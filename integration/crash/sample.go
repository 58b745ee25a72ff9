package crash

// Sample gives cases for a run that may take so many seconds, two chains side by side: a fixed selection of what matters most,
// on one node. What hurts a wrapper for good stands first, so that its silence runs out while the others go on.
func Sample(seconds int) []Case {
	all := []Case{
		{"journal.after", "kill", 1},
		{"claim.before", "kill", 1},
		{"exec.after", "kill", 1},
		{"grant.after", "stop", 1},
		{"propose.before.ClaimRuns", "kill", 1},
		{"commit.after.StartTarget", "kill", 1},
		{"exec.before", "stop", 1},
		{"reply.before.start", "kill", 1},
		{"apply.before.Report", "kill", 1},
		{"result.before", "stop", 1},
		{"publish.before", "kill", 1},
		{"commit.before.LaunchBatch", "kill", 1},
		{"propose.after.StartRun", "stop", 1},
		{"publish.after", "kill", 1},
		{"reply.before.report", "kill", 1},
		{"apply.after.StartTarget", "stop", 1},
		{"reply.after.change", "kill", 1},
		{"persist.before", "kill", 1},
		{"commit.after.Kill", "kill", 1},
		{"apply.after.EndTargets", "kill", 1},
		{"reply.before.resume", "kill", 1},
		{"commit.before.ApplyConfig", "kill", 1},
	}
	const start, each = 24, 6 // seconds that a chain needs beside its cases, and for one of them
	n := 2 * max(1, (seconds-start)/each)
	return all[:min(n, len(all))]
}
