package fsm

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// impure are the packages by which the world outside of (state, command) could get into apply. "maps" is here because what
// it gives comes in the order of a map.
var impure = []string{"time", "math/rand", "math/rand/v2", "crypto/rand", "os", "os/exec", "net", "net/http", "log", "log/slog",
	"runtime", "syscall", "maps", "io/fs", "path/filepath"}

// TestApplyIsPure reads the package's source.
func TestApplyIsPure(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	src := make(map[string]string)
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		src[name] = string(b)
	}
	if len(src) < 10 {
		t.Fatalf("read only %d files", len(src))
	}
	for _, v := range violations(t, src) {
		t.Error(v)
	}
}

func TestPurityTestSees(t *testing.T) {
	tests := map[string]string{
		`import "time"; var _ = time.Now`:                                           "imports time",
		`import "math/rand/v2"; var _ = rand.Int`:                                   "imports math/rand/v2",
		`func f() { go f() }`:                                                       "starts a goroutine",
		`func f(m map[int]int) { for range m {} }`:                                  "ranges over a map",
		`type s struct{ m map[int]bool }; func f(x *s) { for range x.m {} }`:        "ranges over a map",
		`type n map[int]bool; func f(x n) { for range x {} }`:                       "ranges over a map",
		`func f() { for range make(map[int]int) {} }`:                               "ranges over a map",
		`import "x/y"; func f() { for range y.M {} }`:                               "ranges over what this test can't tell",
		`var changed = 1; func f() { changed++ }`:                                   "changes a global",
		`import "slices"; func f(l []int) { for range slices.Backward(l) {} }`:      "",
		`func f(l []int, n uint32) { for range l {}; for range n {}; for {break} }`: "",
	}
	for src, want := range tests {
		got := violations(t, map[string]string{"x.go": "package fsm\n" + src})
		if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || !strings.Contains(got[0], want)) {
			t.Errorf("%s: got %q, want %q", src, got, want)
		}
	}
}

// violations lists what in the sources is not pure.
func violations(t *testing.T, src map[string]string) []string {
	t.Helper()
	fset := token.NewFileSet()
	imp := &shallowImporter{fset: fset, pkgs: make(map[string]*types.Package)}
	var files []*ast.File
	names := make([]string, 0, len(src))
	for name := range src {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		f, err := parser.ParseFile(fset, name, src[name], parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	info := &types.Info{Types: make(map[ast.Expr]types.TypeAndValue), Uses: make(map[*ast.Ident]types.Object)}
	conf := types.Config{Importer: imp, Error: func(error) {}}
	pkg, err := conf.Check("fsm", fset, files, info)
	if err != nil && pkg == nil {
		t.Fatal(err)
	}
	p := purity{fset: fset, info: info, pkg: pkg}
	for _, f := range files {
		ast.Inspect(f, p.node)
	}
	return p.found
}

type purity struct {
	fset  *token.FileSet
	info  *types.Info
	pkg   *types.Package
	found []string
}

func (p *purity) report(n ast.Node, format string, args ...any) {
	p.found = append(p.found, p.fset.Position(n.Pos()).String()+": "+fmt.Sprintf(format, args...))
}

func (p *purity) node(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.ImportSpec:
		path, err := strconv.Unquote(n.Path.Value)
		if err != nil || slices.Contains(impure, path) {
			p.report(n, "imports %s", path)
		}
	case *ast.GoStmt:
		p.report(n, "starts a goroutine")
	case *ast.RangeStmt:
		p.ranges(n)
	case *ast.AssignStmt:
		for _, lhs := range n.Lhs {
			p.assigns(lhs)
		}
	case *ast.IncDecStmt:
		p.assigns(n.X)
	}
	return true
}

func (p *purity) ranges(n *ast.RangeStmt) {
	typ := p.info.Types[n.X].Type
	if call, ok := n.X.(*ast.CallExpr); ok {
		if fun, ok := call.Fun.(*ast.SelectorExpr); ok && fmt.Sprint(fun.X) == "slices" {
			return // over a slice, by its iterators
		}
	}
	switch {
	case typ == nil || typ == types.Typ[types.Invalid]:
		p.report(n, "ranges over what this test can't tell")
	default:
		if _, ok := typ.Underlying().(*types.Map); ok {
			p.report(n, "ranges over a map")
		}
	}
}

// assigns reports a change of a package's variable.
func (p *purity) assigns(lhs ast.Expr) {
	for {
		switch x := lhs.(type) {
		case *ast.IndexExpr:
			lhs = x.X
			continue
		case *ast.Ident:
			if v, ok := p.info.Uses[x].(*types.Var); ok && v.Parent() == p.pkg.Scope() {
				p.report(x, "changes a global")
			}
		}
		return
	}
}

// shallowImporter knows the root package from its source, of some others signatures, of the rest their names.
type shallowImporter struct {
	fset *token.FileSet
	pkgs map[string]*types.Package
}

func (s *shallowImporter) Import(path string) (*types.Package, error) {
	if pkg := s.pkgs[path]; pkg != nil {
		return pkg, nil
	}
	pkg, err := types.NewPackage(path, filepath.Base(path)), error(nil)
	switch {
	case path == "github.com/syscollective/saltpeter":
		pkg, err = s.root(path)
	case signatures[path] != "":
		pkg, err = s.sign(path)
	}
	if err != nil {
		return nil, err
	}
	pkg.MarkComplete()
	s.pkgs[path] = pkg
	return pkg, nil
}

// signatures tell of other packages what ranges need.
var signatures = map[string]string{
	"slices": `package slices
		func Clone[S ~[]E, E any](s S) S
		func Concat[S ~[]E, E any](s ...S) S
		func DeleteFunc[S ~[]E, E any](s S, del func(E) bool) S`,
	"github.com/tidwall/btree": `package btree
		type Map[K comparable, V any] struct{}
		func (*Map[K, V]) Get(key K) (V, bool)`,
	"github.com/syscollective/saltpeter/internal/entry": `package entry
		func Split(data []byte) ([][]byte, error)`,
}

func (s *shallowImporter) sign(path string) (*types.Package, error) {
	f, err := parser.ParseFile(s.fset, path, signatures[path], parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	conf := types.Config{IgnoreFuncBodies: true, Error: func(error) {}}
	pkg, err := conf.Check(path, s.fset, []*ast.File{f}, nil)
	if pkg == nil {
		return nil, err
	}
	return pkg, nil
}

func (s *shallowImporter) root(path string) (*types.Package, error) {
	names, err := filepath.Glob("../*.go")
	if err != nil {
		return nil, err
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(s.fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	conf := types.Config{Importer: s, Error: func(error) {}}
	pkg, err := conf.Check(path, s.fset, files, nil)
	if pkg == nil {
		return nil, errors.Join(errors.New("check root package"), err)
	}
	return pkg, nil
}
