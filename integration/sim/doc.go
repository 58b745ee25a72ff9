// Package sim holds the seeded simulation of whole nodes: real nodes out of package app, three or one, on a network and
// disks in memory, with the real sessions of package wrapper on machines that are simulated; all in a bubble of
// testing/synctest, so that minutes take milliseconds.
//
// From a seed come jobs, faults and what operators do. Faults are those of the promises: leaders cut off, paused, killed
// with and without loss of power, clocks that are off or jump, files that
// lag or break on one node, connections that break, a launcher that publishes twice,
// late, or with an error, wrappers that are killed or stopped, machines that reboot. What really happened is written down
// where it happens (ledger: executions; commits: every committed entry as every node applied it; operator: what was
// acknowledged). When the faults have stopped and time went by, the promises are checked against that by rules that are
// the tests' own: no due second, no state and no window is taken from the product's code.
//
// SIM_SEEDS says how many seeds TestSim plays, SIM_FROM from which one on, SIM_SEED which one alone; without them it plays as
// many of the first 250 as half a minute allows. SIM_LOG=1 shows the history also where all is well, SIM_LOG=debug with
// everything that nodes and wrappers log. A seed brings the same jobs and faults again; the
// order of goroutines that are ready at the same instant it does not, so a failure may need several plays of its seed, or
// a runtime that leaves nothing to chance (see TestSameSeedSameRun). A failing seed prints its history.
package sim
