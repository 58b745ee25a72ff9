// Command saltpeter is one node: scheduler, record, gateway and API.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	_ "time/tzdata" // schedules must not depend on what the host has installed

	"github.com/spf13/pflag"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/app"
	"github.com/syscollective/saltpeter/config"
	"github.com/syscollective/saltpeter/internal/buildinfo"
)

// Exit codes.
const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	os.Exit(run())
}

func run() int {
	if len(os.Args) > 1 && os.Args[1] == "recover" {
		return recoverNode(os.Args[2:])
	}
	fs := pflag.NewFlagSet("saltpeter", pflag.ContinueOnError)
	config.AddFlags(fs)
	if err := fs.Parse(os.Args[1:]); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			return 0
		}
		fmt.Fprintf(os.Stderr, "error: %v\n  see: saltpeter --help\n", err)
		return exitUsage
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "error: unexpected argument %q\n  see: saltpeter --help\n", fs.Arg(0))
		return exitUsage
	}
	node, problems := config.ReadNode(fs, os.Environ())
	if node.Version {
		fmt.Println("[MAIN] Saltpeter version ", buildinfo.Version())
		return 0
	}
	if bad := report(problems); bad {
		return exitUsage
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := serve(ctx, node); err != nil {
		explain(err)
		return exitFailed
	}
	return 0
}

// explain prints an error and the next step.
func explain(err error) {
	fmt.Fprintf(os.Stderr, "error: %v\n", err)
	if e, ok := errors.AsType[*saltpeter.Error](err); ok && e.Hint != "" {
		fmt.Fprintf(os.Stderr, "  %s\n", e.Hint)
	}
}

// report prints problems of the node's own settings and says whether one forbids the start.
func report(problems []saltpeter.Problem) bool {
	bad := false
	for _, p := range problems {
		fmt.Fprintln(os.Stderr, p.String())
		bad = bad || p.Level == config.LevelError
	}
	return bad
}

func serve(ctx context.Context, node config.Node) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
	opts := app.Options{Node: node, Log: log, OwnsProcess: true}
	if err := compose(&opts); err != nil {
		return err
	}
	return app.Serve(ctx, opts)
}
