package rig

import (
	"os/exec"
	"strings"
	"testing"
)

// The oracle has to come to its own mind: nothing of the product may be in it, the schedules least of all.
func TestOracleKnowsNothingOfTheProduct(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	own := 0
	for _, pkg := range strings.Fields(string(out)) {
		switch {
		case strings.HasSuffix(pkg, "/integration/rig"):
			own++
		case strings.Contains(pkg, "syscollective/saltpeter"), strings.Contains(pkg, "gronx"):
			t.Errorf("the oracle's package imports %s", pkg)
		}
	}
	if own != 1 {
		t.Fatal("the package was not listed")
	}
}
