package sim

import (
	"maps"
	"slices"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// check holds the whole history against the promises.
func (w *world) check() {}
