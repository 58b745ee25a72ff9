package sinks

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"time"
)

// Options are the settings of LogFiles. Feed, Outputs, Dir and Cursor must be given.
type Options struct {
	Feed    Feed
	Outputs Outputs
	// Dir gives the log directory of the settings in force; empty means that no logs are written.
	Dir func() string
	// Cursor is the path of the file, in the node's data directory, that says how far the logs have come.
	Cursor string
	Logger *slog.Logger // nil = discard
	// Interval is the least time between two syncs while the feed is followed; default 1 s. Where a sync takes long, because
	// many files were written to, it is up to five times that, so that logs don't keep the disk from the record.
	Interval time.Duration
	// Retry is the pause after an error; default 1 s.
	Retry time.Duration
}

const (
	// sayEvery is how often one kind of trouble is logged.
	sayEvery = time.Minute
	// A batch takes at most one part in share of the time, unless that would make it wait more than patient intervals.
	share   = 10
	patient = 5
	// saveEvery is how many events that make no record go by before the cursor is saved.
	saveEvery = 4096
)

// bounds of one batch.
type bounds struct {
	flush int   // bytes gathered of one file before they are written
	batch int64 // bytes written before they are synced and the cursor may move on
	syncs int   // files that are synced at the same time
}

// LogFiles writes the log files of jobs.
type LogFiles struct {
	o      Options
	log    *slog.Logger
	disk   disk
	render *renderer
	bounds bounds

	// What follows is Run's own.
	ready bool   // the files are as saved says, but for what was written after it in order
	saved cursor // as it is on disk
	now   cursor // as it will be once all that was written is safe; Files is unused
	// unsure says that saving went wrong: the cursor on disk may be a later one than saved.
	unsure   bool
	free     [][]byte
	said     map[string]time.Time // when each kind of trouble was logged
	released time.Time
}

// NewLogFiles gives the sink; Run makes it work.
func NewLogFiles(o Options) *LogFiles {
	if o.Interval <= 0 {
		o.Interval = time.Second
	}
	if o.Retry <= 0 {
		o.Retry = time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &LogFiles{
		o: o, log: o.Logger, disk: osDisk{}, render: newRenderer(o.Outputs), bounds: bounds{flush: 16 << 10, batch: 8 << 20, syncs: 16},
		said: make(map[string]time.Time),
	}
}

// Run follows the feed until ctx ends. Trouble with the files is logged, once a minute, and tried again: it never ends
// Run, which returns nil.
func (l *LogFiles) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		moved := l.o.Feed.Moved()
		began := time.Now()
		more, err := l.step(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			l.complain("job logs are behind: trying again", "err", err)
			pause(ctx, nil, l.o.Retry)
		case !more:
			pause(ctx, nil, l.rest(time.Since(began)))
			pause(ctx, moved, l.patience())
		}
	}
	if err := l.stop(); err != nil {
		l.log.Warn("job log cursor not saved: the last records are written again at the next start", "err", err)
	}
	return nil
}

// rest is how long to wait at least after a batch that took so long.
func (l *LogFiles) rest(took time.Duration) time.Duration {
	return min(max((share-1)*took, l.o.Interval), patient*l.o.Interval)
}

// patience is how long to wait for something new; 0 = as long as it takes.
func (l *LogFiles) patience() time.Duration {
	if len(l.now.Held) > 0 {
		return releaseEvery
	}
	return 0
}

// pause waits until wake is closed, d is over (if it is not 0) or ctx ends.
func pause(ctx context.Context, wake <-chan struct{}, d time.Duration) {
	var over <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-ctx.Done():
	case <-wake:
	case <-over:
	}
}

// step writes one batch, or notes that there is nothing to write. It says whether there is more.
func (l *LogFiles) step(ctx context.Context) (more bool, err error) {
	if err := l.mend(); err != nil {
		return false, err
	}
	first, next := l.o.Feed.Bounds()
	if l.now.Next == 0 {
		if first == next {
			return false, nil
		}
		l.now.Next = first // a new node begins with what the feed still has
	}
	// The directory is asked for after the bounds: it is that of settings at least as new as the events.
	dir := l.o.Dir()
	if l.now.Next < next {
		more, err = l.advance(ctx, dir, next)
	}
	if err == nil && !more {
		if err = l.release(ctx, dir); err == nil {
			err = l.settle(saveEvery)
		}
	}
	return more, err
}

// advance writes a batch of the events before number to.
func (l *LogFiles) advance(ctx context.Context, dir string, to uint64) (more bool, err error) {
	from := l.now.Next
	w, err := l.collect(from, to, ownName, func(name string) bool {
		_, held := l.now.Held[name]
		return !held
	})
	if err != nil {
		return false, fmt.Errorf("read change feed: %w", err)
	}
	if dir == "" {
		w.items = nil
	}
	next, waits, err := l.write(ctx, dir, w, l.hold)
	if err != nil {
		l.ready = false
		return false, err
	}
	l.now.Next = next
	return next > from && next < to && waits == nil, waits
}

// settle saves the cursor when files are declared in it that needn't be any more, or when it has moved by at least so
// many events.
func (l *LogFiles) settle(moved uint64) error {
	if len(l.saved.Files) == 0 && maps.Equal(l.saved.Held, l.now.Held) && len(l.saved.Torn) == len(l.now.Torn) &&
		l.now.Next-l.saved.Next < moved {
		return nil
	}
	c := l.now.clone()
	c.Files = nil
	if err := l.save(c); err != nil {
		l.ready = false
		return err
	}
	return nil
}

func (l *LogFiles) stop() error {
	if !l.ready {
		return nil // the next start mends
	}
	return l.settle(1)
}

// mend brings the files to the state that the cursor tells: at start and after every error.
func (l *LogFiles) mend() error {
	if l.ready {
		return nil
	}
	if err := l.load(); err != nil {
		return err
	}
	now := l.saved.clone()
	now.Files, now.Torn = nil, nil
	for _, f := range slices.Concat(l.saved.Torn, l.saved.Files) {
		err := f.cut(l.disk)
		if err == nil {
			continue
		}
		if perr := l.disk.probe(filepath.Dir(f.Path)); perr != nil {
			return fmt.Errorf("%w: %w", errDirectory, perr)
		}
		now.hold(f.name(), now.Next)
		now.Torn = append(now.Torn, f)
		l.complain(sayHeld, "err", err)
	}
	l.now = now
	l.ready = true
	return nil
}

// load makes saved be what is on disk.
func (l *LogFiles) load() error {
	if l.unsure {
		return l.save(l.saved)
	}
	if l.saved.Next > 0 {
		return nil
	}
	c, err := loadCursor(l.disk, l.o.Cursor)
	var path *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case errors.As(err, &path):
		return err
	case err != nil:
		l.log.Error("job log cursor is unreadable: the logs begin anew with the oldest event", "err", err)
		return nil
	}
	l.saved = c
	return nil
}

func (l *LogFiles) save(c cursor) error {
	l.unsure = true
	if err := saveCursor(l.disk, l.o.Cursor, &c); err != nil {
		return err
	}
	l.unsure = false
	l.saved = c
	return nil
}

func (l *LogFiles) complain(msg string, args ...any) {
	if t, said := l.said[msg]; said && time.Since(t) < sayEvery {
		return
	}
	l.said[msg] = time.Now()
	l.log.Warn(msg, args...)
}

// buffer gives an empty buffer for a file: it grows as needed, since most files get a few records.
func (l *LogFiles) buffer() []byte {
	n := len(l.free)
	if n == 0 {
		return nil
	}
	b := l.free[n-1]
	l.free = l.free[:n-1]
	return b
}
