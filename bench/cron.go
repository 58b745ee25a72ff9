package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

const cronBudget = 100 // ns

// cron runs the package's own benchmark: each kind of schedule, with what it allocates.
func cron(ctx context.Context, b *bench) error {
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkNextUnix$", "-benchmem", "-benchtime", "200ms",
		"github.com/syscollective/saltpeter/internal/cronexpr")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("run the benchmark: %w\n%s", err, out)
	}
	found := false
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) < 8 || !strings.HasPrefix(f[0], "Benchmark") || f[3] != "ns/op" {
			continue
		}
		ns, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			return fmt.Errorf("read %q: %w", line, err)
		}
		found = true
		_, name, _ := strings.Cut(f[0], "/")
		b.table.add(row{what: name, figure: fmt.Sprintf("%.0f ns, %s allocations", ns, f[6]), budget: "≤ 100 ns, 0", ok: ns <= cronBudget && f[6] == "0"})
	}
	if !found {
		return fmt.Errorf("no figures in:\n%s", out)
	}
	return nil
}
