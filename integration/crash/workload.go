package crash

import (
	"math/rand/v2"

	"github.com/syscollective/saltpeter/integration/rig"
)

// Names that provocations need.
const (
	jobBulk = "bulk" // started by hand for its output
	jobTick = "tick" // due every second
)

// clockWorkload is what runs while clocks are wrong: a clock that is set ahead makes all that is due until then due at once.
func clockWorkload() []*rig.Job {
	return []*rig.Job{
		{Name: jobTick, Every: 1, Targets: "m1", Machines: 1, Bytes: 100, Overlap: true},
		{Name: "slow", Every: 2, Targets: "m1,m2", Machines: 2, Bytes: 3000, Seconds: 2.5},
		{Name: "nograce", Every: 5, Targets: "m3", Machines: 1, Bytes: 10, Overlap: true, NoGrace: true},
		{Name: rig.JobHand, Targets: "m1,m3", Machines: 2, Bytes: 2000, Seconds: 0.5, Overlap: true},
		{Name: rig.JobLong, Targets: "m2", Machines: 1, Bytes: 400, Seconds: 300, Overlap: true},
	}
}

// epochWorkload is what runs while records are brought back: commands that are forgotten with it end by themselves.
func epochWorkload() []*rig.Job {
	return []*rig.Job{
		{Name: jobTick, Every: 1, Targets: "m1", Machines: 1, Bytes: 100, Overlap: true},
		{Name: "slow", Every: 2, Targets: "m1,m2", Machines: 2, Bytes: 3000, Seconds: 2.5},
		{Name: "chatty", Every: 5, Targets: "m2", Machines: 1, Bytes: 150_000, Seconds: 1.5, Code: 3, Overlap: true},
		{Name: "nograce", Every: 3, Targets: "m3", Machines: 1, Bytes: 10, Overlap: true, NoGrace: true},
		{Name: "batched", Every: 6, Targets: "m1,m2,m3", Machines: 3, Bytes: 700, Seconds: 0.2, Batch: 1, Overlap: true},
		{Name: rig.JobHand, Targets: "m1,m3", Machines: 2, Bytes: 2000, Seconds: 0.5, Overlap: true},
		{Name: rig.JobLong, Targets: "m2", Machines: 1, Bytes: 400, Seconds: 3, Overlap: true},
	}
}

// lossWorkload is what runs while output is lost: no piece that is written at once is so short that it could not be told.
func lossWorkload() []*rig.Job {
	jobs := epochWorkload()
	for _, j := range jobs {
		j.Bytes = max(j.Bytes, 400)
	}
	return jobs
}

// workload gives jobs that together use every command: short and long ones, some with output, failing ones, some that meet a
// held lock, match nothing, run into their timeout, or are started by hand alone. The load stays below a core.
func workload(r *rand.Rand) []*rig.Job {
	return []*rig.Job{
		{Name: jobTick, Every: 1, Targets: "m1", Machines: 1, Bytes: 100, Overlap: true},
		{Name: "slow", Every: 2, Targets: "m1,m2", Machines: 2, Bytes: 3000 + r.IntN(3000), Seconds: 2.5},
		{Name: "chatty", Every: 5, Targets: "m2", Machines: 1, Bytes: 150_000, Seconds: 1.5, Code: 3, Overlap: true},
		{Name: "nograce", Every: 3, Targets: "m3", Machines: 1, Bytes: 10, Overlap: true, NoGrace: true},
		{Name: "edited", Every: 3, Targets: "m2", Machines: 1, Bytes: 500, Overlap: true, Edited: true},
		{Name: "batched", Every: 6, Targets: "m1,m2,m3", Machines: 3, Bytes: 700, Seconds: 0.2, Batch: 1, Overlap: true},
		{Name: "hold", Every: 10, Targets: "m3", Machines: 1, Bytes: 50, Seconds: 8, Lockfile: "shared.lock"},
		{Name: "want", Every: 10, Targets: "m3", Machines: 1, Bytes: 50, Seconds: 8, Lockfile: "shared.lock"},
		{Name: "nobody", Every: 4, Targets: "elsewhere", Overlap: true},
		{Name: "late", Every: 15, Targets: "m3", Machines: 1, Bytes: 100, Seconds: 60, Timeout: 1, Overlap: true},
		{Name: rig.JobHand, Targets: "m1,m3", Machines: 2, Bytes: 2000, Seconds: 0.5, Overlap: true},
		{Name: rig.JobLong, Targets: "m2", Machines: 1, Bytes: 400, Seconds: 300, Overlap: true},
		{Name: jobBulk, Targets: "m3", Machines: 1, Bytes: 240_000, Overlap: true},
	}
}
