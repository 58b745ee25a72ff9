// Package rig is what the measurements in bench are made with: nodes, fleets of wrappers and bare prototypes, each in a
// process of its own, since file descriptors are limited and since a node's CPU and memory are to be its own.
//
// A process is this very program started again in a role. It reads one JSON request a line from its standard input, answers
// each with a line, and ends when its input does: whatever becomes of the program that started it, nothing is left running.
// Node runs the composition of package app as cmd/saltpeter does, with decorators at app's seams that note when claims were
// committed, how many bytes went into the log and how long snapshots took.
package rig
