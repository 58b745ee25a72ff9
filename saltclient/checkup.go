package saltclient

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
)

// checkupLimit is how long a minion lets sp_wrapper check live, which waits 6 s for a gateway.
const checkupLimit = 12 * time.Second

// ExitMissing is the code that a publication of ours returns where the wrapper isn't at its path, ExitUnusable where it
// can't be executed.
const (
	ExitMissing  = 127
	ExitUnusable = 126
)

// errCheckup is under every error about what a question about wrappers would carry.
var errCheckup = errors.New("can't be asked through salt")

// Checkup is what a minion is asked about its wrapper.
type Checkup struct {
	Wrapper  string // path on the machine
	Cluster  string // UUID
	Identity string // wrapper_identity in force
	Pin      string
	URLs     []string
}

// Publication makes the question, without id and target. Like a launch it is one text for all minions and holds no secret.
func (c *Checkup) Publication() (Publication, error) {
	for what, text := range map[string]string{"cluster": c.Cluster, "pin": c.Pin} {
		if text == "" || strings.ContainsFunc(text, func(r rune) bool { return !plain(r) }) {
			return Publication{}, fmt.Errorf("%w: %s %q is malformed", errCheckup, what, text)
		}
	}
	if err := checkGateways(c.URLs); err != nil {
		return Publication{}, err
	}
	if err := checkPath(c.Wrapper); err != nil {
		return Publication{}, fmt.Errorf("%w: wrapper_path %q %w", errCheckup, c.Wrapper, err)
	}
	words := []string{
		"/bin/sh -c", quote(startScript), quote(c.Wrapper), "check --json --machine", machineWord, "--cluster", c.Cluster,
		"--urls", quote(strings.Join(c.URLs, ",")), "--pin", c.Pin,
	}
	if c.Identity == saltpeter.IdentitySaltKey {
		words = append(words, "--key", keyWord)
	}
	return Publication{Function: "cmd.run_all", Kwargs: runAll(strings.Join(words, " ")+stateWords, checkupLimit)}, nil
}
