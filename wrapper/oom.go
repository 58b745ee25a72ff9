package wrapper

import (
	"os"
	"strings"
)

const (
	oomFile = "/proc/self/oom_score_adj"
	// oomWrapper makes the kernel take nearly everything else first: a wrapper that dies takes the end of its run with it.
	oomWrapper = "-900"
)

// shield lowers this process's own oom score, where it may, and gives the score that its commands shall have: the one that it
// was started with.
func shield() (before string) {
	b, err := os.ReadFile(oomFile)
	if err != nil {
		return ""
	}
	before = strings.TrimSpace(string(b))
	if os.WriteFile(oomFile, []byte(oomWrapper), 0) != nil {
		return "" // nothing to go back to
	}
	return before
}
