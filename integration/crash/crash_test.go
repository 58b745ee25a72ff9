package crash

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/syscollective/saltpeter/integration/rig"
)

// TestMain lets all clusters run side by side, whatever the number of cores: most of their time they wait.
func TestMain(m *testing.M) {
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "sp-crash.")
	if err != nil {
		panic(err)
	}
	binDir = dir
	code := m.Run()
	if err := os.RemoveAll(dir); err != nil {
		panic(err)
	}
	os.Exit(code)
}

var binDir string // set once, before any test

var buildOnce = sync.OnceValues(func() (rig.Binaries, error) { return rig.Build(binDir, "crashpoints") })

// built gives the programs with crash points, built once for all tests.
func built(t *testing.T) rig.Binaries {
	t.Helper()
	b, err := buildOnce()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// testDir is a directory that stays if the test fails. Paths of unix sockets are short, so it is not t.TempDir's.
func testDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sp-crash.")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("data is kept in %s", dir)
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func envNumber(t *testing.T, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n <= 0 {
		t.Fatalf("%s=%q is not a number of seconds", name, text)
	}
	return n
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

// TestSample is a minute of crash points; make crashpoints does them all.
func TestSample(t *testing.T) {
	t.Parallel()
	cases := Sample(60)
	s := Sweep{Dir: testDir(t), Cases: cases, Seed: 1, Length: (len(cases) + 1) / 2, Side: 2, Log: testLog{t}, Bin: built(t)}
	results, err := s.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	failed := Report(&table, results, s.Seed)
	t.Log("\n" + table.String())
	if failed > 0 {
		t.Errorf("%d cases failed", failed)
	}
}

// What the product is built from must not know of crash points.
func TestProductHasNoCrashPoints(t *testing.T) {
	t.Parallel()
	root, err := rig.ModuleRoot()
	if err != nil {
		t.Fatal(err)
	}
	products := []string{"./cmd/saltpeter", "./cmd/sp_wrapper", "./cmd/spctl"}
	for _, pkg := range deps(t, root, products...) {
		if strings.Contains(pkg, "/integration/") {
			t.Errorf("the product imports %s", pkg)
		}
	}
	dir := testDir(t)
	built(t)
	command(t, root, append([]string{"go", "build", "-trimpath", "-o", dir + "/"}, products...)...)
	for name, function := range map[string]string{"saltpeter": "crash/seams.", "sp_wrapper": "wrapper.(*crashLink)"} {
		if holds(t, filepath.Join(dir, name), function) {
			t.Errorf("%s as it is shipped has crash points", name)
		}
		if !holds(t, filepath.Join(binDir, name), function) {
			t.Errorf("%s with the tag has no crash points: this test looks for the wrong thing", name)
		}
	}
}

// holds looks for a function's name in a binary.
func holds(t *testing.T, path, function string) bool {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Contains(b, []byte(function))
}

func deps(t *testing.T, root string, packages ...string) []string {
	t.Helper()
	return strings.Fields(command(t, root, append([]string{"go", "list", "-deps"}, packages...)...))
}

func command(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}
