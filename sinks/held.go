package sinks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// releaseEvery is how often files that are held back are tried again.
const releaseEvery = 10 * time.Second

var errStillHeld = errors.New("log still can't be opened")

const sayHeld = "a job log can't be opened: its records wait in the change feed"

// hold notes that a file can't be opened, though its directory is all right: it must not keep the others waiting.
func (l *LogFiles) hold(name string, seq uint64, err error) error {
	l.now.hold(name, seq)
	l.complain(sayHeld, "err", err)
	return nil
}

// release tries the files that are held back and writes what they lack.
func (l *LogFiles) release(ctx context.Context, dir string) error {
	if len(l.now.Held) == 0 || time.Since(l.released) < releaseEvery {
		return nil
	}
	l.released = time.Now()
	for _, name := range slices.Sorted(maps.Keys(l.now.Held)) {
		err := l.catchUp(ctx, dir, name)
		if errors.Is(err, errStillHeld) {
			l.complain(sayHeld, "err", err)
			continue
		}
		if err != nil {
			return err
		}
		delete(l.now.Held, name)
	}
	return nil
}

// catchUp writes what a file lacks of the events before the cursor.
func (l *LogFiles) catchUp(ctx context.Context, dir, name string) error {
	if err := l.cutTorn(name); err != nil {
		return err
	}
	for from := l.now.Held[name]; from < l.now.Next; from = l.now.Held[name] {
		w, err := l.collect(from, l.now.Next, name, func(n string) bool { return n == name })
		if err != nil {
			return fmt.Errorf("read change feed: %w", err)
		}
		if w.next == from { // nothing is there before the cursor any more
			return nil
		}
		if dir == "" {
			w.items = nil
		}
		next, waits, err := l.write(ctx, dir, w, refuse)
		switch {
		case errors.Is(err, errStillHeld):
			return err
		case err != nil:
			l.ready = false
			return err
		}
		l.now.Held[name] = next
		if waits != nil {
			return waits
		}
	}
	return nil
}

func (l *LogFiles) cutTorn(name string) error {
	for i := 0; i < len(l.now.Torn); {
		f := &l.now.Torn[i]
		if f.name() != name {
			i++
			continue
		}
		if err := f.cut(l.disk); err != nil {
			return fmt.Errorf("%w: %w", errStillHeld, err)
		}
		l.now.Torn = slices.Delete(l.now.Torn, i, i+1)
	}
	return nil
}

func refuse(_ string, _ uint64, err error) error { return fmt.Errorf("%w: %w", errStillHeld, err) }
