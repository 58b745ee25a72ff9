package saltclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// stubHead stands in for Salt: a program that speaks the bridge's lines. What follows it in a test is how it behaves.
const stubHead = `
import json, os, sys, time, threading
def say(**f):
    sys.stdout.write(json.dumps(f) + "\n"); sys.stdout.flush()
def requests():
    for line in sys.stdin:
        yield json.loads(line)
def left(r):
    return r["expires"] - time.clock_gettime(time.CLOCK_BOOTTIME)
def hello(protocol=1):
    with open(sys.argv[1] + "/pids", "a") as f:
        f.write("%d\n" % os.getpid())
    say(event="hello", protocol=protocol, salt="3007.99", pid=os.getpid(), host="h")
    say(event="bus", up=True)
def lives():
    return len(open(sys.argv[1] + "/pids").readlines())
`

// answering resolves everything to m1 and answers publishes with their targets.
const answering = stubHead + `
hello()
for r in requests():
    if r["op"] == "resolve": say(id=r["id"], ok={"minions": ["m1"], "missing": []})
    if r["op"] == "publish":
        say(id=r["id"], ok={"minions": r["text"]})
        for m in r["text"]: say(event="return", jid=r["jid"], minion=m, retcode=0, success=True, **{"return": True})
`

// startBridge runs a bridge with a stub in place of bridge.py until the test ends.
func startBridge(t *testing.T, program string, log *bytes.Buffer) *Bridge {
	t.Helper()
	return startBridgeWithin(t, 10*time.Second, program, log)
}

func startBridgeWithin(t *testing.T, start time.Duration, program string, log *bytes.Buffer) *Bridge {
	t.Helper()
	o := BridgeOptions{Name: "m", Python: "python3", Config: t.TempDir(), Logger: slog.New(slog.DiscardHandler), program: program,
		limits: bridgeLimits{start: start, hung: 200 * time.Millisecond, stuck: time.Second, pause: 10 * time.Millisecond}}
	if log != nil {
		o.Logger = slog.New(slog.NewTextHandler(log, nil))
	}
	b := NewBridge(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, pid := range lives(b) {
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("process %d was left: %v", pid, err)
			}
		}
	})
	return b
}

// lives gives the processes that a bridge has had.
func lives(b *Bridge) []int {
	text, _ := os.ReadFile(filepath.Join(b.o.Config, "pids"))
	var out []int
	for _, f := range strings.Fields(string(text)) {
		pid, _ := strconv.Atoi(f)
		out = append(out, pid)
	}
	return out
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

var everyone = Expression{Type: "glob", Text: []string{"*"}}

// started waits until the bridge's first process is there.
func started(t *testing.T, b *Bridge) {
	t.Helper()
	if _, err := b.process(within(t, 20*time.Second)); err != nil {
		t.Fatal(err)
	}
}

// resolves waits until the bridge answers.
func resolves(t *testing.T, b *Bridge) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		m, err := b.Resolve(within(t, time.Second), everyone)
		if err == nil && len(m.Minions) == 1 && m.Minions[0] == "m1" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not come back: %v, %v", m, err)
		}
	}
}

func TestBridgeAnswersManyAtOnce(t *testing.T) {
	b := startBridge(t, answering, nil)
	var g sync.WaitGroup
	for i := range 200 {
		g.Go(func() {
			id := fmt.Sprintf("m%d", i)
			got, err := b.Publish(within(t, 10*time.Second), &Publication{ID: 1, Target: Expression{"list", []string{id}}, Function: "f"})
			if err != nil || len(got) != 1 || got[0] != id {
				t.Errorf("%s: got %v, %v", id, got, err)
			}
		})
	}
	g.Wait()
	var up []string
	err := b.Ping(within(t, 10*time.Second), []string{"a", "b"}, func(m string) { up = append(up, m) })
	if err != nil || len(up) != 2 {
		t.Errorf("ping: %v, %v", up, err)
	}
}

