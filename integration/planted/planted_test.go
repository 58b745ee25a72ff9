package planted

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// root is the top of the tree.
const root = "../.."

// wanted are the bugs that must be here, by the names of their patches.
var wanted = []string{
	"second-nonce", "ack-before-commit", "mark-not-in-snapshot", "no-barrier", "new-id", "silence-not-reset", "gap-accepted",
	"local-maintenance", "winner-not-in-snapshot", "retention-takes-live-run", "resume-without-secret", "early-claim", "gateway-grants",
	"late-exec",
	"forward-doubled", "stale-as-strong", "gossip-removes-voter", "older-term-publishes", "config-turned-back", "snapshot-without-manifest",
}

// bug is one patch.
type bug struct {
	name, what string
	tests      []namedTest
	hunks      []hunk
}

type namedTest struct{ pkg, name string }

// hunk replaces one text of a file by another.
type hunk struct{ file, from, to string }

func readBug(path string) (*bug, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	b := &bug{name: strings.TrimSuffix(filepath.Base(path), ".patch")}
	file := ""
	for line := range strings.Lines(string(text)) {
		switch {
		case strings.HasPrefix(line, "# what: "):
			b.what = strings.TrimSpace(line[len("# what: "):])
		case strings.HasPrefix(line, "# caught by: "):
			pkg, name, ok := strings.Cut(strings.TrimSpace(line[len("# caught by: "):]), " ")
			if !ok {
				return nil, fmt.Errorf("%s: %q names no package and test", path, line)
			}
			b.tests = append(b.tests, namedTest{pkg, name})
		case strings.HasPrefix(line, "--- a/"):
		case strings.HasPrefix(line, "+++ b/"):
			file = strings.TrimSpace(line[len("+++ b/"):])
		case strings.HasPrefix(line, "@@"):
			b.hunks = append(b.hunks, hunk{file: file})
		case len(b.hunks) == 0:
			return nil, fmt.Errorf("%s: %q before the first hunk", path, line)
		default:
			if err := b.hunks[len(b.hunks)-1].add(line); err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	if b.what == "" || len(b.tests) == 0 || len(b.hunks) == 0 {
		return nil, fmt.Errorf("%s: a line about what, who catches it, or the change is missing", path)
	}
	return b, nil
}

func (h *hunk) add(line string) error {
	switch line[0] {
	case '-':
		h.from += line[1:]
	case '+':
		h.to += line[1:]
	case ' ':
		h.from += line[1:]
		h.to += line[1:]
	case '\n': // an empty line whose blank an editor has eaten
		h.from += line
		h.to += line
	default:
		return fmt.Errorf("line %q of a hunk", line)
	}
	return nil
}

// apply gives the changed files of a tree by their paths.
func (b *bug) apply(tree string) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, h := range b.hunks {
		text, ok := out[h.file]
		if !ok {
			var err error
			if text, err = os.ReadFile(filepath.Join(tree, h.file)); err != nil {
				return nil, err
			}
		}
		if n := bytes.Count(text, []byte(h.from)); n != 1 {
			return nil, fmt.Errorf("%s: %s has %d times:\n%s", b.name, h.file, n, h.from)
		}
		out[h.file] = bytes.Replace(text, []byte(h.from), []byte(h.to), 1)
	}
	return out, nil
}

// bugs reads all patches; each that is wanted must be there.
func bugs(t *testing.T) []*bug {
	t.Helper()
	paths, err := filepath.Glob("*.patch")
	if err != nil {
		t.Fatal(err)
	}
	var all []*bug
	have := map[string]bool{}
	for _, path := range paths {
		b, err := readBug(path)
		if err != nil {
			t.Error(err)
			continue
		}
		have[b.name] = true
		all = append(all, b)
	}
	for _, name := range wanted {
		if !have[name] {
			t.Errorf("%s.patch is missing", name)
		}
	}
	return all
}

// Every patch still fits the tree, and the tests that it names exist.
func TestPatchesFit(t *testing.T) {
	for _, b := range bugs(t) {
		if _, err := b.apply(root); err != nil {
			t.Errorf("mend the patch: %v", err)
		}
		for _, n := range b.tests {
			if !exists(t, n) {
				t.Errorf("%s names %s of %s, which is not there", b.name, n.name, n.pkg)
			}
		}
	}
}

func exists(t *testing.T, n namedTest) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, n.pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte("func "+n.name+"(t *testing.T)")) {
			return true
		}
	}
	return false
}

// TestPlanted applies each patch to a copy of the tree and runs the tests that must notice. PLANTED=all asks for it, or
// PLANTED=name for one bug; it takes some minutes.
func TestPlanted(t *testing.T) {
	which := os.Getenv("PLANTED")
	if which == "" {
		t.Skip("make planted runs this")
	}
	tree := t.TempDir()
	copyTree(t, tree)
	for _, b := range bugs(t) {
		if which != "all" && which != b.name {
			continue
		}
		t.Run(b.name, func(t *testing.T) { plant(t, tree, b) })
	}
}

func plant(t *testing.T, tree string, b *bug) {
	for _, n := range b.tests {
		if out, failed := run(t, tree, n); failed {
			t.Fatalf("%s fails without the bug:\n%s", n.name, out)
		}
	}
	changed, err := b.apply(tree)
	if err != nil {
		t.Fatal(err)
	}
	for file, text := range changed {
		path := filepath.Join(tree, file)
		was, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := os.WriteFile(path, was, 0o600); err != nil {
				t.Error(err)
			}
		}()
	}
	for _, n := range b.tests {
		out, failed := run(t, tree, n)
		if !failed {
			t.Errorf("%s: %s does not notice it:\n%s", b.what, n.name, out)
			continue
		}
		t.Logf("%s: noticed by %s of %s", b.what, n.name, n.pkg)
	}
}

// run runs one test; a failure is one that the test itself reports, not a build that fails.
func run(t *testing.T, tree string, n namedTest) (out string, failed bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-timeout=120s", "-run", "^"+n.name+"$", n.pkg)
	cmd.Dir = tree
	text, err := cmd.CombinedOutput()
	if err == nil {
		return string(text), false
	}
	noticed := strings.Contains(string(text), "--- FAIL: "+n.name) || strings.Contains(string(text), "panic: ")
	if !noticed || strings.Contains(string(text), "panic: test timed out") {
		t.Fatalf("%s of %s did not run: %v\n%s", n.name, n.pkg, err, text)
	}
	return string(text), true
}

// copyTree copies what is built and tested.
func copyTree(t *testing.T, to string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) { // a temporary file of somebody else
				return nil
			}
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if rel == ".git" || rel == "bin" || rel == "dist" {
				return filepath.SkipDir
			}
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		if !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), text, info.Mode().Perm()|0o200)
	})
	if err != nil {
		t.Fatalf("copy the tree: %v", err)
	}
}
