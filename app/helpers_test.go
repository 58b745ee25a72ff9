package app

import (
	"os"
	"testing"

	"github.com/spf13/pflag"

	"github.com/syscollective/saltpeter/config"
)

func newFlags(t *testing.T) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("saltpeter", pflag.ContinueOnError)
	config.AddFlags(fs)
	return fs
}

func emptyFile(t *testing.T, dir string) string {
	t.Helper()
	path := dir + "/node.yaml"
	if err := os.WriteFile(path, []byte("{}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
