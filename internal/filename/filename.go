// Package filename makes any name, a job's or a machine's, the name of a file. It is pure, and different names never meet in
// one file: who may name a job must not reach another's log or lock.
package filename

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Max is the longest result, in bytes. A file name has 255: this leaves room for a prefix, a suffix and what rotation appends.
const Max = 200

// Of escapes a name for the file system: bytes that a path can't hold, % itself and a leading dot become
// %XX; other names stay as they are. What gets too long ends in %- and a hash. Different names give different results:
// without %- the escaping can be undone, and with it the hash tells them apart.
func Of(name string) string {
	if plain(name) {
		return name
	}
	var b strings.Builder
	for i := 0; i < len(name); {
		r, n := utf8.DecodeRuneInString(name[i:])
		if r == utf8.RuneError && n == 1 || r == '/' || r == '%' || r < ' ' || r == 0x7f || r == '.' && i == 0 {
			fmt.Fprintf(&b, "%%%02X", name[i])
			i++
			continue
		}
		b.WriteString(name[i : i+n])
		i += n
	}
	switch out := b.String(); {
	case out == "":
		return "%"
	case len(out) <= Max:
		return out
	default:
		sum := sha256.Sum256([]byte(name))
		tail := "%-" + hex.EncodeToString(sum[:16])
		return strings.ToValidUTF8(out[:Max-len(tail)], "") + tail // a cut character goes whole
	}
}

// plain reports whether a name needs no escaping: nearly all do not.
func plain(name string) bool {
	if name == "" || len(name) > Max || name[0] == '.' {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c == '/' || c == '%' || c < ' ' || c >= 0x7f {
			return false
		}
	}
	return true
}
