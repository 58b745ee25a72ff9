package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/saltclient"
)

const (
	// diagnoseLimit bounds a whole diagnosis, below what spctl waits by default.
	diagnoseLimit = 27 * time.Second
	// unfilteredMinions is how many minions may take every publish before that is worth a warning.
	unfilteredMinions = 500
)

// brokenSalt are versions of Salt that are known not to work well, and why.
var brokenSalt = map[string]string{
	"3008.0": "tokens of its API end within a minute, and its runners say that all minions are up",
	"3008.1": "tokens of its API end within a minute, and its runners say that all minions are up",
}

// Diagnose implements api.Reach: the way in general as this node finds it, and machines as the leader does, which publishes to
// them.
func (r reach) Diagnose(ctx context.Context, machines []string) (api.Health, error) {
	ctx, cancel := context.WithTimeout(ctx, diagnoseLimit)
	defer cancel()
	var f findings
	var theirs []api.Check
	var g errgroup.Group
	g.Go(func() error {
		r.a.diagnoseWay(ctx, &f)
		return nil
	})
	if len(machines) > 0 {
		g.Go(func() (err error) {
			theirs, err = r.a.askDiagnosis(ctx, machines)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return api.Health{}, err
	}
	f = append(f, theirs...)
	rank := map[string]int{api.LevelFail: 0, api.LevelWarn: 1, api.LevelOK: 2}
	slices.SortStableFunc(f, func(x, y api.Check) int { return cmp.Compare(rank[x.Level], rank[y.Level]) })
	return api.Health{Checks: f, Healthy: !slices.ContainsFunc(f, func(k api.Check) bool { return k.Level == api.LevelFail })}, nil
}

// diagnoseWay looks at what all machines have in common.
func (a *App) diagnoseWay(ctx context.Context, f *findings) {
	set := a.machine.View().Settings()
	salt := set.Launcher == saltpeter.LauncherSalt
	if salt {
		f.masters(a.masters.Examine(ctx))
		f.identity(set.WrapperIdentity)
	} else {
		f.add(api.LevelOK, "launcher", "", "", "this host plays the machines (launcher: local), Salt is not used")
	}
	_, urls := a.wrapperInUse()
	lookup := a.opts.Seams.Lookup
	if lookup == nil {
		lookup = net.DefaultResolver.LookupHost
	}
	f.gateways(ctx, urls, salt, lookup)
	cl, _ := members{a}.look(ctx)
	f.clocks(&cl)
}

// masters judges the ways to Salt.
func (f *findings) masters(states []saltclient.MasterState) {
	if len(states) == 0 {
		f.add(api.LevelFail, "launcher", "", "start a node on a master's host, write salt_api in saltpeter_config, or set launcher: local there to let this host play the machines",
			"no node stands on a Salt master and no endpoint is given: nothing can be started")
		return
	}
	works := slices.ContainsFunc(states, func(s saltclient.MasterState) bool { return s.Err == nil })
	for i := range states {
		if s := &states[i]; s.Err == nil {
			f.master(s.Name, &s.Health)
			continue
		}
		level, hint := api.LevelFail, "is salt-master running there? systemctl status salt-master; what its node says is in that node's log"
		if works {
			level = api.LevelWarn // the others launch
		}
		if errors.Is(states[i].Err, saltclient.ErrDenied) {
			hint = "the node must run as the master's user, or its API user needs the rights of docs/salt.md"
		}
		f.add(level, "master", "", hint, "%s", oneLine(states[i].Err))
	}
}

// master judges one that answers.
func (f *findings) master(name string, h *saltclient.Health) {
	before := len(*f)
	if why := brokenSalt[h.Version]; why != "" {
		f.add(api.LevelWarn, "master", "", "upgrade to 3008.2 or newer", "%s runs Salt %s, which is known to be broken: %s", name, h.Version, why)
	}
	if !h.Filtered && h.Minions > unfilteredMinions && h.Version != "" { // a master that may not tell its version doesn't tell this either
		f.add(api.LevelWarn, "master", "", "set zmq_filtering: True on the master and on all minions, and restart them",
			"%s sends every publish to all of its %d minions (zmq_filtering is off)", name, h.Minions)
	}
	if h.Minions == 0 && h.Notes == "" { // the notes say where it can't be counted
		f.add(api.LevelWarn, "master", "", "accept the minions' keys: salt-key -L, salt-key -a MINION", "%s has accepted no key", name)
	}
	if h.Notes != "" {
		f.add(api.LevelWarn, "master", "", "", "%s: %s", name, h.Notes)
	}
	if len(*f) == before {
		f.add(api.LevelOK, "master", "", "", "%s answers in %s: Salt %s, %d accepted keys", name, h.Took.Round(time.Millisecond), cmp.Or(h.Version, "of unknown version"), h.Minions)
	}
}

func (f *findings) identity(kind string) {
	if kind == saltpeter.IdentityToken {
		f.add(api.LevelWarn, "identity", "", "set wrapper_identity: salt-key where wrappers can read their minion's key (docs/security.md)",
			"wrapper_identity: token: whoever reads Salt's event bus can start as any machine of a launch")
		return
	}
	f.add(api.LevelOK, "identity", "", "", "machines prove themselves by their Salt keys")
}

// clocks judges the members' clocks; that nobody leads leaves them unknown.
func (f *findings) clocks(cl *api.Cluster) {
	if cl.Leader == "" {
		f.add(api.LevelFail, "leader", "", "see: spctl cluster health", "no leader is known: nothing starts")
		return
	}
	before := len(*f)
	for i := range cl.Members {
		if m := &cl.Members[i]; m.ClockMillis != nil {
			f.clock(m.Name, time.Duration(*m.ClockMillis)*time.Millisecond)
		}
	}
	if len(*f) == before {
		f.add(api.LevelOK, "clock", "", "", "the nodes' clocks agree")
	}
}

// gateways judges the addresses that launches carry. Loopback is right only where all machines are this host.
func (f *findings) gateways(ctx context.Context, urls []string, salt bool, lookup func(context.Context, string) ([]string, error)) {
	before := len(*f)
	for _, text := range urls {
		u, err := url.Parse(text)
		if err != nil {
			f.add(api.LevelFail, "gateway", "", "see --advertise and saltpeter_server_host", "launches carry %q, which is no address", text)
			continue
		}
		addrs := []string{u.Hostname()}
		if _, err := netip.ParseAddr(u.Hostname()); err != nil {
			if addrs, err = lookup(ctx, u.Hostname()); err != nil {
				f.add(api.LevelWarn, "gateway", "", "write an address, or a name that machines can resolve: --advertise of that node, or saltpeter_server_host",
					"launches carry %s, which this node can't resolve: %v", text, err)
				continue
			}
		}
		if salt && slices.ContainsFunc(addrs, nowhere) {
			f.add(api.LevelWarn, "gateway", "", "give the nodes addresses that machines reach: --advertise, or saltpeter_server_host in saltpeter_config",
				"launches carry %s, which wrappers on other hosts can't reach", text)
		}
	}
	if len(*f) == before {
		f.add(api.LevelOK, "gateway", "", "", "launches carry %s", list(urls))
	}
}

// nowhere reports whether an address leads other hosts to themselves, or nowhere.
func nowhere(text string) bool {
	addr, err := netip.ParseAddr(text)
	return err == nil && (addr.IsLoopback() || addr.IsUnspecified())
}

// list gives some names of many.
func list(names []string) string {
	const most = 5
	if len(names) <= most {
		return fmt.Sprint(names)
	}
	return fmt.Sprintf("%v and %d more", names[:most], len(names)-most)
}

// wrapperInUse gives the path of the wrapper that most jobs use, and all addresses that jobs' wrappers dial.
func (a *App) wrapperInUse() (path string, urls []string) {
	uses := map[string]int{}
	hosts := []*saltpeter.Job{}
	a.machine.View().Jobs("", func(st saltpeter.JobStatus) bool {
		if j := st.Job; j.UseWrapper && j.Start != saltpeter.StartDirect {
			uses[j.WrapperPath]++
			if len(hosts) < maxServerHosts && !slices.ContainsFunc(hosts, func(o *saltpeter.Job) bool { return o.ServerHost == j.ServerHost }) {
				hosts = append(hosts, j)
			}
		}
		return true
	})
	path = defaultWrapperPath
	most := 0
	for p, n := range uses {
		if n > most || n == most && p < path {
			path, most = p, n
		}
	}
	if len(hosts) == 0 {
		hosts = append(hosts, new(saltpeter.Job))
	}
	for _, j := range hosts {
		for _, u := range a.gatewayURLs(j) {
			if !slices.Contains(urls, u) {
				urls = append(urls, u)
			}
		}
	}
	return path, urls
}

const (
	// maxServerHosts is how many different values of saltpeter_server_host are looked at.
	maxServerHosts = 8
	// defaultWrapperPath is where the state in deploy/salt puts the wrapper.
	defaultWrapperPath = "/usr/local/bin/sp_wrapper"
)
