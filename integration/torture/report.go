package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
)

// excused reports whether an error in a log is that of a node whose disk was being hurt.
func excused(results []*result, v rig.Violation) bool {
	return slices.ContainsFunc(results, func(r *result) bool {
		switch r.kind {
		case frozen, frozenLong, full, failing:
			return strings.HasPrefix(v.Text, r.node+":") && v.At.After(r.from.Add(-time.Second)) && v.At.Before(r.to.Add(time.Second))
		}
		return false
	})
}

// charge gives each violation to the fault in whose time it falls, or after which it comes.
func charge(results []*result, found []rig.Violation) {
	for _, v := range found {
		i := len(results) - 1
		for i > 0 && v.At.Before(results[i].from) {
			i--
		}
		results[i].broken = append(results[i].broken, v.Say())
	}
}

// row sums up the faults of one kind and role.
type row struct {
	faults, hits, died, ended, broken int
	pause                             time.Duration
}

// report prints what was done and found by kind, and gives the number of broken promises and of faults that were not done.
func report(w io.Writer, s settings, results []*result) int {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "FAULT\tVICTIM\tHITS\tNODE ENDED\tLONGEST PAUSE\tLONG RUNS ENDED IN IT\tVIOLATIONS")
	bad, hits := 0, 0
	for _, k := range kinds {
		for _, victim := range []string{"leader", "follower"} {
			sum := sumUp(results, k, victim)
			if sum.faults == 0 {
				continue
			}
			pause, ended := "-", "-"
			if victim == "leader" {
				pause, ended = fmt.Sprintf("%.1f s", sum.pause.Seconds()), fmt.Sprint(sum.ended)
			}
			fmt.Fprintf(tw, "%s\t%s\t%d of %d\t%d\t%s\t%s\t%d\n", k, victim, sum.hits, sum.faults, sum.died, pause, ended, sum.broken)
			hits, bad = hits+sum.hits, bad+sum.broken+sum.faults-sum.hits
		}
	}
	_ = tw.Flush() // its errors are those of w, whoever gave it
	for _, r := range results {
		for _, text := range r.broken {
			fmt.Fprintf(w, "%s of the %s %s at %s: %s\n", r.kind, r.victim(), r.node, r.from.UTC().Format("15:04:05"), text)
		}
	}
	fmt.Fprintf(w, "%d faults of %d kinds, %d hits, %d violations; seed %d\n", len(results), len(kinds), hits, bad, s.seed)
	return bad
}

func sumUp(results []*result, k kind, victim string) (out row) {
	for _, r := range results {
		if r.kind != k || r.victim() != victim {
			continue
		}
		out.faults++
		if r.hit {
			out.hits++
		}
		if r.died {
			out.died++
		}
		out.ended += r.ended
		out.broken += len(r.broken)
		out.pause = max(out.pause, r.pause)
	}
	return out
}