func TestBridgeIsStartedAgainAfterItDied(t *testing.T) {
	b := startBridge(t, answering, nil)
	resolves(t, b)
	if err := syscall.Kill(lives(b)[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	resolves(t, b)
	if n := len(lives(b)); n != 2 {
		t.Errorf("%d processes", n)
	}
}

// What was under way when it died may have been published; what was not, not.
func TestBridgeDiesDuringCalls(t *testing.T) {
	b := startBridge(t, stubHead+`
hello()
for r in requests():
    if lives() < 3: os._exit(3)
    say(id=r["id"], ok={"minions": ["m1"]})
`, nil)
	if _, err := b.Publish(within(t, 5*time.Second), &Publication{Target: everyone}); !errors.Is(err, ErrDoubtful) {
		t.Errorf("publish: %v", err)
	}
	if _, err := b.Resolve(within(t, 5*time.Second), everyone); !errors.Is(err, ErrUnreachable) {
		t.Errorf("resolve: %v", err)
	}
	resolves(t, b)
}

func TestBridgeThatHangsIsKilled(t *testing.T) {
	for name, hang := range map[string]string{
		"stopped": "os.kill(os.getpid(), 19)",
		"silent":  "time.sleep(3600)",
		"chatty":  "\n        while True: say(event='return', jid='x', minion='m', **{'return': 1}); time.sleep(0.02)",
	} {
		t.Run(name, func(t *testing.T) {
			b := startBridge(t, stubHead+`
hello()
for r in requests():
    if lives() == 1: `+hang+`
    say(id=r["id"], ok={"minions": ["m1"]})
`, nil)
			started(t, b)
			began := time.Now()
			_, err := b.Publish(within(t, 300*time.Millisecond), &Publication{Target: everyone})
			if !errors.Is(err, ErrDoubtful) || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("publish: %v", err)
			}
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("the caller was held for %s", took)
			}
			resolves(t, b)
			if n := len(lives(b)); n != 2 {
				t.Errorf("%d processes", n)
			}
		})
	}
}

// One that is slow, but answers others meanwhile, lives.
func TestBridgeThatIsSlowLives(t *testing.T) {
	b := startBridge(t, stubHead+`
hello()
def later(r):
    time.sleep(1); say(id=r["id"], error="late", **{"class": "doubtful"})
for r in requests():
    if r["op"] == "publish": threading.Thread(target=later, args=(r,), daemon=True).start()
    else: say(id=r["id"], ok={"minions": ["m1"]})
`, nil)
	started(t, b)
	if _, err := b.Publish(within(t, 50*time.Millisecond), &Publication{Target: everyone}); !errors.Is(err, ErrDoubtful) {
		t.Errorf("publish: %v", err)
	}
	for end := time.Now().Add(900 * time.Millisecond); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		resolves(t, b)
	}
	if n := len(lives(b)); n != 1 {
		t.Errorf("%d processes", n)
	}
}

// A request that nobody read is certainly not published, and is not passed on later.
func TestBridgeThatReadsNothing(t *testing.T) {
	b := startBridge(t, stubHead+`
hello()
if lives() == 1: time.sleep(3600)
for r in requests(): say(id=r["id"], ok={"minions": ["m1"]})
`, nil)
	started(t, b)
	big := &Publication{Target: Expression{"list", []string{strings.Repeat("x", 1<<20)}}}
	_, first := b.Publish(within(t, 300*time.Millisecond), big)
	if !errors.Is(first, ErrDoubtful) {
		t.Errorf("half written: %v", first)
	}
	resolves(t, b)
}

func TestBridgeThatIsOfAnotherVersionOrBroken(t *testing.T) {
	for want, program := range map[string]string{
		"protocol 2, this node 1":   stubHead + "hello(2)\nfor r in requests(): pass\n",
		"ImportError: no salt here": stubHead + "say(event='fatal', error='ImportError: no salt here')\n",
		"exit status 9":             stubHead + "sys.exit(9)\n",
		"salt did not load within":  stubHead + "time.sleep(3600)\n",
	} {
		t.Run(want, func(t *testing.T) {
			b := startBridgeWithin(t, time.Second, program, nil)
			_, err := b.Resolve(within(t, 20*time.Second), everyone)
			if !errors.Is(err, ErrUnreachable) || !strings.Contains(fmt.Sprint(err), want) {
				t.Errorf("got %v", err)
			}
			began := time.Now()
			_, err = b.Publish(within(t, 20*time.Second), &Publication{Target: everyone})
			if !errors.Is(err, ErrUnreachable) || time.Since(began) > time.Second {
				t.Errorf("the second call: %v after %s", err, time.Since(began))
			}
		})
	}
}

