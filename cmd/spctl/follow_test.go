package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api/apitest"
)

// wait looks until a condition holds; it fails the test after ten seconds.
func wait(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("timeout: %s", what)
		}
	}
}

// running is a command in the background.
type running struct {
	out, errs buffer
	code      chan int
}

func begin(ctx context.Context, n *apitest.Node, addr string, args ...string) *running {
	r := &running{code: make(chan int, 1)}
	env := environment{out: &r.out, errs: &r.errs, now: n.Now, env: func(k string) string {
		return map[string]string{"SPCTL_ADDR": addr}[k]
	}}
	go func() { r.code <- run(ctx, env, args) }()
	return r
}

// TestStartFollow plays a run on two machines of which one fails.
func TestStartFollow(t *testing.T) {
	n := apitest.New()
	n.AddJob("j", nil)
	r := begin(t.Context(), n, serve(t, n), "start", "j", "--follow")
	wait(t, "the run", func() bool { return strings.Contains(r.errs.String(), "▶ j_1795417500 by anonymous\n") })
	n.Draw(1, "db07", "db19")
	wait(t, "waiting", func() bool { return strings.Contains(r.errs.String(), "db19  waiting\n") })
	n.Begin(1, 0)
	n.Begin(1, 1)
	n.Print(1, 0, []byte("one\ntw"))
	wait(t, "a first line", func() bool { return r.out.String() == "db07 │ one\n" })
	n.Print(1, 0, []byte("o\nlast"))
	wait(t, "a second line", func() bool { return r.out.String() == "db07 │ one\ndb07 │ two\n" })
	n.Finish(1, 0, saltpeter.OK, 0)
	wait(t, "db07's end", func() bool { return strings.Contains(r.errs.String(), "db07  ✓ ok") })
	n.Print(1, 1, []byte("disk full\n"))
	n.Finish(1, 1, saltpeter.Failed, 28)
	if code := <-r.code; code != exitFailed {
		t.Errorf("exit %d, want %d", code, exitFailed)
	}
	if got, want := r.out.String(), "db07 │ one\ndb07 │ two\ndb07 │ last\ndb19 │ disk full\n"; got != want {
		t.Errorf("output\n%s\nwant\n%s", got, want)
	}
	for _, line := range []string{"db07  started\n", "db19  ✗ failed 28 0.0s\n", "✗ failed: 1 of 2 succeeded in 0.0s\n"} {
		if !strings.Contains(r.errs.String(), line) {
			t.Errorf("no %q in\n%s", line, &r.errs)
		}
	}
}

func TestStartFollowSucceeds(t *testing.T) {
	n := apitest.New()
	n.AddJob("j", nil)
	for _, format := range []string{"table", "json"} {
		r := begin(t.Context(), n, serve(t, n), "start", "j", "--follow", "-m", "only", "-o", format)
		num := uint64(1)
		if format == "json" {
			num = 2
		}
		wait(t, "the run", func() bool { return len(n.Actors()) == int(num) })
		n.Begin(num, 0)
		n.Print(num, 0, []byte("a\x00b")) // one machine: as it is
		n.Finish(num, 0, saltpeter.OK, 0)
		if code := <-r.code; code != 0 {
			t.Errorf("%s: exit %d, %s", format, code, &r.errs)
		}
		if format == "table" && r.out.String() != "a\x00b" {
			t.Errorf("output %q", &r.out)
		}
		if format == "json" && (!strings.Contains(r.out.String(), `"state":"ok"`) || r.errs.String() != bannerLine) {
			t.Errorf("json: %q, %q", &r.out, &r.errs)
		}
	}
}

func TestStartFollowWithoutMachines(t *testing.T) {
	n := apitest.New()
	n.AddJob("j", nil)
	r := begin(t.Context(), n, serve(t, n), "start", "j", "--follow")
	wait(t, "the run", func() bool { return strings.Contains(r.errs.String(), "▶") })
	n.End(1, saltpeter.RunNoTargets, "nothing matched")
	if code := <-r.code; code != exitFailed || !strings.Contains(r.errs.String(), "✗ no-targets — nothing matched in 0.0s\n") {
		t.Errorf("exit %d\n%s", code, &r.errs)
	}
}

