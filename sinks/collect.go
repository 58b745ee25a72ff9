package sinks

import (
	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/filename"
)

const (
	// ownName is the file for what concerns no single job. No job's name is escaped to it.
	ownName   = "%saltpeter"
	logSuffix = ".log"
)

// What one batch takes at most. Its files are open at the same time. It takes the runs of some seconds from thousands of jobs, so
// that each file is opened and synced once for all of them (bench cluster-runs: a third of a node's CPU went into that).
const (
	maxItems   = 1 << 15
	maxFiles   = 2048
	maxTexts   = 1 << 20 // bytes of the events' texts
	maxScanned = 1 << 17 // events
	maxFree    = 256     // buffers that are kept for the next batch
)

// item is an event and the name of the file that it belongs to.
type item struct {
	name  string
	event saltpeter.Event
}

// work is a stretch of the feed: what is to be written of the events before next.
type work struct {
	items []item
	next  uint64
}

// collect reads the feed from number from up to (not including) number to, or as much of it as one batch takes. It
// leaves out the files that keep doesn't want. What the feed has dropped is noted in the file gaps.
func (l *LogFiles) collect(from, to uint64, gaps string, keep func(name string) bool) (work, error) {
	w := work{next: from}
	names := make(map[string]bool)
	texts, scanned := 0, 0
	err := l.o.Feed.Events(from, func(e saltpeter.Event) bool {
		if e.Seq >= to {
			return false
		}
		if e.Seq < w.next {
			return true
		}
		if e.Seq > w.next { // numbered so that what follows is not taken for written with it
			lost := saltpeter.Event{Seq: e.Seq - 1, Millis: e.Millis, Type: gapEvent, Code: int(e.Seq - w.next)}
			w.items = append(w.items, item{gaps, lost})
			names[gaps] = true
		}
		w.next = e.Seq + 1
		scanned++
		if written(e.Type) && e.Job != "" {
			if name := filename.Of(e.Job); keep(name) {
				w.items = append(w.items, item{name, e})
				names[name] = true
				texts += len(e.Text)
			}
		}
		return len(w.items) < maxItems && len(names) < maxFiles && texts < maxTexts && scanned < maxScanned
	})
	return w, err
}
