package rig

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Binaries are the programs under test and the jobs' helper.
type Binaries struct{ Node, Wrapper, Ledger string }

// Build compiles them into a directory, with build tags if any.
func Build(dir, tags string) (Binaries, error) {
	root, err := ModuleRoot()
	if err != nil {
		return Binaries{}, err
	}
	b := Binaries{filepath.Join(dir, "saltpeter"), filepath.Join(dir, "sp_wrapper"), filepath.Join(dir, "ledger")}
	cmd := exec.Command("go", "build", "-trimpath", "-tags", tags, "-o", dir+"/", "./cmd/saltpeter", "./cmd/sp_wrapper", "./integration/rig/ledger")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return b, fmt.Errorf("build programs (tags %q): %w\n%s", tags, err, out)
	}
	return b, nil
}

// ModuleRoot finds the directory of go.mod, from the working directory upwards.
func ModuleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", fmt.Errorf("find module: no go.mod above the working directory")
		}
		dir = up
	}
}
