package fsm

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/entry"
	"github.com/syscollective/saltpeter/internal/outlog"
	"pgregory.net/rapid"
)

// liveWorld has a run in every stage.
func liveWorld(t testing.TB) *world {
	w := newWorld(t)
	a, b := testJob("a"), testJob("b")
	a.AllowOverlap, b.AllowOverlap = true, true
	b.Batch = saltpeter.Batch{Size: 1}
	w.config(saltpeter.DefaultSettings(), a, b)
	r, l := w.running("a", t0+1, "m0", "m1", "m2", "m3")
	for i := range 3 {
		w.ask(l, i, 1)
	}
	w.say(refOf(l, 1), 1, saltpeter.Word{Kind: saltpeter.WordOutput, Seq: 1, Data: []byte("x")})
	w.say(refOf(l, 2), 1, saltpeter.Word{Kind: saltpeter.WordStarted})
	w.plan(&EndTargets{Run: r.Num, Ends: []saltpeter.TargetEnd{{Target: 2, From: saltpeter.Started, State: saltpeter.Lost}}})
	w.running("b", t0+2, "m0", "m1")
	w.claim("a", t0+2)
	done, l := w.running("b", t0+3, "m1")
	w.ask(l, 0, 1)
	w.say(refOf(l, 0), 1, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 1})
	if w.run(done.Num).State != saltpeter.RunOK {
		t.Fatal("the fourth run is not ok")
	}
	return w
}

// TestHostileCommands: whatever fields a command has, apply neither panics nor leaves a state that contradicts itself, and a
// snapshot of it loads.
func TestHostileCommands(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := liveWorld(t)
		draw := &random{t: rt}
		for range 6 {
			c := newCommand[Code(1+draw.intn(int(NewestCode), "code"))]()
			draw.fill(reflect.ValueOf(c).Elem(), 0)
			env := Envelope{Millis: pick(draw, "millis", w.now, w.now+1000, 0, math.MaxInt64, math.MinInt64), Term: uint64(draw.intn(2, "term")), Actor: "\xff"}
			w.doAs(env, c)
			checkConsistent(rt, w.m.state)
		}
		snap := encodeState(t, w.m)
		s, _, err := readSnapshot(bytes.NewReader(snap))
		if err != nil {
			rt.Fatalf("read snapshot: %v", err)
		}
		if !bytes.Equal(stateBytes(rt, s), stateBytes(rt, w.m.state)) {
			rt.Fatalf("the state that was read is another")
		}
	})
}

// TestHostileWords: numbers that would wrap, and pieces that the store would refuse, are passed over.
func TestHostileWords(t *testing.T) {
	tests := map[string]saltpeter.Word{
		"covers all numbers": {Kind: saltpeter.WordSkip, Seq: 1, Covers: math.MaxUint64},
		"skips all bytes":    {Kind: saltpeter.WordSkip, Seq: 1, Skipped: math.MaxUint64},
		"too large":          {Kind: saltpeter.WordOutput, Seq: 1, Data: make([]byte, outlog.MaxData+1)},
		"covers too many":    {Kind: saltpeter.WordSkip, Seq: 1, Covers: maxCovers + 1},
		"skips too many":     {Kind: saltpeter.WordSkip, Seq: 1, Skipped: maxSkipped + 1},
	}
	for name, word := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.config(saltpeter.DefaultSettings(), testJob("j"))
			_, l := w.running("j", t0+1, "m")
			w.ask(l, 0, 1)
			if ans := w.say(refOf(l, 0), 1, word); ans.Next != 1 || ans.Refused != "" {
				t.Fatalf("answer %+v", ans)
			}
			for _, ok := range []saltpeter.Word{
				{Kind: saltpeter.WordOutput, Seq: 1, Covers: 5, Data: []byte("x")}, // covers is a skip's
				{Kind: saltpeter.WordSkip, Seq: 2, Covers: maxCovers, Skipped: maxSkipped},
			} {
				w.say(refOf(l, 0), 1, ok)
			}
			if got := w.target(refOf(l, 0)); got.NextSeq != 2+maxCovers || got.LeftOut != maxSkipped || got.Stored != 1 {
				t.Fatalf("%+v", got)
			}
			ans := w.say(refOf(l, 0), 1, saltpeter.Word{Kind: saltpeter.WordResult, Seq: 2 + maxCovers, Code: math.MaxInt64, Signal: 300})
			if got := w.target(refOf(l, 0)); !ans.Done || got.Code != math.MaxInt32 || got.Signal != 255 || got.State != saltpeter.Failed {
				t.Fatalf("%+v", got)
			}
		})
	}
}

// TestMalformedEntriesHalt: the machine stops at what it doesn't understand, says why, and applies nothing more.
func TestMalformedEntriesHalt(t *testing.T) {
	good, err := Encode(Envelope{Millis: t0 * 1000}, &InitCluster{ClusterID: "c"})
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		data []byte
		want error
	}{
		"no framing":      {[]byte{99}, entry.ErrMalformed},
		"unknown command": {entry.Append(nil, []byte{200, 1, 0x80}), ErrUnknownCommand},
		"unknown version": {entry.Append(nil, append([]byte{1, 9}, good[2:]...)), ErrUnknownCommand},
		"cut short":       {entry.Append(nil, good[:len(good)-1]), ErrHalted},
		"good, then bad":  {entry.Append(entry.Append(nil, good), []byte{1}), ErrHalted},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var changed int
			m := New(Options{FS: outlog.NewLossy(1), Dir: "/d", Changed: func(Change) { changed++ }})
			got, _ := m.Apply(&raft.Log{Index: 1, Data: test.data}).(error)
			if !errors.Is(got, test.want) || !errors.Is(got, ErrHalted) || !errors.Is(m.Err(), ErrHalted) {
				t.Fatalf("got %v", got)
			}
			select {
			case <-m.Halted():
			default:
				t.Fatal("Halted is not closed")
			}
			if err, _ := m.Apply(&raft.Log{Index: 2, Data: entry.Append(nil, good)}).(error); !errors.Is(err, ErrHalted) {
				t.Fatalf("applied after it had halted: %v", err)
			}
			if _, err := m.Snapshot(); !errors.Is(err, ErrHalted) || m.AppliedIndex() != 0 || changed != 0 {
				t.Fatalf("snapshot %v, index %d, %d changes", err, m.AppliedIndex(), changed)
			}
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// FuzzApply gives any bytes as a command.
func FuzzApply(f *testing.F) {
	for _, c := range goldenCommands() {
		b, err := Encode(Envelope{Millis: t0 * 1000}, c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, c, err := Decode(b); err != nil || c.Code() == CodeCompactOutput {
			return
		}
		w := liveWorld(t)
		for range 2 {
			w.index++
			if err, bad := w.m.Apply(&raft.Log{Index: w.index, Term: w.term, Data: entry.Append(nil, b)}).(error); bad {
				t.Fatalf("%v", err)
			}
			checkConsistent(t, w.m.state)
		}
		if _, _, err := readSnapshot(bytes.NewReader(encodeState(t, w.m))); err != nil {
			t.Fatal(err)
		}
	})
}
