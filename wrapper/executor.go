package wrapper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/syscollective/saltpeter"
)

// Executor is what a session needs to run commands.
type Executor interface {
	// Prepare starts a process that waits to become the spec's command. An error means that nothing was started.
	Prepare(ctx context.Context, spec *saltpeter.Spec) (Process, error)
}

// Process is one command, or the child that waits to become it.
type Process interface {
	PID() int
	Start() uint64 // start time in ticks since boot, which execution keeps
	// Exec lets the child become the command unless CLOCK_BOOTTIME is past the deadline by then. It returns nil exactly if the
	// command was executed, ErrTooLate, or what is wrong with directory, user or shell. It may hang in a dead file system.
	Exec(deadline time.Duration) error
	// Read gives what the command writes; io.EOF once nobody can write any more.
	Read(p []byte) (int, error)
	// ReadRest gives what lies in the pipe already, io.EOF when there is nothing more now. It follows a Read that StopReading ended.
	ReadRest(p []byte) (int, error)
	StopReading()
	// Wait returns when the process itself has ended. Its pid, and with it the number of its group, stays taken until Reap.
	Wait()
	// SignalGroup sends a signal to the process group.
	SignalGroup(sig syscall.Signal)
	// GroupAlive reports whether anything of the group still runs.
	GroupAlive() bool
	// Reap frees the pid, after Wait, and says how the process ended.
	Reap() syscall.WaitStatus
	// Close frees the pipes. A child that still waits ends.
	Close()
}

// ErrTooLate is what Exec returns when too much time went by since the ask.
var ErrTooLate = errors.New("the grant is too old to start on it")

// childName is what the waiting child calls itself, at most 15 bytes: as long as a process has this name, it has not become
// the command.
const childName = "sp_wrapper:wait"

// instruction is what the child is told through its control pipe.
type instruction struct {
	Argv     []string      `json:"argv"`
	Env      []string      `json:"env"`
	Dirs     []string      `json:"dirs"` // the first that can be entered
	User     *account      `json:"user,omitempty"`
	OOM      string        `json:"oom,omitempty"` // oom_score_adj to go back to
	Deadline time.Duration `json:"deadline"`      // CLOCK_BOOTTIME
}

// processExecutor runs commands as processes of this machine.
type processExecutor struct {
	self []string // how this program starts itself as a child: path, name, arguments
	env  []string // the wrapper's environment
	oom  string   // the oom_score_adj that commands get
	// ready, if not nil, is closed when this process is where its children shall be born.
	ready <-chan struct{}
}

// selfChild starts the very file that runs, even if it was replaced on disk since.
func selfChild() []string { return []string{"/proc/self/exe", "sp_wrapper", modeChild} }

