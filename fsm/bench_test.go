package fsm

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/entry"
	"github.com/syscollective/saltpeter/internal/outlog"
)

// benchWorld has jobs j0, j1, … in force, on a disk that is thrown away.
func benchWorld(b *testing.B, jobs int, set saltpeter.Settings) *world {
	b.Helper()
	w := &world{t: b, term: 1, now: t0 * 1000}
	w.m = New(Options{FS: outlog.OS(), Dir: b.TempDir()})
	b.Cleanup(func() {
		if err := w.m.Close(); err != nil {
			b.Error(err)
		}
	})
	list := make([]*saltpeter.Job, jobs)
	for i := range list {
		list[i] = testJob(fmt.Sprintf("job-%05d", i))
		list[i].AllowOverlap = true
	}
	w.config(set, list...)
	return w
}

func machines(n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("web-%05d.example.com", i)
	}
	return list
}

// entryOf encodes commands as one entry.
func (w *world) entryOf(cmds ...Command) []byte {
	w.t.Helper()
	var data []byte
	for _, c := range cmds {
		b, err := Encode(w.env(), c)
		if err != nil {
			w.t.Fatal(err)
		}
		data = entry.Append(data, b)
	}
	return data
}

func (w *world) applyEntry(data []byte) {
	w.index++
	if err, bad := w.m.Apply(&raft.Log{Index: w.index, Term: w.term, Data: data}).(error); bad {
		w.t.Fatal(err)
	}
}

// startAll grants and starts every target of a launch.
func (w *world) startAll(l *saltpeter.Launch) {
	w.t.Helper()
	for i := range l.Targets {
		w.applyEntry(w.entryOf(&StartTarget{Ask: askOf(l, i, 1)},
			&Report{Reports: []saltpeter.Report{{Ref: refOf(l, i), Nonce: saltpeter.Nonce{1}, Words: []saltpeter.Word{{Kind: saltpeter.WordStarted}}}}}))
	}
}

// BenchmarkApplyReport is one entry of n words of 200 bytes, each of another machine of a run on 10,000. Decoding is part of
// it; a view is taken before each entry, as readers do.
func BenchmarkApplyReport(b *testing.B) {
	for _, n := range []int{256, 1024} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := benchWorld(b, 1, saltpeter.DefaultSettings())
			_, l := w.running("job-00000", t0+1, machines(10_000)...)
			w.startAll(l)
			data := bytes.Repeat([]byte("x"), 200)
			seq := uint64(0)
			at := len(l.Targets)
			b.ResetTimer()
			for b.Loop() {
				b.StopTimer()
				if at+n > len(l.Targets) {
					at, seq = 0, seq+1
				}
				c := &Report{}
				for i := at; i < at+n; i++ {
					c.Reports = append(c.Reports, saltpeter.Report{Ref: refOf(l, i), Nonce: saltpeter.Nonce{1},
						Words: []saltpeter.Word{{Kind: saltpeter.WordOutput, Seq: seq, Data: data}}})
				}
				at += n
				e := w.entryOf(c)
				b.StartTimer()
				w.applyEntry(e)
				w.m.View()
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "words/s")
		})
	}
}

// BenchmarkClaimTicks claims one tick of each of 10,000 jobs in one command.
func BenchmarkClaimTicks(b *testing.B) {
	const jobs = 10_000
	w := benchWorld(b, jobs, saltpeter.DefaultSettings())
	var claims []saltpeter.Claim
	w.m.View().Jobs("", func(st saltpeter.JobStatus) bool {
		claims = append(claims, saltpeter.Claim{Job: st.Job.Name, Digest: st.Digest, Cause: "tick"})
		return true
	})
	b.ResetTimer()
	for b.Loop() {
		b.StopTimer()
		w.now += 1000
		for i := range claims {
			claims[i].Tick = w.now / 1000
		}
		e := w.entryOf(&ClaimRuns{Claims: claims})
		w.m.View()
		b.StartTimer()
		w.applyEntry(e)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*jobs), "ns/claim")
}

