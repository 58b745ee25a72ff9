package wrapper

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

// Budgets of the binary, as the release builds it.
const (
	maxBinary = 8 << 20
	maxRSS    = 12 << 20
	maxStart  = 15 * time.Millisecond
)

var builds sync.Map // tags → func() (string, error)

// binary builds the program once per set of tags, as releases are built.
func binary(t testing.TB, tags string) string {
	t.Helper()
	build, _ := builds.LoadOrStore(tags, sync.OnceValues(func() (string, error) {
		dir, err := os.MkdirTemp("", "sp_wrapper-test")
		if err != nil {
			return "", err
		}
		path := filepath.Join(dir, "sp_wrapper")
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-tags", tags, "-o", path, "../cmd/sp_wrapper")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w: %s", err, out)
		}
		return path, nil
	}))
	path, err := build.(func() (string, error))()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func cleanBuilds() {
	builds.Range(func(_, build any) bool {
		if path, err := build.(func() (string, error))(); err == nil {
			os.RemoveAll(filepath.Dir(path))
		}
		return true
	})
}

// machine is a wrapper process that is launched against a gateway.
type machine struct {
	g     *gateway
	state string
	args  []string
	bin   string
	env   []string
}

func newMachine(t testing.TB, tags string, specs ...saltpeter.Spec) *machine {
	t.Helper()
	g := newGateway(t, newRecord(specs...))
	dir := t.TempDir()
	key, _ := writeKey(t, dir)
	m := &machine{g: g, state: filepath.Join(dir, "state"), bin: binary(t, tags), env: os.Environ()}
	m.args = []string{
		"launch", "--id", "20261123000000000000", "--machine", "m1", "--cluster", testCluster, "--urls", g.url, "--token", "token",
		"--pin", g.ring.Pin().String(), "--identity", identityFile, "--key", key, "--state", m.state,
	}
	t.Cleanup(func() { m.endAll() })
	return m
}

// launch starts the wrapper and gives how long its first process took.
func (m *machine) launch(t testing.TB) time.Duration {
	t.Helper()
	cmd := exec.Command(m.bin, m.args...)
	cmd.Env = m.env
	began := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "Wrapper started successfully\n") {
		t.Fatalf("launch: %v, %s", err, out)
	}
	return time.Since(began)
}