// TestInterrupted: who leaves is told that the run does not.
func TestInterrupted(t *testing.T) {
	n := apitest.New()
	n.AddJob("j j", nil)
	ctx, cancel := context.WithCancel(t.Context())
	r := begin(ctx, n, serve(t, n), "start", "j j", "-f", "-m", "m")
	wait(t, "the run", func() bool { return strings.Contains(r.errs.String(), "m  waiting") })
	n.Begin(1, 0)
	wait(t, "the start", func() bool { return strings.Contains(r.errs.String(), "m  started") })
	cancel()
	if code := <-r.code; code != exitInterrupted || !strings.HasSuffix(r.errs.String(), "the run goes on; kill it with: spctl kill 'j j_1795417500'\n"+bannerLine) {
		t.Errorf("exit %d\n%s", code, &r.errs)
	}
}

// TestFollowEndsWithTheRun though a machine that was taken for lost came back and still writes.
func TestFollowEndsWithTheRun(t *testing.T) {
	n := apitest.New()
	n.AddJob("j", nil)
	addr := serve(t, n)
	r := begin(t.Context(), n, addr, "start", "j", "-f", "-m", "m")
	wait(t, "the run", func() bool { return strings.Contains(r.errs.String(), "m  waiting") })
	n.Begin(1, 0)
	n.Print(1, 0, []byte("one\n"))
	wait(t, "output", func() bool { return r.out.String() == "one\n" })
	n.Target(1, 0, func(t *saltpeter.Target) {
		t.State, t.Code, t.Presumed, t.Back = saltpeter.Lost, 253, true, true
	})
	if code := <-r.code; code != exitFailed || !strings.Contains(r.errs.String(), "✗ lost 253 0.0s (presumed · came back, still runs)") {
		t.Errorf("exit %d\n%s", code, &r.errs)
	}
	if code, out, _ := spctl(t.Context(), n, addr, nil, "logs", "j", "-f"); code != 0 || out != "one\n" {
		t.Errorf("logs -f afterwards: exit %d, %q", code, out)
	}
}

func TestFollowGivesUp(t *testing.T) {
	n := apitest.New()
	n.AddJob("j", nil)
	code, _, errs := spctl(t.Context(), n, serve(t, n), nil, "start", "j", "--follow", "--timeout", "300ms")
	if code != exitTimeout || !strings.Contains(errs, "the run goes on") || !strings.Contains(errs, "error: gave up waiting") {
		t.Errorf("exit %d\n%s", code, errs)
	}
}

// TestLogsRaw writes random bytes while they are followed; not one may differ.
func TestLogsRaw(t *testing.T) {
	n := apitest.New()
	n.AddJob("j", nil)
	run := n.AddRun("j", n.Now(), "m")
	n.Begin(run.Num, 0)
	addr := serve(t, n)
	followed := begin(t.Context(), n, addr, "logs", run.ID, "-f", "--raw")
	source := rand.NewChaCha8([32]byte{7})
	var want bytes.Buffer
	for want.Len() < 900_000 {
		piece := make([]byte, 1+want.Len()%30_011)
		source.Read(piece)
		want.Write(piece)
		n.Print(run.Num, 0, piece)
	}
	n.Finish(run.Num, 0, saltpeter.Failed, 1)
	if code := <-followed.code; code != 0 {
		t.Errorf("logs -f of a run that failed: exit %d, %s", code, &followed.errs)
	}
	code, out, _ := spctl(t.Context(), n, addr, nil, "logs", run.ID, "-m", "m", "--raw")
	sum := sha256.Sum256(want.Bytes())
	for name, got := range map[string]string{"followed": followed.out.String(), "at once": out} {
		if sha256.Sum256([]byte(got)) != sum {
			t.Errorf("%s: %d bytes that differ from the %d written (exit %d)", name, len(got), want.Len(), code)
		}
	}
}

