// Package cluster runs one node of the replicated state machine: Raft, the one port between nodes, and leadership.
//
// It knows nothing of jobs. It is given a raft.FSM and offers: Propose (coalesced, with priorities), Barrier (a linearizable
// point for reads on any node), Call (a request to the leader's Handler, one hop at most), a Lead callback that runs while
// this node leads, and what status pages show.
//
// # The state machine
//
// A log entry holds a batch of commands, framed by internal/entry; it may hold none (barriers, the leader's tick). FSM.Apply
// returns []any, one result per command, or an error if the entry can't be applied: then the node halts, and nothing is
// applied after it. Each result is what Propose returns to the proposer.
//
// # Outcomes
//
// Leadership can't be checked, only committed, so every error of Propose and Call says one of two things. If it is ErrUnknown
// (errors.Is), the command may have been committed, or may yet be: propose the same idempotent command again, never a new
// plan under a new id. Any other error means that it was not appended and never will be.
//
// # Goroutines and files
//
// Open opens the stores and starts Raft, whose goroutines it owns; Run owns all others and waits for them; Close stops Raft, then
// closes transport and stores. A store that fails once stays failed: Run returns the error, nothing is acknowledged
// after it, and the process is expected to end. The same goes for a leader that can't commit for ten seconds.
package cluster
