package wrapper

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
)

// ran is what an execution told.
type ran struct {
	declined, started, soft, ended *news
	out                            bytes.Buffer
	bytes                          int
}

// harness runs one execution with real processes.
type harness struct {
	x     *execution
	state string
	fate  chan *ran
	begun chan struct{}
}

func newSpec(command string) *saltpeter.Spec {
	return &saltpeter.Spec{
		Run: "job_1", Job: "job", Machine: "m1", Command: command, KillGrace: 500 * time.Millisecond, WaitForChildren: true,
	}
}

func testExecutor(extra ...string) *processExecutor {
	return &processExecutor{self: append([]string{"/proc/self/exe", "sp_wrapper", modeChild}, extra...), env: os.Environ()}
}

// begin starts an execution; output is kept up to 1 MiB and counted beyond.
func begin(t *testing.T, spec *saltpeter.Spec, executor Executor) *harness {
	t.Helper()
	state := t.TempDir()
	newsc, chunks := make(chan news), make(chan chunk)
	h := &harness{state: state, fate: make(chan *ran, 1), begun: make(chan struct{})}
	h.x = &execution{
		t: &target{}, spec: spec, deadline: bootTime() + grantLimit, journal: newJournal(state, bootID()), executor: executor,
		news: newsc, chunks: chunks, kills: make(chan time.Duration, 1),
		entry: Entry{Run: spec.Run, RunNum: 1, Job: spec.Job, BootID: bootID()},
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); h.x.run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		r := new(ran)
		for r.declined == nil && r.ended == nil {
			select {
			case n := <-newsc:
				r.take(n, h)
			case c := <-chunks:
				r.bytes += len(c.data)
				if r.out.Len() < 1<<20 {
					r.out.Write(c.data)
				}
				c.back <- c.data[:cap(c.data)]
			}
		}
		h.fate <- r
	}()
	return h
}

func (r *ran) take(n news, h *harness) {
	switch n.kind {
	case newsDeclined:
		r.declined = &n
	case newsStarted:
		r.started = &n
		close(h.begun)
	case newsSoft:
		r.soft = &n
	case newsEnded:
		r.ended = &n
	}
}

func (h *harness) wait(t *testing.T) *ran {
	t.Helper()
	select {
	case r := <-h.fate:
		return r
	case <-time.After(30 * time.Second):
		t.Fatal("the execution does not end")
		return nil
	}
}

func execute(t *testing.T, spec *saltpeter.Spec) *ran {
	t.Helper()
	return begin(t, spec, testExecutor()).wait(t)
}

func TestCommandEnds(t *testing.T) {
	tests := []struct {
		name, command string
		code, signal  int
		out           string
	}{
		{"success", "echo hello", 0, 0, "hello\n"},
		{"its own code", "exit 7", 7, 0, ""},
		{"killed by itself", "kill -9 $$", 137, 9, ""},
		{"terminated by itself", "kill -TERM $$", 143, 15, ""},
		{"not found", "/no/such/program 2>/dev/null", 127, 0, ""},
		{"stderr in order", "echo a; echo b >&2; echo c; echo d >&2", 0, 0, "a\nb\nc\nd\n"},
		{"any bytes", `printf '\377\000\r\n'`, 0, 0, "\xff\x00\r\n"},
		{"no input", "cat; readlink /proc/self/fd/0", 0, 0, "/dev/null\n"},
		{"children are waited for", "(sleep 0.3; echo late) & echo early", 0, 0, "early\nlate\n"},
		{"nothing else is open", "ls /proc/self/fd | tr '\\n' ' '", 0, 0, "0 1 2 3 "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := execute(t, newSpec(tt.command))
			if r.ended == nil {
				t.Fatalf("declined: %+v", r.declined)
			}
			if r.ended.code != tt.code || r.ended.signal != tt.signal || r.ended.cause != causeExit || r.out.String() != tt.out {
				t.Errorf("code %d signal %d cause %s output %q", r.ended.code, r.ended.signal, r.ended.cause, r.out.String())
			}
		})
	}
}

