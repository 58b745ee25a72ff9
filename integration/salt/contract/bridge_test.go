package contract

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/integration/salt/saltrig"
	"github.com/syscollective/saltpeter/saltclient"
	"github.com/syscollective/saltpeter/saltclient/salttest"
)

// odd is a minion's id as no host is named, with what shells, globs and lists take for theirs.
const odd = "Büro 1,'x'$(y)"

// runBridge runs a bridge to the rig's first master until the test ends.
func runBridge(t *testing.T, r *saltrig.Rig) *saltclient.Bridge {
	t.Helper()
	b := saltclient.NewBridge(saltclient.BridgeOptions{
		Name: "m1", Python: r.Python, Config: r.Masters[0].Conf, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

// subject describes a rig to the contract suite; its last minion is down. Executions are counted by files that minions write
// into their own directories.
func subject(r *saltrig.Rig, m saltclient.Master) *salttest.Subject {
	run := func(command string) (string, map[string]any) {
		return "cmd.run_all", map[string]any{"cmd": command, "template": "jinja"}
	}
	ids := r.IDs()
	up, down := ids[:len(ids)-1], ids[len(ids)-1]
	every := func(from, step int) (out []string) {
		for i := from; i < len(ids); i += step {
			out = append(out, ids[i])
		}
		return out
	}
	expression := func(kind, text string) saltclient.Expression {
		return saltclient.Expression{Type: kind, Text: []string{text}}
	}
	fault := func(name string, begin, end func(...string) error) salttest.SubjectFault {
		do := func(f func(...string) error) func(*testing.T) {
			return func(t *testing.T) {
				if err := f("m1"); err != nil {
					t.Fatal(err)
				}
			}
		}
		return salttest.SubjectFault{Name: name, Begin: do(begin), End: do(end)}
	}
	return &salttest.Subject{
		Master: m, Up: up, Down: down, Patience: 20 * time.Second,
		Matches: []salttest.Match{
			{Expression: expression("pcre", "mn0[23]"), Minions: []string{"mn02", "mn03"}},
			{Expression: expression("grain", "role:web"), Minions: every(0, 2)},
			{Expression: expression("grain_pcre", "role:(db|x)$"), Minions: every(1, 2)},
			{Expression: expression("pillar", "tier:front"), Minions: every(0, 2)},
			{Expression: expression("pillar_pcre", "tier:b.*k"), Minions: every(1, 2)},
			{Expression: expression("nodegroup", "web"), Minions: every(0, 2)},
			{Expression: expression("ipcidr", "127.0.0.0/8"), Minions: ids},
			{Expression: expression("compound", "G@role:db and not mn02 or I@tier:front and P@n:[3]"), Minions: []string{"mn03", "mn04"}},
			{Expression: expression("compound", "N@web and mn*"), Minions: every(2, 2)},
		},
		Wrong: []saltclient.Expression{
			expression("nodegroup", "nope"), expression("compound", "( and"), expression("compound", "mn02 and"), expression("compound", "N@nope"),
			expression("range", "%x"), expression("pcre", "mn("), expression("pillar_exact", "tier:front"), expression("ipcidr", "nonsense"),
		},
		Count: func(id saltpeter.LaunchID) (string, map[string]any) {
			return run(fmt.Sprintf("echo ran >> {{ opts['root_dir'] }}/ran-%s", id))
		},
		Executions: func(t *testing.T, id saltpeter.LaunchID) map[string]int {
			out := make(map[string]int)
			for _, m := range r.Minions {
				text, err := os.ReadFile(filepath.Join(r.Dir, m.Name, "ran-"+id.String()))
				if err == nil {
					out[m.ID] = strings.Count(string(text), "ran\n")
				} else if !errors.Is(err, os.ErrNotExist) {
					t.Fatal(err)
				}
			}
			return out
		},
		Fails: func() (string, map[string]any) { return run("echo out; echo err >&2; exit 7") },
		Refused: func() (string, map[string]any) {
			return "cmd.run_all", map[string]any{"cmd": "id", "runas": "nosuchuser"}
		},
		Faults: []salttest.SubjectFault{fault("stopped", r.Pause, r.Resume), fault("killed", r.Kill, r.Start)},
	}
}

func TestBridgeKeepsTheContract(t *testing.T) {
	r := saltrig.Start(t, saltrig.Options{Minions: 5, IDs: []string{odd}})
	if err := r.Stop("mn05"); err != nil {
		t.Fatal(err)
	}
	b := runBridge(t, r)
	salttest.Contract(t, func(t *testing.T, check func(*testing.T, *salttest.Subject)) { check(t, subject(r, b)) })
}

// What is beside the contract: the bridge's own process fails.
func TestBridgeOnRealSalt(t *testing.T) {
	r := saltrig.Start(t, saltrig.Options{Masters: 1, Minions: 3})
	b := runBridge(t, r)
	t.Run("rates", func(t *testing.T) { measure(t, b, r.IDs()) })
	t.Run("restart", func(t *testing.T) { restart(t, b, r) })
	t.Run("new nodegroup", func(t *testing.T) { changeConfig(t, b, r) })
}

// measure prints how fast it is, and fails where it is slower than a node needs.
func measure(t *testing.T, b *saltclient.Bridge, ids []string) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const resolves, publishes, side = 200, 200, 8
	began := time.Now()
	for range resolves {
		if _, err := b.Resolve(ctx, saltclient.Expression{Type: "compound", Text: []string{"G@role:web and not mn01"}}); err != nil {
			t.Fatal(err)
		}
	}
	each := time.Since(began) / resolves
	var g sync.WaitGroup
	slots := make(chan struct{}, side)
	first := saltpeter.LaunchIDAt(time.Now())
	began = time.Now()
	for i := range publishes {
		slots <- struct{}{}
		g.Go(func() {
			defer func() { <-slots }()
			p := &saltclient.Publication{ID: first + saltpeter.LaunchID(i), Function: "test.ping",
				Target: saltclient.Expression{Type: "list", Text: []string{ids[i%len(ids)]}}}
			if _, err := b.Publish(ctx, p); err != nil {
				t.Error(err)
			}
		})
	}
	g.Wait()
	rate := publishes / time.Since(began).Seconds()
	t.Logf("a compound is resolved in %s; %.0f publishes/s, %d side by side", each.Round(10*time.Microsecond), rate, side)
	if rate < 50 {
		t.Errorf("only %.0f publishes/s", rate)
	}
}

// bridgePid finds the process of the bridge by what it is given.
func bridgePid(t *testing.T, r *saltrig.Rig) int {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, _ := os.ReadFile(f)
		args := strings.Split(string(text), "\x00")
		var pid int
		if len(args) > 2 && args[1] == "/dev/fd/3" && args[2] == r.Masters[0].Conf {
			if _, err := fmt.Sscanf(f, "/proc/%d/", &pid); err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatal("no bridge is running")
	return 0
}

func restart(t *testing.T, b *saltclient.Bridge, r *saltrig.Rig) {
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		id := saltpeter.LaunchIDAt(time.Now())
		p := &saltclient.Publication{ID: id, Function: "cmd.run_all", Kwargs: map[string]any{"cmd": "sleep 1; echo done"},
			Target: saltclient.Expression{Type: "list", Text: r.IDs()}}
		if _, err := b.Publish(ctx, p); err != nil {
			t.Fatal(err)
		}
		old := bridgePid(t, r)
		if err := syscall.Kill(old, sig); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for {
			short, cancel := context.WithTimeout(ctx, time.Second)
			_, err := b.Resolve(short, saltclient.Expression{Type: "glob", Text: []string{"*"}})
			cancel()
			if err == nil && bridgePid(t, r) != old {
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("after %s: %v", sig, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Logf("answers again %s after %s", time.Since(began).Round(time.Millisecond), sig)
		for { // returns that came while nobody listened are in the job cache
			got, err := b.Returns(ctx, id)
			if err == nil && len(got) == len(r.IDs()) && !slices.ContainsFunc(got, func(r saltclient.Return) bool { return r.Stdout != "done" }) {
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("returns after %s: %+v, %v", sig, got, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// A bridge follows the master's files without being started again.
func changeConfig(t *testing.T, b *saltclient.Bridge, r *saltrig.Rig) {
	group := saltclient.Expression{Type: "nodegroup", Text: []string{"new"}}
	if _, err := b.Resolve(t.Context(), group); !errors.Is(err, saltclient.ErrExpression) {
		t.Fatalf("before: %v", err)
	}
	dir := filepath.Join(r.Masters[0].Conf, "master.d")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "groups.conf"), []byte("nodegroups:\n  new: mn02\n"), 0o644)); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		got, err := b.Resolve(t.Context(), group)
		if err == nil && slices.Equal(got.Minions, []string{"mn02"}) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after: %+v, %v", got, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
