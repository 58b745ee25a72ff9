package app

import (
	"os"
	"runtime/debug"
)

// heapGrowth is by how many percent the heap may grow between two collections. Most of a node's heap is the record, which
// lives long: with the usual 100 a million targets would hold twice their memory (bench record), and collecting twice as
// often costs a node at work a few percent of its CPU.
const heapGrowth = 50

// SpareMemory sets this process's collector to be sparing with memory, unless the environment (GOGC) says otherwise.
func SpareMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
}
