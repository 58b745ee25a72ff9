// Package outlog keeps the output of targets and the change feed in append-only segments on disk.
//
// Duty: a Store holds numbered frames per key (one key per target of a run), a Feed holds numbered records. Both are
// driven by the apply of the replicated state machine, so the same calls give byte-identical segment files on every
// node: segments roll by size alone, and nothing here reads a clock, a random source or a map's order into a file.
//
// Goroutines: the package starts none. One goroutine (apply) is the writer: it alone calls Append, Drop, DropRun,
// Compact, Restore and Manifest. Everything else may be called from any goroutine at any time.
//
// Durability: nothing is synced on append, for the raft log is the durability of what no snapshot covers yet. The
// order at a snapshot is Manifest (in apply, no I/O), Sync, write the snapshot, Release. After a crash Open cuts the
// files to the manifest of the newest snapshot, and the log's tail is applied again.
//
// Invariants:
//   - The order of frames by (segment number, offset) is the order in which they were appended, for ever: compaction
//     rewrites a range of sealed segments in their own place, under the next generation, and never moves a frame past
//     another. (It does not write to the head: a node that was fed by a snapshot and still lacks the source could not
//     write the same head as the others; so it only notes that it lacks the result too.)
//   - A drop is a frame too. It ends the life of all frames of its key that stand before it, so the index can be
//     rebuilt from the segments alone, and a key may be used again after its drop.
//   - A frame is given out only after its CRC32C was checked.
//   - A segment's index file (.idx) is derived, checked and replaceable: without it the segment is read once, whole.
//     It exists only for bytes that were synced before it was written.
//   - The first error of a write or a sync is final: the store then refuses every change (ErrFailed).
package outlog
