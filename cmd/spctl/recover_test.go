package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter/api/apitest"
)

// The node's program is found in PATH, is given the directory and the flags, and its exit code is this one's.
func TestClusterRecoverRunsTheNodesProgram(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	n := apitest.New()
	code, _, errs := spctl(t.Context(), n, "http://127.0.0.1:1", nil, "cluster", "recover", "/var/lib/sp")
	if code != exitUsage || !strings.Contains(errs, "saltpeter recover --data-dir /var/lib/sp") {
		t.Errorf("without the program: exit %d, %s", code, errs)
	}
	script := "#!/bin/sh\necho \"$@\"\necho oh >&2\nexit 3\n"
	if err := os.WriteFile(filepath.Join(dir, "saltpeter"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	code, out, errs := spctl(t.Context(), n, "http://127.0.0.1:1", nil, "cluster", "recover", "/var/lib/sp", "--dry-run", "-y")
	if code != 3 || out != "recover --data-dir /var/lib/sp --yes --dry-run\n" || errs != "oh\n" {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	if code, _, _ := spctl(t.Context(), n, "http://127.0.0.1:1", nil, "cluster", "recover"); code != exitUsage {
		t.Errorf("without a directory: exit %d", code)
	}
}
