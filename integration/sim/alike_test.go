package sim

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// A seed decides all that this package draws. What is left to chance is the runtime's: the order of maps, of ready cases in a select, of
// timers of one instant, and Raft's timeouts, which come out of the same source; then preemption, the collector and goroutines
// in system calls. So that the same seed is the same run, the simulation is built with a runtime that draws from one counter,
// which begins anew with each bubble, and that takes no processor away; it runs on one processor without a collector, and crypto/rand
// draws from the seed.

// seededRuntime is what is replaced in the files of package runtime, each text exactly once.
var seededRuntime = map[string][][2]string{
	"rand.go": {
		{"	mp := getg().m\n	c := &mp.chacha8\n	for {\n", "	for {\n		if true {\n			return uint64(seededRand())<<32 | uint64(seededRand())\n		}\n		mp := getg().m\n		c := &mp.chacha8\n"},
		{"	globalRand.state.Init(*seed)\n", "	for i := range seed {\n		seed[i] = 7\n	}\n	globalRand.state.Init(*seed)\n"},
		{"// rand32 is uint32(rand())", seededRand + "// rand32 is uint32(rand())"},
	},
	"select.go":   {{"j := cheaprandn(uint32(norder + 1))", "j := uint32(uint64(seededRand()) * uint64(norder+1) >> 32)"}},
	"time.go":     {{"t.rand = cheaprand()", "t.rand = seededRand()"}},
	"synctest.go": {{"func synctestRun(f func()) {\n", "func synctestRun(f func()) {\n	seededState = 7\n	getg().m.p.ptr().schedtick = 0\n"}},
	"proc.go":     {{"func retake(now int64) uint32 {\n", "func retake(now int64) uint32 {\n	if now > 0 {\n		return 0\n	}\n"}},
}

const seededRand = `var seededState uint64

//go:nosplit
func seededRand() uint32 {
	seededState += 0xa0761d6478bd642f
	hi, lo := math.Mul64(seededState, seededState^0xe7037ed1a0b428db)
	return uint32(hi ^ lo)
}

`

// TestSameSeedSameRun plays SIM_TWICE seeds from SIM_FROM on at least twice each and compares their histories: of up to four plays two
// must be equal to the last line. It builds the runtime anew, so it is only run where it is asked for.
func TestSameSeedSameRun(t *testing.T) {
	n, err := strconv.Atoi(os.Getenv("SIM_TWICE"))
	if err != nil {
		t.Skip("make sim-twice runs this")
	}
	from, err := strconv.Atoi(os.Getenv("SIM_FROM"))
	if err != nil {
		from = 1
	}
	binary, atOnce := buildSeeded(t), 0
	for seed := from; seed < from+n; seed++ {
		plays := [][]byte{playSeeded(t, binary, seed)}
		for len(plays) < 5 {
			next := playSeeded(t, binary, seed)
			if equal(plays, next) {
				break
			}
			t.Logf("seed %d: %s", seed, difference(plays[0], next))
			plays = append(plays, next)
		}
		switch len(plays) {
		case 1:
			atOnce++
		case 5:
			t.Errorf("seed %d: of five plays no two are equal", seed)
		}
	}
	t.Logf("%d of %d seeds were the same run the second time", atOnce, n)
}

func equal(plays [][]byte, next []byte) bool {
	for _, p := range plays {
		if bytes.Equal(p, next) {
			return true
		}
	}
	return false
}

func difference(a, b []byte) string {
	as, bs := strings.Split(string(a), "\n"), strings.Split(string(b), "\n")
	for i := range min(len(as), len(bs)) {
		if as[i] != bs[i] {
			return "line " + strconv.Itoa(i+1) + " of " + strconv.Itoa(len(as)) + " differs:\n" + as[i] + "\n" + bs[i]
		}
	}
	return "one is longer"
}

// buildSeeded builds this package's tests with the runtime that draws from one counter.
func buildSeeded(t *testing.T) (binary string) {
	t.Helper()
	dir := t.TempDir()
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for name, changes := range seededRuntime {
		path := filepath.Join(strings.TrimSpace(string(root)), "src", "runtime", name)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes {
			if n := bytes.Count(text, []byte(c[0])); n != 1 {
				t.Fatalf("%s of this Go version (%s) has %d times %q", name, runtime.Version(), n, c[0])
			}
			text = bytes.Replace(text, []byte(c[0]), []byte(c[1]), 1)
		}
		overlay.Replace[path] = filepath.Join(dir, name)
		if err := os.WriteFile(overlay.Replace[path], text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(overlay)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "overlay.json"), text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	binary = filepath.Join(dir, "sim.test")
	cmd := exec.CommandContext(t.Context(), "go", "test", "-overlay", filepath.Join(dir, "overlay.json"), "-c", "-o", binary, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build with another runtime: %v\n%s", err, out)
	}
	return binary
}

var historyLine = regexp.MustCompile(`(?m)^ +\d+\.\d{3} .*\n`)

// playSeeded plays a seed in a process of its own and gives its history.
func playSeeded(t *testing.T, binary string, seed int) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, "-test.v", "-test.count=1", "-test.run", "^TestSim$")
	cmd.Env = append(os.Environ(), "SIM_ALIKE=1", "SIM_LOG=1", "SIM_SEED="+strconv.Itoa(seed), "GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1")
	out, err := cmd.CombinedOutput()
	lines := bytes.Join(historyLine.FindAll(out, -1), nil)
	if err != nil || len(lines) == 0 {
		t.Errorf("seed %d: %v\n%s", seed, err, out)
	}
	return lines
}
