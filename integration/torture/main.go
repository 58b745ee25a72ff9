package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
)

// settings are what the command line says.
type settings struct {
	seconds int
	seed    uint64
	jobs    int
	dir     string
	inner   bool
}

func main() { os.Exit(run()) }

func run() int {
	var s settings
	fs := flag.NewFlagSet("torture", flag.ContinueOnError)
	fs.IntVar(&s.seconds, "seconds", 600, "how long nodes are hurt; every kind of fault comes once, whatever the time")
	fs.Uint64Var(&s.seed, "seed", 0, "seed of the plan (0: one is drawn)")
	fs.IntVar(&s.jobs, "jobs", rate(), "jobs that are due every second")
	fs.StringVar(&s.dir, "dir", "", "where data goes (default: a temporary directory; short, since it holds unix sockets)")
	fs.BoolVar(&s.inner, "inner", false, "for this program's own use")
	if err := fs.Parse(os.Args[1:]); err != nil {
		return 2
	}
	if s.seed == 0 {
		s.seed = uint64(time.Now().UnixNano()) % 1_000_000
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if s.inner {
		return fail(inside(ctx, s))
	}
	if err := checkNeeds(); err != nil {
		return fail(err)
	}
	return fail(outside(ctx, s))
}

// rate is how many jobs are due every second by default: sixty, or what the cores can carry. A run costs about 30 ms of a core,
// most of it for the five programs that the wrapper and the command are.
func rate() int { return min(60, 15*runtime.NumCPU()) }

var errFound = errors.New("promises were broken")

func fail(err error) int {
	switch {
	case err == nil:
		return 0
	case !errors.Is(err, errEnded): // the inner program has said it
		fmt.Fprintln(os.Stderr, "error:", err)
	}
	return 1
}

// inside does the work, in the namespaces.
func inside(ctx context.Context, s settings) error {
	bin, err := rig.Build(s.dir+"/bin", "")
	if err != nil {
		return err
	}
	t, err := newTorture(s, bin)
	if err != nil {
		return err
	}
	if !goAhead(filepath.Base(s.dir)) {
		t.log("no control group can be made here: a busy host may cost the nodes their leader")
	}
	t.log("seed %d, %d jobs every second, data in %s", s.seed, s.jobs, s.dir)
	results, err := t.run(ctx)
	t.clean()
	if ctx.Err() != nil {
		return errors.New("interrupted")
	}
	if err != nil {
		load, _ := os.ReadFile("/proc/loadavg")
		return fmt.Errorf("%w; load of the host %s; again: make torture SECONDS=%d SEED=%d; data in %s", err, strings.TrimSpace(string(load)), s.seconds, s.seed, s.dir)
	}
	if broken := report(os.Stdout, s, results); broken > 0 {
		return fmt.Errorf("%w: %d times; again: make torture SECONDS=%d SEED=%d; data in %s", errFound, broken, s.seconds, s.seed, s.dir)
	}
	return nil
}
