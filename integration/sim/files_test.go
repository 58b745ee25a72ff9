package sim

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// files are the configuration files of all nodes.
type files struct {
	w *world

	mu          sync.Mutex // guards what follows
	jobs        []job
	maintenance string // a machine under maintenance by the files, or empty
	broken      *node  // whose file can't be read until the next change
	texts       []string
	changes     map[string][]time.Time // when a node's files became other ones
}

func newFiles(w *world) *files {
	f := &files{w: w, jobs: append([]job(nil), w.plan.jobs...), changes: map[string][]time.Time{}}
	for _, n := range w.nodes {
		f.write(n)
	}
	return f
}

func (f *files) text() string {
	var b strings.Builder
	b.WriteString("saltpeter_config:\n  launcher: local\n  auth: none\n  default_wrapper_loglevel: 'off'\n")
	names := make([]string, 0, len(f.w.plan.machines))
	names = append(names, f.w.plan.machines...)
	fmt.Fprintf(&b, "  local_minions: [%s]\n  logdir: %s\n", strings.Join(names, ", "), filepath.Join(f.w.dir, "logs"))
	for _, line := range f.w.plan.settings {
		b.WriteString("  " + line + "\n")
	}
	if f.maintenance != "" {
		fmt.Fprintf(&b, "saltpeter_maintenance:\n  machines: [%s]\n", f.maintenance)
	}
	for _, j := range f.jobs {
		j.yaml(&b)
	}
	return b.String()
}

// write puts the present text into one node's directory.
func (f *files) write(n *node) {
	text := f.text()
	if !slices.Contains(f.texts, text) {
		f.texts = append(f.texts, text)
	}
	if n == f.broken {
		text = "saltpeter_config: [what?\n" + text
	}
	f.put(n, text)
}

func (f *files) put(n *node, text string) {
	path := filepath.Join(n.config, "jobs.yaml")
	f.changes[n.name] = append(f.changes[n.name], time.Now())
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		f.w.t.Error(err)
		return
	}
	if err := os.Rename(path+".new", path); err != nil {
		f.w.t.Error(err)
	}
}

// noteChange says that a node may read what was written while it was stopped.
func (f *files) noteChange(n *node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changes[n.name] = append(f.changes[n.name], time.Now())
}

// lastChange gives when a node's files changed last before an instant.
func (f *files) lastChange(name string, before time.Time) (last time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, at := range f.changes[name] {
		if !at.After(before) {
			last = at
		}
	}
	return last
}

// lag gives a node files that are older than the others': from a backup, or by a deployment that left it out.
func (f *files) lag(ev event, n *node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.w.hist.fault(ev.kind, "%s has files of before", n.name)
	f.put(n, f.texts[ev.y%uint64(len(f.texts))])
}

// change edits the files on all nodes, or on one alone.
func (f *files) change(ev event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.broken = nil
	what := f.edit(ev.x)
	if ev.y%3 == 0 {
		n := f.w.nodes[ev.y/3%uint64(len(f.w.nodes))]
		f.w.hist.fault("config", "%s, on %s alone", what, n.name)
		f.write(n)
		return
	}
	f.w.hist.fault("config", "%s", what)
	for _, n := range f.w.nodes {
		f.write(n)
	}
}

func (f *files) edit(x uint64) string {
	i := int(x / 8 % uint64(len(f.jobs)))
	j := &f.jobs[i]
	switch x % 8 {
	case 0, 1:
		j.seconds = []string{"*/4", "*/6", "11,12,40"}[x/64%3]
		return j.name + " is due at " + j.seconds
	case 2, 3:
		j.script.code = int(x / 64 % 3)
		return fmt.Sprintf("%s ends with code %d", j.name, j.script.code)
	case 4:
		if f.maintenance == "" {
			f.maintenance = f.w.plan.machines[0]
			return "maintenance of " + f.maintenance
		}
		f.maintenance = ""
		return "no maintenance"
	case 5:
		if len(f.jobs) > 1 {
			name := j.name
			f.jobs = append(f.jobs[:i:i], f.jobs[i+1:]...)
			return name + " is gone"
		}
		return "nothing"
	case 6:
		n := f.w.nodes[x/64%uint64(len(f.w.nodes))]
		f.broken = n
		return "a broken file on " + n.name
	default:
		again := f.w.plan.jobs[x/64%uint64(len(f.w.plan.jobs))]
		for _, have := range f.jobs {
			if have.name == again.name {
				return "nothing"
			}
		}
		f.jobs = append(f.jobs, again)
		return again.name + " is back"
	}
}
