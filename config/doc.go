// Package config reads what operators write: the YAML files of the configuration directory, which are for the whole cluster
// (jobs, saltpeter_config, saltpeter_maintenance), and the settings of one node (flags, SALTPETER_* variables, its own file).
//
// Files are read as the Python Saltpeter read them, that is as PyYAML reads YAML 1.1, with positions; where that reading
// surprises (010 is 8, 1:30 is 90, on is true) the problem names both readings. Load never stops at the first problem: it
// gathers all of them as saltpeter.Problem, with file, line, column and what to write instead.
//
// Invariants: a Result without errors holds complete jobs, every one of whose schedules compiles, sorted by name; the same files
// give the same Result. An empty or unreadable directory is an error, never "no jobs".
//
// The one goroutine is the caller's in Watcher.Run; everything else is plain functions of their arguments and the files.
package config
