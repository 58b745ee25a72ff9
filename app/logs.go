package app

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/fxamacker/cbor/v2"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/sinks"
)

// jobLogs makes the sink that writes this node's job log files.
func (a *App) jobLogs() *sinks.LogFiles {
	return sinks.NewLogFiles(sinks.Options{
		Feed: feed{a}, Outputs: outputs{a}, Dir: a.logDir, Cursor: filepath.Join(a.opts.Node.DataDir, "job-logs.cursor"),
		Logger: a.log.With("component", "sinks"),
	})
}

// logDir is this node's own directory where it was given one, else that of the settings in force.
func (a *App) logDir() string {
	if a.opts.Node.Source("logdir") != "default" {
		return a.opts.Node.LogDir
	}
	return a.machine.View().Settings().LogDir
}

// feed is the change feed as a sink sees it.
type feed struct{ a *App }

func (f feed) Bounds() (first, next uint64) {
	store := f.a.machine.Feed()
	if store == nil {
		return 1, 1
	}
	b := store.Bounds()
	return b.First, b.Next
}

func (f feed) Events(from uint64, yield func(saltpeter.Event) bool) error {
	store := f.a.machine.Feed()
	if store == nil {
		return nil
	}
	var bad error
	err := store.Read(from, func(seq uint64, rec []byte) bool {
		var e saltpeter.Event
		if bad = cbor.Unmarshal(rec, &e); bad != nil {
			bad = fmt.Errorf("decode event %d: %w", seq, bad)
			return false
		}
		return yield(e)
	})
	return errors.Join(err, bad)
}

func (f feed) Moved() <-chan struct{} { return f.a.changes.next() }
