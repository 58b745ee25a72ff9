package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/outlog"
	"github.com/syscollective/saltpeter/scheduler"
)

// Sizes that make a fed node fetch for some seconds: a segment travels in two pieces.
const (
	fedSegment = 300 << 10 // bytes of a segment
	fedRuns    = 8
	fedBytes   = 900 << 10 // bytes of output of each
	fedDelay   = 50 * time.Millisecond
)

// fed is a cluster of three of which one, late, comes with empty disks when there is output in many segments.
type fed struct {
	*three
	late  string
	wants map[saltpeter.TargetRef][]byte // what is acknowledged
	grows saltpeter.TargetRef            // a run that goes on
	seq   uint64                         // of its next word

	mu     sync.Mutex // guards what follows
	asks   []question
	before func(question) error // called before a node answers; an error is the answer
}

// question is a question for a piece of a segment of output.
type question struct {
	of  string
	no  uint64
	off int64
}

// starting stands for a launcher whose wrappers the test plays.
type starting struct{ scheduler.Launcher }

func (starting) Resolve(context.Context, saltpeter.Job, []string, bool) ([]saltpeter.Resolved, error) {
	return []saltpeter.Resolved{{Machine: "m1", Up: true}}, nil
}
func (starting) Certain() bool { return true }
func (starting) Publish(context.Context, *saltpeter.Launch, *saltpeter.Job, time.Duration) error {
	return nil
}

// inFed runs a test on a cluster whose third node is about to come.
func inFed(t *testing.T, test func(f *fed)) {
	t.Helper()
	f := &fed{wants: map[saltpeter.TargetRef][]byte{}}
	inThreeAs(t, func(w *three) {
		f.three = w
		w.adjust = f.adjust
	}, func(w *three) {
		time.Sleep(10 * time.Second) // the files are in force
		lead := w.leader()
		for _, name := range threeNames {
			if w.nodes[name] != lead {
				f.late = name
			}
		}
		w.stop(f.late)
		for i := range fedRuns {
			ref := f.begin(fmt.Sprint("run", i))
			f.seq = 1
			f.write(ref, fedBytes)
			f.report(ref, saltpeter.Word{Kind: saltpeter.WordResult, Seq: f.seq})
		}
		f.grows, f.seq = f.begin("grows"), 1
		f.write(f.grows, 1000)
		time.Sleep(10 * time.Second) // a snapshot is taken, and the log behind it dropped
		w.disks[f.late], w.logs[f.late] = outlog.NewLossy(9), cluster.NewMemory()
		for _, name := range threeNames {
			if name != f.late {
				w.net.SetDelay(name, f.late, fedDelay)
				w.net.SetDelay(f.late, name, fedDelay)
			}
		}
		test(f)
	})
}

func (f *fed) adjust(name string, o *Options) {
	o.Timings.SnapshotLogs, o.Timings.SnapshotEvery, o.Timings.TrailingLogs = 8, time.Second, 64
	o.Seams.Machine = func(m *fsm.Options) { m.Output.SegmentBytes = fedSegment }
	o.Seams.Launcher = func(l scheduler.Launcher) scheduler.Launcher { return starting{l} }
	inner := o.Seams.Cluster
	o.Seams.Cluster = func(c *cluster.Config) {
		inner(c)
		answer := c.PeerHandler
		c.PeerHandler = func(ctx context.Context, kind byte, payload []byte) ([]byte, error) {
			if err := f.note(name, kind, payload); err != nil {
				return nil, err
			}
			return answer(ctx, kind, payload)
		}
	}
}

// note writes down who is asked for which piece of a segment of output.
func (f *fed) note(name string, kind byte, payload []byte) error {
	var ask segmentAsk
	if kind != peerSegment {
		return nil
	}
	if err := cbor.Unmarshal(payload, &ask); err != nil || ask.Feed {
		return err
	}
	q := question{name, ask.No, ask.Off}
	f.mu.Lock()
	f.asks = append(f.asks, q)
	before := f.before
	f.mu.Unlock()
	if before != nil {
		return before(q)
	}
	return nil
}

// questions gives what was asked so far.
func (f *fed) questions() []question {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.asks)
}

// begin starts a run and wins its start claim.
func (f *fed) begin(key string) saltpeter.TargetRef {
	f.t.Helper()
	lead := f.leader()
	r, err := control{lead}.Start(f.t.Context(), saltpeter.Actor{Name: "test"}, saltpeter.StartRequest{Job: "j", Key: key})
	if err != nil {
		f.t.Fatal(err)
	}
	ref := saltpeter.TargetRef{Run: r.Num}
	for range 100 {
		time.Sleep(50 * time.Millisecond)
		t, ok := lead.machine.View().Target(ref)
		if !ok || t.State != saltpeter.Launched {
			continue
		}
		sight := saltpeter.LaunchSight{Launch: t.Launch, Machine: "m1", BootID: "b"}
		got, err := lead.start(f.t.Context(), saltpeter.StartAsk{Sight: sight, Ref: ref, Nonce: nonceOf(ref), Ask: 1})
		if err != nil || !got.Granted {
			f.t.Fatalf("%+v, %v", got, err)
		}
		f.report(ref, saltpeter.Word{Kind: saltpeter.WordStarted})
		f.wants[ref] = nil
		return ref
	}
	f.t.Fatalf("%s is not launched", key)
	return ref
}

