package crash

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
)

// These tests need strace: what is synced before what is only seen from outside.

func needStrace(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("strace"); err != nil {
		t.Fatal("strace is not installed, and without it nobody sees whether a sync comes before a grant: apt-get install strace")
	}
}

// traced is what a line of a trace of marks and syncs says.
type traced struct {
	kind    string // "mark", "sync" (it begins), "synced" (it returned 0), "failed"
	text    string
	process string
}

var (
	markLine   = regexp.MustCompile(`write\(1048576, "SPMARK ([^"]*)"`)
	syncBegins = regexp.MustCompile(`(?:fdatasync|fsync)\(\d+(?:</[^>]*>)?(?:\)| <unfinished)`)
	syncOK     = regexp.MustCompile(`(?:(?:fdatasync|fsync)\(\d+\)|<\.\.\. (?:fdatasync|fsync) resumed>\)?)\s*= 0`)
	syncFails  = regexp.MustCompile(`(?:fdatasync|fsync).*= -1 EIO`)
)

// readTrace gives marks and syncs in the order of the trace. A sync that took no time is two entries.
func readTrace(t *testing.T, path string) []traced {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []traced
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 1<<20), 1<<20)
	for lines.Scan() {
		text := lines.Text()
		process, _, _ := strings.Cut(text, " ")
		if m := markLine.FindStringSubmatch(text); m != nil {
			out = append(out, traced{"mark", m[1], process})
			continue
		}
		if syncBegins.MatchString(text) {
			out = append(out, traced{"sync", "", process})
		}
		switch {
		case syncOK.MatchString(text):
			out = append(out, traced{"synced", "", process})
		case syncFails.MatchString(text):
			out = append(out, traced{"failed", "", process})
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// traceJobs start often and do little.
func traceJobs() []*rig.Job {
	return []*rig.Job{
		{Name: "tick", Every: 1, Targets: "m1", Machines: 1, Bytes: 100, Overlap: true},
		{Name: rig.JobHand, Targets: "m2", Machines: 1, Bytes: 10, Overlap: true},
	}
}

func startCluster(t *testing.T, nodes int, jobs []*rig.Job, extra string) (*rig.Cluster, *rig.History) {
	t.Helper()
	dir := testDir(t)
	c, err := pointedCluster(dir, built(t), nodes, jobs, extra)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	return c, rig.NewHistory()
}

// judgeAtRest ends what is started, waits for rest and judges.
func judgeAtRest(t *testing.T, c *rig.Cluster, h *rig.History, op *rig.Operator) rig.Evidence {
	t.Helper()
	end, err := op.Maintain(t.Context(), "all", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Rest(t.Context(), 2*time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := rig.WaitFor(t.Context(), 30*time.Second, "commands and wrappers to end", c.OnlyNodes); err != nil {
		t.Error(err)
	}
	e, err := collect(t.Context(), c, h, end)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("judged: %s", e.Size())
	for _, v := range rig.Judge(e) {
		t.Error(v.Say())
	}
	return e
}

// TestSyncBetweenClaimAndGrant holds the node to a sync of the disk that begins after a start claim is proposed and is over
// before its outcome is known, so before any grant can be written.
func TestSyncBetweenClaimAndGrant(t *testing.T) {
	t.Parallel()
	needStrace(t)
	c, h := startCluster(t, 1, traceJobs(), timings)
	trace := filepath.Join(c.Dir, "trace")
	c.Env = []string{"SP_CRASHMARKS=1"}
	n := c.Nodes[0]
	n.Wrap = []string{"strace", "-f", "-qq", "-s", "100", "-e", "trace=fdatasync,fsync,write", "-e", "signal=none", "-b", "execve", "-o", trace}
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.Seen = time.Now()
	err := rig.WaitFor(t.Context(), time.Minute, "five grants", func() error {
		if grants := countMarks(readTrace(t, trace), "answer start ok"); grants < 5 {
			return fmt.Errorf("%d", grants)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	judgeAtRest(t, c, h, &rig.Operator{C: c, H: h, P: "k"})
	checkSyncs(t, readTrace(t, trace))
}

func countMarks(trace []traced, text string) (n int) {
	for _, l := range trace {
		if l.kind == "mark" && l.text == text {
			n++
		}
	}
	return n
}

// checkSyncs follows every start claim from its proposal to its outcome.
func checkSyncs(t *testing.T, trace []traced) {
	t.Helper()
	type claim struct{ began, synced bool }
	open := make(map[string]*claim)
	begun := make(map[string][]*claim) // by thread: claims that were open when its sync began
	done, answers := 0, 0
	for _, l := range trace {
		switch {
		case l.kind == "sync":
			begun[l.process] = nil
			for _, c := range open {
				c.began = true
				begun[l.process] = append(begun[l.process], c)
			}
		case l.kind == "synced":
			for _, c := range begun[l.process] {
				c.synced = true
			}
		case l.kind != "mark":
		case strings.HasPrefix(l.text, "proposal ") && strings.HasSuffix(l.text, " StartTarget"):
			open[strings.Fields(l.text)[1]] = &claim{}
		case strings.HasPrefix(l.text, "outcome ") && strings.HasSuffix(l.text, " StartTarget ok"):
			number := strings.Fields(l.text)[1]
			if c := open[number]; c == nil || !c.began || !c.synced {
				t.Errorf("start claim %s was granted without a sync after its proposal: %+v", number, c)
			}
			delete(open, number)
			done++
		case l.text == "answer start ok":
			if answers++; answers > done {
				t.Error("a start claim was answered before its outcome was known")
			}
		}
	}
	if done < 5 {
		t.Errorf("only %d start claims in the trace", done)
	}
	t.Logf("%d start claims, each with a sync between proposal and outcome", done)
}

// TestFailedSyncEndsTheNode makes every sync fail from some moment on: the node ends, nothing that it was asked after that is
// acknowledged, and what it acknowledged before is in the record when it is started again.
func TestFailedSyncEndsTheNode(t *testing.T) {
	t.Parallel()
	needStrace(t)
	c, h := startCluster(t, 1, traceJobs(), timings)
	c.Env = []string{"SP_CRASHMARKS=1"}
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.Seen = time.Now()
	op := &rig.Operator{C: c, H: h, P: "k"}
	ctx, stop := context.WithCancel(t.Context())
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for ctx.Err() == nil {
			_, _ = op.StartByHand(ctx, rig.JobHand) // until the node is gone; what was acknowledged is in the history
		}
	}()
	time.Sleep(3 * time.Second) // something is acknowledged, something is under way
	n := c.Nodes[0]
	trace := filepath.Join(c.Dir, "trace")
	from := time.Now()
	strace := exec.Command("strace", "-f", "-qq", "-s", "100", "-p", fmt.Sprint(n.Pid()), "-e", "trace=fdatasync,fsync,write",
		"-e", "signal=none", "-e", "inject=fdatasync,fsync:error=EIO:when=3+", "-o", trace)
	if err := strace.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-n.Gone:
	case <-time.After(30 * time.Second):
		t.Error("the node goes on though every sync fails")
		_ = n.End(syscall.SIGKILL, 10*time.Second)
	}
	// Wrappers that the node had started are traced too, and live on.
	_ = strace.Process.Signal(syscall.SIGTERM)
	_ = strace.Wait()
	stop()
	<-asked
	if code := n.Proc.ProcessState.ExitCode(); code == 0 {
		t.Error("the node ended with success")
	}
	checkNothingAcked(t, readTrace(t, trace))
	if err := c.StartAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.Down(from, time.Now())
	judgeAtRest(t, c, h, op)
	if len(h.Started) == 0 {
		t.Error("nothing was acknowledged before")
	}
}

// checkNothingAcked holds that nothing proposed after the first failed sync had an outcome, and that no entry counted as
// stored.
func checkNothingAcked(t *testing.T, trace []traced) {
	t.Helper()
	failed, late, before := false, make(map[string]bool), 0
	for _, l := range trace {
		f := strings.Fields(l.text)
		switch {
		case l.kind == "failed":
			failed = true
		case l.kind != "mark":
		case f[0] == "proposal" && failed:
			late[f[1]] = true
		case f[0] == "outcome" && f[3] == "ok" && late[f[1]]:
			t.Errorf("proposal %s was made after a sync had failed, and succeeded", f[1])
		case f[0] == "stored" && f[1] == "ok" && failed:
			t.Error("an entry counts as stored after a sync had failed")
		case f[0] == "stored" && f[1] == "ok":
			before++
		}
	}
	if !failed || before == 0 {
		t.Errorf("the trace shows no failure after success: failed %v, stored before %d", failed, before)
	}
	t.Logf("%d entries stored before the failure; %d proposals after it, none with an outcome", before, len(late))
}
