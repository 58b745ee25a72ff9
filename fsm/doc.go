// Package fsm is the replicated state machine: the record of configuration, claims, runs, targets, launches, start
// claims, output, results, kills, windows and retention.
//
// It is a pure function of (state, command): apply reads no clock, no randomness, no environment and no network, logs
// nothing and depends on no map order (a test reads the source and says so). Commands carry their time. Its one effect
// is the append-only store of output and of the change feed (internal/outlog), which is idempotent by (run, target,
// sequence number), so that replaying the log after a restart repeats nothing.
//
// Invariants:
//   - every command is idempotent: applied twice in a row it leaves the same state and gives the same answer;
//   - a (job, tick) that has a run never gets another; a target is granted to one nonce only;
//   - a witnessed outcome never changes; a presumed one is replaced at most once, by the winner's own word;
//   - numbered words are taken only in order: seq = last + 1.
//
// Apply runs in raft's goroutine, the single writer. Readers take a View, an immutable snapshot in O(1): everything that
// a view shares is copied before it is changed (copy on write, by generation).
package fsm
