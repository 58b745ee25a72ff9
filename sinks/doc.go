// Package sinks carries the change feed of the replicated record to where people look beside the API: the log files of
// jobs.
//
// Duty: LogFiles writes each record of a job to {logdir}/{job}.log, in the Python program's format, exactly once. Every
// node writes its own files from its own copy of the record.
//
// Goroutines: Run is the only one and owns everything: cursor, open files, what is held back. New owns nothing.
//
// Invariants:
//   - No byte is written to a log file unless a cursor that is safe on disk names that file and the length that it had
//     when the cursor's next event was the next. So after a crash (or any error, which is treated as one) files are cut
//     to those lengths and the events from the cursor on are written again: nothing is lost, torn or doubled.
//   - The cursor moves past an event only after its bytes were synced.
//   - Only files that the present batch writes to are named. Between batches none is, and then nothing is ever cut.
//   - A log file that is not as it was left (renamed, removed, cut, written to by somebody else) is declared anew as it
//     is; what others did to it is never undone.
package sinks