func TestBridgeWithoutPython(t *testing.T) {
	b := NewBridge(BridgeOptions{Python: "/nonexistent/python3", Logger: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	_, err := b.Resolve(within(t, 10*time.Second), everyone)
	if !errors.Is(err, ErrUnreachable) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := b.Resolve(t.Context(), everyone); !errors.Is(err, ErrUnreachable) {
		t.Errorf("after its end: %v", err)
	}
}

func TestBridgeWithGarbageAndChatter(t *testing.T) {
	var log bytes.Buffer
	t.Cleanup(func() {
		lines := strings.Count(log.String(), "\n")
		if lines < 10 || lines > 60 || log.Len() > 60*(noticeLimit+300) || !strings.Contains(log.String(), "number 1") {
			t.Errorf("%d lines, %d bytes of log:\n%.3000s", lines, log.Len(), log.String())
		}
	})
	b := startBridge(t, stubHead+`
print("a banner\n\n{\"id\": ")
print("[1, 2]")
hello()
for i in range(500): sys.stderr.write("WARNING salt.x: number %d\n" % i)
sys.stderr.write("y" * 100000 + "\n"); sys.stderr.flush()
for r in requests():
    print("in between", flush=True)
    say(id=r["id"] + 1000, ok={"minions": ["wrong"]})
    say(id=r["id"], ok={"minions": ["m1"]})
    say(id=r["id"], ok={"minions": ["twice"]})
`, &log)
	resolves(t, b)
	resolves(t, b)
}

func TestBridgeErrorClasses(t *testing.T) {
	b := startBridge(t, stubHead+`
hello()
for r in requests(): say(id=r["id"], error="why", **{"class": r["text"][0]})
`, nil)
	for class, want := range map[string]error{"unreachable": ErrUnreachable, "denied": ErrDenied, "expression": ErrExpression,
		"nokey": ErrNoKey, "doubtful": ErrDoubtful, "failed": ErrDoubtful, "new word": ErrDoubtful} {
		e := Expression{"glob", []string{class}}
		if _, err := b.Publish(within(t, 5*time.Second), &Publication{Target: e}); !errors.Is(err, want) || !strings.Contains(err.Error(), "why") {
			t.Errorf("publish %s: %v", class, err)
		}
	}
	if _, err := b.Resolve(within(t, 5*time.Second), Expression{"glob", []string{"failed"}}); !errors.Is(err, ErrUnreachable) {
		t.Errorf("resolve: %v", err)
	}
	for _, e := range []Expression{{"glob", nil}, {"glob", []string{"a", "b"}}, {}} {
		if _, err := b.Resolve(within(t, 5*time.Second), e); !errors.Is(err, ErrExpression) {
			t.Errorf("%v: %v", e, err)
		}
	}
}

// The bridge gets to know when it is too late: by the call's deadline, or by the publication's own.
func TestBridgeRequestsExpire(t *testing.T) {
	b := startBridge(t, stubHead+`
hello()
for r in requests(): say(id=r["id"], ok={"minions": ["%.2f" % left(r)]})
`, nil)
	for _, c := range []struct {
		call, publication time.Duration
		want              float64
	}{{10 * time.Second, 0, 10}, {10 * time.Second, 2 * time.Second, 2}, {3 * time.Second, time.Hour, 3}, {3 * time.Second, -time.Second, -1}} {
		p := &Publication{Target: everyone}
		if c.publication != 0 {
			p.Deadline = time.Now().Add(c.publication)
		}
		got, err := b.Publish(within(t, c.call), p)
		if err != nil {
			t.Fatal(err)
		}
		if left, err := strconv.ParseFloat(got[0], 64); err != nil || left > c.want+0.01 || left < c.want-1.5 {
			t.Errorf("%v: the bridge has %s s", c, got[0])
		}
	}
}

func TestBridgeEnvironment(t *testing.T) {
	got := strings.Join(bridgeEnvironment([]string{"PATH=/bin", "SUDO_USER=joe", "SALTPETER_KEY=x", "NOTIFY_SOCKET=/n", "LANG=de"}), " ")
	if got != "PATH=/bin LANG=C.UTF-8 PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore" {
		t.Error(got)
	}
}
