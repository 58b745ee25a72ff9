package app

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/saltclient"
)

// pingLimit is how long machines are waited for where somebody wants to know who is up.
const pingLimit = 10 * time.Second

// reach is the way to machines as the API sees it.
type reach struct{ a *App }

// Match gives what an expression matches now. Any node can tell: it has the masters that the leader has.
func (r reach) Match(ctx context.Context, kind string, targets []string, ping bool) (api.Matched, error) {
	set := r.a.machine.View().Settings()
	l := r.a.launcherFor(set)
	if l == nil {
		return api.Matched{}, noMaster(r.a.saltState())
	}
	out := api.Matched{TargetType: kind, Targets: targets, Launcher: set.Launcher, Pinged: ping, Machines: []api.MatchedMachine{}}
	var err error
	if set.Launcher == saltpeter.LauncherLocal {
		var found []saltpeter.Resolved
		found, err = l.Resolve(ctx, saltpeter.Job{TargetType: kind, Targets: targets}, nil, false)
		addPlayed(&out, found)
	} else {
		err = r.look(ctx, &out)
	}
	if err != nil {
		return api.Matched{}, err
	}
	if !ping || len(out.Machines) == 0 {
		return out, nil
	}
	up, err := pinged(ctx, l, &out)
	if err != nil {
		return api.Matched{}, saltpeter.Errorf(saltpeter.CodeUnavailable, "who is up can't be asked: %w", err).WithHint("see: spctl doctor")
	}
	for i := range out.Machines {
		m := &out.Machines[i]
		_, yes := slices.BinarySearch(up, m.Machine)
		m.Up = &yes
	}
	return out, nil
}

// pinger is what is asked who is up.
type pinger interface {
	Ping(ctx context.Context, machines []string) ([]string, error)
}

// pinged gives those of the matched machines that are up, sorted.
func pinged(ctx context.Context, l pinger, m *api.Matched) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, pingLimit)
	defer cancel()
	var known []string
	for i := range m.Machines {
		if m.Machines[i].Known {
			known = append(known, m.Machines[i].Machine)
		}
	}
	if len(known) == 0 {
		return nil, nil
	}
	up, err := l.Ping(ctx, known)
	slices.Sort(up)
	return up, err
}

// addPlayed adds the machines of this host, and those of a list that it does not play.
func addPlayed(out *api.Matched, found []saltpeter.Resolved) {
	for _, f := range found {
		out.Machines = append(out.Machines, api.MatchedMachine{Machine: f.Machine, Known: true})
	}
	if out.TargetType == "list" {
		for _, name := range out.Targets {
			if !slices.ContainsFunc(found, func(f saltpeter.Resolved) bool { return f.Machine == name }) {
				out.Machines = append(out.Machines, api.MatchedMachine{Machine: name})
				out.Unknown++
			}
		}
	}
	slices.SortFunc(out.Machines, func(a, b api.MatchedMachine) int { return strings.Compare(a.Machine, b.Machine) })
}

// look adds what the masters match.
func (r reach) look(ctx context.Context, out *api.Matched) error {
	seen, failed, err := r.a.masters.Look(ctx, saltclient.Expression{Type: out.TargetType, Text: out.Targets})
	switch {
	case errors.Is(err, saltclient.ErrExpression):
		return saltpeter.Errorf(saltpeter.CodeConfig, "%s: %s: %s", out.TargetType, strings.Join(out.Targets, ","), oneLine(err)).
			WithHint("correct targets or target_type of the job; nodegroups and range servers stand in the master's configuration")
	case err != nil && ctx.Err() == nil:
		return noMaster(oneLine(err))
	case err != nil:
		return err
	}
	for _, f := range failed {
		out.Failed = append(out.Failed, f.Error())
	}
	for _, s := range seen {
		m := api.MatchedMachine{Machine: s.Machine, Masters: s.Masters, Known: len(s.Masters) > 0}
		if !m.Known {
			out.Unknown++
		}
		out.Machines = append(out.Machines, m)
	}
	return nil
}

// oneLine gives what several masters said as one line.
func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func noMaster(why string) error {
	return saltpeter.Errorf(saltpeter.CodeUnavailable, "no Salt master could say: %s", why).WithHint("see: spctl doctor")
}
