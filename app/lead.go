package app

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/launcher/local"
	"github.com/syscollective/saltpeter/scheduler"
)

// housekeepingEvery is how often retention and compaction are looked at.
const housekeepingEvery = 5 * time.Second

// lead is the leader's work in one term: the barrier has been passed.
func (a *App) lead(ctx context.Context, term uint64) error {
	rec := record{a, term}
	a.leads.Store(term)
	defer a.leads.Store(0)
	if a.keepTime(ctx, a.agreeSoon(ctx)) { // before anything is claimed
		<-ctx.Done()
		return nil
	}
	a.firing.begin()
	defer a.firing.end()
	if _, err := rec.do(ctx, cluster.Normal, &fsm.InitCluster{ClusterID: a.ident.ClusterID}); err != nil {
		return endOfLead(ctx, err)
	}
	if err := a.finishRecovery(ctx, rec); err != nil {
		return endOfLead(ctx, err)
	}
	for anew := false; ; anew = true {
		if err := a.leadEpoch(ctx, rec, anew); !errors.Is(err, errNewEpoch) {
			return err
		}
	}
}

// errNewEpoch ends the leader's work in an epoch: it begins again, by the same path as any leadership.
var errNewEpoch = errors.New("a new epoch began")

// leadEpoch does the leader's work until the leadership ends, or the record becomes another. anew says that the latter
// happened: the files are the configuration, so what the restored record has in force gives way to them.
func (a *App) leadEpoch(ctx context.Context, rec record, anew bool) error {
	begun := a.changes.epoch()
	if err := a.nameLaunchKey(ctx, rec); err != nil {
		return endOfLead(ctx, err)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return endOfLead(ctx, a.scheduler.Lead(ctx, rec.term)) })
	g.Go(func() error { return a.enforceFiles(ctx, anew) })
	g.Go(func() error { return a.keepHouse(ctx, rec) })
	g.Go(func() error { return a.watchClock(ctx) })
	g.Go(func() error {
		select {
		case <-begun:
			return errNewEpoch
		case <-ctx.Done():
			return nil
		}
	})
	return g.Wait()
}

// keepHouse proposes retention and compaction.
func (a *App) keepHouse(ctx context.Context, rec record) error {
	tick := time.NewTicker(housekeepingEvery)
	defer tick.Stop()
	seen := losses{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := errors.Join(a.retain(ctx, rec), a.nameLaunchKey(ctx, rec), a.forgetNodes(ctx, rec), a.giveUp(ctx, rec, seen)); err != nil {
			return endOfLead(ctx, err)
		}
		if from, to, ok := a.machine.Output().HalfDead(); ok {
			if _, err := rec.do(ctx, cluster.Low, &fsm.CompactOutput{From: from, To: to}); err != nil {
				return endOfLead(ctx, err)
			}
		}
	}
}

func (a *App) retain(ctx context.Context, rec record) error {
	for {
		got, err := rec.do(ctx, cluster.Low, &fsm.Retain{Round: a.machine.View().NextRetain()})
		if err != nil {
			return err
		}
		if !got.(fsm.Retained).More {
			return nil
		}
	}
}

// endOfLead gives nil for errors that only say that the leadership is over.
func endOfLead(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil || errors.Is(err, cluster.ErrNotLeader) || saltpeter.CodeOf(err) == saltpeter.CodeNoLeader {
		<-ctx.Done() // the cluster ends what it has lost
		return nil   //nolint:nilerr // the end of a leadership is no error of its work
	}
	return err
}

// launcherFor gives the launcher that settings name, nil where this node has none.
func (a *App) launcherFor(set *saltpeter.Settings) scheduler.Launcher {
	var l scheduler.Launcher
	switch {
	case set.Launcher == saltpeter.LauncherLocal:
		l = local.New(local.Options{
			Base: a.localBase(), Cluster: a.ident.ClusterID, URLs: a.gatewayURLs, Secrets: a.launchSecrets,
			Machines: func() []string { return localMachines(set) },
		})
	case a.masters.Some():
		l = saltLauncher{a.masters}
	default:
		return nil
	}
	if a.opts.Seams.Launcher != nil {
		l = a.opts.Seams.Launcher(l)
	}
	return l
}

func localMachines(set *saltpeter.Settings) []string {
	if len(set.LocalMinions) == 0 {
		return saltpeter.DefaultLocalMinions()
	}
	return set.LocalMinions
}

// launcherState says for people how the launcher is; empty is well.
func (a *App) launcherState(set *saltpeter.Settings) string {
	if set.Launcher == saltpeter.LauncherLocal {
		return ""
	}
	return a.saltState()
}

// gatewayURLs lists where wrappers of a job may dial: the address that the files give (saltpeter_server_host: a load balancer, or
// one that always leads to some node), then this node, then the other members.
func (a *App) gatewayURLs(job *saltpeter.Job) []string {
	var urls []string
	if job.ServerHost != "" {
		host := strings.Trim(job.ServerHost, "[]")
		urls = append(urls, "wss://"+net.JoinHostPort(host, strconv.Itoa(a.machine.View().Settings().WrapperPort)))
	}
	urls = append(urls, a.gatewayURL())
	members := a.node.Members()
	for _, n := range a.machine.View().Nodes() {
		member := slices.ContainsFunc(members, func(m cluster.Member) bool { return m.ID == n.ID })
		if member && n.ID != a.ident.NodeID && n.Gateway != "" {
			urls = append(urls, n.Gateway)
		}
	}
	return urls
}

// introduce tells the cluster who this node is, again whenever the record says something else.
func (a *App) introduce(ctx context.Context) error {
	for {
		me := ownProgram().record(a.ident.NodeID, a.opts.Node.Name)
		me.Gateway, me.Files, me.Salt = a.gatewayURL(), a.files.digest(), a.ownMaster != nil
		if a.nodeRecord(me.ID) != me {
			by := saltpeter.Actor{Name: me.Name, Origin: "node " + me.Name}
			call, cancel := context.WithTimeout(ctx, 10*time.Second)
			_, err := asked[fsm.Done](call, a, by, &fsm.SetNode{Node: me})
			cancel()
			if err != nil && ctx.Err() == nil {
				a.log.Debug("not introduced yet", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(2 * time.Second):
		}
	}
}