func nonceOf(ref saltpeter.TargetRef) saltpeter.Nonce { return saltpeter.Nonce{byte(ref.Run), 1} }

// write has so many bytes of output acknowledged.
func (f *fed) write(ref saltpeter.TargetRef, size int) {
	f.t.Helper()
	r := rand.New(rand.NewPCG(ref.Run, f.seq))
	for size > 0 {
		b := make([]byte, min(size, 32<<10))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.report(ref, saltpeter.Word{Kind: saltpeter.WordOutput, Seq: f.seq, Data: b})
		f.wants[ref] = append(f.wants[ref], b...)
		f.seq++
		size -= len(b)
	}
}

func (f *fed) report(ref saltpeter.TargetRef, w saltpeter.Word) {
	f.t.Helper()
	got, err := f.leader().report(f.t.Context(), []saltpeter.Report{{Ref: ref, Nonce: nonceOf(ref), Words: []saltpeter.Word{w}}})
	if err != nil || got[0].Refused != "" || w.Seq > 0 && got[0].Next != w.Seq+1 {
		f.t.Fatalf("%+v, %v", got, err)
	}
}

// missing gives the segments of output that the late node lacks; ok is false before it was fed.
func (f *fed) missing() (list []outlog.SegmentInfo, ok bool) {
	store := f.nodes[f.late].machine.Output()
	if _, known := f.nodes[f.late].machine.View().Target(f.grows); store == nil || !known {
		return nil, false
	}
	return store.Missing(), true
}

// read reads an output on the late node as the API does.
func (f *fed) read(ref saltpeter.TargetRef) ([]byte, error) {
	out, err := control{f.nodes[f.late]}.Output(f.t.Context(), ref)
	if err != nil {
		return nil, err
	}
	b := make([]byte, out.Size())
	for n := 0; n < len(b); {
		k, err := out.ReadAt(b[n:], int64(n))
		if n += k; err != nil && (!errors.Is(err, io.EOF) || n < len(b)) {
			return b[:n], err
		}
	}
	return b, nil
}

// right reads an output on the late node and reports whether it could be read; then it is all that was acknowledged before.
func (f *fed) right(ref saltpeter.TargetRef) bool {
	f.t.Helper()
	want := f.wants[ref]
	got, err := f.read(ref)
	if err != nil {
		if saltpeter.CodeOf(err) != saltpeter.CodeNoLeader {
			f.t.Errorf("run %d: %v", ref.Run, err)
		}
		return false
	}
	if !bytes.Equal(got, want) {
		f.t.Errorf("run %d: %d bytes, want %d, equal %v", ref.Run, len(got), len(want), bytes.HasPrefix(want, got))
	}
	return true
}

