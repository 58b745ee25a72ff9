package salt

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
	"github.com/syscollective/saltpeter/integration/salt/saltrig"
)

// openSalt has Salt write down all that it can.
func openSalt(o *saltrig.Options) {
	o.MasterOpts = map[string]any{"log_level_logfile": "all"}
	o.MinionOpts = map[string]any{"log_level_logfile": "all"}
}

func secretJob(secret, targets string, more map[string]any) map[string]any {
	j := map[string]any{
		"command": fmt.Sprintf(`[ "$TOP_SECRET" = '%s' ] && echo it is known; sleep 4`, secret),
		"env":     map[string]any{"TOP_SECRET": secret},
		"targets": targets, "target_type": "list", "cwd": "/", "user": "root",
	}
	for k, v := range more {
		j[k] = v
	}
	return j
}

// A secret in a job's command and environment reaches the command and nothing else: no job cache, event bus or log of Salt, no
// command line of anything else, no log or file name of ours, nothing that a wrapper keeps. The same search finds a word that is
// given to Salt, and one that names a job.
func TestCanary(t *testing.T) {
	w := begin(t, []*rig.Job{{Name: rig.JobHand, Targets: "m1", Machines: 1}}, openSalt)
	secret, plant := "canary"+rand.Text(), "planted"+rand.Text()
	var buses []*bus
	for _, m := range w.salt.Masters {
		buses = append(buses, record(t, w.salt, m))
	}
	w.configure("secret", map[string]map[string]any{
		"secretive":   secretJob(secret, "m1,m2,m3,m4,m5,m6", nil),
		"nowhere":     secretJob(secret, "m1,m2", map[string]any{"wrapper_path": "/nonexistent/sp_wrapper", "start_window": 10}),
		"no-such-job": secretJob(secret, "m3", map[string]any{"user": "no-such-user"}),
		plant:         {"command": "true", "targets": "m1", "target_type": "list", "cwd": "/", "user": "root"},
	})
	seen := watchFor(searchFor(secret), w.c.Bin.Wrapper)
	marked := watchFor(searchFor(plant), w.c.Bin.Wrapper)
	run := w.start("secretive")
	for _, id := range w.salt.IDs() {
		w.reaches(run, id, "started", "ok")
	}
	w.must(w.salt.Kill("mn05")) // while its command runs
	w.absent(secret, "while commands run")
	nowhere, noUser := w.start("nowhere"), w.start("no-such-job")
	w.plant(plant)
	for _, id := range w.salt.IDs() {
		if got := w.reaches(run, id, "ok", "failed", "lost", "unreachable", "not-started"); got.State != "ok" || got.Stored != len("it is known\n") {
			t.Errorf("%s: %+v", id, got)
		}
	}
	if got := w.reaches(noUser, "m3", "ok", "failed", "not-started"); got.State != "not-started" && got.State != "failed" {
		t.Errorf("without the user: %+v", got)
	}
	for _, id := range []string{"m1", "m2"} {
		if got := w.reaches(nowhere, id, "ok", "failed", "not-started", "unreachable"); got.State != "not-started" {
			t.Errorf("without the wrapper, %s: %+v", id, got)
		}
	}
	found, owned, rounds := seen.end()
	t.Logf("%d looks at all processes; the commands' own had the secret %d times", rounds, owned)
	if len(found) > 0 || owned == 0 {
		t.Errorf("the secret was seen %d times in the commands' own processes, and elsewhere: %s", owned, strings.Join(found, "\n"))
	}
	if found, _, _ := marked.end(); len(found) == 0 {
		t.Error("a word that Salt was given was seen in no command line")
	}
	w.absent(secret, "afterwards")
	for i, b := range buses {
		if text := b.all(); searchFor(secret).in(text) || !searchFor(plant).in(text) {
			t.Errorf("the bus of %s: the secret %v, the planted word %v", w.salt.Masters[i].Name, searchFor(secret).in(text), searchFor(plant).in(text))
		}
	}
	w.present(plant)
}

// plant gives a word to Salt, through each master, and to us where it may be seen.
func (w *world) plant(word string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, 40*time.Second)
	defer cancel()
	for _, m := range w.salt.Masters {
		w.salted(ctx, m, "salt", "m6", "cmd.run", "sleep 0.5; echo "+word)
	}
	w.reaches(w.start(word), "m1", "ok")
}

// absent searches all that Salt and we leave on disks. Our own record and configuration have it.
func (w *world) absent(secret, when string) {
	w.t.Helper()
	except := []string{filepath.Join(w.c.Dir, "config"), filepath.Join(w.c.Dir, "bin")}
	for _, n := range w.c.Nodes {
		except = append(except, filepath.Join(n.Dir, "data"))
	}
	total := 0
	for _, dir := range []string{w.salt.Dir, w.c.Dir} {
		found, files, err := searchFor(secret).below(dir, except...)
		w.must(err)
		total += files
		if len(found) > 0 {
			w.t.Errorf("%s the secret is in %s", when, strings.Join(found, "\n"))
		}
	}
	w.t.Logf("%s: searched %d files", when, total)
}

// present checks that a word which was given to Salt is found in each of the places that are searched.
func (w *world) present(word string) {
	w.t.Helper()
	places := map[string]string{"minion's log": filepath.Join(w.salt.Dir, "mn06", "logs")}
	for _, m := range w.salt.Masters {
		places["job cache of "+m.Name] = filepath.Join(w.salt.Dir, m.Name, "cache", "jobs")
		places["log of "+m.Name] = filepath.Join(w.salt.Dir, m.Name, "logs")
	}
	for _, n := range w.c.Nodes {
		places["job logs of "+n.Name] = filepath.Join(n.Dir, "log")
	}
	for what, dir := range places {
		if found, _, err := searchFor(word).below(dir); err != nil || len(found) == 0 {
			w.t.Errorf("a planted word is not found in the %s (%s): %v", what, dir, err)
		}
	}
	journal := filepath.Join(w.salt.Dir, "mn01", "sp_wrapper")
	if _, err := os.Stat(journal); err != nil {
		w.t.Errorf("the wrapper's directory was not searched: %v", err)
	}
}
