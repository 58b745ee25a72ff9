// Package wrapper is sp_wrapper: the program on the machine that asks for the right to run a job's command, runs it and
// reports what it did.
//
// A launcher starts it with a launch's id, the gateways' URLs and a token. It detaches, draws a secret, says hello to the
// first gateway that answers and is told its runs. For each it takes the job's lock, asks to start, and on a grant starts
// itself again as a child that waits; the child's process id goes into a journal on disk before the child may become the
// command. Output goes out in numbered frames and is kept until it is in the record.
//
// Ownership: one goroutine, Session.Run, owns everything about connections, runs and output. Goroutines beside it only
// wait for one thing each and hand it to that loop: a reader and a writer per connection, a race of dials, a lock that is
// waited for, an execution and the reader of its output. All are started and waited for by Session.Run. The process of a
// command is known by the four small interfaces Dialer, Locker, Journal and Executor alone, so that sessions run in tests
// without processes or a network.
//
// Invariants: a command is executed only on a grant for this wrapper's secret, at most 20 s of CLOCK_BOOTTIME after the
// ask that the grant answers, and after its journal entry is on disk. The secret is never written anywhere. A frame's number and
// bytes never change once it was sent. Nothing here ever blocks the command: what can't be kept is counted and left out.
// No failure of a connection ends a command; only its timeout or a kill does.
package wrapper
