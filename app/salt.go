package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/saltclient"
	"golang.org/x/sync/errgroup"
)

// SaltMaster is a Salt master on this host, with what serves it.
type SaltMaster interface {
	saltclient.Master
	Run(ctx context.Context) error
}

// openSalt finds this host's Salt master, if it has one, and joins it with those of the other nodes.
func (a *App) openSalt() error {
	open := a.opts.Seams.Salt
	if open == nil {
		open = ownMaster
	}
	var err error
	if a.ownMaster, err = open(a); err != nil {
		return err
	}
	a.masters = saltclient.NewMasters(saltclient.Options{
		Masters: a.saltMasters, Publication: a.publication, Logger: a.log.With("component", "saltclient"),
	})
	return nil
}

// ownMaster gives the bridge to this host's Salt master, nil where there is none.
func ownMaster(a *App) (SaltMaster, error) {
	n := &a.opts.Node
	if n.SaltConfig == "" {
		return nil, nil
	}
	_, err := os.Stat(filepath.Join(n.SaltConfig, "master"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for a Salt master's configuration: %w", err)
	}
	return saltclient.NewBridge(saltclient.BridgeOptions{
		Name: n.Name, Config: n.SaltConfig, Python: n.SaltPython, Logger: a.log.With("component", "saltclient"),
	}), nil
}

// runSalt serves this host's master and watches all, from when the settings in force first name Salt: where hosts play the
// machines, a master that one of them has is no business of ours.
func (a *App) runSalt(ctx context.Context) error {
	for {
		changed := a.changes.next()
		if rev := a.machine.View().Revision(); rev.Number > 0 && rev.Settings.Launcher == saltpeter.LauncherSalt {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	if a.ownMaster != nil {
		g.Go(func() error { return a.ownMaster.Run(ctx) })
	}
	g.Go(func() error { return a.masters.Run(ctx) })
	return g.Wait()
}

// saltMasters lists this host's master, then the endpoints, then the masters of the other nodes.
func (a *App) saltMasters() []saltclient.Master {
	var out []saltclient.Master
	if a.ownMaster != nil {
		out = append(out, a.ownMaster)
	}
	others, view := a.others(), a.machine.View()
	out = append(out, a.endpoints.masters(view.Settings().SaltAPI)...)
	for _, n := range view.Nodes() {
		if n.Salt && slices.Contains(others, n.ID) {
			out = append(out, &saltclient.Remote{Node: n.Name, Ask: a.asksSaltOf(n.ID), Term: a.leads.Load})
		}
	}
	return out
}

// asksSaltOf brings requests to another node's master.
func (a *App) asksSaltOf(id string) func(context.Context, []byte) ([]byte, error) {
	return func(ctx context.Context, request []byte) ([]byte, error) {
		b, err := a.node.Ask(ctx, id, cluster.High, peerSalt, request)
		if errors.Is(err, cluster.ErrUnknown) {
			return nil, fmt.Errorf("%w: %w", saltclient.ErrDoubtful, err)
		}
		return b, err
	}
}

// serveSalt has this host's master answer another node.
func (a *App) serveSalt(ctx context.Context, payload []byte) ([]byte, error) {
	if a.ownMaster == nil {
		return nil, errors.New("this node stands on no Salt master")
	}
	return saltclient.Serve(ctx, a.ownMaster, a.node.Status().Term, payload)
}

// heardLaunch tells all who wait for it that a launch's wrapper gave a sign.
func (a *App) heardLaunch(s saltpeter.LaunchSight) {
	a.scheduler.HeardLaunch(s.Launch, s.Machine)
	a.masters.Heard(s.Launch, s.Machine)
}

// saltState says for people how the way to Salt is; empty is well.
func (a *App) saltState() string {
	states := a.masters.States()
	if len(states) == 0 {
		return "no Salt connection: no node stands on a Salt master and no endpoint is given, so ticks are recorded as skipped (start a node on a master's host, write salt_api in saltpeter_config, or set launcher: local in saltpeter_config to let this host play the machines)"
	}
	var failing []string
	for _, s := range states {
		if s.Failing == "" {
			return ""
		}
		failing = append(failing, s.Failing)
	}
	return "no Salt master works: " + strings.Join(failing, "; ")
}

// saltReport tells how each master is.
func (a *App) saltReport() []api.SaltMaster {
	var out []api.SaltMaster
	for _, s := range a.masters.States() {
		out = append(out, api.SaltMaster{
			Name: s.Name, Version: s.Health.Version, Problem: s.Failing, Notes: s.Health.Notes, Since: api.Time(s.Since.UnixMilli()),
			PingMillis: s.Health.Took.Milliseconds(), Minions: s.Health.Minions, Waiting: s.Waiting, InFlight: s.InFlight,
		})
	}
	return out
}

// publication makes what starts a launch's wrappers.
func (a *App) publication(launch *saltpeter.Launch, job *saltpeter.Job, window time.Duration) (*saltclient.Publication, error) {
	s := saltclient.Starter{
		Cluster: a.ident.ClusterID, URLs: a.gatewayURLs, Secrets: a.launchSecrets,
		Identity: func() string { return a.machine.View().Settings().WrapperIdentity },
	}
	return s.Publication(launch, job, window)
}

// saltLauncher launches through Salt what can be launched so.
type saltLauncher struct{ *saltclient.Masters }

var errDirect = errors.New("use_wrapper: false and start: direct can't be launched through Salt by this version")

// Resolve refuses before anything is launched what would be executed by being published.
func (l saltLauncher) Resolve(ctx context.Context, job saltpeter.Job, subset []string, needUp bool) ([]saltpeter.Resolved, error) {
	if !job.UseWrapper || job.Start == saltpeter.StartDirect {
		return nil, errDirect
	}
	return l.Masters.Resolve(ctx, job, subset, needUp)
}