// BenchmarkViewThenWrite is a view, and the first change after it, of a run on 10,000 machines: what copy-on-write costs.
func BenchmarkViewThenWrite(b *testing.B) {
	w := benchWorld(b, 1, saltpeter.DefaultSettings())
	_, l := w.running("job-00000", t0+1, machines(10_000)...)
	w.startAll(l)
	e := w.entryOf(&Report{Reports: []saltpeter.Report{{Ref: refOf(l, 5000), Nonce: saltpeter.Nonce{1},
		Words: []saltpeter.Word{{Kind: saltpeter.WordRemark, Text: "x"}}}}})
	b.ReportAllocs()
	for b.Loop() {
		w.m.View()
		w.applyEntry(e)
	}
}

// finishedRuns makes finished runs of n machines each, as a state of its own: driving a million targets by commands takes
// minutes, and what is measured is what the record costs.
func finishedRuns(w *world, runs, n int) {
	names := machines(n)
	s := w.m.state
	j := s.mutJob("job-00000")
	def := s.definition(j.digest).job
	a := &applier{s: s, env: &Envelope{Millis: w.now, Actor: "schedule", Origin: "node sp-1"}, term: 1, out: noEffects{}}
	for range runs {
		a.env.Millis += 1000
		tick := a.env.Millis / 1000
		j = s.mutJob(fmt.Sprintf("job-%05d", int(tick)%s.jobs.Len()))
		j.mark = tick
		r := a.newRun(j, def, tick)
		r.Tick, r.Cause, r.Actor, r.Origin = tick, "tick", a.env.Actor, a.env.Origin
		a.begin(j, r)
		(&SetTargets{Run: r.Num, Attempt: "1", Last: true, Machines: names}).apply(a)
		l := (&LaunchBatch{Run: r.Num}).apply(a).(BatchLaunched).Launch
		for i := range l.Targets {
			(&StartTarget{Ask: askOf(l, i, 1)}).apply(a)
			rep := saltpeter.Report{Ref: refOf(l, i), Nonce: saltpeter.Nonce{1}, Words: []saltpeter.Word{{Kind: saltpeter.WordResult, Seq: 1}}}
			(&Report{Reports: []saltpeter.Report{rep}}).apply(a)
		}
	}
	w.now = a.env.Millis
}

type noEffects struct{}

func (noEffects) lose(bool, []outlog.SegmentInfo)       {}
func (noEffects) appendOutput(outlog.Key, outlog.Frame) {}
func (noEffects) dropOutput(uint64)                     {}
func (noEffects) compact(uint64, uint64)                {}
func (noEffects) appendEvent(uint64, []byte, int64)     {}

// shapes are the two ways in which a million targets come.
var shapes = []struct {
	name       string
	jobs, runs int
	targets    int
}{
	{"10000x100", 1000, 10_000, 100},
	{"1000000x1", 10_000, 1_000_000, 1},
}

// BenchmarkMillionTargets is what 1,000,000 targets cost. Budgets for the first shape: memory < 300 MiB, pause of Snapshot
// < 5 ms, Restore < 10 s.
func BenchmarkMillionTargets(b *testing.B) {
	for _, shape := range shapes {
		b.Run(shape.name, func(b *testing.B) {
			w := benchWorld(b, shape.jobs, saltpeter.DefaultSettings())
			finishedRuns(w, shape.runs, shape.targets)
			debug.FreeOSMemory()
			heap, rss := heapMiB(), residentMiB()
			var snap raft.FSMSnapshot
			var pause, write, read time.Duration
			file := b.TempDir() + "/snapshot"
			for b.Loop() {
				var err error
				pause += timed(func() { snap, err = w.m.Snapshot() })
				if err != nil {
					b.Fatal(err)
				}
				write += timed(func() { persistTo(b, snap, file) })
				read += timed(func() { restoreFrom(b, file, w.m.state.targets) })
			}
			info, err := os.Stat(file)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(pause.Microseconds())/float64(b.N), "pause-µs")
			b.ReportMetric(write.Seconds()/float64(b.N), "persist-s")
			b.ReportMetric(read.Seconds()/float64(b.N), "restore-s")
			b.ReportMetric(float64(info.Size())/(1<<20), "file-MiB")
			b.ReportMetric(heap, "heap-MiB")
			b.ReportMetric(rss, "rss-MiB")
			runtime.KeepAlive(w)
		})
	}
}

