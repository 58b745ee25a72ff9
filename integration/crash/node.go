package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// node is one saltpeter process, or the place of one.
type node struct {
	c    *Cluster
	name string
	addr string // of 127/8
	id   string // with more than one node
	dir  string
	http *http.Client // over the unix socket

	proc *exec.Cmd
	gone chan struct{} // closed when proc has ended
	wrap []string      // a program around the node's, such as strace
}

func newNode(c *Cluster, i int) *node {
	n := &node{c: c, name: fmt.Sprintf("n%d", i+1), addr: fmt.Sprintf("%s.%d", c.subnet, i+1)}
	n.id = fmt.Sprintf("00000000-0000-4000-8000-%012d", i+1)
	n.dir = filepath.Join(c.dir, n.name)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", n.socket())
	}
	n.http = &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: 15 * time.Second}
	return n
}

func (n *node) socket() string   { return filepath.Join(n.c.dir, n.name+".sock") }
func (n *node) crashLog() string { return filepath.Join(n.c.dir, n.name+".crash") }
func (n *node) armFile() string  { return filepath.Join(n.c.dir, n.name+".arm") }
func (n *node) logFile() string  { return filepath.Join(n.c.dir, n.name+".log") }

// start starts the process, with a point that is set from its first instruction on; "" for none.
func (n *node) start(point string) error {
	logFile, err := os.OpenFile(n.logFile(), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer logFile.Close()
	args := append(append([]string{}, n.wrap...), n.c.bin.Node,
		"-c", n.c.configDir(), "-l", filepath.Join(n.dir, "log"), "--data-dir", filepath.Join(n.dir, "data"),
		"--local-state", filepath.Join(n.c.dir, "machines"), "--socket", n.socket(), "--bind", n.addr,
		"-p", "8888", "-w", "8889", "--name", n.name, "--key-file", filepath.Join(n.c.dir, "key"))
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), "SP_CRASHPOINT="+point, "SP_CRASHLOG="+n.crashLog(), "SP_CRASHARM="+n.armFile())
	cmd.Env = append(cmd.Env, n.c.env...)
	if len(n.c.nodes) > 1 {
		cmd.Env = append(cmd.Env, "SP_CLUSTER_ID=00000000-0000-4000-9000-000000000000", "SP_NODE_ID="+n.id, "SP_PEERS="+n.c.peers())
	}
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", n.name, err)
	}
	gone := make(chan struct{})
	n.proc, n.gone = cmd, gone
	go func() {
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
		close(gone)
	}()
	return nil
}

// pid is the node's own: with a program around it, that of its child.
func (n *node) pid() int {
	if len(n.wrap) == 0 {
		return n.proc.Process.Pid
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", n.proc.Process.Pid, n.proc.Process.Pid))
	if err != nil {
		return 0
	}
	for _, f := range strings.Fields(string(b)) {
		if pid, err := strconv.Atoi(f); err == nil {
			return pid
		}
	}
	return 0
}

func (n *node) signal(s syscall.Signal) error {
	if pid := n.pid(); pid > 0 {
		return syscall.Kill(pid, s)
	}
	return os.ErrProcessDone
}

func (n *node) alive() bool {
	if n.proc == nil {
		return false
	}
	select {
	case <-n.gone:
		return false
	default:
		return true
	}
}

// end sends a signal and waits for the process's end.
func (n *node) end(s syscall.Signal, limit time.Duration) error {
	if !n.alive() {
		return nil
	}
	if err := n.signal(s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	_ = n.signal(syscall.SIGCONT)
	select {
	case <-n.gone:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("%s did not end within %s of %v", n.name, limit, s)
	}
}

// armPoint sets a point in the running process.
func (n *node) armPoint(point string) error {
	if err := os.WriteFile(n.armFile(), []byte(point+"\n"), 0o644); err != nil {
		return err
	}
	return n.signal(syscall.SIGUSR1)
}

// hit is one line of a crash log.
type hit struct {
	point, action string
	pid           int
}

// hits reads a crash log; there is none before the first hit.
func hits(path string) []hit {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var out []hit
	for text := range bytes.Lines(b) {
		var h hit
		var n int
		if k, _ := fmt.Sscanf(string(text), "%s %d %s %d\n", &h.point, &n, &h.action, &h.pid); k == 4 {
			out = append(out, h)
		}
	}
	return out
}
