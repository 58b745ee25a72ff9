// Package local is the launcher for which this host plays the machines: it starts sp_wrapper here, once per machine, as
// Salt would start it on each of them. It exists for demos, tests and single hosts, and only where the files say
// "launcher: local".
//
// Each machine has a state directory below <base>/<cluster>/, outside any node's data directory, for its lock, journal
// and spool, and an Ed25519 key in place of Salt's. The package owns no goroutine beyond its calls; wrappers are detached
// and live on when the node ends.
package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
	"golang.org/x/sync/errgroup"
)

// startLimit is how many wrappers are being started at a time; each takes some ms of a core until it has detached.
const startLimit = 8

// Options are what a Launcher is made of. All are required.
type Options struct {
	Base     string                        // holds <cluster>/<machine>; see DefaultBase
	Cluster  string                        // UUID
	Machines func() []string               // those that this host plays, in order
	URLs     func(*saltpeter.Job) []string // gateways that the job's wrappers dial
	// Secrets gives what a launch carries: its start token and the pin of the wrapper CA.
	Secrets func(saltpeter.LaunchID) (token, pin string, err error)
}

// Launcher starts wrappers on this host.
type Launcher struct{ o Options }

// New makes a Launcher.
func New(o Options) *Launcher { return &Launcher{o: o} }

// DefaultBase gives the directory below which machines keep their state: /var/lib/sp_wrapper for root, else below the
// user's state directory.
func DefaultBase() string {
	if os.Geteuid() == 0 {
		return "/var/lib/sp_wrapper"
	}
	if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
		return filepath.Join(dir, "sp_wrapper")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return filepath.Join(os.TempDir(), fmt.Sprintf("sp_wrapper-%d", os.Geteuid()))
	}
	return filepath.Join(home, ".local", "state", "sp_wrapper")
}

// Resolve gives the machines that a job's expression matches; all that this host plays are up.
func (l *Launcher) Resolve(_ context.Context, job saltpeter.Job, subset []string, _ bool) ([]saltpeter.Resolved, error) {
	match, err := matcher(job.TargetType, job.Targets)
	if err != nil {
		return nil, err
	}
	var out []saltpeter.Resolved
	for _, m := range l.o.Machines() {
		if match(m) && (len(subset) == 0 || slices.Contains(subset, m)) {
			out = append(out, saltpeter.Resolved{Machine: m, Up: true})
		}
	}
	return out, nil
}

// Ping answers for every machine that this host plays.
func (l *Launcher) Ping(_ context.Context, machines []string) ([]string, error) {
	played := l.o.Machines()
	return slices.DeleteFunc(slices.Clone(machines), func(m string) bool { return !slices.Contains(played, m) }), nil
}

// Certain reports that a wrapper was started where Publish gave no error.
func (l *Launcher) Certain() bool { return true }

// Publish starts one wrapper per machine and waits until each has detached. Its error tells of all that could not be
// started.
func (l *Launcher) Publish(ctx context.Context, launch *saltpeter.Launch, job *saltpeter.Job, window time.Duration) error {
	errs := make([]error, len(launch.Machines))
	var g errgroup.Group
	g.SetLimit(startLimit)
	for i, m := range launch.Machines {
		g.Go(func() error {
			errs[i] = l.start(ctx, launch, job, m, window)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return errors.Join(errs...)
}

func (l *Launcher) start(ctx context.Context, launch *saltpeter.Launch, job *saltpeter.Job, machine string, window time.Duration) error {
	m, err := l.prepare(machine)
	if err != nil {
		return fmt.Errorf("prepare machine %s: %w", machine, err)
	}
	token, pin, err := l.o.Secrets(launch.ID)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, job.WrapperPath, "launch",
		"--id", launch.ID.String(), "--machine", machine, "--cluster", l.o.Cluster,
		"--urls", strings.Join(l.o.URLs(job), ","), "--token", token, "--pin", pin,
		"--window", window.String(), "--identity", "ed25519-file", "--key", m.key, "--state", m.state)
	cmd.Env = environment(os.Environ())
	cmd.Dir = "/"
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("start %s on %s: %w%s", job.WrapperPath, machine, err, quoteOutput(out))
	}
	return nil
}

// environment is what a machine's wrapper inherits: this node's own settings are none of its business.
func environment(all []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(kv string) bool {
		return strings.HasPrefix(kv, "SALTPETER_") || strings.HasPrefix(kv, "SPCTL_") || strings.HasPrefix(kv, "NOTIFY_SOCKET=")
	})
}

func quoteOutput(out []byte) string {
	text := strings.TrimSpace(string(out))
	if text == "" {
		return ""
	}
	if len(text) > 500 {
		text = text[:500] + "…"
	}
	return ": " + text
}
