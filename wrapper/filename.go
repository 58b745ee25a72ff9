package wrapper

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

// maxFileName leaves room in the 255 bytes of a file name for a prefix and a suffix.
const maxFileName = 200

// fileName makes any name (a job's, a machine's) the name of a file: what a path can't hold becomes %XX, a leading dot too,
// and what gets too long ends in a hash. Ordinary names stay as they are.
func fileName(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if c == '/' || c == '%' || c < ' ' || c == 0x7f || (c == '.' && i == 0) {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(c)
	}
	out := b.String()
	if len(out) > maxFileName {
		sum := sha256.Sum256([]byte(name))
		out = out[:maxFileName-17] + "-" + hex.EncodeToString(sum[:8])
	}
	if out == "" {
		return "%"
	}
	return out
}
