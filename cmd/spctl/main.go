// Command spctl operates saltpeter: it shows what runs, starts and kills runs, sets maintenance, and checks
// configuration files and schedules without a node.
//
// Data goes to standard output, everything else to standard error. The exit codes are in exit.go.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() { os.Exit(start()) }

func start() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, environment{
		in: os.Stdin, out: os.Stdout, errs: os.Stderr, tty: isTerminal(os.Stdout), asks: isTerminal(os.Stdin), env: os.Getenv, now: time.Now,
		socket: "/run/saltpeter/admin.sock",
	}, os.Args[1:])
}
