package salt

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/syscollective/saltpeter/integration/rig"
	"github.com/syscollective/saltpeter/integration/salt/saltrig"
)

// listenScript writes down what anybody sees on a master's event bus, a JSON text a line.
const listenScript = `
import json, sys, salt.config, salt.utils.event
opts = salt.config.master_config(sys.argv[1])
with salt.utils.event.get_event("master", sock_dir=opts["sock_dir"], opts=opts, listen=True) as events:
    while True:
        got = events.get_event(wait=0.5, full=True, auto_reconnect=True)
        if got:
            print(json.dumps(got, default=repr), flush=True)
        elif got is None:
            print("null", flush=True)
`

// bus is the record of a master's event bus.
type bus struct {
	mu    sync.Mutex // guards text
	text  []byte
	heard chan struct{} // closed at the first line: it listens
}

// record writes the event bus of a master down until the test ends.
func record(t *testing.T, salt *saltrig.Rig, m saltrig.Master) *bus {
	t.Helper()
	b := &bus{heard: make(chan struct{})}
	cmd := exec.Command(salt.Python, "-c", listenScript, filepath.Join(m.Conf, "master"))
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var reader sync.WaitGroup
	reader.Go(func() {
		in := bufio.NewReader(out)
		for first := true; ; first = false {
			line, err := in.ReadBytes('\n')
			if err != nil {
				return
			}
			if first {
				close(b.heard)
			}
			if !bytes.Equal(line, []byte("null\n")) {
				b.mu.Lock()
				b.text = append(b.text, line...)
				b.mu.Unlock()
			}
		}
	})
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		reader.Wait()
		_ = cmd.Wait()
	})
	select {
	case <-b.heard:
	case <-time.After(30 * time.Second):
		t.Fatalf("the bus of %s is not heard", m.Name)
	}
	return b
}

func (b *bus) all() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.text)
}

// published is a launch as it stands on the bus.
type published struct {
	ID      string
	Command string // what each minion renders and splits
}

// launch waits for the launch of a run's machine on the bus.
func (b *bus) launch(w *world, run, machine string) published {
	w.t.Helper()
	var p published
	w.must(rig.WaitFor(w.ctx, 20*time.Second, "the launch on the bus", func() error {
		id := w.machine(run, machine).Launch
		for line := range bytes.Lines(b.all()) {
			var e struct {
				Tag  string `json:"tag"`
				Data struct {
					JID string            `json:"jid"`
					Arg []json.RawMessage `json:"arg"`
				} `json:"data"`
			}
			if json.Unmarshal(line, &e) != nil || id == "" || e.Data.JID != id || !strings.HasSuffix(e.Tag, "/new") {
				continue
			}
			for _, a := range e.Data.Arg {
				var kw struct {
					Cmd string `json:"cmd"`
				}
				if json.Unmarshal(a, &kw) == nil && kw.Cmd != "" {
					p = published{id, kw.Cmd}
					return nil
				}
			}
			return fmt.Errorf("no command in %s", line)
		}
		return fmt.Errorf("launch %q is not there", id)
	}))
	return p
}

// field gives what a launch says after a flag.
func (p published) field(t *testing.T, flag string) string {
	t.Helper()
	_, after, found := strings.Cut(p.Command, " "+flag+" ")
	value, _, _ := strings.Cut(after, " ")
	if !found || value == "" {
		t.Fatalf("no %s in %s", flag, p.Command)
	}
	return strings.Trim(value, "'")
}

// machine gives what the record says of a machine of a run; nothing while it is not there.
func (w *world) machine(run, id string) rig.Target {
	w.t.Helper()
	all, err := rig.List[rig.Target](w.ctx, w.c, "/runs/"+run+"/machines")
	w.must(err)
	for _, m := range all {
		if m.Machine == id {
			return m
		}
	}
	return rig.Target{}
}

// reaches waits until a machine is in one of the states.
func (w *world) reaches(run, id string, states ...string) rig.Target {
	w.t.Helper()
	var m rig.Target
	w.must(rig.WaitFor(w.ctx, 75*time.Second, run+" on "+id+" to be "+strings.Join(states, " or "), func() error {
		m = w.machine(run, id)
		for _, s := range states {
			if m.State == s {
				return nil
			}
		}
		return fmt.Errorf("it is %q %q", m.State, m.Text)
	}))
	return m
}

// configure adds a file of jobs, JSON being YAML, and waits until they are in force.
func (w *world) configure(name string, jobs map[string]map[string]any) {
	w.t.Helper()
	for _, j := range jobs {
		j["schedule"] = "@yearly"
	}
	text, err := json.Marshal(jobs)
	w.must(err)
	w.must(os.WriteFile(filepath.Join(w.c.Dir, "config", name+".yaml"), text, 0o600))
	w.must(rig.WaitFor(w.ctx, 30*time.Second, "jobs in force", func() error {
		for job := range jobs {
			var got struct{}
			if err := w.c.Get(w.ctx, "/jobs/"+job, &got); err != nil {
				return err
			}
		}
		return nil
	}))
}

// start starts a job by hand.
func (w *world) start(job string) (run string) {
	w.t.Helper()
	run, err := w.op.StartByHand(w.ctx, job)
	w.must(err)
	if run == "" {
		w.t.Fatalf("%s was not started", job)
	}
	return run
}

// salted runs one of Salt's programs on a master's host.
func (w *world) salted(ctx context.Context, m saltrig.Master, program string, args ...string) string {
	w.t.Helper()
	out, err := exec.CommandContext(ctx, filepath.Join(w.salt.Bin, program), append([]string{"-c", m.Conf}, args...)...).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%s %q: %v: %s", program, args, err, out)
	}
	return string(out)
}