// BenchmarkRestoreMillionTargets is how long the apply of Restore holds everything else, on every node at the same entry, with
// a record of the same size to be replaced.
func BenchmarkRestoreMillionTargets(b *testing.B) {
	for _, shape := range shapes {
		b.Run(shape.name, func(b *testing.B) {
			w := benchWorld(b, shape.jobs, saltpeter.DefaultSettings())
			finishedRuns(w, shape.runs, shape.targets)
			parts := saveParts(b, w.m, false)
			a := &applier{s: w.m.state, env: &Envelope{Millis: w.now}, term: 1, out: noEffects{}}
			var held time.Duration
			for i := 0; b.Loop(); i++ {
				id := fmt.Sprintf("r%d", i)
				for _, p := range parts {
					p.ID = id
					p.apply(a)
				}
				held += timed(func() {
					if got, ok := (&Restore{ID: id, Parts: len(parts)}).apply(a).(Restored); !ok {
						b.Fatalf("%+v", got)
					}
				})
			}
			b.ReportMetric(held.Seconds()/float64(b.N), "held-s")
			b.ReportMetric(float64(len(parts)), "parts")
		})
	}
}

func timed(f func()) time.Duration {
	begin := time.Now()
	f()
	return time.Since(begin)
}

func persistTo(b *testing.B, snap raft.FSMSnapshot, name string) {
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	if err := snap.(*snapshot).persist(w); err != nil {
		b.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		b.Fatal(err)
	}
}

func restoreFrom(b *testing.B, name string, targets int) {
	f, err := os.Open(name)
	if err != nil {
		b.Fatal(err)
	}
	m := New(Options{FS: outlog.NewLossy(1), Dir: "/d"})
	if err := m.Restore(f); err != nil {
		b.Fatal(err)
	}
	if m.View().TargetCount() != targets {
		b.Fatalf("%d targets", m.View().TargetCount())
	}
}

func heapMiB() float64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / (1 << 20)
}

// residentMiB gives the process's resident memory in MiB, 0 where the system doesn't tell.
func residentMiB() float64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	var kib float64
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		return 0
	}
	return kib / 1024
}

// BenchmarkRetain drops history beyond a limit, in rounds of 2,000 targets: the cost of a dropped target must not grow with
// what is kept.
func BenchmarkRetain(b *testing.B) {
	for _, kept := range []int{10_000, 100_000, 400_000} {
		b.Run(fmt.Sprintf("kept=%d", kept), func(b *testing.B) {
			set := saltpeter.DefaultSettings()
			set.HistoryTargets, set.HistoryRuns = kept, 1<<30
			w := benchWorld(b, 1000, set)
			finishedRuns(w, kept, 1)
			dropped := 0
			var longest time.Duration
			b.ResetTimer()
			for b.Loop() {
				b.StopTimer()
				finishedRuns(w, retainTargets, 1)
				w.m.View()
				e := w.entryOf(&Retain{})
				b.StartTimer()
				longest = max(longest, timed(func() { w.applyEntry(e) }))
				dropped += retainTargets
			}
			if got := w.m.state.targets; got != kept {
				b.Fatalf("%d targets are kept, want %d", got, kept)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(dropped), "ns/dropped")
			b.ReportMetric(float64(longest.Microseconds())/1000, "longest-ms")
		})
	}
}

// BenchmarkRetainNothing is a round that finds nothing to do, with every job over its limit and all runs young.
func BenchmarkRetainNothing(b *testing.B) {
	set := saltpeter.DefaultSettings()
	set.HistoryRuns = 1
	w := benchWorld(b, 1000, set)
	finishedRuns(w, 100_000, 1)
	w.now -= 99_000_000 // all ends lie ahead
	e := w.entryOf(&Retain{})
	for b.Loop() {
		w.applyEntry(e)
	}
	if w.m.state.targets != 100_000 {
		b.Fatal("something was dropped")
	}
}
