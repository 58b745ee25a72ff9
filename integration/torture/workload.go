package main

import (
	"fmt"

	"github.com/syscollective/saltpeter/integration/rig"
)

const (
	longRuns = 40 // that end in the second after a leader is hurt
	pushers  = 4
	everyday = "tick"    // the job that the operator sets under maintenance
	jobWait  = "wait"    // whose runs are the long ones
	release  = "release" // the file for which they wait
)

// workload gives jobs that are due every second on one machine each, wrappers that push output all the time, runs that end
// during elections, and what the operator needs: 60 to 70 commands are started in a second.
func workload(everySecond int) []*rig.Job {
	machine := func(i int) string { return fmt.Sprintf("m%d", i) }
	jobs := []*rig.Job{
		{Name: everyday, Every: 1, Targets: "m1", Machines: 1, Bytes: 100, Overlap: true},
		{Name: "no-grace", Every: 3, Targets: "m3", Machines: 1, Bytes: 10, Overlap: true, NoGrace: true},
		{Name: "alone", Every: 5, Targets: "m2", Machines: 1, Bytes: 2000, Seconds: 3},
		{Name: jobWait, Targets: "m4", Machines: 1, Bytes: 5000, Until: release, Overlap: true},
		{Name: rig.JobHand, Targets: "m1,m3", Machines: 2, Bytes: 2000, Seconds: 0.5, Overlap: true},
		{Name: rig.JobLong, Targets: "m2", Machines: 1, Bytes: 400, Seconds: 300, Overlap: true},
	}
	for i := 2; i <= everySecond; i++ {
		jobs = append(jobs, &rig.Job{Name: fmt.Sprintf("every-%d", i), Every: 1, Targets: machine(i), Machines: 1, Bytes: 100, Overlap: true})
	}
	for i := range pushers {
		jobs = append(jobs, &rig.Job{Name: fmt.Sprintf("push-%d", i+1), Every: 5, Targets: machine(i + 5), Machines: 1, Bytes: 400_000, Seconds: 5, Overlap: true})
	}
	return jobs
}

// played is how many machines these jobs need.
func played(everySecond int) int { return max(everySecond, pushers+4) }