func TestCommandHasItsOwnSessionAndGroup(t *testing.T) {
	r := execute(t, newSpec(`echo $$ $(cut -d' ' -f5,6 /proc/$$/stat)`))
	f := strings.Fields(r.out.String())
	if len(f) != 3 || f[0] != f[1] || f[1] != f[2] || f[0] != strconv.Itoa(r.started.pid) {
		t.Errorf("pid, group and session are %v, the wrapper knows %d", f, r.started.pid)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("SP_CRASHPOINT", "x")
	t.Setenv("FROM_WRAPPER", "inherited")
	t.Setenv("OVERRIDDEN", "old")
	spec := newSpec("env")
	spec.Env = map[string]string{"OVERRIDDEN": "new", "MULTI": "a b", "SP_JOB_NAME": "mine"}
	env := strings.Split(execute(t, spec).out.String(), "\n")
	for _, want := range []string{
		"SP_JOB_INSTANCE=job_1", "SP_JOB_INSTANCE_NAME=job_1", "SP_MACHINE_ID=m1", "PYTHONUNBUFFERED=1",
		"FROM_WRAPPER=inherited", "OVERRIDDEN=new", "MULTI=a b", "SP_JOB_NAME=mine",
	} {
		if !slices.Contains(env, want) {
			t.Errorf("%s is missing", want)
		}
	}
	for _, kv := range env {
		if strings.HasPrefix(kv, "SP_CRASHPOINT=") {
			t.Errorf("the command sees %s", kv)
		}
	}
}

func TestDirectory(t *testing.T) {
	spec := newSpec("pwd")
	spec.Cwd = "/usr"
	if r := execute(t, spec); r.out.String() != "/usr\n" {
		t.Errorf("cwd /usr: %q", r.out.String())
	}
	t.Setenv("HOME", "/var")
	if r := execute(t, newSpec("pwd")); r.out.String() != "/var\n" {
		t.Errorf("no cwd: %q, want the home directory", r.out.String())
	}
	t.Setenv("HOME", "/no/such/home")
	if r := execute(t, newSpec("pwd")); r.out.String() != "/\n" {
		t.Errorf("no cwd and no home: %q, want /", r.out.String())
	}
}

func TestUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	spec := newSpec(`id -u; id -g; id -G; echo $HOME $USER $LOGNAME $SHELL; grep -E '^(CapEff|Groups)' /proc/self/status | tr -d '\t '`)
	spec.User = "nobody"
	mine, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setgroups([]int{0, 4}); err != nil { // groups that the command must not keep
		t.Fatal(err)
	}
	defer syscall.Setgroups(mine)
	who, err := user.Lookup("nobody")
	if err != nil {
		t.Skip("there is no user nobody")
	}
	r := execute(t, spec)
	if r.ended == nil {
		t.Fatalf("declined: %s", r.declined.text)
	}
	lines := strings.Split(r.out.String(), "\n")
	if lines[0] != who.Uid || lines[1] != who.Gid || lines[2] != who.Gid {
		t.Errorf("ids are %v, want those of %+v and no group of root", lines[:3], who)
	}
	if f := strings.Fields(lines[3]); len(f) != 4 || f[0] != who.HomeDir || f[1] != "nobody" || f[2] != "nobody" {
		t.Errorf("HOME USER LOGNAME SHELL are %q", lines[3])
	}
	if !slices.Contains(lines, "CapEff:0000000000000000") {
		t.Errorf("the command kept capabilities: %v", lines)
	}
}

func TestNotStarted(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "ran")
	run := "touch " + mark
	tests := []struct {
		name string
		spec func(*saltpeter.Spec)
		want string
	}{
		{"no such directory", func(s *saltpeter.Spec) { s.Cwd = "/no/such/dir" }, "no such file or directory"},
		{"directory is a file", func(s *saltpeter.Spec) { s.Cwd = "/etc/passwd" }, "not a directory"},
		{"no such user", func(s *saltpeter.Spec) { s.User = "nobody-of-that-name" }, "unknown user"},
		{"malformed user", func(s *saltpeter.Spec) { s.User = "a:b" }, "malformed"},
		{"too long a command", func(s *saltpeter.Spec) { s.Command += strings.Repeat(" ", 300<<10) }, "argument list too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec := newSpec(run)
			tt.spec(spec)
			h := begin(t, spec, testExecutor())
			r := h.wait(t)
			if r.declined == nil || r.declined.code != codeNotStart || !strings.Contains(r.declined.text, tt.want) {
				t.Fatalf("got %+v, want declined with %q", r.declined, tt.want)
			}
			if _, err := os.Stat(mark); err == nil {
				t.Error("the command ran")
			}
			if left, _ := os.ReadDir(filepath.Join(h.state, "journal")); len(left) > 0 {
				t.Errorf("the journal keeps %v", left)
			}
		})
	}
}

