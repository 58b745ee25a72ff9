// Package rig runs clusters of real processes for the tests that hurt them, and judges what is left: by ledgers which the jobs
// themselves write and sync, by schedules that it generated itself, and by what the record says over the API. It imports
// nothing of the product, so that a misunderstanding there can't hide itself here; a test keeps it so.
//
// A Cluster is one node or three as processes, each on an address of its own, with machines that are played by this host. Its
// Jobs are a workload whose ticks, outputs and outcomes anybody can compute. The History holds what the harness asked for and
// was told, and when something was hurt. Collect reads record and ledgers into Evidence once everything has come to rest, and
// Judge gives every broken promise (docs/testing.md lists them).
//
// The only goroutine of the package waits for the end of a node's process; it ends with it.
package rig
