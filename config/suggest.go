package config

import "github.com/syscollective/saltpeter/internal/suggest"

// didYouMean gives the word of known that is nearest to name, empty if none is near enough to be meant.
func didYouMean(name string, known []string) string {
	if len(name) > 64 {
		return ""
	}
	best, distance := "", max(1, len(name)/3)+1
	for _, k := range known {
		if d := suggest.Distance(name, k); d < distance {
			best, distance = k, d
		}
	}
	return best
}