// pids lists the detached processes of this machine.
func (m *machine) pids() (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		line, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if s, statErr := readStat(pid); err == nil && statErr == nil && !s.dead() &&
			bytes.Contains(line, []byte("\x00"+modeRun+"\x00")) && bytes.Contains(line, []byte(m.state)) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (m *machine) endAll() {
	for _, pid := range m.pids() {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// first gives a copy of the first target.
func (m *machine) first() recorded {
	m.g.nd.rec.mu.Lock()
	defer m.g.nd.rec.mu.Unlock()
	return *m.g.nd.rec.targets[0]
}

func (m *machine) waitFinal(t testing.TB) recorded {
	t.Helper()
	poll(t, "the final word", func() bool { return m.first().final != nil })
	return m.first()
}

func (m *machine) waitGone(t testing.TB) {
	t.Helper()
	poll(t, "the wrapper's end", func() bool { return len(m.pids()) == 0 })
}

func poll(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal("waited in vain for " + what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

func TestProcess(t *testing.T) {
	logs := t.TempDir()
	spec := spec1()
	spec.Command = "echo out; echo err >&2; ps -o sid= -p $PPID; exit 3"
	spec.LogDir = logs
	m := newMachine(t, "", spec)
	m.launch(t)
	r := m.waitFinal(t)
	if r.final.Code != 3 || !bytes.HasPrefix(r.out, []byte("out\nerr\n")) {
		t.Errorf("final %+v, output %q", r.final, r.out)
	}
	m.waitGone(t)
	if left, _ := os.ReadDir(filepath.Join(m.state, "journal")); len(left) != 0 {
		t.Errorf("the journal keeps %v", left)
	}
	log, err := os.ReadFile(filepath.Join(logs, "job.log"))
	if err != nil || !bytes.Contains(log, []byte("[job_1] Job completed: FAILED (exit code: 3)\n")) {
		t.Errorf("log %q, %v", log, err)
	}
	secrets, _ := os.ReadFile(filepath.Join(m.state, "wrapper.log"))
	if bytes.Contains(secrets, []byte("token")) {
		t.Errorf("the log holds the token: %s", secrets)
	}
}

func TestProcessRefusesBadArguments(t *testing.T) {
	for _, args := range [][]string{{}, {"launch"}, {"launch", "--id", "x"}, {"nonsense"}} {
		cmd := exec.Command(binary(t, ""), args...)
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState.ExitCode() != 1 || len(out) == 0 {
			t.Errorf("%v: %v, %q", args, err, out)
		}
	}
}

// 900 KB of noise, with the connection cut again and again, arrive as they were.
func TestProcessOutputIsExact(t *testing.T) {
	spec := spec1()
	noise := filepath.Join(t.TempDir(), "noise")
	spec.Command = "head -c 900000 /dev/urandom > " + noise + "; for i in $(seq 0 29); do tail -c +$((i*30000+1)) " + noise + " | head -c 30000; sleep 0.05; done"
	m := newMachine(t, "", spec)
	m.launch(t)
	for cuts := 0; m.first().final == nil && cuts < 100; cuts++ {
		<-time.After(100 * time.Millisecond)
		if cuts < 15 {
			m.g.nd.cutAll()
		}
	}
	r := m.waitFinal(t)
	want, err := os.ReadFile(noise)
	if err != nil {
		t.Fatal(err)
	}
	if sha256.Sum256(r.out) != sha256.Sum256(want) || len(r.holes) != 0 {
		t.Errorf("%d bytes and %d holes arrived of %d", len(r.out), len(r.holes), len(want))
	}
}

// After kill -9 the next wrapper of that job is told that the command still runs, and starts nothing until it has ended.
func TestProcessKilled(t *testing.T) {
	spec := spec1()
	spec.Command = "sleep 300"
	m := newMachine(t, "", spec)
	m.g.nd.rec.targets[0].entry.AllowOverlap = false
	m.launch(t)
	poll(t, "start", func() bool { return m.first().started > 0 })
	m.endAll()
	m.waitGone(t)
	orphans, err := newJournal(m.state, bootID()).Orphans()
	if err != nil || len(orphans) != 1 || !alive(orphans[0].PID, orphans[0].Start) {
		t.Fatalf("orphans %+v, %v", orphans, err)
	}
	defer syscall.Kill(-orphans[0].PID, syscall.SIGKILL)
	m.g.nd.rec.mu.Lock()
	old := m.g.nd.rec.targets[0]
	next := newRecord(spec1()).targets[0]
	next.entry.AllowOverlap, next.entry.Run, next.entry.RunNum = false, "job_2", 2
	m.g.nd.rec.targets = []*recorded{next}
	m.g.nd.rec.mu.Unlock()
	m.launch(t)
	m.waitGone(t)
	if r := m.first(); len(r.words) != 1 || r.words[0] != wire.TypeLocked || old.final != nil {
		t.Errorf("words of the next run %v, final word of the first %+v", r.words, old.final)
	}
	_ = syscall.Kill(-orphans[0].PID, syscall.SIGKILL)
	poll(t, "the command's end", func() bool { return !alive(orphans[0].PID, orphans[0].Start) })
	m.g.nd.rec.mu.Lock()
	next.state, next.words, next.spec.Command = saltpeter.Launched, nil, "exit 0"
	m.g.nd.rec.mu.Unlock()
	m.launch(t)
	if r := m.waitFinal(t); r.final.Type != wire.TypeResult || r.final.Code != 0 {
		t.Errorf("final %+v", r.final)
	}
}

// Signals at a machine's shutdown cost no result.
func TestProcessGoesOnAfterTERM(t *testing.T) {
	spec := spec1()
	spec.Command = "sleep 0.7; echo done"
	m := newMachine(t, "", spec)
	m.launch(t)
	poll(t, "start", func() bool { return m.first().started > 0 })
	for _, pid := range m.pids() {
		_ = syscall.Kill(pid, syscall.SIGTERM)
		_ = syscall.Kill(pid, syscall.SIGHUP)
	}
	if r := m.waitFinal(t); r.final.Code != 0 || string(r.out) != "done\n" {
		t.Errorf("final %+v, output %q", r.final, r.out)
	}
}

func TestCrashPoints(t *testing.T) {
	if testing.Short() {
		t.Skip("builds another binary")
	}
	ran := func(marks string) int {
		b, _ := os.ReadFile(marks)
		return bytes.Count(b, []byte("x"))
	}
	tests := map[string]int{ // how often the command ran after a kill at the point
		"claim.before": 0, "claim.after": 0, "grant.before": 0, "grant.after": -1, "journal.before": 0, "journal.after": 0,
		"exec.before": 0, "exec.after": 1, "result.before": 1, "result.after": 1,
	}
	for point, want := range tests {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			marks := filepath.Join(t.TempDir(), "marks")
			spec := spec1()
			spec.Command = "printf x >> " + marks
			m := newMachine(t, "crashpoints", spec)
			log := filepath.Join(t.TempDir(), "crash.log")
			m.env = append(m.env, "SP_CRASHPOINT="+point+":kill", "SP_CRASHLOG="+log)
			m.launch(t)
			poll(t, "the crash", func() bool { b, _ := os.ReadFile(log); return bytes.HasPrefix(b, []byte(point+" 1 kill ")) })
			m.waitGone(t)
			if want == 1 {
				poll(t, "the command", func() bool { return ran(marks) == 1 })
			}
			if got := ran(marks); want >= 0 && got != want || got > 1 {
				t.Errorf("the command ran %d times, want %d", got, want)
			}
		})
	}
	t.Run("stop", func(t *testing.T) {
		spec := spec1()
		spec.Command = "exit 4"
		m := newMachine(t, "crashpoints", spec)
		log := filepath.Join(t.TempDir(), "crash.log")
		m.env = append(m.env, "SP_CRASHPOINT=result.before:1:stop", "SP_CRASHLOG="+log)
		m.launch(t)
		poll(t, "the stop", func() bool {
			pids := m.pids()
			if len(pids) != 1 {
				return false
			}
			s, err := readStat(pids[0])
			return err == nil && s.state == 'T'
		})
		if m.first().final != nil {
			t.Error("the result was sent before the stop")
		}
		_ = syscall.Kill(m.pids()[0], syscall.SIGCONT)
		if r := m.waitFinal(t); r.final.Code != 4 {
			t.Errorf("final %+v", r.final)
		}
	})
}

func TestBinaryBudgets(t *testing.T) {
	info, err := os.Stat(binary(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	spec := spec1()
	spec.Command = "sleep 5"
	m := newMachine(t, "", spec)
	first := m.launch(t)
	poll(t, "start", func() bool { return m.first().started > 0 })
	<-time.After(300 * time.Millisecond) // a steady state is measured
	rss := status(t, m.pids()[0], "VmRSS")
	t.Logf("file %.2f MB (budget %d), RSS %.1f MB, peak %.1f MB (budget %d), first process %v (budget %v, see BenchmarkStart)",
		float64(info.Size())/1e6, maxBinary>>20, float64(rss)/1e6, float64(status(t, m.pids()[0], "VmHWM"))/1e6, maxRSS>>20, first, maxStart)
	if info.Size() > maxBinary {
		t.Errorf("the file has %d bytes", info.Size())
	}
	if rss > maxRSS {
		t.Errorf("RSS is %d bytes", rss)
	}
}

// status reads a size of a process, in bytes.
func status(t testing.TB, pid int, field string) int64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("no " + field)
	return 0
}

// BenchmarkStart measures `sp_wrapper launch` (ns/op) and, as "hello-ms", the time until the detached process has said hello;
// "start-ms" until the command was started.
func BenchmarkStart(b *testing.B) {
	var hello, start time.Duration
	for b.Loop() {
		b.StopTimer()
		spec := spec1()
		m := newMachine(b, "", spec)
		b.StartTimer()
		began := time.Now()
		m.launch(b)
		b.StopTimer()
		for m.hellos() == 0 {
			<-time.After(100 * time.Microsecond)
		}
		hello += time.Since(began)
		for m.first().started == 0 {
			<-time.After(100 * time.Microsecond)
		}
		start += time.Since(began)
		m.waitFinal(b)
		m.waitGone(b)
		b.StartTimer()
	}
	b.ReportMetric(float64(hello.Microseconds())/1000/float64(b.N), "hello-ms")
	b.ReportMetric(float64(start.Microseconds())/1000/float64(b.N), "start-ms")
}

func (m *machine) hellos() int {
	m.g.nd.rec.mu.Lock()
	defer m.g.nd.rec.mu.Unlock()
	return m.g.nd.hellos
}
