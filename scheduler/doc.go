// Package scheduler is the leader's work: it claims every tick when it is due, has the runs' wrappers started, and ends
// what stays silent.
//
// Three parts work from the replicated record alone. The planner is pure: marks, schedules and an instant in, claims and
// the next wake out. The clock loop sleeps until then, proposes the claims in one go and puts configuration into force
// between them, and claims nothing while the clock is in doubt. The driver takes each unfinished run one step further
// whenever the record changed: resolve, set targets, launch, publish, next batch. A run that this leader claimed and one
// that it inherited take the same steps; there is no recovery beside them.
//
// Goroutines: Lead owns them all and returns when every one has ended. The loop alone touches the planner; each
// unfinished run has one goroutine that alone proposes for it, and one more while a publish is under way; one goroutine
// advances the attentive clock and sweeps the deadlines; each ping has one.
//
// Invariants: nothing is claimed before its tick. Every deadline on somebody's silence counts from the beginning of this
// leadership or later, and time in which this process was stopped does not count. A launch is published under the id
// that was committed for it, however often. Whether a tick may run (maintenance, pause, overlap, already claimed) is not
// decided here but where the claim is applied.
package scheduler
