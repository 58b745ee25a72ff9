// Command bench measures a node against its budgets, each beside the limit of this machine in the same run.
//
//	bench [flags] PROGRAM...     one or more of those that `bench` alone lists; "all" runs them all
//
// Every program starts what it needs in a temporary directory, on loopback, ends by itself and leaves nothing behind. The
// exit code is 1 if a program could not measure, and with -strict also if a budget was exceeded. docs/performance.md says
// what was measured and why.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	_ "time/tzdata" // schedules must not depend on what the host has installed

	"github.com/syscollective/saltpeter/bench/rig"
)

// bench is what programs get.
type bench struct {
	dir     string // temporary, emptied between programs
	wrapper string // path of sp_wrapper
	profile string // directory for profiles of the nodes, empty = none
	long    bool
	count   int    // of trials or pairs, 0 = the program's own
	trials  string // file that keeps the trials of "failover"
	table   *table
	procs   []*rig.Proc // of the present program
}

// program is one measurement.
type program struct {
	name, what string
	limit      time.Duration // after which it is given up
	run        func(ctx context.Context, b *bench) error
}

func programs() []program {
	return []program{
		{"ticks", "1,000 and 10,000 jobs due in one second", 6 * time.Minute, ticks},
		{"idle", "10,000 jobs of which none is due", 3 * time.Minute, idle},
		{"sessions", "10,000 TLS sessions that won a claim and sent 64 KiB each", 12 * time.Minute, sessions},
		{"record", "1,000,000 targets in the record", 15 * time.Minute, records},
		{"outlog", "restart with 2 GiB of output", 15 * time.Minute, outputs},
		{"wrapper", "start, memory and size of sp_wrapper", 3 * time.Minute, wrappers},
		{"cron", "the next tick of a schedule", 3 * time.Minute, cron},
		{"flood", "a job that writes 10 GB", 5 * time.Minute, flood},
		{"push", "claims while 200 wrappers push output as fast as they may", 5 * time.Minute, push},
		{"runs", "runs per second through one node", 15 * time.Minute, runs},
		{"cluster-runs", "runs per second through three nodes", 20 * time.Minute, clusterRuns},
		{"cluster-push", "the same as push, on three nodes", 6 * time.Minute, clusterPush},
		{"cluster-words", "acked words per second through three nodes beside a bare prototype of three", 8 * time.Minute, clusterWords},
		{"cluster-pages", "pages of 50 jobs of 5,000 on a follower, stale and strong", 5 * time.Minute, clusterPages},
		{"cluster-join", "a fresh node joins with 2 GiB of output while 200 runs a second go on", 15 * time.Minute, clusterJoin},
		{"failover", "no leader after a stop, first start after a kill", 3 * time.Hour, failover},
		{"reads", "write on one node, read on another, under leaders' deaths", time.Hour, reads},
		{"words", "acked words per second beside a bare prototype", 8 * time.Minute, words},
	}
}

func main() { os.Exit(run(os.Args[1:])) } //nolint:forbidigo // this is a main

func run(args []string) int {
	if len(args) == 2 && args[0] == "role" {
		// The terminal's Ctrl-C is for who started us: our input ends then.
		signal.Ignore(os.Interrupt)
		if err := rig.Play(args[1], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			return 1
		}
		return 0
	}
	b := &bench{table: newTable(os.Stdout)}
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	strict := fs.Bool("strict", false, "exit with 1 if a budget is exceeded")
	base := fs.String("dir", "", "where data goes: a disk as in production (default: the temporary directory)")
	fs.StringVar(&b.wrapper, "wrapper", "bin/sp_wrapper", "the wrapper's binary")
	fs.StringVar(&b.profile, "profile", "", "write CPU profiles of the nodes into this directory")
	fs.BoolVar(&b.long, "long", false, "run \"runs\" and \"cluster-runs\" for ten minutes")
	fs.IntVar(&b.count, "n", 0, "trials of \"failover\" (20 of each kind), pairs of \"reads\" (100,000)")
	fs.StringVar(&b.trials, "trials", "bin/failover.trials", "file to which \"failover\" adds each trial; what is in it counts")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	chosen, err := choose(fs.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	failed := false
	for _, p := range chosen {
		if err := b.measure(ctx, *base, p); err != nil {
			fmt.Fprintf(os.Stderr, "error: %s: %v\n", p.name, err)
			failed = true
		}
	}
	if failed || *strict && b.table.over > 0 {
		return 1
	}
	return 0
}

func choose(names []string) ([]program, error) {
	all := programs()
	if slices.Equal(names, []string{"all"}) {
		return all, nil
	}
	var out []program
	for _, name := range names {
		i := slices.IndexFunc(all, func(p program) bool { return p.name == name })
		if i < 0 {
			return nil, fmt.Errorf("no program is called %q", name)
		}
		out = append(out, all[i])
	}
	if len(out) == 0 {
		for _, p := range all {
			fmt.Fprintf(os.Stderr, "  %-14s%s\n", p.name, p.what)
		}
		return nil, errors.New("name a program, or all")
	}
	return out, nil
}

// measure runs one program in a directory of its own.
func (b *bench) measure(ctx context.Context, base string, p program) (err error) {
	if b.dir, err = os.MkdirTemp(base, "sp-bench-"+p.name+"."); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.dir)) }()
	ctx, cancel := context.WithTimeout(ctx, p.limit)
	defer cancel()
	fmt.Fprintf(os.Stderr, "%s: %s …\n", p.name, p.what)
	began := time.Now()
	err = errors.Join(p.run(ctx, b), b.endAll())
	b.table.print(p.name+": "+p.what, time.Since(began))
	return err
}

// endAll ends what a program has left: its processes, and wrappers that its nodes started.
func (b *bench) endAll() error {
	var errs []error
	for _, p := range b.procs {
		errs = append(errs, p.Kill())
	}
	b.procs = nil
	for _, pid := range processesOf(b.dir) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
	return errors.Join(errs...)
}
