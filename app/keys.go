package app

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/fsm"
)

const (
	// nameKeyWait bounds how long the first naming of a key may keep a leader from its work.
	nameKeyWait = 2 * time.Second
	// namedRuns is how many runs an error names.
	namedRuns = 10
)

// nameLaunchKey says in the record under which of the cluster's keys launches are made from now on: this leader's first. Whoever
// publishes one of them, now or after a takeover, takes that key. As long as a member's program is too old for it, and from
// before it was said, launches go out under the publisher's first key.
func (a *App) nameLaunchKey(ctx context.Context, rec record) error {
	if a.machine.View().NewestLaunchKey() == a.ring.Newest() {
		return nil
	}
	short, cancel := context.WithTimeout(ctx, nameKeyWait)
	defer cancel()
	_, err := rec.do(short, cluster.Normal, &fsm.SetLaunchKey{Key: a.ring.Newest()})
	if errors.Is(err, errTooOld) || short.Err() != nil && ctx.Err() == nil {
		a.log.Debug("key of launches not named yet", "err", err)
		return nil // it is tried again
	}
	return err
}

// launchSecrets gives what a launch carries, under the key that the record names for it.
func (a *App) launchSecrets(id saltpeter.LaunchID) (token, pin string, err error) {
	v := a.machine.View()
	key := v.LaunchKey(id)
	token, p, ok := a.ring.Launch(key, v.Epoch(), a.ident.ClusterID, id.String())
	if !ok {
		return "", "", saltpeter.Errorf(saltpeter.CodeConfig, "launch %s was made under the key %s, which %s does not list", id, key, a.keyPath())
	}
	return token, p.String(), nil
}

// keyPath gives where this node's keys stand.
func (a *App) keyPath() string {
	return cmp.Or(a.opts.Node.KeyFile, filepath.Join(a.opts.Node.DataDir, "key"))
}

// watchKeys ends a node whose key file lacks a key that is needed: the wrappers of runs that were launched under it would find
// no gateway here. What is unfinished is known once the record is as new as the leader's; a snapshot alone may be old.
func (a *App) watchKeys(ctx context.Context) error {
	for {
		if _, err := a.node.Barrier(ctx); err == nil {
			return a.checkKeys()
		}
		if !sleep(ctx, time.Second) {
			return nil
		}
	}
}

// checkKeys says which keys are needed and not listed.
func (a *App) checkKeys() error {
	for key, runs := range a.machine.View().KeysInUse() {
		if a.ring.Lists(key) { // as it does the empty one
			continue
		}
		var names []string
		for _, r := range runs {
			names = append(names, r.ID)
		}
		slices.Sort(names)
		more := ""
		if len(names) > namedRuns {
			more = ", …"
		}
		return saltpeter.Errorf(saltpeter.CodeConfig, "%s does not list the key %s, under which %d unfinished runs were launched: %s%s",
			a.keyPath(), key, len(names), strings.Join(names[:min(len(names), namedRuns)], ", "), more).
			WithHint("put that key's line back below the first until they are finished, or kill them on another node: spctl runs --state unfinished")
	}
	return nil
}
