package sinks

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
)

// killEnv makes the test binary a process that only writes logs, in the directory that it names.
const killEnv = "SALTPETER_TEST_LOGS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(killEnv); dir != "" {
		writeAll(dir)
		return
	}
	os.Exit(m.Run())
}

// writeAll writes all logs and prints a line after each step.
func writeAll(dir string) {
	_, l := killable(dir)
	for more := true; more; {
		var err error
		if more, err = l.step(context.Background()); err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println("step")
	}
	fmt.Println("done")
}

// killable gives a node with a fixed feed and a sink that syncs often.
func killable(dir string) (*node, *LogFiles) {
	n := newNode(filepath.Join(dir, "logs"))
	for i := range 2000 {
		ref := saltpeter.TargetRef{Run: uint64(i)}
		n.outputs[ref] = strings.Repeat(fmt.Sprintf("%d: line\n", i), i%40*30)
		n.add(saltpeter.Event{Type: saltpeter.EventMachineResult, Job: fmt.Sprintf("job%d", i%7), Run: fmt.Sprintf("r_%d", i),
			Machine: "m", Ref: ref, State: "ok", Millis: t0 + int64(i)})
	}
	l := n.sink()
	l.bounds.batch = 256 << 10
	return n, l
}

// killOnce starts a process that writes logs and kills it some moments after it has made some steps. It says whether the
// process came to its end instead.
func killOnce(t *testing.T, dir string, steps int, moments time.Duration) (done bool) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), killEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		switch text := lines.Text(); text {
		case "step":
			if steps--; steps == 0 {
				kill := time.AfterFunc(moments, func() { _ = cmd.Process.Kill() }) // it may have ended
				defer kill.Stop()
			}
		case "done":
			done = true
		default:
			t.Errorf("the process says: %s", text)
		}
	}
	if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != -1 {
		t.Fatalf("the process ended: %v", err)
	}
	return done
}

// TestKill kills a real process with SIGKILL, again and again, until it has come through.
func TestKill(t *testing.T) {
	smooth, rough := t.TempDir(), t.TempDir()
	n, l := killable(smooth)
	drain(t, l)
	rng := rand.New(rand.NewPCG(1, 2))
	kills := 0
	for !killOnce(t, rough, 2+rng.IntN(6), time.Duration(rng.Int64N(int64(10*time.Millisecond)))) {
		if kills++; kills > 200 || t.Failed() {
			t.Fatalf("did not come through after %d kills", kills)
		}
	}
	if kills == 0 {
		t.Error("the process was never killed")
	}
	wantSame(t, all(t, filepath.Join(rough, "logs")), all(t, n.dir))
	t.Logf("killed %d times", kills)
}
