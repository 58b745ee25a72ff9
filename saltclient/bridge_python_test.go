package saltclient

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPythonCandidates(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
		return file
	}
	python := write("py/python3.11", "")
	for name, c := range map[string]struct{ script, want string }{
		"venv":     {"#!" + python + "\nimport re\n", python},
		"flags":    {"#!" + python + " -s -P\n", python},
		"env":      {"#!/usr/bin/env python3.11\n", python},
		"env -S":   {"#!/usr/bin/env -S python3.11 -s\n", python},
		"shell":    {"#!/bin/sh\nexec x\n", ""},
		"missing":  {"#!/gone/python3\n", ""},
		"no line":  {"#!" + strings.Repeat("x", 1000), ""},
		"a binary": {"\x7fELF", ""},
	} {
		bin := filepath.Dir(write(name+"/salt-master", c.script))
		got := pythonCandidates(bin + string(os.PathListSeparator) + filepath.Join(dir, "py"))
		first := ""
		if len(got) > 0 && strings.HasPrefix(got[0].path, dir) {
			first = got[0].path
		}
		if first != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
	// As the packages lay it out: a link to a shell script beside the directory of its Python.
	beside := write("opt/bin/python3", "")
	write("opt/salt-master", "#!/bin/sh\n")
	if err := errors.Join(os.MkdirAll(filepath.Join(dir, "links"), 0o755), os.Symlink(filepath.Join(dir, "opt/salt-master"), filepath.Join(dir, "links/salt-master"))); err != nil {
		t.Fatal(err)
	}
	if got := pythonCandidates(filepath.Join(dir, "links")); len(got) == 0 || got[0].path != beside {
		t.Errorf("packages: got %v", got)
	}
}

func TestFindPythonSaysWhatItTried(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "python3")
	err := errors.Join(os.WriteFile(broken, []byte("#!/bin/sh\necho \"No module named 'salt'\" >&2\nexit 1\n"), 0o755),
		os.WriteFile(filepath.Join(dir, "salt-call"), []byte("#!"+broken+"\n"), 0o755))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	python, err := FindPython(t.Context())
	if err == nil {
		t.Skipf("Salt is installed on this host: %s", python)
	}
	if !errors.Is(err, ErrNoSalt) || !strings.Contains(err.Error(), broken) || !strings.Contains(err.Error(), "No module named 'salt'") {
		t.Error(err)
	}
}
