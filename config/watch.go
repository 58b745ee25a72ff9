package config

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// pollEvery is the time between two looks at the directory.
	pollEvery = 2 * time.Second
	// quietPolls is how many polls in a row must see nothing new before a change is read: an editor or a deployment may be at work.
	quietPolls = 2
)

// ErrStopped is returned by Reload once the watcher doesn't run any more.
var ErrStopped = errors.New("configuration watcher has stopped")

// Watcher loads a directory and loads it again when it has changed and been quiet for two polls. It decides nothing: who gets its
// results keeps the last good one in force.
type Watcher struct {
	dir     string
	deliver func(*Result)
	log     *slog.Logger
	read    func(dir string) *Result // Load, but for tests
	reload  chan chan *Result
	stopped chan struct{}
}

// NewWatcher makes a watcher of a directory. deliver is called from Run's goroutine with every new result, good or broken; while it
// works nothing is polled.
func NewWatcher(dir string, log *slog.Logger, deliver func(*Result)) *Watcher {
	return &Watcher{dir: dir, deliver: deliver, log: log, read: Load, reload: make(chan chan *Result), stopped: make(chan struct{})}
}

// Run loads at once, then polls until the context ends; it always returns the context's error. It may be called once.
func (w *Watcher) Run(ctx context.Context) error {
	defer close(w.stopped)
	ticker := time.NewTicker(pollEvery)
	defer ticker.Stop()
	p := &poller{Watcher: w}
	p.load(true)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case reply := <-w.reload:
			reply <- p.load(true)
		case <-ticker.C:
			p.poll()
		}
	}
}

// Reload loads now, whether something changed or not, and delivers and returns the result.
func (w *Watcher) Reload(ctx context.Context) (*Result, error) {
	reply := make(chan *Result, 1)
	select {
	case w.reload <- reply:
		return <-reply, nil
	case <-w.stopped:
		return nil, ErrStopped
	case <-ctx.Done():
		return nil, fmt.Errorf("reload configuration: %w", ctx.Err())
	}
}

// poller is the state of Run's goroutine.
type poller struct {
	*Watcher
	loaded string // the directory's stamp when it was read
	seen   string // at the last poll
	quiet  int    // polls in a row without a change
	last   string // what was delivered, see fingerprint
}

// poll looks at the directory and loads a change that has been quiet.
func (p *poller) poll() {
	stamp := stampDir(p.dir)
	switch {
	case stamp == p.loaded:
		p.seen, p.quiet = stamp, 0
		return
	case stamp != p.seen:
		p.seen, p.quiet = stamp, 0
		return
	}
	if p.quiet++; p.quiet >= quietPolls {
		p.load(false)
	}
}

// load reads the directory as a whole and delivers what is new, or anything where force is set. If the directory changes while it is
// being read, the result may be of two halves: it waits for the polls that follow, except where force is set.
func (p *poller) load(force bool) *Result {
	p.loaded = stampDir(p.dir)
	p.seen, p.quiet = p.loaded, 0
	r := p.read(p.dir)
	if after := stampDir(p.dir); after != p.loaded && !force {
		p.loaded, p.seen = "", after
		return r
	}
	now := fingerprint(r)
	if now == p.last && !force {
		return r
	}
	p.last = now
	p.log.Info("configuration read", "dir", p.dir, "summary", r.Summary(), "digest", r.Digest)
	p.deliver(r)
	return r
}

// fingerprint tells results apart: the contents, and the problems that don't come from them.
func fingerprint(r *Result) string {
	var b strings.Builder
	b.WriteString(r.Digest)
	for _, p := range r.Problems {
		b.WriteString("\n" + p.String())
	}
	return b.String()
}

// stampDir gives a text that changes when something in the directory that matters does.
func stampDir(dir string) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "unreadable: " + cause(err).Error()
	}
	var b strings.Builder
	for _, e := range entries {
		if name := e.Name(); isConfig(name) || strings.HasSuffix(name, ".yml") {
			stampFile(&b, filepath.Join(dir, name), name)
		}
	}
	return b.String()
}

func stampFile(b *strings.Builder, path, name string) {
	info, err := os.Stat(path) // through links: /etc may hold links into a checkout
	if err != nil {
		fmt.Fprintf(b, "%q %v\n", name, cause(err))
		return
	}
	inode, changed := fileStamp(info)
	fmt.Fprintf(b, "%q %d %d %d %d %v\n", name, info.Size(), info.ModTime().UnixNano(), inode, changed, info.Mode())
}
