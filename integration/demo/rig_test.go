package demo

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	_ "github.com/syscollective/saltpeter/app" // so that results are not cached over a change of the programs
	_ "github.com/syscollective/saltpeter/wrapper"
)

// root has bin and deploy, as a checkout has after make build; made once, before any test.
var root string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sp-demo.")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	build := exec.Command("go", "build", "-o", dir+"/bin/", "./cmd/saltpeter", "./cmd/sp_wrapper", "./cmd/spctl")
	build.Dir, build.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v\n%s", err, out))
	}
	if err := os.CopyFS(dir+"/deploy/demo", os.DirFS("../../deploy/demo")); err != nil {
		panic(err)
	}
	root = dir
	return m.Run()
}

// process is a program with what it writes.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	gone chan struct{}

	mu  sync.Mutex // guards out
	out bytes.Buffer
}

// Write takes what the program writes.
func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// launch starts a program in a process group of its own, as a shell does.
func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, gone: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p, p
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // what it leaves behind may hold its output open
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.gone)
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-p.gone
	})
	return p
}

func (p *process) until(text string) {
	p.t.Helper()
	p.waitFor(fmt.Sprintf("%q", text), func() bool { return strings.Contains(p.text(), text) })
}

func (p *process) waitFor(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(40 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("no %s within 40 s; it wrote:\n%s", what, p.text())
		}
	}
}

func (p *process) ends() {
	p.t.Helper()
	select {
	case <-p.gone:
	case <-time.After(40 * time.Second):
		p.t.Fatalf("%s does not end; it wrote:\n%s", p.cmd, p.text())
	}
}

// demo is the script that runs, with a directory for its temporary one.
type demo struct {
	*process
	dir string
}

var nets atomic.Uint32

// newNet gives three bytes of addresses that no other test on this host has.
func newNet() string {
	n := nets.Add(1)
	return fmt.Sprintf("127.%d.%d", 60+os.Getpid()%190, 1+(uint32(os.Getpid()/190)+n*50)%250)
}

func start(t *testing.T) *demo { return startOn(t, newNet()) }

func startOn(t *testing.T, net string) *demo {
	t.Helper()
	dir, err := os.MkdirTemp("", "sp-d.") // short, for the sockets' sake
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(root + "/deploy/demo/run")
	cmd.Env = append(os.Environ(), "NET="+net, "TMPDIR="+dir)
	d := &demo{launch(t, cmd), dir}
	t.Cleanup(func() {
		for _, pid := range d.left() {
			t.Errorf("process %d is left: %s", pid, commandLine(pid))
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		os.RemoveAll(dir)
	})
	return d
}

func (d *demo) wait(text string) { d.t.Helper(); d.until(text) }

// formed waits until the demo has said what to try.
func (d *demo) formed() {
	d.t.Helper()
	d.until("Ctrl-C here kills the runs")
}

// printed gives the command that the demo prints with some text in it.
func (d *demo) printed(part string) string {
	d.t.Helper()
	_, list, _ := strings.Cut(d.text(), "In another terminal:\n")
	for line := range strings.Lines(list) {
		if strings.Contains(line, part) {
			command, _, _ := strings.Cut(line, " # ")
			return strings.TrimSpace(command)
		}
	}
	d.t.Fatalf("the demo prints no command with %q:\n%s", part, d.text())
	return ""
}

// shell makes a shell in another terminal run a command, after the first printed line.
func (d *demo) shell(command string) *exec.Cmd {
	return exec.Command("bash", "-c", d.printed("export SPCTL_ADDR")+"\n"+command)
}

// background runs a command beside others.
func (d *demo) background(command string) *process {
	d.t.Helper()
	return launch(d.t, d.shell(command))
}

// typed runs a command to its end and gives what it writes and its exit code. What it starts in the background goes on.
func (d *demo) typed(command string) (string, int) {
	d.t.Helper()
	cmd := d.shell(command)
	out, err := os.CreateTemp(d.dir, "out.")
	if err != nil {
		d.t.Fatal(err)
	}
	defer os.Remove(out.Name())
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	_ = cmd.Run() // the exit code says it
	text, err := os.ReadFile(out.Name())
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

func (d *demo) mustType(command string) string {
	d.t.Helper()
	out, code := d.typed(command)
	if code != 0 {
		d.t.Fatalf("%s: exit code %d, %s\nthe demo wrote:\n%s", command, code, out, d.text())
	}
	return out
}

// mustRun runs a command that the demo prints.
func (d *demo) mustRun(part string) string {
	d.t.Helper()
	return d.mustType(d.printed(part))
}

// healthy waits until every node serves and sees three voters.
func (d *demo) healthy() {
	d.t.Helper()
	each := "for a in ${SPCTL_ADDR//,/ }; do spctl --addr $a jobs > /dev/null || exit 1; done"
	d.waitFor("three nodes that serve", func() bool { _, code := d.typed(each); return code == 0 })
	d.waitFor("healthy cluster", func() bool {
		out, _ := d.typed("spctl cluster status")
		return strings.Contains(out, "(3 voters) · HEALTHY")
	})
}

// interrupt is Ctrl-C: every process in the foreground gets it.
func (d *demo) interrupt() {
	d.t.Helper()
	if err := syscall.Kill(-d.cmd.Process.Pid, syscall.SIGINT); err != nil {
		d.t.Fatal(err)
	}
}

func (d *demo) ends(code int) {
	d.t.Helper()
	d.process.ends()
	if got := d.cmd.ProcessState.ExitCode(); got != code {
		d.t.Errorf("it ended with %s, want exit code %d; it wrote:\n%s", d.cmd.ProcessState, code, d.text())
	}
}

// nothingLeft holds that neither files nor processes are left.
func (d *demo) nothingLeft() {
	d.t.Helper()
	if files, err := os.ReadDir(d.dir); err != nil || len(files) > 0 {
		d.t.Errorf("files are left: %v, %v", files, err)
	}
	if left := d.left(); len(left) > 0 {
		for _, pid := range left {
			d.t.Errorf("process %d is left: %s", pid, commandLine(pid))
		}
	}
}

// left gives the processes of this demo: those with its directory in command line or environment, and those of its group.
func (d *demo) left() (pids []int) {
	for _, pid := range all() {
		environment, _ := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		group, err := syscall.Getpgid(pid)
		if strings.Contains(commandLine(pid), d.dir+"/") || bytes.Contains(environment, []byte("TMPDIR="+d.dir)) || err == nil && group == d.cmd.Process.Pid {
			pids = append(pids, pid)
		}
	}
	return slices.DeleteFunc(pids, zombie)
}

// processes gives the demo's processes with some text in their command line.
func (d *demo) processes(part string) []int {
	return slices.DeleteFunc(d.left(), func(pid int) bool { return !strings.Contains(commandLine(pid), part) })
}

func all() (pids []int) {
	procs, _ := os.ReadDir("/proc")
	for _, p := range procs {
		if pid, err := strconv.Atoi(p.Name()); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

func commandLine(pid int) string {
	b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	return string(bytes.ReplaceAll(b, []byte{0}, []byte{' '}))
}

// zombie reports whether a process has ended and is only not waited for yet, or is gone.
func zombie(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := bytes.Cut(b, []byte(") "))
	return len(rest) > 0 && rest[0] == 'Z'
}

func itoa(n int) string { return strconv.Itoa(n) }
