package rig

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Cluster is one node or three, with the machines that they play.
type Cluster struct {
	Dir     string
	Bin     Binaries
	subnet  string // "127.x.y"
	Env     []string
	Nodes   []*Node
	jobs    []*Job
	Wrapper string // the program that machines run
	extra   string // more lines of saltpeter_config
	Played  int    // machines: m1, m2, …
	Salt    bool   // real minions with these names are the machines

	turn        atomic.Uint32 // of requests
	Edition     int           // of the job whose definition changes
	OutputTotal int           // in bytes; 0 = the default
}

// subnets gives every cluster of this process and of others on this host addresses of its own.
var subnets atomic.Uint32

// NewCluster lays out files; nothing runs yet.
func NewCluster(dir string, bin Binaries, nodes int, jobs []*Job, extra string) (*Cluster, error) {
	n := subnets.Add(1)
	c := &Cluster{Dir: dir, Bin: bin, jobs: jobs, extra: extra, Played: 3, Wrapper: bin.Wrapper}
	for _, j := range jobs {
		c.Played = max(c.Played, j.Machines)
	}
	c.subnet = fmt.Sprintf("127.%d.%d", 2+(uint32(os.Getpid())+n*7)%250, 1+(uint32(os.Getpid())/250+n)%250)
	for i := range nodes {
		c.Nodes = append(c.Nodes, newNode(c, i))
	}
	for _, d := range []string{c.configDir(), c.LedgerDir(), filepath.Join(dir, "machines"), filepath.Join(dir, "wrapper-log")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte(hex.EncodeToString(secret)+"\n"), 0o600); err != nil {
		return nil, err
	}
	return c, c.WriteConfig()
}

func (c *Cluster) configDir() string { return filepath.Join(c.Dir, "config") }

// LedgerDir holds a ledger for each machine.
func (c *Cluster) LedgerDir() string { return filepath.Join(c.Dir, "ledgers") }

// WriteConfig writes the files, whole at once.
func (c *Cluster) WriteConfig() error {
	var b strings.Builder
	launcher := "local\n  local_minions: [" + MachineNames(1, c.Played) + "]"
	if c.Salt {
		launcher = "salt"
	}
	fmt.Fprintf(&b, `saltpeter_config:
  launcher: %s
  auth: none
  default_wrapper_path: %s
  default_wrapper_logdir: %s
  heartbeat: 1
  kill_grace: 2
%s`, launcher, c.Wrapper, filepath.Join(c.Dir, "wrapper-log"), c.extra)
	if c.OutputTotal > 0 {
		fmt.Fprintf(&b, "  output_limit: %d\n  output_total: %d\n", c.OutputTotal/2, c.OutputTotal)
	}
	for _, j := range c.jobs {
		b.WriteString(j.yaml(c))
	}
	tmp := filepath.Join(c.Dir, "config.new")
	if err := os.WriteFile(tmp, []byte(b.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(c.configDir(), "jobs.yaml"))
}

// MachineNames lists machines as the files do.
func MachineNames(from, to int) string {
	var list []string
	for i := from; i <= to; i++ {
		list = append(list, fmt.Sprintf("m%d", i))
	}
	return strings.Join(list, ",")
}

// StartAll starts every node and waits for a leader with the configuration in force.
func (c *Cluster) StartAll(ctx context.Context) error {
	for _, n := range c.Nodes {
		if err := n.Start(); err != nil {
			return err
		}
	}
	return c.InForce(ctx)
}

// Joins gives the arguments by which each node joins the others.
func (c *Cluster) Joins() []string {
	var all []string
	for _, n := range c.Nodes {
		all = append(all, n.Addr+":8890")
	}
	return []string{"--join", strings.Join(all, ",")}
}

// Begun begins a cluster of nodes that were started to join each other, and waits until all work and the jobs are in force.
func (c *Cluster) Begun(ctx context.Context) error {
	if err := c.Nodes[0].Init(ctx); err != nil {
		return err
	}
	if err := c.AllWork(ctx); err != nil {
		return err
	}
	return c.InForce(ctx)
}

// AllWork waits until every node works, and there is a leader.
func (c *Cluster) AllWork(ctx context.Context) error {
	return WaitFor(ctx, time.Minute, "all nodes to work", func() error { return c.Healthy(ctx) })
}

// InForce waits until all jobs are in force.
func (c *Cluster) InForce(ctx context.Context) error {
	return WaitFor(ctx, time.Minute, "configuration in force", func() error {
		var page page[struct{}]
		if err := c.Get(ctx, "/jobs?limit=1000", &page); err != nil {
			return err
		}
		if len(page.Items) != len(c.jobs) {
			return fmt.Errorf("%d of %d jobs", len(page.Items), len(c.jobs))
		}
		return nil
	})
}

// StopAll ends every node in good order and says which did not end so.
func (c *Cluster) StopAll() error {
	var errs []error
	for _, n := range c.Nodes {
		if !n.Alive() {
			continue
		}
		if err := n.End(syscall.SIGTERM, 30*time.Second); err != nil {
			errs = append(errs, err, n.End(syscall.SIGKILL, 10*time.Second))
			continue
		}
		if code := n.Proc.ProcessState.ExitCode(); code != 0 {
			errs = append(errs, fmt.Errorf("%s ended with %s after SIGTERM", n.Name, n.Proc.ProcessState))
		}
	}
	return errors.Join(errs...)
}

// Kill ends everything of the cluster at once, whatever state it is in: wrappers and commands too.
func (c *Cluster) Kill() {
	for _, n := range c.Nodes {
		_ = n.End(syscall.SIGKILL, 10*time.Second)
	}
	KillLeft(c.Dir)
}

// KillLeft ends all processes that belong to a cluster's directory.
func KillLeft(dir string) {
	// One that is just starting another is seen again in the next round.
	for range 50 {
		left := leftovers(dir)
		if len(left) == 0 {
			return
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// leftovers gives the processes that belong to a cluster, by its directory in their command line.
func leftovers(dir string) []int {
	procs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, p := range procs {
		var pid int
		if _, err := fmt.Sscanf(p.Name(), "%d", &pid); err != nil || pid == os.Getpid() {
			continue
		}
		b, err := os.ReadFile(filepath.Join("/proc", p.Name(), "cmdline"))
		if err == nil && strings.Contains(string(b), dir+"/") {
			out = append(out, pid)
		}
	}
	return out
}

// WaitFor asks until there is no error.
func WaitFor(ctx context.Context, limit time.Duration, what string, ask func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := ask()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(deadline):
			return fmt.Errorf("wait %s for %s: %w", limit, what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}