// TestFollowManyMachines follows more machines than there are streams; all output comes, in whole lines.
func TestFollowManyMachines(t *testing.T) {
	const machines, lines = 3 * followStreams, 20
	n := apitest.New()
	n.AddJob("j", nil)
	var names []string
	for i := range machines {
		names = append(names, fmt.Sprintf("web%03d", i))
	}
	run := n.AddRun("j", n.Now(), names...)
	r := begin(t.Context(), n, serve(t, n), "logs", run.ID, "-f")
	for i := range machines {
		n.Begin(run.Num, i)
		for j := range lines {
			n.Print(run.Num, i, fmt.Appendf(nil, "line %d\n", j))
		}
		n.Finish(run.Num, i, saltpeter.OK, 0)
	}
	if code := <-r.code; code != 0 {
		t.Fatalf("exit %d, %s", code, &r.errs)
	}
	next := map[string]int{}
	for line := range strings.Lines(r.out.String()) {
		name, text, _ := strings.Cut(line, " │ ")
		if want := fmt.Sprintf("line %d\n", next[name]); text != want {
			t.Fatalf("%s: %q, want %q", name, text, want)
		}
		next[name]++
	}
	for _, name := range names {
		if next[name] != lines {
			t.Errorf("%s: %d lines, want %d", name, next[name], lines)
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"backup_databases", "rotate_certs", "restore", "status", "start"}
	for word, want := range map[string]string{"backup_databses": "backup_databases", "strat": "start", "STATUS": "status", "zzzzzz": "", "rotate": "rotate_certs"} {
		if got := strings.Join(nearest(word, names), " "); !strings.HasPrefix(got, want) || want == "" && got != "" {
			t.Errorf("nearest(%q) = %q, want %q first", word, got, want)
		}
	}
}

// TestFollowEndures: while the cluster has no leader, or its only node restarts, following goes on.
func TestFollowEndures(t *testing.T) {
	n := apitest.New()
	n.AddJob("j", nil)
	r := begin(t.Context(), n, serve(t, n), "start", "j", "-f", "-m", "m")
	wait(t, "the run", func() bool { return strings.Contains(r.errs.String(), "m  waiting") })
	n.Fail(saltpeter.Errorf(saltpeter.CodeNoLeader, "no leader"))
	n.Begin(1, 0)
	wait(t, "the notice", func() bool { return strings.Contains(r.errs.String(), "! no leader; trying again\n") })
	n.Fail(nil)
	n.Print(1, 0, []byte("there\n"))
	n.Finish(1, 0, saltpeter.OK, 0)
	if code := <-r.code; code != 0 || r.out.String() != "there\n" {
		t.Errorf("exit %d, %q\n%s", code, &r.out, &r.errs)
	}
}

// TestOutcomeIsToldBehindTheOutput, also of a command that ended before anyone looked.
func TestOutcomeIsToldBehindTheOutput(t *testing.T) {
	n := apitest.New()
	n.AddJob("j", nil)
	run := n.AddRun("j", n.Now(), "m")
	n.Print(run.Num, 0, bytes.Repeat([]byte("line\n"), 50_000))
	n.Finish(run.Num, 0, saltpeter.OK, 0)
	var both buffer
	c := &cli{environment: environment{out: &both, errs: &both, now: n.Now, env: func(string) string { return "" }}, addr: serve(t, n), color: "never"}
	cl, err := c.connect()
	if err != nil {
		t.Fatal(err)
	}
	f := newFollower(c, cl, run.ID, nil)
	f.states = true
	if _, err := f.follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := both.String(); strings.Count(text, "line\n") != 50_000 || !strings.HasSuffix(text, "line\nm  ✓ ok\n") {
		t.Errorf("%d bytes that end with %q", len(text), text[max(0, len(text)-40):])
	}
}
