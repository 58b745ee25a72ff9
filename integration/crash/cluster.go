package crash

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
	dir    string
	bin    Binaries
	subnet string // "127.x.y"
	env    []string
	nodes  []*node
	jobs   []*job
	extra  string // more lines of saltpeter_config
	played int    // machines: m1, m2, …

	edition int // of the job whose definition changes
}

// subnets gives every cluster of this process and of others on this host addresses of its own.
var subnets atomic.Uint32

// newCluster lays out files; nothing runs yet.
func newCluster(dir string, bin Binaries, nodes int, jobs []*job, extra string) (*Cluster, error) {
	n := subnets.Add(1)
	c := &Cluster{dir: dir, bin: bin, jobs: jobs, extra: extra, played: 3}
	for _, j := range jobs {
		c.played = max(c.played, j.machines)
	}
	c.subnet = fmt.Sprintf("127.%d.%d", 2+(uint32(os.Getpid())+n*7)%250, 1+(uint32(os.Getpid())/250+n)%250)
	for i := range nodes {
		c.nodes = append(c.nodes, newNode(c, i))
	}
	for _, d := range []string{c.configDir(), c.ledgerDir(), filepath.Join(dir, "machines"), filepath.Join(dir, "wrapper-log")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, err
		}
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte(hex.EncodeToString(secret)+"\n"), 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(c.shim(), []byte(c.shimText()), 0o755); err != nil {
		return nil, err
	}
	return c, c.writeConfig()
}

func (c *Cluster) configDir() string  { return filepath.Join(c.dir, "config") }
func (c *Cluster) ledgerDir() string  { return filepath.Join(c.dir, "ledgers") }
func (c *Cluster) shim() string       { return filepath.Join(c.dir, "wrapper.sh") }
func (c *Cluster) wrapperArm() string { return filepath.Join(c.dir, "wrapper.arm") }
func (c *Cluster) armedLog() string   { return filepath.Join(c.dir, "wrapper.armed") }
func (c *Cluster) wrapperLog() string { return filepath.Join(c.dir, "wrapper.crash") }

// shimText is what stands for the wrapper: it sets the point that lies there in the first wrapper that finds it.
func (c *Cluster) shimText() string {
	return fmt.Sprintf(`#!/bin/sh
if [ -e %[1]s ] && mv %[1]s %[1]s.$$ 2>/dev/null; then
  SP_CRASHPOINT=$(cat %[1]s.$$) SP_CRASHLOG=%[2]s
  export SP_CRASHPOINT SP_CRASHLOG
  echo "$SP_CRASHPOINT $*" >> %[3]s
fi
exec %[4]s "$@"
`, c.wrapperArm(), c.wrapperLog(), c.armedLog(), c.bin.Wrapper)
}

func (c *Cluster) peers() string {
	var list []string
	for _, n := range c.nodes {
		list = append(list, n.id+"="+n.addr+":8890")
	}
	return strings.Join(list, ",")
}

// writeConfig writes the files, whole at once.
func (c *Cluster) writeConfig() error {
	var b strings.Builder
	fmt.Fprintf(&b, `saltpeter_config:
  launcher: local
  local_minions: [%s]
  auth: none
  default_wrapper_path: %s
  default_wrapper_logdir: %s
  heartbeat: 1
  kill_grace: 2
%s`, machineNames(1, c.played), c.shim(), filepath.Join(c.dir, "wrapper-log"), c.extra)
	for _, j := range c.jobs {
		b.WriteString(j.yaml(c))
	}
	tmp := filepath.Join(c.dir, "config.new")
	if err := os.WriteFile(tmp, []byte(b.String()), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(c.configDir(), "jobs.yaml"))
}

// machineNames lists machines as the files do.
func machineNames(from, to int) string {
	var list []string
	for i := from; i <= to; i++ {
		list = append(list, fmt.Sprintf("m%d", i))
	}
	return strings.Join(list, ",")
}

// startAll starts every node and waits for a leader with the configuration in force.
func (c *Cluster) startAll(ctx context.Context) error {
	for _, n := range c.nodes {
		if err := n.start(""); err != nil {
			return err
		}
	}
	return waitFor(ctx, time.Minute, "configuration in force", func() error {
		var page page[struct{}]
		if err := c.get(ctx, "/jobs", &page); err != nil {
			return err
		}
		if len(page.Items) != len(c.jobs) {
			return fmt.Errorf("%d of %d jobs", len(page.Items), len(c.jobs))
		}
		return nil
	})
}

// stopAll ends every node in good order and says which did not end so.
func (c *Cluster) stopAll() error {
	var errs []error
	for _, n := range c.nodes {
		if !n.alive() {
			continue
		}
		if err := n.end(syscall.SIGTERM, 30*time.Second); err != nil {
			errs = append(errs, err, n.end(syscall.SIGKILL, 10*time.Second))
			continue
		}
		if code := n.proc.ProcessState.ExitCode(); code != 0 {
			errs = append(errs, fmt.Errorf("%s ended with %s after SIGTERM", n.name, n.proc.ProcessState))
		}
	}
	return errors.Join(errs...)
}

// kill ends everything of the cluster at once, whatever state it is in: wrappers and commands too.
func (c *Cluster) kill() {
	for _, n := range c.nodes {
		_ = n.end(syscall.SIGKILL, 10*time.Second)
	}
	// One that is just starting another is seen again in the next round.
	for range 50 {
		left := c.leftovers()
		if len(left) == 0 {
			return
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// leftovers gives the processes that belong to this cluster, by its directory in their command line.
func (c *Cluster) leftovers() []int {
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
		if err == nil && strings.Contains(string(b), c.dir+"/") {
			out = append(out, pid)
		}
	}
	return out
}

// waitFor asks until there is no error.
func waitFor(ctx context.Context, limit time.Duration, what string, ask func() error) error {
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
