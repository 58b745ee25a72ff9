package sinks

import (
	"context"
	"errors"
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
		n, l := killable(dir)
		for {
			if more, err := l.step(context.Background()); err != nil || !more && l.now.Next == n.first+uint64(len(n.events)) {
				fmt.Println("done", err)
				os.Exit(0)
			}
		}
	}
	os.Exit(m.Run())
}

// killable gives a node with a fixed feed and a sink that syncs often.
func killable(dir string) (*node, *LogFiles) {
	n := newNode(filepath.Join(dir, "logs"))
	for i := range 3000 {
		ref := saltpeter.TargetRef{Run: uint64(i)}
		n.outputs[ref] = strings.Repeat(fmt.Sprintf("%d: line\n", i), i%40*30)
		n.add(saltpeter.Event{Type: saltpeter.EventMachineResult, Job: fmt.Sprintf("job%d", i%7), Run: fmt.Sprintf("r_%d", i),
			Machine: "m", Ref: ref, State: "ok", Millis: t0 + int64(i)})
	}
	l := n.sink()
	l.sizes.batch = 256 << 10
	return n, l
}

// TestKill kills a real process with SIGKILL, again and again, until it has come through.
func TestKill(t *testing.T) {
	smooth, rough := t.TempDir(), t.TempDir()
	n, l := killable(smooth)
	began := time.Now()
	drain(t, l)
	whole := time.Since(began)
	want := all(t, n.dir)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	kills := 0
	for ended := false; !ended; {
		if kills > 200 {
			t.Fatal("never comes through")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 40*time.Millisecond+time.Duration(rng.Int64N(int64(whole)/3)))
		cmd := exec.CommandContext(ctx, exe)
		cmd.Env = append(os.Environ(), killEnv+"="+rough)
		out, err := cmd.Output()
		cancel()
		var exit *exec.ExitError
		switch {
		case err == nil && string(out) == "done <nil>\n":
			ended = true
		case errors.As(err, &exit) && exit.ExitCode() == -1:
			kills++
		default:
			t.Fatalf("%v: %s", err, out)
		}
	}
	if kills == 0 {
		t.Error("the process was never killed")
	}
	wantSame(t, all(t, filepath.Join(rough, "logs")), want)
	t.Logf("killed %d times", kills)
}
