package saltrig

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRigAnswersAndLeavesNothing(t *testing.T) {
	odd := "Büro 1,'x'$(y)"
	r := Start(t, Options{Masters: 1, Minions: 2, IDs: []string{odd}})
	if r.Minions[0].ID != odd || r.Minions[1].ID != "mn02" || len(r.Masters) != 1 {
		t.Fatalf("got %+v", r)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := r.Call(ctx, r.Minions[0], "grains.get", "id")
	var got struct{ Local string }
	if err == nil {
		err = json.Unmarshal([]byte(out), &got)
	}
	if err != nil || got.Local != odd {
		t.Fatalf("%v: %s", err, out)
	}
	marker := filepath.Join(t.TempDir(), "pid")
	salt := exec.CommandContext(ctx, filepath.Join(r.Bin, "salt"), "-c", r.Masters[0].Conf, "mn02", "cmd.run", "setsid sleep 300 > /dev/null 2>&1 & echo $! > "+marker)
	if out, err := salt.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	pid, err := os.ReadFile(marker)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Kill("mn02", "m1"); err != nil {
		t.Fatal(err)
	}
	if err := r.Pause("mn01"); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop("m3"); err == nil || !strings.Contains(err.Error(), "unknown name m3") {
		t.Fatalf("an unknown name: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	noneLeft(t, r.Dir)
	if _, err := os.Stat("/proc/" + strings.TrimSpace(string(pid))); err == nil {
		t.Error("a process that a job left still runs")
	}
}

// A test that is killed closes no rig; the end of its pipe does.
func TestRigEndsWithItsTest(t *testing.T) {
	if os.Getenv("SALT_RIG_DIES") != "" {
		r := Start(t, Options{Masters: 1, Minions: 1})
		os.Stdout.WriteString("RIG " + r.Dir + "\n")
		time.Sleep(time.Hour)
	}
	if os.Getenv("SALT_RIG") == "" {
		t.Skip("needs real Salt: make integration")
	}
	cmd := exec.Command(os.Args[0], "-test.run", "^TestRigEndsWithItsTest$")
	cmd.Env = append(os.Environ(), "SALT_RIG_DIES=1")
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	dir := ""
	for s := bufio.NewScanner(out); dir == "" && s.Scan(); {
		dir, _ = strings.CutPrefix(s.Text(), "RIG ")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if dir == "" {
		t.Fatal("no rig came up")
	}
	noneLeft(t, dir)
}

// noneLeft waits until a rig's directory and all processes that name it are gone.
func noneLeft(t *testing.T, dir string) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := os.Stat(dir)
		left, _ := exec.Command("pgrep", "-f", dir+"/").Output()
		if os.IsNotExist(err) && len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left: %v, processes %s", err, left)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
