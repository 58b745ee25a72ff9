package app

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/config"
)

// files is this node's configuration directory: what it says by now, and whether it was ever valid.
type files struct {
	node    *config.Node
	watcher *config.Watcher
	first   *config.Result // as of the start: ports come from it

	mu      sync.Mutex
	latest  *config.Result
	changed chan struct{} // closed at the next change
}

func newFiles(n *config.Node, log *slog.Logger) *files {
	f := &files{node: n, changed: make(chan struct{})}
	f.first = config.Load(n.ConfigDir)
	f.first.Settings = n.Override(f.first.Settings)
	f.latest = f.first
	for _, p := range f.first.Problems {
		log.Warn("configuration", "problem", p.String())
	}
	f.watcher = config.NewWatcher(n.ConfigDir, log, f.deliver)
	return f
}

func (f *files) run(ctx context.Context) error { return f.watcher.Run(ctx) }

func (f *files) deliver(r *config.Result) {
	r.Settings = f.node.Override(r.Settings)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latest = r
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *files) now() (*config.Result, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.latest, f.changed
}

func (f *files) settings() saltpeter.Settings { return f.first.Settings }

// problems lists what is wrong with the files, without the lines' text, which may hold what not everybody may read.
func (f *files) problems() []saltpeter.Problem {
	r, _ := f.now()
	out := slices.Clone(r.Problems)
	for i := range out {
		out[i].Source = ""
	}
	return out
}

func (f *files) digest() string {
	r, _ := f.now()
	return r.Digest
}

// candidate is a set of files that waits to be in force.
type candidate struct {
	id     string
	at     time.Time
	result *config.Result
}

// At gives the instant at which the files are to be in force.
func (c *candidate) At() time.Time { return c.at }

// enforceFiles puts this leader's files into force: when they change while it leads, and at the beginning of its
// leadership only if no revision ever had them, so that a node whose files lag behind never turns the cluster back. After a
// restore (anew) they go into force as they are.
func (a *App) enforceFiles(ctx context.Context, anew bool) error {
	start, moved := a.files.digest(), anew
	for {
		r, changed := a.files.now()
		moved = moved || r.Digest != start
		v := a.machine.View()
		inForce := r.Digest == v.Revision().FilesDigest && v.Revision().Number > 0
		if r.OK() && !inForce && (moved || !v.KnowsFiles(r.Digest)) {
			if err := a.scheduler.Apply(ctx, &candidate{id: newUUID(), at: a.wall(), result: r}); err == nil {
				a.log.Info("configuration in force", "jobs", len(r.Jobs), "files", len(r.Files), "digest", r.Digest[:12])
			} else if ctx.Err() == nil {
				a.log.Warn("configuration not applied", "err", err)
				if sleep(ctx, time.Second) {
					continue
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// gatewayURL is where wrappers reach this node.
func (a *App) gatewayURL() string {
	if a.listeners.wrapper == nil {
		return ""
	}
	host, port, err := net.SplitHostPort(a.listeners.wrapper.Addr().String())
	if err != nil {
		return ""
	}
	if advertised := a.opts.Node.AdvertiseHost(); a.opts.Node.Advertise != "" {
		host = advertised
	} else if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = a.reachableHost()
	}
	return "wss://" + net.JoinHostPort(host, port)
}

// reachableHost is the name under which others may reach a node that listens on every address: this host itself where it
// plays the machines, else its name.
func (a *App) reachableHost() string {
	if a.files.settings().Launcher == saltpeter.LauncherLocal {
		return "127.0.0.1"
	}
	return a.opts.Node.Name
}
