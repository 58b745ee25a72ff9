package crash

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// Binaries are the programs under test, with crash points, and the jobs' helper.
type Binaries struct{ Node, Wrapper, Ledger string }

// Build compiles them into a directory.
func Build(dir string) (Binaries, error) {
	root, err := moduleRoot()
	if err != nil {
		return Binaries{}, err
	}
	b := Binaries{filepath.Join(dir, "saltpeter"), filepath.Join(dir, "sp_wrapper"), filepath.Join(dir, "ledger")}
	cmd := exec.Command("go", "build", "-trimpath", "-tags", "crashpoints", "-o", dir+"/", "./cmd/saltpeter", "./cmd/sp_wrapper", "./integration/crash/ledger")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return b, fmt.Errorf("build with crash points: %w\n%s", err, out)
	}
	return b, nil
}

// moduleRoot finds the directory of go.mod, from the working directory upwards.
func moduleRoot() (string, error) {
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
