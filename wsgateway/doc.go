// Package wsgateway terminates the wrappers' WebSockets on one node. It checks who a wrapper is, carries its asks to the
// cluster's leader, gathers the words of all its sessions into few Report calls, and tells each wrapper what is in the
// record. It keeps nothing of its own: every grant, ack and refusal is the leader's answer.
//
// # Goroutines
//
// Serve owns all of them and has waited for them when it returns: one reader per session; one writer per session only
// while something is to be written (an idle session costs one small stack); two reporters; one that passes on
// heartbeats. Handlers of net/http end as soon as the connection is upgraded, since their stacks are what costs.
//
// # Invariants
//
//   - Nothing is acked before the Report that carried it returned without an error, and never beyond the answer's Next.
//   - Numbered words are passed on without a gap; one that comes too early is dropped and "expect" names the one wanted.
//   - The words that a session tells of one target are in at most one Report call at a time. Two calls are in flight, but they
//     carry different targets, so that the order in which they commit does not matter; with cumulative acks a target loses
//     nothing, for what arrives meanwhile travels together in its next call.
//   - A Report that failed may have committed. Its words stay here and are reported again, in order, for as long as the
//     session lives; the record takes each number once. When the session has ended they are reported once more, and after
//     that they are the wrapper's to send again on its next session: it keeps everything that was not acked.
//   - Words are taken only from a session that won the start claim or presented the winner's secret on this connection.
//   - Asks (hello, start, resume, lock) go straight to the leader and never wait behind words.
//   - A session whose words wait is not read further, and a peer that does not read is closed: neither holds up others.
package wsgateway
