package saltpeter

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestLaunchIDIsAJid(t *testing.T) {
	at := time.Date(2026, 11, 23, 13, 47, 30, 123456000, time.UTC)
	if got := LaunchIDAt(at).String(); got != "20261123134730123456" {
		t.Fatalf("got %s", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		id := LaunchID(rapid.Int64Range(0, 4_000_000_000_000_000).Draw(t, "micros"))
		back, err := ParseLaunchID(id.String())
		if err != nil || back != id {
			t.Fatalf("%d became %s became %d, %v", id, id, back, err)
		}
		if next := (id + 1).String(); next <= id.String() {
			t.Fatalf("%s does not lie after %s", next, id)
		}
	})
	for _, bad := range []string{"", "2026112313473012345", "20261323134730123456", "2026112313473012345x", "202611231347301234567"} {
		if _, err := ParseLaunchID(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestBatchOf(t *testing.T) {
	for _, c := range []struct {
		b       Batch
		n, want int
	}{
		{Batch{}, 7, 7}, {Batch{Size: 3}, 7, 3}, {Batch{Size: 9}, 7, 7}, {Batch{Size: 10, Percent: true}, 7, 1},
		{Batch{Size: 50, Percent: true}, 7, 4}, {Batch{Size: 100, Percent: true}, 7, 7}, {Batch{Size: 5}, 0, 0},
	} {
		if got := c.b.Of(c.n); got != c.want {
			t.Errorf("%+v of %d: got %d, want %d", c.b, c.n, got, c.want)
		}
	}
}

func TestJobNames(t *testing.T) {
	for _, good := range []string{"a", "backup db/1", "größe", strings.Repeat("x", 128)} {
		if err := CheckJobName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "a\nb", "\x00", "\xff", strings.Repeat("x", 129), "a\u0085"} {
		if CheckJobName(bad) == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestWordsAreReadBack(t *testing.T) {
	for _, s := range TargetStates() {
		if got, ok := ParseTargetState(s.String()); !ok || got != s {
			t.Errorf("target state %d: %s is read as %d", s, s, got)
		}
		if s.Final() != (len(s.Nexts()) == 0) {
			t.Errorf("%s: final and still has states that follow", s)
		}
	}
	for s := RunClaimed; s <= RunNoTargets; s++ {
		if got, ok := ParseRunState(s.String()); !ok || got != s {
			t.Errorf("run state %d: %s is read as %d", s, s, got)
		}
	}
	for s := ScopeAll; s <= ScopeMachine; s++ {
		if got, ok := ParseScope(s.String()); !ok || got != s {
			t.Errorf("scope %d: %s is read as %d", s, s, got)
		}
	}
}

func TestWindowEnds(t *testing.T) {
	w := Window{FromMillis: 10, UntilMillis: 20}
	for at, want := range map[int64]bool{9: false, 10: true, 19: true, 20: false} {
		if w.ActiveAt(at) != want {
			t.Errorf("at %d: active %v", at, !want)
		}
	}
	w.OffMillis = 15
	if w.ActiveAt(15) || !w.ActiveAt(14) {
		t.Error("lifted at 15, but active then or not before")
	}
	w.OffMillis = 30
	if w.End() != 20 {
		t.Errorf("lifted after its end: end %d", w.End())
	}
}

func TestErrorKeepsItsCause(t *testing.T) {
	err := error(Errorf(CodeNotFound, "read thing: %w", io.EOF).WithHint("look %s", "there"))
	if !errors.Is(err, io.EOF) || CodeOf(err) != CodeNotFound || err.Error() != "read thing: EOF" {
		t.Fatalf("%v, code %s", err, CodeOf(err))
	}
	if e, ok := errors.AsType[*Error](err); !ok || e.Hint != "look there" {
		t.Fatalf("%+v", e)
	}
	if CodeOf(io.EOF) != CodeInternal {
		t.Fatal("a plain error has a code")
	}
}

func TestDigestLeavesOutTheJobsPlace(t *testing.T) {
	a, b := Job{Name: "j", Source: "a.yaml:1"}, Job{Name: "j", Source: "a.yaml:2"}
	ea, err := a.Encode()
	if err != nil {
		t.Fatal(err)
	}
	eb, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if DigestOf(ea) != DigestOf(eb) {
		t.Fatal("a line more at the top of a file makes another definition")
	}
	back, err := DecodeJob(ea)
	if err != nil || back.Name != "j" {
		t.Fatalf("%+v, %v", back, err)
	}
}

func TestGrantLimitIsWellBelowLost(t *testing.T) {
	for lost, want := range map[time.Duration]time.Duration{time.Minute: 20 * time.Second, time.Hour: 20 * time.Second, 6 * time.Second: 2 * time.Second} {
		if got := GrantLimit(lost); got != want {
			t.Errorf("lost after %s: got %s, want %s", lost, got, want)
		}
	}
}
