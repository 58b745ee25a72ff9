package rig

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Node is one saltpeter process, or the place of one.
type Node struct {
	C    *Cluster
	Name string
	Addr string       // of 127/8, unless the test gave another before the start
	Env  []string     // beside the cluster's
	Args []string     // beside those that every node gets
	Dir  string       // data and job logs
	http *http.Client // over the unix socket

	Proc  *exec.Cmd
	Gone  chan struct{} // closed when Proc has ended
	Wrap  []string      // a program around the node's that has it as its child, such as strace
	Enter []string      // a program that turns into the node's, such as nsenter
}

func newNode(c *Cluster, i int) *Node {
	n := &Node{C: c, Name: fmt.Sprintf("n%d", i+1), Addr: fmt.Sprintf("%s.%d", c.subnet, i+1)}
	n.Dir = filepath.Join(c.Dir, n.Name)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", n.socket())
	}
	n.http = &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: 15 * time.Second}
	return n
}

func (n *Node) socket() string  { return filepath.Join(n.C.Dir, n.Name+".sock") }
func (n *Node) logFile() string { return filepath.Join(n.C.Dir, n.Name+".log") }

// Start starts the process, with more environment than the cluster's and its own.
func (n *Node) Start(env ...string) error {
	logFile, err := os.OpenFile(n.logFile(), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer logFile.Close()
	args := slices.Concat(n.Wrap, n.Enter, []string{n.C.Bin.Node,
		"-c", n.C.configDir(), "-l", filepath.Join(n.Dir, "log"), "--data-dir", filepath.Join(n.Dir, "data"),
		"--local-state", filepath.Join(n.C.Dir, "machines"), "--socket", n.socket(), "--bind", n.Addr,
		"-p", "8888", "-w", "8889", "--name", n.Name, "--key-file", filepath.Join(n.C.Dir, "key")}, n.Args)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = slices.Concat(os.Environ(), n.C.Env, n.Env, env)
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", n.Name, err)
	}
	gone := make(chan struct{})
	n.Proc, n.Gone = cmd, gone
	go func() {
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
		close(gone)
	}()
	return nil
}

// Pid is the node's own: with a program around it, that of its child.
func (n *Node) Pid() int {
	if len(n.Wrap) == 0 {
		return n.Proc.Process.Pid
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", n.Proc.Process.Pid, n.Proc.Process.Pid))
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

// Signal sends a signal to the node itself, not to a program around it.
func (n *Node) Signal(s syscall.Signal) error {
	if pid := n.Pid(); pid > 0 {
		return syscall.Kill(pid, s)
	}
	return os.ErrProcessDone
}

// Alive reports whether the process has not ended.
func (n *Node) Alive() bool {
	if n.Proc == nil {
		return false
	}
	select {
	case <-n.Gone:
		return false
	default:
		return true
	}
}

// End sends a signal and waits for the process's end.
func (n *Node) End(s syscall.Signal, limit time.Duration) error {
	if !n.Alive() {
		return nil
	}
	if err := n.Signal(s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	_ = n.Signal(syscall.SIGCONT)
	select {
	case <-n.Gone:
		return nil
	case <-time.After(limit):
		return fmt.Errorf("%s did not end within %s of %v", n.Name, limit, s)
	}
}