// The child looks at the clock as its last act, so a wrapper or child that was stopped in between starts nothing.
func TestTooLateToStart(t *testing.T) {
	for _, tt := range []struct {
		ahead time.Duration
		late  bool
	}{{19 * time.Second, false}, {21 * time.Second, true}} {
		mark := filepath.Join(t.TempDir(), "ran")
		r := begin(t, newSpec("touch "+mark), testExecutor(strconv.Itoa(int(tt.ahead.Milliseconds())))).wait(t)
		_, err := os.Stat(mark)
		if ranIt := err == nil; ranIt == tt.late || (r.declined != nil) != tt.late {
			t.Errorf("%v after the ask: ran %v, declined %+v", tt.ahead, ranIt, r.declined)
		}
		if tt.late && r.declined.text != ErrTooLate.Error() {
			t.Errorf("declined with %q", r.declined.text)
		}
	}
}

// A waiting child that dies has not started anything, and its parent knows that.
func TestChildDiesBeforeItStarts(t *testing.T) {
	executor := testExecutor()
	p, err := executor.Prepare(t.Context(), newSpec("sleep 100"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	p.SignalGroup(9)
	p.Wait()
	if err := p.Exec(bootTime() + grantLimit); err == nil {
		t.Error("a dead child is taken for a command")
	}
	p.Reap()
}

// A command that dies at once is not taken for a child that never became one.
func TestCommandDiesAtOnce(t *testing.T) {
	for range 20 {
		if r := execute(t, newSpec("kill -9 $$")); r.ended == nil || r.ended.signal != 9 {
			t.Fatalf("got %+v", r.declined)
		}
	}
}

func TestTimeoutAndKill(t *testing.T) {
	tests := []struct {
		name, command string
		timeout       time.Duration
		cause         string
		code          int
		out           string
	}{
		{"timeout", "echo on; sleep 100", 300 * time.Millisecond, causeTimeout, 143, "on\n"},
		{"timeout of one that won't go", "trap '' TERM; echo on; sleep 100 & wait; wait", 300 * time.Millisecond, causeTimeout, 137, "on\n"},
		{"timeout of one that cleans up", "trap 'echo bye; exit 3' TERM; echo on; sleep 100 & wait", 300 * time.Millisecond, causeTimeout, 3, "on\nbye\n"},
		{"timeout while children hold the output", "sleep 100 & echo on; exit 0", 300 * time.Millisecond, causeTimeout, 0, "on\n"},
		{"kill", "echo on; sleep 100", 0, causeKill, 143, "on\n"},
		{"kill of a tree", "(trap '' TERM; sleep 100 & sleep 100 & wait; wait) & echo on; wait", 0, causeKill, 143, "on\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			spec := newSpec(tt.command)
			spec.Timeout = tt.timeout
			h := begin(t, spec, testExecutor())
			<-h.begun
			if tt.timeout == 0 {
				waitFor(t, "the command to run", func() bool { return h.x.since() > 200 })
				h.x.kill(0)
			}
			r := h.wait(t)
			if r.ended.cause != tt.cause || r.ended.code != tt.code || r.out.String() != tt.out {
				t.Errorf("cause %s code %d output %q", r.ended.cause, r.ended.code, r.out.String())
			}
			if groupAlive(r.started.pid) {
				t.Error("something of the group is left")
			}
			if d := time.Duration(r.ended.at) * time.Millisecond; d > 5*time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
}

// What left the group and holds the output must not keep an ended run open for ever.
func TestEscapedChildIsNotWaitedForAfterKill(t *testing.T) {
	spec := newSpec("setsid sleep 20 & echo on; wait")
	spec.Timeout = 300 * time.Millisecond
	r := execute(t, spec)
	if r.ended.cause != causeTimeout || r.ended.at > 6000 {
		t.Errorf("cause %s after %d ms", r.ended.cause, r.ended.at)
	}
}

func TestChildrenAreNotWaitedForIfSo(t *testing.T) {
	spec := newSpec("sleep 20 & head -c 60000 /dev/zero")
	spec.WaitForChildren = false
	r := execute(t, spec)
	if r.ended.code != 0 || r.ended.at > 5000 {
		t.Errorf("code %d after %d ms", r.ended.code, r.ended.at)
	}
	if r.bytes != 60000 {
		t.Errorf("%d bytes arrived, want all that lay in the pipe", r.bytes)
	}
	if !groupAlive(r.started.pid) {
		t.Error("the child was ended too")
	}
	(&process{proc: &os.Process{Pid: r.started.pid}}).SignalGroup(9)
}

func TestSoftTimeoutOnlySays(t *testing.T) {
	spec := newSpec("sleep 0.4")
	spec.SoftTimeout = 100 * time.Millisecond
	if r := execute(t, spec); r.soft == nil || r.ended.code != 0 {
		t.Errorf("soft %+v, ended %+v", r.soft, r.ended)
	}
}

func TestKillBeforeStart(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "ran")
	spec := newSpec("touch " + mark)
	h := &slowExecutor{Executor: testExecutor(), go1: make(chan struct{})}
	x := begin(t, spec, h)
	x.x.kill(0)
	close(h.go1)
	r := x.wait(t)
	if r.declined == nil || r.declined.code != codeKilled || r.declined.cause != causeKill {
		t.Errorf("got %+v", r.declined)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the command ran")
	}
}

// slowExecutor prepares when it is told to.
type slowExecutor struct {
	Executor
	go1 chan struct{}
}

func (e *slowExecutor) Prepare(ctx context.Context, spec *saltpeter.Spec) (Process, error) {
	<-e.go1
	return e.Executor.Prepare(ctx, spec)
}

func TestChatty100MB(t *testing.T) {
	r := execute(t, newSpec("head -c 100000000 /dev/zero"))
	if r.bytes != 100000000 || r.ended.code != 0 {
		t.Errorf("%d bytes, code %d", r.bytes, r.ended.code)
	}
	t.Logf("100 MB in %d ms", r.ended.at)
}

func TestCommandKeepsTheCallersOOMScore(t *testing.T) {
	before, err := os.ReadFile(oomFile)
	if err != nil {
		t.Skip(err)
	}
	score := strings.TrimSpace(string(before))
	want := "77"
	executor := testExecutor()
	executor.oom = want
	r := begin(t, newSpec("cat "+oomFile), executor).wait(t)
	if got := strings.TrimSpace(r.out.String()); got != want {
		t.Errorf("the command's score is %s, want %s (ours is %s)", got, want, score)
	}
}

// Commands must be able to be ended by signals that a wrapper handles itself. What this test's own caller ignores (nohup: SIGHUP),
// everything below does, as with any program.
func TestCommandInheritsNoIgnoredSignal(t *testing.T) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "SigIgn:")
	line, _, _ := strings.Cut(rest, "\n")
	inherited, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	r := execute(t, newSpec("grep ^SigIgn /proc/self/status; grep ^SigBlk /proc/self/status"))
	for line := range strings.Lines(r.out.String()) {
		name, mask, _ := strings.Cut(strings.TrimSpace(line), ":")
		v, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
		if v &^= inherited; err != nil || v != 0 {
			t.Errorf("%s is %s", name, mask)
		}
	}
}

// waitFor polls a condition of the operating system.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal("waited in vain for " + what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func BenchmarkExec(b *testing.B) {
	executor := testExecutor()
	for b.Loop() {
		p, err := executor.Prepare(b.Context(), newSpec("exit 0"))
		if err != nil {
			b.Fatal(err)
		}
		if err := p.Exec(bootTime() + grantLimit); err != nil {
			b.Fatal(fmt.Errorf("exec: %w", err))
		}
		p.Wait()
		p.Reap()
		p.Close()
	}
}
