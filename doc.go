// Package saltpeter holds the nouns of the program and their errors: jobs, runs, targets, launches, windows,
// skips, events and settings. It imports the standard library alone; every other package speaks in these words,
// and adapters between packages meet in package app.
//
// Nothing here owns a goroutine or a file. Values are plain data: whoever gets one from a view of the replicated
// record must not change it.
//
// Times are Unix milliseconds in UTC where a field says Millis, whole Unix seconds where it says tick.
package saltpeter
