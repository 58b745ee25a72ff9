package app

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/spf13/pflag"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/config"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/entry"
	"github.com/syscollective/saltpeter/internal/outlog"
)

func newFlags(t *testing.T) *pflag.FlagSet {
	t.Helper()
	fs := pflag.NewFlagSet("saltpeter", pflag.ContinueOnError)
	config.AddFlags(fs)
	return fs
}

func emptyFile(t *testing.T, dir string) string {
	t.Helper()
	path := dir + "/node.yaml"
	if err := os.WriteFile(path, []byte("{}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// applied drives a state machine without a cluster.
type applied struct {
	t     *testing.T
	a     *App
	index uint64
}

func newApplied(t *testing.T) *applied {
	a := &App{changes: newChanges()}
	a.machine = fsm.New(fsm.Options{FS: outlog.NewLossy(1), Dir: "/d", Changed: a.changes.add})
	t.Cleanup(func() {
		if err := a.machine.Close(); err != nil {
			t.Error(err)
		}
	})
	return &applied{t: t, a: a}
}

func (d *applied) do(c fsm.Command) any {
	d.t.Helper()
	b, err := fsm.Encode(fsm.Envelope{Millis: time.Now().UnixMilli(), Actor: "tester"}, c)
	if err != nil {
		d.t.Fatal(err)
	}
	d.index++
	got, ok := d.a.machine.Apply(&raft.Log{Index: d.index, Term: 1, Data: entry.Append(nil, b)}).([]any)
	if !ok || len(got) != 1 {
		d.t.Fatalf("%T: %v", c, d.a.machine.Err())
	}
	if r, refused := got[0].(*fsm.Refusal); refused {
		d.t.Fatalf("%T: %+v", c, r)
	}
	return got[0]
}

// testJob is a job that is due at every full minute, on all machines.
func testJob(name string) *saltpeter.Job {
	return &saltpeter.Job{
		Name: name, Targets: []string{"*"}, TargetType: "glob", UseWrapper: true, Start: saltpeter.StartClaim, OutputLimit: 1 << 20,
		Schedule: saltpeter.Schedule{Sec: "0", Min: "*", Hour: "*", Dom: "*", Mon: "*", Dow: "*", Year: "*"},
	}
}

// force puts jobs in force; they must come sorted.
func (d *applied) force(jobs ...*saltpeter.Job) {
	d.t.Helper()
	conf := &fsm.ApplyConfig{ID: "1", Last: true}
	for _, j := range jobs {
		enc, err := j.Encode()
		if err != nil {
			d.t.Fatal(err)
		}
		d.do(&fsm.PutDefinitions{Encoded: [][]byte{enc}})
		conf.Jobs = append(conf.Jobs, saltpeter.JobDigest{Name: j.Name, Digest: saltpeter.DigestOf(enc)})
	}
	settings, err := json.Marshal(saltpeter.DefaultSettings())
	if err != nil {
		d.t.Fatal(err)
	}
	conf.Settings = settings
	d.do(conf)
}
