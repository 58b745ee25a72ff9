// Command sp_wrapper runs one launch's commands on this machine and reports to the cluster's nodes.
package main

import (
	"os"

	"github.com/syscollective/saltpeter/internal/buildinfo"
	"github.com/syscollective/saltpeter/wrapper"
)

func main() {
	os.Exit(wrapper.Main(os.Args, buildinfo.Version(), wrapper.Streams{Out: os.Stdout, Err: os.Stderr}))
}
