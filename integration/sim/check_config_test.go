package sim

import (
	"slices"
	"strings"
	"time"

	"github.com/syscollective/saltpeter/fsm"
)

// settled is how old a change of a node's files must be to have been read by it: two quiet polls and one more.
const settled = 10 * time.Second

// checkConfig: a leader never turns the configuration back because its files lag. What an earlier revision had goes into force
// again only if the leader's files changed while it led.
func (w *world) checkConfig(log []*commit) {
	began := map[uint64]time.Time{} // by term
	var had []string                // digests of revisions, in order
	ids := map[string]bool{}
	for _, k := range log {
		if began[k.term].IsZero() {
			began[k.term] = k.at
		}
		for i, cmd := range k.cmds {
			x, ok := cmd.(*fsm.ApplyConfig)
			if _, done := k.results[i].(fsm.Done); !ok || !done || ids[x.ID] {
				continue
			}
			ids[x.ID] = true
			leader := strings.TrimPrefix(k.envs[i].Origin, "node ")
			changed := w.files.lastChange(leader, k.at)
			if slices.Contains(had, x.FilesDigest) && changed.Before(began[k.term].Add(-settled)) {
				w.hist.broken("config", "%s put a configuration of an earlier revision into force at %d, in its term since %s; its files are those of %s",
					leader, k.index, w.hist.clock(began[k.term]), w.hist.clock(changed))
			}
			had = append(had, x.FilesDigest)
		}
	}
}
