package sinks

import (
	"fmt"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
)

// BenchmarkRecords writes short records, syncs included, into one file and into many.
func BenchmarkRecords(b *testing.B) {
	for _, jobs := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("jobs=%d", jobs), func(b *testing.B) {
			n, l := newLogs(b)
			for i := range b.N {
				n.events = append(n.events, claimed(fmt.Sprintf("job-%d", i%jobs)))
				n.events[i].Seq = uint64(i) + 1
			}
			l.o.Feed = &indexed{n}
			b.ReportAllocs()
			b.ResetTimer()
			drain(b, l)
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
		})
	}
}

// indexed finds the first event at once, as the feed on disk does.
type indexed struct{ *node }

func (n *indexed) Events(from uint64, yield func(saltpeter.Event) bool) error {
	for _, e := range n.events[from-n.first:] {
		if !yield(e) {
			break
		}
	}
	return nil
}

// BenchmarkOutput writes results with a megabyte of output each.
func BenchmarkOutput(b *testing.B) {
	for name, line := range map[string]string{
		"lines": strings.Repeat("x", 79) + "\n", "progress": strings.Repeat("x", 19) + "\r" + strings.Repeat("y", 59) + "\n",
	} {
		b.Run(name, func(b *testing.B) {
			n, l := newLogs(b)
			ref := saltpeter.TargetRef{Run: 1}
			n.outputs[ref] = strings.Repeat(line, 1<<20/len(line))
			result := saltpeter.Event{Type: saltpeter.EventMachineResult, Job: "a", Run: "a_1", Machine: "m", Ref: ref, State: "ok"}
			b.SetBytes(int64(len(n.outputs[ref])))
			b.ReportAllocs()
			for b.Loop() {
				n.add(result)
				n.drop(len(n.events) - 1)
				drain(b, l)
			}
		})
	}
}
