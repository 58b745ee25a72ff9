// Package saltrig runs real Salt for Go tests: masters and minions as processes on loopback, by the program beside it
// (integration/salt/rig.py), which says how. Like integration/rig it imports nothing of the product.
//
// A Rig belongs to a holder process, which ends and deletes everything when the test's end of its stdin is closed, however
// the test ended; what a killed holder leaves is ended by the next one. The package owns no goroutine beside that of
// os/exec, which ends with Close.
package saltrig

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
)

// Options say what to start; the zero value is a rig of the default version with two masters and six minions, without
// salt-api.
type Options struct {
	Version    string         // "3006", "3007", "3008" or a full one; default 3007, or SALT_VERSION of the environment
	Masters    int            // m1, m2, …; default 2
	Minions    int            // mn01, mn02, …; default 6
	IDs        []string       // of the first minions, where they shall differ from their names
	API        bool           // a salt-api beside each master: m1-api, …
	States     string         // directory of states and _modules; default an empty one
	MasterOpts map[string]any // laid over every master's configuration
	MinionOpts map[string]any // laid over every minion's
}

// Master is one Salt master of a rig.
type Master struct {
	Name    string
	Address string // of 127/8
	Conf    string // directory with the file "master": what a bridge is given
	PKI     string // its pki_dir
	API     string // URL of its salt-api; "" without one
}

// Minion is one minion of a rig.
type Minion struct {
	Name string // for Stop, Kill and so on
	ID   string
	Conf string
	PKI  string // holds minion.pem and minion.pub
}

// Rig is Salt, running.
type Rig struct {
	Version     string
	Dir         string
	Python      string // Salt's interpreter
	Bin         string // directory of salt-call and so on
	States      string
	Masters     []Master
	Minions     []Minion
	Credentials []struct{ Username, Password, EAuth string } // for salt-api

	mu      sync.Mutex // one command at a time
	holder  *exec.Cmd
	stdin   io.WriteCloser
	answers *bufio.Reader
	closed  bool
}

// upLimit is how long a rig may take, the first installation of its Salt included.
const upLimit = 10 * time.Minute

// Start brings a rig up for a test and has it ended with the test. A rig that can't be had fails the test; without SALT_RIG
// in the environment, which the targets of the Makefile set, the test is skipped: it needs minutes and a package registry.
func Start(t testing.TB, o Options) *Rig {
	t.Helper()
	if os.Getenv("SALT_RIG") == "" {
		t.Skip("needs real Salt: make integration")
	}
	ctx, cancel := context.WithTimeout(context.Background(), upLimit)
	defer cancel()
	r, err := Up(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// Up brings a rig up: all minions have answered through all masters. It must be closed.
func Up(ctx context.Context, o Options) (*Rig, error) {
	args, err := o.arguments()
	if err != nil {
		return nil, err
	}
	r := &Rig{holder: exec.Command("python3", args...)}
	r.holder.Stderr = os.Stderr
	if r.stdin, err = r.holder.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := r.holder.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := r.holder.Start(); err != nil {
		return nil, fmt.Errorf("start salt rig: %w", err)
	}
	r.answers = bufio.NewReader(stdout)
	stop := context.AfterFunc(ctx, func() { _ = r.holder.Process.Signal(os.Interrupt) })
	defer stop()
	line, err := r.answers.ReadString('\n')
	if err == nil {
		err = json.Unmarshal([]byte(line), r)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("bring salt rig up: %w", errors.Join(ctx.Err(), err)), errors.New(line), r.Close())
	}
	return r, nil
}

func (o Options) arguments() ([]string, error) {
	root, err := rig.ModuleRoot()
	if err != nil {
		return nil, err
	}
	args := []string{filepath.Join(root, "integration/salt/rig.py"), "hold"}
	if o.Version == "" {
		o.Version = os.Getenv("SALT_VERSION")
	}
	if o.Version != "" {
		args = append(args, "--version", o.Version)
	}
	if o.Masters > 0 {
		args = append(args, "--masters", fmt.Sprint(o.Masters))
	}
	if o.Minions > 0 {
		args = append(args, "--minions", fmt.Sprint(o.Minions))
	}
	if o.States != "" {
		args = append(args, "--states", o.States)
	}
	if !o.API {
		args = append(args, "--no-api")
	}
	for flag, value := range map[string]any{"--ids": o.IDs, "--master-opts": o.MasterOpts, "--minion-opts": o.MinionOpts} {
		b, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		if string(b) != "null" {
			args = append(args, flag, string(b))
		}
	}
	return args, nil
}

// Close ends and deletes everything, what Salt started included. A second call does nothing.
func (r *Rig) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	r.closed = true
	_ = r.stdin.Close()
	if err := r.holder.Wait(); err != nil {
		return fmt.Errorf("end salt rig: %w", err)
	}
	return nil
}

// Stop ends parts of the rig (m1, m1-api, mn01) in good order; after 20 s they are killed.
func (r *Rig) Stop(names ...string) error { return r.do("stop", names) }

// Start starts parts again, without waiting until they are ready.
func (r *Rig) Start(names ...string) error { return r.do("start", names) }

// Kill ends parts at once (SIGKILL), with their children.
func (r *Rig) Kill(names ...string) error { return r.do("kill", names) }

// Pause stops parts without ending them (SIGSTOP).
func (r *Rig) Pause(names ...string) error { return r.do("pause", names) }

// Resume lets paused parts go on.
func (r *Rig) Resume(names ...string) error { return r.do("resume", names) }

func (r *Rig) do(command string, names []string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	what := command + " " + strings.Join(names, " ")
	if _, err := fmt.Fprintln(r.stdin, what); err != nil {
		return fmt.Errorf("salt rig: %s: %w", what, err)
	}
	answer, err := r.answers.ReadString('\n')
	if err != nil {
		return fmt.Errorf("salt rig: %s: %w", what, err)
	}
	if answer != "ok\n" {
		return fmt.Errorf("salt rig: %s: %s", what, strings.TrimSpace(answer))
	}
	return nil
}

// IDs gives the minions' ids in the order of their names.
func (r *Rig) IDs() []string {
	var out []string
	for _, m := range r.Minions {
		out = append(out, m.ID)
	}
	return out
}

// Call runs a function on a minion by salt-call in good order, as a person on the machine would, and gives what it printed.
func (r *Rig) Call(ctx context.Context, m Minion, args ...string) (string, error) {
	args = append([]string{"-c", m.Conf, "--out=json", "--log-level=error"}, args...)
	out, err := exec.CommandContext(ctx, filepath.Join(r.Bin, "salt-call"), args...).Output()
	if err != nil {
		return string(out), fmt.Errorf("salt-call %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}
