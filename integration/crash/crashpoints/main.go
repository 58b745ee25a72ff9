// Command crashpoints kills and stops nodes and wrappers at every named point and judges what is left (package crash).
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/syscollective/saltpeter/integration/crash"
)

func main() { os.Exit(run()) }

func run() int {
	s := crash.Sweep{Log: os.Stderr}
	fs := flag.NewFlagSet("crashpoints", flag.ContinueOnError)
	fs.Uint64Var(&s.Seed, "seed", uint64(time.Now().Unix()), "seed of the workload and of what is chosen")
	fs.IntVar(&s.Length, "length", 10, "cases in one cluster, one after the other")
	fs.IntVar(&s.Side, "side", 3, "clusters side by side")
	fs.StringVar(&s.Dir, "dir", "", "where data goes (default: a temporary directory)")
	cases := fs.String("cases", "", "POINT:kill|stop:1|3,… (default: all)")
	seconds := fs.Int("seconds", 0, "only a fixed selection of cases that takes about so long (0: all)")
	match := fs.String("match", "", "only cases whose text has this in it")
	if err := fs.Parse(os.Args[1:]); err != nil {
		return 2
	}
	var err error
	if s.Cases, err = choose(*cases, *match); err == nil && s.Dir == "" {
		s.Dir, err = os.MkdirTemp("", "sp-crash.")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *seconds > 0 {
		s.Cases, s.Side = crash.Sample(*seconds), 2
		s.Length = (len(s.Cases) + 1) / 2
	}
	began := time.Now()
	results, err := s.Run(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 1
	}
	failed := crash.Report(os.Stdout, results, s.Seed)
	fmt.Printf("seed %d, %s\n", s.Seed, time.Since(began).Round(time.Second))
	if failed > 0 {
		return 1
	}
	if err := os.RemoveAll(s.Dir); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
	}
	return 0
}

func choose(list, match string) ([]crash.Case, error) {
	all := crash.AllCases([]int{1, 3})
	if list != "" {
		all = nil
		for text := range strings.SplitSeq(list, ",") {
			c, err := crash.ParseCase(text)
			if err != nil {
				return nil, err
			}
			all = append(all, c)
		}
	}
	var out []crash.Case
	for _, c := range all {
		if strings.Contains(c.String(), match) {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no case matches %q", match)
	}
	return out, nil
}
