package crash

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
	"golang.org/x/sync/errgroup"
)

// Sweep is a set of cases and how they are run.
type Sweep struct {
	Dir    string // holds one directory for each chain
	Cases  []Case
	Seed   uint64
	Length int // cases in a chain
	Side   int // chains side by side
	Log    io.Writer
	Bin    rig.Binaries // built by Run if it is empty
}

// AllCases gives every point with both actions, for each size of cluster. The wrapper's points don't depend on the number of
// nodes and come once.
func AllCases(sizes []int) []Case {
	var out []Case
	for i, size := range sizes {
		points := nodePoints()
		if i == 0 {
			points = append(points, wrapperPoints()...)
		}
		for _, p := range points {
			if p.provoke.several() && size == 1 {
				continue
			}
			for _, action := range []string{"kill", "stop"} {
				out = append(out, Case{p.name, action, size})
			}
		}
	}
	return out
}

// ParseCase reads a case as Case.String gives it.
func ParseCase(text string) (Case, error) {
	f := strings.Split(text, ":")
	var c Case
	if len(f) != 3 || f[1] != "kill" && f[1] != "stop" || f[2] != "1" && f[2] != "3" {
		return c, fmt.Errorf("case %q: want POINT:kill|stop:1|3", text)
	}
	if _, ok := findPoint(f[0]); !ok {
		return c, fmt.Errorf("case %q: there is no such point", text)
	}
	c = Case{f[0], f[1], int(f[2][0] - '0')}
	if c.provocation().several() && c.Nodes == 1 {
		return c, fmt.Errorf("case %q: it takes three nodes", text)
	}
	return c, nil
}

// Run runs the sweep and gives the results in the order of the cases.
func (s *Sweep) Run(ctx context.Context) ([]Result, error) {
	if s.Bin == (rig.Binaries{}) {
		bins := filepath.Join(s.Dir, "bin")
		err := os.MkdirAll(bins, 0o755)
		if err == nil {
			s.Bin, err = rig.Build(bins, "crashpoints")
		}
		if err != nil {
			return nil, err
		}
	}
	chains := s.chains()
	results := make([][]Result, len(chains))
	var logMu sync.Mutex
	g := new(errgroup.Group)
	g.SetLimit(s.Side)
	for i, cases := range chains {
		g.Go(func() error {
			log := func(format string, args ...any) {
				logMu.Lock()
				defer logMu.Unlock()
				fmt.Fprintf(s.Log, "%s chain %d/%d: %s\n", time.Now().Format("15:04:05"), i+1, len(chains), fmt.Sprintf(format, args...))
			}
			results[i] = runChain(ctx, filepath.Join(s.Dir, fmt.Sprintf("chain%d", i+1)), s.Bin, s.Seed+uint64(i), cases, log)
			return nil
		})
	}
	err := g.Wait()
	return slices.Concat(results...), err
}

// chains cuts the cases into chains of one size of cluster; some provocations have chains of their own, and
// a cluster can be recovered once. Neighbours in the list go to different chains, so that what hurts one thing again and again
// is spread.
func (s *Sweep) chains() [][]Case {
	type kind struct {
		nodes int
		alone provocation
	}
	byKind := make(map[kind][]Case)
	for _, c := range s.Cases {
		k := kind{nodes: c.Nodes}
		if p := c.provocation(); p.alone() {
			k.alone = p
		}
		byKind[k] = append(byKind[k], c)
	}
	var out [][]Case
	for _, k := range slices.SortedFunc(maps.Keys(byKind), func(a, b kind) int { return cmp.Or(a.nodes-b.nodes, int(a.alone-b.alone)) }) {
		list, length := byKind[k], s.Length
		if k.alone == byRecovery {
			length = 1
		}
		n := (len(list) + length - 1) / length
		cut := make([][]Case, n)
		for i, c := range list {
			cut[i%n] = append(cut[i%n], c)
		}
		out = append(out, cut...)
	}
	return out
}

// Report prints the table and gives the number of cases that failed.
func Report(w io.Writer, results []Result, seed uint64) (failed int) {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "POINT\tACTION\tNODES\tHITS\tVIOLATIONS")
	sorted := slices.SortedFunc(slices.Values(results), func(a, b Result) int {
		return cmp.Or(cmp.Compare(a.Nodes, b.Nodes), cmp.Compare(a.Point, b.Point), cmp.Compare(a.Action, b.Action))
	})
	hits, violations := 0, 0
	for _, r := range sorted {
		fmt.Fprintf(tw, "%s\t%s\t%d\t%d\t%d\n", r.Point, r.Action, r.Nodes, r.Hits, len(r.Violations))
		hits, violations = hits+r.Hits, violations+len(r.Violations)
	}
	_ = tw.Flush() // its errors are those of w, whoever gave it
	for _, r := range sorted {
		if r.Hits > 0 && len(r.Violations) == 0 {
			continue
		}
		failed++
		fmt.Fprintf(w, "\n%s: %d hits; data in %s\n", r.Case, r.Hits, r.Dir)
		for _, v := range r.Violations {
			fmt.Fprintln(w, "  "+v)
		}
		fmt.Fprintf(w, "  again: go run ./integration/crash/crashpoints -seed %d -cases %s\n", seed, r.Case)
	}
	fmt.Fprintf(w, "\n%d cases, %d hits, %d violations, %d cases failed\n", len(results), hits, violations, failed)
	return failed
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