// fetch starts the late node and reads on it until it has all segments. At half is called once, when it has half of them.
func (f *fed) fetch(half func(left []outlog.SegmentInfo)) {
	f.t.Helper()
	f.start(f.late)
	refs := slices.SortedFunc(maps.Keys(f.wants), func(a, b saltpeter.TargetRef) int { return int(a.Run) - int(b.Run) })
	most, reads := 0, 0
	for range 3000 {
		left, ok := f.missing()
		if !ok {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		most = max(most, len(left))
		if half != nil && len(left) <= most/2 {
			half(left)
			half = nil
			continue
		}
		f.write(f.grows, 100)
		short, cancel := context.WithTimeout(f.t.Context(), time.Second)
		_, err := f.nodes[f.late].node.Barrier(short)
		cancel()
		lacked := f.nodes[f.late].lacksOutput()
		if ref := refs[reads%len(refs)]; err == nil && f.right(ref) && f.right(f.grows) && lacked {
			reads++
		}
		if !lacked {
			break
		}
	}
	if left, _ := f.missing(); len(left) > 0 || f.nodes[f.late].lacksOutput() {
		f.t.Fatalf("%s still lacks %+v", f.late, left)
	}
	if most < 8 || reads < 3 {
		f.t.Fatalf("%d segments were lacking, and %d reads made meanwhile: this shows nothing", most, reads)
	}
	for _, ref := range refs {
		if !f.right(ref) {
			f.t.Errorf("run %d can't be read", ref.Run)
		}
	}
}

// A node that was fed by a snapshot fetches each segment once, and answers reads rightly meanwhile.
func TestFedNodeFetchesAndReads(t *testing.T) {
	inFed(t, func(f *fed) {
		f.fetch(nil)
		seen := map[question]int{}
		for _, q := range f.questions() {
			if seen[q]++; seen[q] > 1 {
				f.t.Errorf("%+v was asked for %d times", q, seen[q])
			}
		}
	})
}

// When the node that it fetches from dies, it goes on with the other one.
func TestFedNodeOutlivesItsSource(t *testing.T) {
	inFed(t, func(f *fed) {
		var dead string
		var after int
		f.fetch(func([]outlog.SegmentInfo) {
			all := f.questions()
			dead = all[len(all)-1].of
			f.kill(dead)
			after = len(f.questions())
		})
		of := map[string]int{}
		for i, q := range f.questions() {
			if of[q.of]++; i >= after && q.of == dead {
				f.t.Errorf("the dead %s answered %+v", dead, q)
			}
		}
		if len(of) != 2 {
			f.t.Errorf("segments are of %v", of)
		}
	})
}

// A segment whose bytes are damaged is not taken; another node has it.
func TestFedNodeChecksWhatItGets(t *testing.T) {
	inFed(t, func(f *fed) {
		lead := f.leader().ident.NodeID
		var bad outlog.SegmentInfo
		f.fetch(func(left []outlog.SegmentInfo) {
			bad = left[len(left)/2]
			path := filepath.Join(f.data(lead), "segments", "output", fmt.Sprintf("%010d.%04d.seg", bad.No, bad.Gen))
			if !f.disks[lead].Corrupt(path, bad.Bytes/2, 4) {
				f.t.Fatalf("%s has no %s", lead, path)
			}
		})
		from := map[string]int{}
		for _, q := range f.questions() {
			if q.no == bad.No && q.off == 0 {
				from[q.of]++
			}
		}
		if len(from) != 2 || from[lead] != 1 {
			f.t.Errorf("segment %d was fetched from %v; it is damaged on %s", bad.No, from, lead)
		}
	})
}

// Segments that are compacted while they travel are fetched in their next generation.
func TestFedNodeFetchesWhatIsCompactedMeanwhile(t *testing.T) {
	inFed(t, func(f *fed) {
		lead := f.leader()
		var from uint64
		blind := false // late lacked it then, and knew no checksum of it any more
		compact := func(q question) error {
			switch {
			case q.no == from:
				left, _ := f.missing()
				blind = blind || slices.ContainsFunc(left, func(s outlog.SegmentInfo) bool { return s.No == from && s.Unknown })
			case q.off > 0 && from == 0:
				from = q.no
				_, err := lead.propose(f.t.Context(), cluster.Low, lead.ingestEnv(), &fsm.CompactOutput{From: from, To: from + 1})
				return err
			}
			return nil
		}
		f.fetch(func([]outlog.SegmentInfo) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.before = compact
		})
		if from == 0 || !blind {
			f.t.Fatalf("segment %d was compacted; it was lacking then: %v", from, blind)
		}
		for name, a := range f.nodes {
			r, err := a.machine.Output().Segment(from)
			if err != nil {
				f.t.Fatalf("%s: %v", name, err)
			}
			if r.Info.Gen != 1 || r.Info.Last != from+1 {
				f.t.Errorf("%s: %+v", name, r.Info)
			}
			if err := r.Close(); err != nil {
				f.t.Error(err)
			}
		}
	})
}

// A node that is started again, its power lost, keeps the segments that it had fetched.
func TestFedNodeGoesOnAfterARestart(t *testing.T) {
	inFed(t, func(f *fed) {
		var left []outlog.SegmentInfo
		var before int
		f.fetch(func(now []outlog.SegmentInfo) {
			f.kill(f.late)
			left, before = now, len(f.questions())
			f.net.HealAll()
			f.start(f.late)
		})
		wanted := map[uint64]bool{}
		for _, s := range left {
			wanted[s.No] = true
		}
		again := f.questions()[before:]
		if len(again) == 0 {
			f.t.Error("nothing was fetched after the restart")
		}
		for _, q := range again {
			if !wanted[q.no] {
				f.t.Errorf("%+v was asked for again", q)
			}
		}
	})
}

// What another node answers that is behind does not count: a read on the fed one has all that it knows of.
func TestFedNodeTakesNoShortAnswer(t *testing.T) {
	inFed(t, func(f *fed) {
		f.before = func(question) error { return outlog.ErrNotHere } // it stays without segments
		lead := f.leader().ident.NodeID
		f.start(f.late)
		time.Sleep(20 * time.Second)
		other := threeNames[slices.IndexFunc(threeNames, func(n string) bool { return n != lead && n != f.late })]
		f.net.Cut(lead, other)
		f.write(f.grows, 5000)
		stored := func(name string) uint64 {
			t, _ := f.nodes[name].machine.View().Target(f.grows)
			return t.Stored
		}
		for i := 0; i < 20 && stored(f.late) < 6000; i++ {
			time.Sleep(50 * time.Millisecond)
		}
		if now, was := stored(f.late), stored(other); now != 6000 || was != 1000 {
			f.t.Fatalf("%s is not behind: %d, %d", other, was, now)
		}
		f.net.Crash(lead)
		if f.right(f.grows) {
			f.t.Error("there was nobody who could have answered")
		}
		f.kill(lead)
		for range 300 {
			if time.Sleep(100 * time.Millisecond); f.right(f.grows) {
				return
			}
		}
		f.t.Error("it can't be read though both nodes are there")
	})
}
