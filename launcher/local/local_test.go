package local

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
)

func TestMatch(t *testing.T) {
	machines := []string{"local-1", "local-2", "web.1", "a/b", "x]y"}
	for _, c := range []struct {
		kind    string
		targets []string
		want    []string
	}{
		{"glob", []string{"*"}, machines},
		{"glob", []string{"local-?"}, []string{"local-1", "local-2"}},
		{"glob", []string{"local-[!1]"}, []string{"local-2"}},
		{"glob", []string{"web.1"}, []string{"web.1"}},
		{"glob", []string{"webx1"}, nil},
		{"glob", []string{"a*b"}, []string{"a/b"}},
		{"glob", []string{"x[]]y"}, []string{"x]y"}},
		{"glob", []string{"x[y"}, nil},
		{"list", []string{"local-2", "nobody"}, []string{"local-2"}},
		{"list", []string{"local-1, web.1"}, []string{"local-1", "web.1"}},
		{"pcre", []string{"local|web"}, []string{"local-1", "local-2", "web.1"}},
		{"pcre", []string{`local-\d$`}, []string{"local-1", "local-2"}},
	} {
		l := New(Options{Machines: func() []string { return machines }})
		got, err := l.Resolve(context.Background(), saltpeter.Job{Targets: c.targets, TargetType: c.kind}, nil, false)
		if err != nil {
			t.Fatalf("%s %q: %v", c.kind, c.targets, err)
		}
		var names []string
		for _, r := range got {
			names = append(names, r.Machine)
		}
		if !slices.Equal(names, c.want) {
			t.Errorf("%s %q: got %q, want %q", c.kind, c.targets, names, c.want)
		}
	}
}

func TestMatchRefusals(t *testing.T) {
	for kind, expr := range map[string]string{"grain": "os:Debian", "pcre": "(", "compound": "G@os:Debian"} {
		l := New(Options{Machines: func() []string { return nil }})
		_, err := l.Resolve(context.Background(), saltpeter.Job{Targets: []string{expr}, TargetType: kind}, nil, false)
		if saltpeter.CodeOf(err) != saltpeter.CodeInvalid {
			t.Errorf("%s %q: got %v", kind, expr, err)
		}
	}
}

// The stand-in for sp_wrapper writes its arguments down.
func TestPublishStartsTheWrapperPerMachine(t *testing.T) {
	base := t.TempDir()
	script := filepath.Join(base, "wrapper")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho \"$@\" >> "+base+"/args\ntest \"$5\" != bad || { echo broken; exit 1; }\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	l := New(Options{Base: base, Cluster: "c", Machines: func() []string { return nil }, URLs: func(*saltpeter.Job) []string { return []string{"wss://h:1"} },
		Secrets: func(saltpeter.LaunchID) (string, string, error) { return "tok", "pin", nil }})
	job := &saltpeter.Job{WrapperPath: script}
	launch := &saltpeter.Launch{ID: 1_795_392_000_000_000, Machines: []string{"a", "b/c"}}
	for range 2 {
		if err := l.Publish(context.Background(), launch, job, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	args, err := os.ReadFile(base + "/args")
	if err != nil || strings.Count(string(args), "\n") != 4 || !strings.Contains(string(args), "--machine b/c --cluster c --urls wss://h:1 --token tok --pin pin --window 1m0s") {
		t.Fatalf("%v %s", err, args)
	}
	if _, err := os.Stat(KeysDir(base, "c") + "/b%2Fc.pub.pem"); err != nil {
		t.Fatal(err)
	}
	launch.Machines = []string{"a", "bad"}
	if err := l.Publish(context.Background(), launch, job, time.Minute); err == nil || !strings.Contains(err.Error(), "bad") || !strings.Contains(err.Error(), "broken") {
		t.Fatalf("a wrapper that fails: %v", err)
	}
}
