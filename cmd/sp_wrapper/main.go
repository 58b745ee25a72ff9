// Command sp_wrapper runs one launch's commands on this machine and reports to the cluster's nodes.
package main

import (
	"os"

	"github.com/syscollective/saltpeter/wrapper"
)

// version is set by the build.
var version = "dev"

func main() {
	os.Exit(wrapper.Main(os.Args, version, wrapper.Streams{Out: os.Stdout, Err: os.Stderr}))
}
