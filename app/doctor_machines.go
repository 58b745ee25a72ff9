package app

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/saltclient"
)

const (
	// doctorPing and doctorAsk are how long machines have to answer a ping and the question about their wrapper.
	doctorPing = 6 * time.Second
	doctorAsk  = 14 * time.Second
	// doctorKeys is how many machines' keys are asked for at a time.
	doctorKeys = 8
)

// askDiagnosis has the leader look at machines, since only it publishes through all masters. Where none answers, this node
// does it through what it has itself.
func (a *App) askDiagnosis(ctx context.Context, machines []string) ([]api.Check, error) {
	if a.leads.Load() != 0 {
		return a.diagnoseMachines(ctx, machines)
	}
	if a.node.LeaderID() == "" {
		return a.diagnoseMachines(ctx, machines)
	}
	return ask[[]api.Check](ctx, a, cluster.Normal, askDoctor, machines)
}

// machineFacts is what was found about one machine.
type machineFacts struct {
	id     string
	keys   map[string][]byte // accepted ones, by master
	failed []error           // why masters could not tell
	up     bool
	asked  error // why nobody could ask it about its wrapper
	reply  *saltclient.Reply
}

// diagnoseMachines looks at machines one step after the other: who has no key can't answer, who doesn't answer can't be asked.
func (a *App) diagnoseMachines(ctx context.Context, machines []string) ([]api.Check, error) {
	var f findings
	set := a.machine.View().Settings()
	if set.Launcher == saltpeter.LauncherLocal {
		f.played(machines, localMachines(set))
		return f, nil
	}
	if !a.masters.Some() {
		return nil, nil // the one thing that is wrong is said in general
	}
	facts, known := a.keysOf(ctx, machines)
	up := a.whoIsUp(ctx, known)
	began, path := a.wall(), ""
	var replies map[string]saltclient.Reply
	var asked error
	if len(up) > 0 {
		path, replies, asked = a.askWrappers(ctx, set, up)
	}
	for i := range facts {
		m := &facts[i]
		m.up, m.asked = slices.Contains(up, m.id), asked
		if r, ok := replies[m.id]; ok {
			m.reply = &r
		}
		j := machineJudge{f: &f, m: m, path: path, began: began, byKey: set.WrapperIdentity != saltpeter.IdentityToken}
		j.judge()
	}
	return f, nil
}

// played judges machines where a host plays them.
func (f *findings) played(machines, played []string) {
	for _, id := range machines {
		if slices.Contains(played, id) {
			f.machine(api.LevelOK, "machine", id, "", "this host plays it")
			continue
		}
		f.machine(api.LevelFail, "machine", id, "name it in local_minions of saltpeter_config", "this host does not play it (launcher: local)")
	}
}

// keysOf asks the masters for machines' keys, and gives those that have one, or might.
func (a *App) keysOf(ctx context.Context, machines []string) (facts []machineFacts, known []string) {
	facts = make([]machineFacts, len(machines))
	var mu sync.Mutex // guards known
	var g errgroup.Group
	g.SetLimit(doctorKeys)
	for i, id := range machines {
		g.Go(func() error {
			keys, failed := a.masters.Accepted(ctx, id)
			facts[i] = machineFacts{id: id, keys: keys, failed: failed}
			if len(keys) > 0 {
				mu.Lock()
				defer mu.Unlock()
				known = append(known, id)
			}
			return nil
		})
	}
	_ = g.Wait() // none gives an error
	return facts, known
}

// whoIsUp pings. That no master could ask is told by what is said of the masters.
func (a *App) whoIsUp(ctx context.Context, machines []string) []string {
	if len(machines) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, doctorPing)
	defer cancel()
	up, err := a.masters.Ping(ctx, machines)
	if err != nil {
		a.log.Debug("ping for diagnosis failed", "err", err)
	}
	return up
}

// askWrappers has machines' wrappers check themselves.
func (a *App) askWrappers(ctx context.Context, set *saltpeter.Settings, machines []string) (string, map[string]saltclient.Reply, error) {
	path, urls := a.wrapperInUse()
	_, pin, err := a.launchSecrets(saltpeter.LaunchIDAt(a.wall()))
	if err != nil {
		return path, nil, err
	}
	q := saltclient.Checkup{Wrapper: path, Cluster: a.ident.ClusterID, Identity: set.WrapperIdentity, Pin: pin, URLs: urls}
	p, err := q.Publication()
	if err != nil {
		return path, nil, err
	}
	p.ID = a.questionID(machines)
	ctx, cancel := context.WithTimeout(ctx, doctorAsk)
	defer cancel()
	replies, err := a.masters.Ask(ctx, p, machines)
	if err != nil && ctx.Err() == nil {
		a.log.Info("no master took the question", "err", err)
	}
	return path, replies, err
}

// questionID draws an id for a publication that is no launch. A minion does not do an id that it has done already, so it must
// never be the one of a launch to come. The state machine hands out max(last + 1, the leader's now): each is larger than all
// before, and none lies an hour in the past unless a clock that is off by as much led. One that a launch of that hour had
// costs at most this question's answer; the record is looked at all the same.
func (a *App) questionID(machines []string) saltpeter.LaunchID {
	v := a.machine.View()
	for {
		id := saltpeter.LaunchIDAt(a.wall().Add(-time.Hour - rand.N(time.Hour)))
		if !slices.ContainsFunc(machines, func(m string) bool { return len(v.LaunchedOn(id, m)) > 0 }) {
			return id
		}
	}
}

// machine adds a check of a machine.
func (f *findings) machine(level, check, id, hint, format string, args ...any) {
	f.add(level, check, "", hint, format, args...)
	(*f)[len(*f)-1].Machine = id
}

// joined gives several errors in one line.
func joined(errs []error) string { return oneLine(errors.Join(errs...)) }
