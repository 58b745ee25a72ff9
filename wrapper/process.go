package wrapper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
)

// The modes in which the program runs: its first argument.
const (
	modeLaunch  = "launch"  // checks its arguments, starts the next, ends
	modeRun     = "run"     // detached: asks, runs, reports
	modeChild   = "child"   // waits to become a command
	modeCheck   = "check"   // tells whether a wrapper could work here
	modeVersion = "version" // tells its version
)

const (
	exitOK     = 0
	exitFailed = 1
)

// Streams are where a process that a person started writes to.
type Streams struct {
	Out, Err io.Writer
}

// Main is the program. It gives the exit code, 0 or 1: what became of a command is told over the wire only.
func Main(args []string, version string, std Streams) int {
	if len(args) < 2 {
		fmt.Fprintln(std.Err, "usage: sp_wrapper launch --id ID --machine MACHINE --cluster UUID --urls wss://…,… --token TOKEN --pin HEX | sp_wrapper check … | sp_wrapper version")
		return exitFailed
	}
	var err error
	switch args[1] {
	case modeLaunch:
		err = launch(args[2:], version, std)
	case modeRun:
		err = run(args[2:], version)
	case modeChild:
		return child(bootTime)
	case modeCheck:
		err = check(args[2:], version, std)
	case modeVersion:
		fmt.Fprintf(std.Out, "sp_wrapper %s\n", version)
	default:
		err = fmt.Errorf("unknown command %q (allowed: launch, check, version)", args[1])
	}
	if err != nil {
		fmt.Fprintln(std.Err, "sp_wrapper:", err)
		return exitFailed
	}
	return exitOK
}

// launch checks the arguments and starts this program again in a session of its own, with nothing of the caller's left open.
func launch(args []string, version string, std Streams) error {
	opts, err := ParseOptions(args)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(opts.State, 0o700); err != nil {
		return fmt.Errorf("make state directory: %w", err)
	}
	logFile, err := openOwnLog(opts.State)
	if err != nil {
		return err
	}
	defer logFile.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	keepNothing()
	proc, err := os.StartProcess("/proc/self/exe", append([]string{"sp_wrapper", modeRun}, args...), &os.ProcAttr{
		Env:   os.Environ(),
		Files: []*os.File{null, logFile, logFile},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return fmt.Errorf("start in background: %w", err)
	}
	fmt.Fprintf(std.Out, "Saltpeter Wrapper version %s\nWrapper started successfully\n", version)
	return proc.Release()
}

// run is the detached process.
func run(args []string, version string) error {
	opts, err := ParseOptions(args) // relative paths are read before the directory changes
	if err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("change directory: %w", err)
	}
	debug.SetGCPercent(50) // many of these run on one machine
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("component", "wrapper", "launch", opts.Launch, "pid", os.Getpid())
	stop := make(chan os.Signal, 4)
	// Handled, not ignored: a command inherits what is ignored. Sent at a machine's shutdown, they must not cost a result.
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	host, err := os.Hostname()
	if err != nil {
		host = opts.Machine
	}
	boot := bootID()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	executor := &processExecutor{self: selfChild(), env: os.Environ(), oom: shield(), ready: moveToUnit(ctx, opts.Launch, log)}
	session := NewSession(opts, compose(Parts{
		Dialer:   newDialer(opts.Pin),
		Locker:   fileLocker{dir: opts.LockDir},
		Journal:  newJournal(opts.State, boot),
		Executor: executor,
		Boot:     bootTime,
		Temp:     func() (*os.File, error) { return tempFile(opts.State) },
		Stop:     stop,
	}), About{BootID: boot, Host: host, Build: version}, log)
	if err := session.Run(ctx); err != nil {
		return fmt.Errorf("run session: %w", err)
	}
	return nil
}

// tempFile makes a file that nobody else sees and that is gone with this process.
func tempFile(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".spool-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ownLogMax is when the wrappers' own log begins anew; one old one is kept.
const ownLogMax = 1 << 20

// openOwnLog opens the log that all wrappers of one state directory share: what they could not tell a gateway.
func openOwnLog(state string) (*os.File, error) {
	path := filepath.Join(state, "wrapper.log")
	if info, err := os.Stat(path); err == nil && info.Size() > ownLogMax {
		if err := os.Rename(path, path+".1"); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("rotate log: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return f, nil
}
