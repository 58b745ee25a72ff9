// Package crash kills and stops real nodes and wrappers at every named point while they run real jobs, and judges what is
// left, with what package rig has: clusters, ledgers, the oracle.
//
// A case arms one point (package seams, and the wrapper's own), provokes it, restarts what was killed or wakes what was
// stopped, and lets the jobs go on for some seconds. A chain is some cases in one cluster, one after the other; at its end
// nothing is started any more, everything comes to rest, and the oracle judges it all. A violation is charged to the case in
// whose time it falls.
//
// Goroutines belong to the function that starts them and are waited for there. Whatever a chain leaves behind when it fails
// (data, logs, ledgers) is kept, and the way to run it again is printed.
package crash
