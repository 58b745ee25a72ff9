package api

import (
	"net/url"
	"strings"
)

// PathEscape makes one segment of a path out of any name: as url.PathEscape does, and with the dots of "." and ".."
// escaped too, which clients and servers would otherwise take for directories.
func PathEscape(name string) string {
	if name == "." || name == ".." {
		return strings.ReplaceAll(name, ".", "%2E")
	}
	return url.PathEscape(name)
}
