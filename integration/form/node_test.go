package form

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
	_ "github.com/syscollective/saltpeter/app" // so that results are not cached over a change of the programs
	"github.com/syscollective/saltpeter/internal/keys"
	_ "github.com/syscollective/saltpeter/wrapper" // as above
)

const jobs = `
tick:
  schedule: '* * * * * *'
  targets: m1
  command: 'echo "tick $SP_JOB_INSTANCE"'
long:
  schedule: '0 0 1 1 *'
  targets: m2,m3
  target_type: list
  command: 'for i in $(seq 1 80); do echo "line $i of $SP_MACHINE_ID"; sleep 0.1; done'
`

// rig is a cluster's files and the nodes that were started on them.
type rig struct {
	t      *testing.T
	dir    string
	subnet string
	nodes  map[int]*node
	keys   map[int]string // files of nodes that have one of their own
	// programs are those of nodes that run another than the tree's, by number.
	programs map[int]string
}

// node is one process.
type node struct {
	*client.Client
	cmd  *exec.Cmd
	gone chan struct{}
}

// newRig builds the programs and lays out key and configuration. Paths of unix sockets are short, so the directory is not
// t.TempDir's; it stays if the test fails.
func newRig(t *testing.T) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "sp-form.")
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir, nodes: map[int]*node{}, keys: map[int]string{}, programs: map[int]string{},
		subnet: fmt.Sprintf("127.%d.%d", 100+os.Getpid()%150, 1+os.Getpid()/150%250)}
	t.Cleanup(r.end)
	build := exec.Command("go", "build", "-o", dir+"/bin/", "./cmd/saltpeter", "./cmd/sp_wrapper", "./cmd/spctl")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	config := fmt.Sprintf("saltpeter_config:\n  launcher: local\n  local_minions: [m1, m2, m3]\n  auth: none\n  heartbeat: 1\n"+
		"  default_wrapper_path: %s/bin/sp_wrapper\n  default_wrapper_logdir: %s/wrapper-log\n", dir, dir) + jobs
	if err := os.Mkdir(dir+"/config", 0o755); err != nil {
		t.Fatal(err)
	}
	for path, text := range map[string]string{"config/jobs.yaml": config, "key": keys.Generate().Hex() + "\n", "node.yaml": "{}\n"} {
		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// addJob adds to the configuration before nodes are started.
func (r *rig) addJob(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.dir+"/config/more.yaml", []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) addr(i int) string   { return fmt.Sprintf("%s.%d:8890", r.subnet, i) }
func (r *rig) data(i int) string   { return fmt.Sprintf("%s/n%d", r.dir, i) }
func (r *rig) logDir(i int) string { return fmt.Sprintf("%s/log%d", r.dir, i) }

// start starts node i with the join addresses given, if any.
func (r *rig) start(i int, join ...string) {
	r.t.Helper()
	socket := fmt.Sprintf("%s/n%d.sock", r.dir, i)
	out, err := os.OpenFile(fmt.Sprintf("%s/n%d.log", r.dir, i), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		r.t.Fatal(err)
	}
	defer out.Close()
	args := []string{"-c", r.dir + "/config", "--key-file", cmp.Or(r.keys[i], r.dir+"/key"), "--name", fmt.Sprintf("n%d", i), "--bind", fmt.Sprintf("%s.%d", r.subnet, i),
		"--data-dir", r.data(i), "--socket", socket, "-l", r.logDir(i), "--local-state", r.dir + "/machines", "--node-file", r.dir + "/node.yaml"}
	if len(join) > 0 {
		args = append(args, "--join", strings.Join(join, ","))
	}
	n := &node{cmd: exec.Command(cmp.Or(r.programs[i], r.dir+"/bin/saltpeter"), args...), gone: make(chan struct{})}
	n.cmd.Stdout, n.cmd.Stderr = out, out
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if n.Client, err = client.New(client.Config{Addrs: []client.Addr{{Socket: socket}}}); err != nil {
		r.t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() {
		defer close(n.gone)
		_ = n.cmd.Wait() // how it ended is in cmd.ProcessState
	}()
	r.nodes[i] = n
}

// stop ends node i with a signal and waits for its end.
func (r *rig) stop(i int, s syscall.Signal) {
	r.t.Helper()
	n := r.nodes[i]
	delete(r.nodes, i)
	n.Close()
	if err := n.cmd.Process.Signal(s); err != nil {
		r.t.Error(err)
	}
	select {
	case <-n.gone:
	case <-time.After(15 * time.Second):
		r.t.Errorf("n%d does not end after %v", i, s)
		_ = n.cmd.Process.Kill()
		<-n.gone
	}
	if code := n.cmd.ProcessState.ExitCode(); s == syscall.SIGTERM && code != 0 {
		r.t.Errorf("n%d ended with %d", i, code)
	}
}

func (r *rig) end() {
	for i := range r.nodes {
		r.stop(i, syscall.SIGTERM)
	}
	r.killRest()
	if r.t.Failed() {
		for i := 1; i <= 3; i++ {
			text, _ := os.ReadFile(fmt.Sprintf("%s/n%d.log", r.dir, i))
			r.t.Logf("log of n%d:\n%s", i, text[max(0, len(text)-6000):])
		}
		r.t.Logf("data is kept in %s", r.dir)
		return
	}
	if err := os.RemoveAll(r.dir); err != nil {
		r.t.Error(err)
	}
}

// killRest ends wrappers that still have something to tell to nodes that are gone, known by the program that they run.
func (r *rig) killRest() {
	procs, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		r.t.Error(err)
	}
	for _, path := range procs {
		var pid int
		program, err := os.Readlink(path)
		if err != nil || !strings.HasPrefix(program, r.dir+"/") {
			continue
		}
		if _, err := fmt.Sscanf(path, "/proc/%d/exe", &pid); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by itself
		}
	}
	time.Sleep(100 * time.Millisecond) // the kernel's time to end them
}

// until asks until it is true, for 15 s.
func (r *rig) until(what string, ask func(ctx context.Context) (bool, error)) {
	r.t.Helper()
	var err error
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
		var ok bool
		ok, err = ask(ctx)
		cancel()
		if ok {
			return
		}
	}
	r.t.Fatalf("%s: not in 15 s, last: %v", what, err)
}

// healthy waits until node i sees three voters and a leader, and gives the leader.
func (r *rig) healthy(i int) (leader int) {
	r.t.Helper()
	var last api.Cluster
	r.until("three voters and a leader", func(ctx context.Context) (bool, error) {
		got, err := r.nodes[i].Cluster(ctx)
		last = got.Value
		return err == nil && last.Healthy && last.Voters == 3 && last.CanLose == 1 && strings.HasPrefix(last.Leader, "n"), err // a node that has just started knows no names
	})
	if _, err := fmt.Sscanf(last.Leader, "n%d", &leader); err != nil {
		r.t.Fatalf("leader %q", last.Leader)
	}
	return leader
}