// Prepare implements Executor.
func (e *processExecutor) Prepare(ctx context.Context, spec *saltpeter.Spec) (Process, error) {
	if e.ready != nil {
		select {
		case <-e.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	who, err := accountFor(ctx, spec.User)
	if err != nil {
		return nil, err
	}
	ins := instruction{
		Argv: []string{"/bin/sh", "-c", spec.Command},
		Env:  commandEnv(e.env, spec, who),
		Dirs: []string{spec.Cwd},
		User: who,
		OOM:  e.oom,
	}
	if spec.Cwd == "" {
		ins.Dirs = []string{homeOf(ins.Env), "/"}
	}
	return e.start(ins)
}

// start starts the child with pipes: 3 brings its instruction, 4 takes its status.
func (e *processExecutor) start(ins instruction) (Process, error) {
	p := &process{ins: ins}
	var files [4]*os.File // the child's ends
	defer func() {
		for _, f := range files {
			if f != nil {
				f.Close()
			}
		}
	}()
	var err [4]error
	files[0], err[0] = os.Open(os.DevNull)
	p.out, files[1], err[1] = os.Pipe()
	files[2], p.control, err[2] = os.Pipe()
	p.status, files[3], err[3] = os.Pipe()
	if err := errors.Join(err[:]...); err != nil {
		p.Close()
		return nil, fmt.Errorf("make pipes: %w", err)
	}
	proc, startErr := os.StartProcess(e.self[0], e.self[1:], &os.ProcAttr{
		Dir:   "/",
		Env:   []string{},
		Files: []*os.File{files[0], files[1], files[1], files[2], files[3]},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if startErr != nil {
		p.Close()
		return nil, fmt.Errorf("start child: %w", startErr)
	}
	p.proc = proc
	stat, statErr := readStat(proc.Pid)
	if statErr != nil {
		p.Close()
		p.Reap()
		return nil, fmt.Errorf("read child's start time: %w", statErr)
	}
	p.start, p.born = stat.start, stat.name
	return p, nil
}

// commandEnv builds the command's environment: the wrapper's without what is only ours, then the user's, then what the job's
// commands are promised, then the job's own, which wins.
func commandEnv(base []string, spec *saltpeter.Spec, who *account) []string {
	vars := make(map[string]string, len(base)+len(spec.Env)+10)
	var order []string
	set := func(k, v string) {
		if _, ok := vars[k]; !ok {
			order = append(order, k)
		}
		vars[k] = v
	}
	for _, kv := range base {
		k, v, _ := strings.Cut(kv, "=")
		if !ownVariable(k) {
			set(k, v)
		}
	}
	if who != nil {
		set("HOME", who.Home)
		set("USER", who.Name)
		set("LOGNAME", who.Name)
		set("SHELL", who.Shell)
	}
	set("SP_JOB_NAME", spec.Job)
	set("SP_JOB_INSTANCE", spec.Run)
	set("SP_JOB_INSTANCE_NAME", spec.Run)
	set("SP_MACHINE_ID", spec.Machine)
	set("PYTHONUNBUFFERED", "1")
	for k, v := range spec.Env {
		set(k, v)
	}
	env := make([]string, 0, len(order))
	for _, k := range order {
		env = append(env, k+"="+vars[k])
	}
	return env
}

// ownVariable says which variables are between us and whoever started us. PWD is the wrapper's own directory.
func ownVariable(name string) bool {
	switch name {
	case "", "SP_CRASHPOINT", "SP_CRASHLOG", "NOTIFY_SOCKET", "PWD", "OLDPWD":
		return true
	}
	return false
}

func homeOf(env []string) string {
	for _, kv := range env {
		if home, ok := strings.CutPrefix(kv, "HOME="); ok {
			return home
		}
	}
	return "/"
}

// process is a command as a process of this machine.
type process struct {
	ins     instruction
	proc    *os.Process
	start   uint64
	born    string // its name before it could change it
	control *os.File
	status  *os.File
	out     *os.File
}

func (p *process) PID() int      { return p.proc.Pid }
func (p *process) Start() uint64 { return p.start }

// Exec implements Process. The status pipe closes by execution itself, so its end says that the command runs, or that the
// child died; which of the two, its name tells, which it keeps as a zombie.
func (p *process) Exec(deadline time.Duration) error {
	p.ins.Deadline = deadline
	b, err := json.Marshal(p.ins)
	if err != nil {
		return fmt.Errorf("encode instruction: %w", err)
	}
	p.ins.Env = nil
	_, writeErr := p.control.Write(b)
	p.control.Close()
	text, err := io.ReadAll(io.LimitReader(p.status, 4096))
	switch {
	case err != nil:
		return fmt.Errorf("read child's status: %w", err)
	case string(text) == statusTooLate:
		return ErrTooLate
	case len(text) > 0:
		return errors.New(string(text))
	}
	stat, err := readStat(p.proc.Pid)
	if err != nil {
		return fmt.Errorf("read child's name: %w", err)
	}
	if stat.name != childName && stat.name != p.born {
		return nil
	}
	return errors.Join(errors.New("child died before it became the command"), writeErr)
}

// Read implements Process.
func (p *process) Read(b []byte) (int, error) { return p.out.Read(b) }

// StopReading implements Process.
func (p *process) StopReading() { _ = p.out.SetReadDeadline(time.Unix(1, 0)) }

// ReadRest implements Process.
func (p *process) ReadRest(b []byte) (int, error) {
	raw, err := p.out.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("read rest: %w", err)
	}
	_ = p.out.SetReadDeadline(time.Time{})
	var n int
	var readErr error
	err = raw.Read(func(fd uintptr) bool {
		n, readErr = unix.Read(int(fd), b)
		return true
	})
	if err == nil {
		err = readErr
	}
	if err != nil || n <= 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Wait implements Process.
func (p *process) Wait() {
	for {
		err := unix.Waitid(unix.P_PID, p.proc.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// SignalGroup implements Process.
func (p *process) SignalGroup(sig syscall.Signal) { _ = syscall.Kill(-p.proc.Pid, sig) }

// GroupAlive implements Process.
func (p *process) GroupAlive() bool { return groupAlive(p.proc.Pid) }

// Reap implements Process.
func (p *process) Reap() syscall.WaitStatus {
	state, err := p.proc.Wait()
	if err != nil {
		return 0
	}
	status, _ := state.Sys().(syscall.WaitStatus)
	return status
}

// Close implements Process.
func (p *process) Close() {
	for _, f := range []*os.File{p.control, p.status, p.out} {
		if f != nil {
			f.Close()
		}
	}
}
