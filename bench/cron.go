package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

const cronBudget = 100 // ns

// cron runs the package's own benchmark: each kind of schedule, with what it allocates. The fastest of several short
// runs counts: what else the machine does can only slow it down.
func cron(ctx context.Context, b *bench) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkNextUnix$", "-benchmem", "-benchtime", "20ms", "-count", "9",
		"github.com/syscollective/saltpeter/internal/cronexpr")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("run the benchmark: %w\n%s", err, out)
	}
	var names []string
	best, allocations := map[string]float64{}, map[string]string{}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 8 || !strings.HasPrefix(f[0], "Benchmark") || f[3] != "ns/op" {
			continue
		}
		ns, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			return fmt.Errorf("read %q: %w", line, err)
		}
		_, name, _ := strings.Cut(f[0], "/")
		if old, seen := best[name]; !seen {
			names = append(names, name)
			best[name], allocations[name] = ns, f[6]
		} else {
			best[name] = min(old, ns)
		}
	}
	if len(names) == 0 {
		return fmt.Errorf("no figures in:\n%s", out)
	}
	for _, name := range names {
		b.table.add(row{what: name, figure: fmt.Sprintf("%.0f ns, %s allocations", best[name], allocations[name]),
			budget: "≤ 100 ns, 0", ok: best[name] <= cronBudget && allocations[name] == "0"})
	}
	return nil
}
