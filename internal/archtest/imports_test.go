// Package archtest holds the tests of the tree itself: which way imports go, and what may not stand anywhere.
package archtest

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/syscollective/saltpeter"

// siblings know the nouns of the root package and internal packages, never each other; they meet in app.
var siblings = []string{"api", "cluster", "config", "fsm", "saltclient", "scheduler", "sinks", "wsgateway", "wrapper", "launcher"}

// allowed lists what a package may import of this module beside the root package; a sibling's own subpackages are free.
var allowed = map[string][]string{
	"":           {},
	"api":        {"internal/backup", "internal/cronexpr", "internal/buildinfo"},
	"cluster":    {"internal/entry", "internal/keys"},
	"config":     {"internal/cronexpr", "internal/suggest"},
	"fsm":        {"internal/backup", "internal/entry", "internal/outlog"},
	"scheduler":  {"internal/cronexpr"},
	"sinks":      {"internal/filename", "internal/outlog"},
	"wsgateway":  {"internal/wire", "internal/keys"},
	"wrapper":    {"internal/filename", "internal/wire", "internal/keys", "internal/buildinfo"},
	"launcher":   {},
	"saltclient": {},

	"cmd/saltpeter":  {"app", "config", "internal/buildinfo", "cluster", "integration/crash/seams"},
	"cmd/spctl":      {"internal/backup", "api", "api/client", "config", "internal/cronexpr", "internal/buildinfo", "internal/keys", "internal/suggest"},
	"cmd/sp_wrapper": {"wrapper", "internal/buildinfo"},
}

func TestImportsGoOneWay(t *testing.T) {
	checked := 0
	eachGoFile(t, func(dir, path string) {
		rule, ok := ruleFor(dir)
		if !ok || strings.HasSuffix(path, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		checked++
		for _, imp := range f.Imports {
			name := strings.Trim(imp.Path.Value, `"`)
			inner, ours := strings.CutPrefix(name, module)
			inner = strings.TrimPrefix(inner, "/")
			if !ours || inner == "" || inner == rule || strings.HasPrefix(inner, rule+"/") && rule != "" {
				continue
			}
			if !slices.Contains(allowed[rule], inner) {
				t.Errorf("%s imports %s, which %q may not", path, inner, rule)
			}
		}
	})
	if checked < 50 {
		t.Fatalf("only %d files were checked", checked)
	}
}

// ruleFor gives the entry of allowed that a directory falls under.
func ruleFor(dir string) (string, bool) {
	if dir == "." {
		return "", true
	}
	for rule := range allowed {
		if rule != "" && (dir == rule || strings.HasPrefix(dir, rule+"/")) {
			return rule, true
		}
	}
	return "", false
}

// Every sibling must have a rule once it exists.
func TestEverySiblingHasARule(t *testing.T) {
	for _, s := range siblings {
		if _, err := os.Stat(filepath.Join("../..", s)); err != nil {
			continue
		}
		if _, ok := allowed[s]; !ok {
			t.Errorf("%s has no rule", s)
		}
	}
}

func eachGoFile(t *testing.T, visit func(dir, path string)) {
	t.Helper()
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".go") {
			rel, err := filepath.Rel("../..", filepath.Dir(path))
			if err != nil {
				return err
			}
			visit(filepath.ToSlash(rel), path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
