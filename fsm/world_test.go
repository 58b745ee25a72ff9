package fsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/raft"
	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/entry"
	"github.com/syscollective/saltpeter/internal/outlog"
)

// t0 is the tests' first instant: 2026-11-23 00:00:00 UTC, in seconds.
const t0 = 1795392000

// world drives a machine as raft would.
type world struct {
	t     testing.TB
	m     *Machine
	index uint64
	term  uint64
	now   int64 // ms
	log   []raft.Log
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, term: 1, now: t0 * 1000}
	w.m = New(Options{FS: outlog.NewLossy(1), Dir: "/d"})
	t.Cleanup(func() {
		if err := w.m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return w
}

func (w *world) env() Envelope { return Envelope{Millis: w.now, Actor: "tester", Origin: "test"} }

// do applies one command in an entry of its own.
func (w *world) do(c Command) any {
	w.t.Helper()
	return w.doAs(w.env(), c)
}

// plan applies a command that the leadership of the present term planned.
func (w *world) plan(c Command) any {
	w.t.Helper()
	env := w.env()
	env.Term = w.term
	return w.doAs(env, c)
}

func (w *world) doAs(env Envelope, c Command) any {
	w.t.Helper()
	b, err := Encode(env, c)
	if err != nil {
		w.t.Fatalf("encode: %v", err)
	}
	w.index++
	l := raft.Log{Index: w.index, Term: w.term, Type: raft.LogCommand, Data: entry.Append(nil, b)}
	w.log = append(w.log, l)
	results, ok := w.m.Apply(&l).([]any)
	if !ok || len(results) != 1 {
		w.t.Fatalf("apply %T: %v", c, w.m.Err())
	}
	checkConsistent(w.t, w.m.state)
	return results[0]
}

// config puts jobs in force.
func (w *world) config(set saltpeter.Settings, jobs ...*saltpeter.Job) {
	w.t.Helper()
	c := &ApplyConfig{ID: string(rune('a'+w.index%26)) + "cfg" + string(rune('0'+w.index%10)), Last: true, FilesDigest: "f"}
	put := &PutDefinitions{}
	for _, j := range jobs {
		b, err := j.Encode()
		if err != nil {
			w.t.Fatal(err)
		}
		put.Encoded = append(put.Encoded, b)
		c.Jobs = append(c.Jobs, saltpeter.JobDigest{Name: j.Name, Digest: saltpeter.DigestOf(b)})
	}
	var err error
	if c.Settings, err = json.Marshal(set); err != nil {
		w.t.Fatal(err)
	}
	mustDone(w.t, w.do(put))
	mustDone(w.t, w.plan(c))
}

func testJob(name string) *saltpeter.Job {
	return &saltpeter.Job{Name: name, Group: "g", Command: "true", Targets: []string{"*"}, TargetType: "glob",
		Schedule:    saltpeter.Schedule{Sec: "*", Min: "*", Hour: "*", Dom: "*", Mon: "*", Dow: "*", Year: "*"},
		OutputLimit: 1 << 20, UseWrapper: true, Start: saltpeter.StartClaim}
}

// claim claims a tick of a job in force and gives the answer.
func (w *world) claim(name string, tick int64) saltpeter.ClaimResult {
	w.t.Helper()
	st, ok := w.m.View().Job(name)
	if !ok {
		w.t.Fatalf("job %s is not in force", name)
	}
	return w.plan(&ClaimRuns{Claims: []saltpeter.Claim{{Job: name, Digest: st.Digest, Tick: tick, Cause: "tick"}}}).(Claimed).Results[0]
}

// running claims a run on machines and launches its first batch.
func (w *world) running(name string, tick int64, machines ...string) (*saltpeter.Run, *saltpeter.Launch) {
	w.t.Helper()
	w.now = max(w.now, tick*1000)
	res := w.claim(name, tick)
	if res.Outcome != saltpeter.ClaimRun {
		w.t.Fatalf("claim %s@%d: %+v", name, tick, res)
	}
	mustDone(w.t, w.plan(&SetTargets{Run: res.Run, Attempt: "1", Last: true, Machines: machines}))
	l := w.plan(&LaunchBatch{Run: res.Run}).(BatchLaunched).Launch
	r, _ := w.m.View().Run(res.Run)
	return r, l
}

func (w *world) ask(l *saltpeter.Launch, target int, nonce byte) TargetAsked {
	w.t.Helper()
	return w.do(&StartTarget{Ask: askOf(l, target, nonce)}).(TargetAsked)
}

func askOf(l *saltpeter.Launch, target int, nonce byte) saltpeter.StartAsk {
	return saltpeter.StartAsk{Ref: refOf(l, target), Nonce: saltpeter.Nonce{nonce}, Ask: 1,
		Sight: saltpeter.LaunchSight{Launch: l.ID, Machine: l.Machines[target], BootID: "boot", Host: "host"}}
}

func refOf(l *saltpeter.Launch, target int) saltpeter.TargetRef {
	return saltpeter.TargetRef{Run: l.Run, Target: l.Targets[target]}
}

func (w *world) say(ref saltpeter.TargetRef, nonce byte, words ...saltpeter.Word) saltpeter.ReportAnswer {
	w.t.Helper()
	return w.do(&Report{Reports: []saltpeter.Report{{Ref: ref, Nonce: saltpeter.Nonce{nonce}, Words: words}}}).(Reported).Answers[0]
}

func (w *world) target(ref saltpeter.TargetRef) saltpeter.Target {
	w.t.Helper()
	t, ok := w.m.View().Target(ref)
	if !ok {
		w.t.Fatalf("no target %+v", ref)
	}
	return t
}

func (w *world) run(num uint64) *saltpeter.Run {
	w.t.Helper()
	r, ok := w.m.View().Run(num)
	if !ok {
		w.t.Fatalf("no run %d", num)
	}
	return r
}

func mustDone(t testing.TB, result any) {
	t.Helper()
	if r, bad := result.(*Refusal); bad {
		t.Fatalf("refused: %s", r.Message)
	}
}

func mustRefuse(t testing.TB, result any, code saltpeter.ErrorCode) {
	t.Helper()
	r, ok := result.(*Refusal)
	if !ok || r.Code != code {
		t.Fatalf("got %#v, want a refusal with code %s", result, code)
	}
}

// sink is a raft.SnapshotSink in memory.
type sink struct{ bytes.Buffer }

func (*sink) ID() string    { return "test" }
func (*sink) Cancel() error { return nil }
func (*sink) Close() error  { return nil }

// encodeState gives a machine's state as the bytes of a snapshot: equal states have equal bytes.
func encodeState(t testing.TB, m *Machine) []byte {
	t.Helper()
	snap, err := m.Snapshot()
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	var s sink
	if err := snap.Persist(&s); err != nil {
		t.Fatalf("persist: %v", err)
	}
	return s.Bytes()
}

func restored(t testing.TB, fs outlog.FS, dir string, snap []byte) *Machine {
	t.Helper()
	m := New(Options{FS: fs, Dir: dir})
	if err := m.Restore(io.NopCloser(bytes.NewReader(snap))); err != nil {
		t.Fatalf("restore: %v", err)
	}
	return m
}

func outKey(ref saltpeter.TargetRef) outlog.Key { return outlog.Key{Run: ref.Run, Target: ref.Target} }

// events reads the change feed.
func (w *world) events() []saltpeter.Event {
	w.t.Helper()
	var all []saltpeter.Event
	err := w.m.Feed().Read(1, func(_ uint64, rec []byte) bool {
		var e saltpeter.Event
		if err := cbor.Unmarshal(rec, &e); err != nil {
			w.t.Fatalf("decode event: %v", err)
		}
		all = append(all, e)
		return true
	})
	if err != nil {
		w.t.Fatalf("read feed: %v", err)
	}
	return all
}

func isUnknown(err error) bool { return errors.Is(err, ErrUnknownCommand) }
