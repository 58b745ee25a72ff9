// Package buildinfo knows which build this is.
package buildinfo

import "runtime/debug"

// version is set by the linker: -X github.com/syscollective/saltpeter/internal/buildinfo.version=1.2.3
var version string

// Version gives the version that the build was made as, or the revision of its sources, or "devel".
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return "devel-" + s.Value[:12]
		}
	}
	return "devel"
}
