package saltclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// onedir is where Salt's own packages put the Python that they bring.
const onedir = "/opt/saltstack/salt"

// ErrNoSalt says that no interpreter with Salt was found on this host.
var ErrNoSalt = errors.New("no Python with Salt was found")

// FindPython gives the interpreter that Salt is installed in: what salt-master and salt-call in PATH are run by, or the one of
// Salt's packages. Its error lists what was tried.
func FindPython(ctx context.Context) (string, error) {
	var tried []string
	for _, c := range pythonCandidates(os.Getenv("PATH")) {
		err := hasSalt(ctx, c.path)
		if err == nil {
			return c.path, nil
		}
		tried = append(tried, fmt.Sprintf("%s (%s): %v", c.path, c.from, err))
	}
	if len(tried) == 0 {
		tried = append(tried, "no salt-master, salt-call or "+onedir+" here")
	}
	return "", fmt.Errorf("%w: is Salt's master on this host? tried: %s", ErrNoSalt, strings.Join(tried, "; "))
}

// pythonAt is an interpreter and where it is known from.
type pythonAt struct{ path, from string }

// pythonCandidates gives what may be Salt's Python, the likeliest first.
func pythonCandidates(path string) []pythonAt {
	var out []pythonAt
	seen := make(map[string]bool)
	add := func(python, from string) {
		if st, err := os.Stat(python); err == nil && !st.IsDir() && st.Mode()&0o111 != 0 && !seen[python] {
			seen[python] = true
			out = append(out, pythonAt{python, from})
		}
	}
	dirs := append(filepath.SplitList(path), "/usr/bin", "/usr/local/bin", onedir)
	for _, program := range []string{"salt-master", "salt-call"} {
		for _, dir := range dirs {
			file, err := filepath.EvalSymlinks(filepath.Join(dir, program))
			if err != nil || !filepath.IsAbs(file) {
				continue
			}
			if python := interpreter(file, path); python != "" {
				add(python, file)
			}
			// The packages' programs are shell scripts beside the directory of their Python.
			for _, python := range []string{"bin/python3", "python3", "python"} {
				add(filepath.Join(filepath.Dir(file), python), "beside "+file)
			}
		}
	}
	add(onedir+"/bin/python3", "Salt's packages")
	return out
}

// interpreter gives the Python in a script's first line, or "".
func interpreter(file, path string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	line, err := bufio.NewReaderSize(f, 512).ReadSlice('\n')
	if err != nil || !strings.HasPrefix(string(line), "#!") {
		return ""
	}
	words := strings.Fields(string(line[2:]))
	for len(words) > 0 && (filepath.Base(words[0]) == "env" || strings.HasPrefix(words[0], "-")) {
		words = words[1:]
	}
	if len(words) == 0 || !strings.HasPrefix(filepath.Base(words[0]), "python") {
		return ""
	}
	if filepath.IsAbs(words[0]) {
		return words[0]
	}
	for _, dir := range filepath.SplitList(path) {
		if file := filepath.Join(dir, words[0]); filepath.IsAbs(file) {
			if _, err := os.Stat(file); err == nil {
				return file
			}
		}
	}
	return ""
}

// hasSalt reports why an interpreter is not Salt's.
func hasSalt(ctx context.Context, python string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "-c", "import salt.version")
	cmd.Env, cmd.Dir = bridgeEnvironment(os.Environ()), "/"
	out, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return fmt.Errorf("%w: %s", err, lines[len(lines)-1])
}
