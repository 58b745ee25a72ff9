package sinks

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	// maxName is the longest escaped name, in bytes. A file name has 255: this leaves room for what rotation appends.
	maxName = 200
	// ownName is the file for what concerns no single job. No job's name is escaped to it.
	ownName   = "%saltpeter"
	logSuffix = ".log"
)

// fileName escapes a job's name for the file system: bytes that a path can't hold, % itself and a leading dot become
// %XX; other names stay as they are. What gets too long ends in %- and a hash. Different names give different results:
// without %- the escaping can be undone, and with it the hash tells them apart.
func fileName(job string) string {
	if plain(job) {
		return job
	}
	var b strings.Builder
	for i := 0; i < len(job); {
		r, n := utf8.DecodeRuneInString(job[i:])
		if r == utf8.RuneError && n == 1 || r == '/' || r == '%' || r < ' ' || r == 0x7f || r == '.' && i == 0 {
			fmt.Fprintf(&b, "%%%02X", job[i])
			i++
			continue
		}
		b.WriteString(job[i : i+n])
		i += n
	}
	switch out := b.String(); {
	case out == "":
		return "%"
	case len(out) <= maxName:
		return out
	default:
		sum := sha256.Sum256([]byte(job))
		tail := "%-" + hex.EncodeToString(sum[:16])
		return strings.ToValidUTF8(out[:maxName-len(tail)], "") + tail // a cut character goes whole
	}
}

// plain reports whether a name needs no escaping: nearly all do not.
func plain(job string) bool {
	if job == "" || len(job) > maxName || job[0] == '.' {
		return false
	}
	for i := range len(job) {
		if c := job[i]; c == '/' || c == '%' || c < ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}
