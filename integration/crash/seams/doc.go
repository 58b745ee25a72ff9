// Package seams puts crash points around the parts of a node: decorators of what package app lets tests replace, which only
// a build with the tag crashpoints composes. Without the tag the package is empty, and the product has nothing of it.
//
// A point has a name and lies before or after what one part asks of another:
//
//	propose.{before,after}.COMMAND   a command is handed to the cluster; its outcome came back
//	commit.{before,after}.COMMAND    an entry with such a command goes to the log store; it is synced
//	apply.{before,after}.COMMAND     an entry with such a command goes to the state machine
//	reply.{before,after}.REQUEST     the leader answers a gateway, or an API; shortly after it answered
//	publish.{before,after}           a launch is handed to the launcher
//	resolve.{before,after}           the launcher is asked for a run's machines
//	vote.{before,after}              the stable store is written
//	snapshot, persist, cut           each with .before and .after: the state is frozen, written, the log behind it dropped
//
// One point at a time is set, as "name[:n]:action" with the action kill (SIGKILL) or stop (SIGSTOP) to the process itself at
// the n-th time that the point is passed, 1 by default: by the variable SP_CRASHPOINT at the start, and later by the file that
// SP_CRASHARM names, which is read again at the next point after a SIGUSR1. SP_CRASHLOG names a file that gets a line
// "name n action pid" just before. With SP_CRASHMARKS set, every point is a write to a descriptor that does not exist:
// nothing but a mark in the trace of strace.
//
// The same build takes a static cluster: SP_CLUSTER_ID, SP_NODE_ID and SP_PEERS ("id=host:port,…"). SP_SNAPSHOT_LOGS shortens
// what lies between two snapshots, SP_SEGMENT_BYTES the segments of output. With SP_FED a
// node takes every snapshot for one that it was fed: segments that it names and that are not there are lacking, not damage.
// SP_CLOCK names a file with a duration by which the node's wall clock is ahead; without the file it is right.
//
// The package owns no goroutine; the points run on those of the parts.
package seams
