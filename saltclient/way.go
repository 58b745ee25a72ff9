package saltclient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits bound what one master is given to do at a time. A zero value means the default.
type Limits struct {
	Publishes float64 // per second; default 200: twice of what one master of two cores can do
	Bytes     int     // of machines' ids and arguments, per second; default 8 MiB
	InFlight  int     // publishes at a time, and as many other questions; default 8
}

func (l Limits) orDefault() Limits {
	if l.Publishes == 0 {
		l.Publishes = 200
	}
	if l.Bytes == 0 {
		l.Bytes = 8 << 20
	}
	if l.InFlight == 0 {
		l.InFlight = 8
	}
	return l
}

// MasterState is how a master is, for people.
type MasterState struct {
	Name     string
	Health   Health    // of the last answer; zero before the first
	Failing  string    // why it doesn't work; empty = it does
	Err      error     // that it fails with, one of the classes; nil where it works
	Since    time.Time // since when it is so
	Waiting  int       // calls that wait for its limits
	InFlight int
}

// way is what is known of one master, and what keeps it within its limits.
type way struct {
	slots chan struct{} // of what publishes
	reads chan struct{} // of what doesn't: a thousand wrappers' keys don't hold up a launch
	rate  *rate.Limiter
	bytes *rate.Limiter

	mu      sync.Mutex // guards the following
	master  Master
	health  Health
	fails   int // in a row
	err     error
	since   time.Time
	waiting int
}

func newWay(l Limits) *way {
	return &way{
		slots: make(chan struct{}, l.InFlight), reads: make(chan struct{}, l.InFlight), since: time.Now(),
		rate:  rate.NewLimiter(rate.Limit(l.Publishes), max(1, int(l.Publishes/2))),
		bytes: rate.NewLimiter(rate.Limit(l.Bytes), l.Bytes),
	}
}

func (w *way) get() Master {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.master
}

func (w *way) set(m Master) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.master = m
}

// call has f use the master, within its limits, for at most limit; size > 0 says that it publishes so many bytes. What it
// waits for a slot doesn't count. Errors that say something about the master are remembered.
func (w *way) call(ctx context.Context, limit time.Duration, size int, f func(context.Context) error) error {
	slots := w.reads
	if size > 0 {
		slots = w.slots
	}
	if err := w.enter(ctx, slots, size); err != nil {
		return fmt.Errorf("wait for %s: %w", w.get().Name(), err)
	}
	defer func() { <-slots }()
	call, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := f(call)
	if err == nil {
		w.worked()
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) && call.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w within %s", ErrDoubtful, limit)
	}
	err = fmt.Errorf("%s: %w", w.get().Name(), err)
	switch {
	case ctx.Err() != nil: // who asked has gone: it says nothing about the master
	case errors.Is(err, ErrExpression), errors.Is(err, ErrNoKey):
		w.worked()
	default:
		w.failed(err)
	}
	return err
}

// enter waits for the limits.
func (w *way) enter(ctx context.Context, slots chan struct{}, size int) error {
	w.wait(1)
	defer w.wait(-1)
	if size > 0 {
		if err := w.rate.Wait(ctx); err != nil {
			return err
		}
		if err := w.bytes.WaitN(ctx, min(size, w.bytes.Burst())); err != nil {
			return err
		}
	}
	select {
	case slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *way) wait(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting += n
}

func (w *way) worked() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fails > 0 {
		w.since = time.Now()
	}
	w.fails, w.err = 0, nil
}

// failed takes down an error and reports whether it is news.
func (w *way) failed(err error) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fails == 0 {
		w.since = time.Now()
	}
	w.fails++
	w.err = err
	return w.fails == 1
}

// checked takes an answer about the master's health, and reports whether it is news that it fails.
func (w *way) checked(h Health, err error) bool {
	if err != nil {
		return w.failed(fmt.Errorf("%s: %w", w.get().Name(), err))
	}
	w.worked()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.health = h
	return false
}

// failures ranks ways: 0 works, 1 doesn't.
func (w *way) failures() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return min(w.fails, 1)
}

func (w *way) state() MasterState {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := MasterState{Name: w.master.Name(), Health: w.health, Since: w.since, Waiting: w.waiting, InFlight: len(w.slots) + len(w.reads)}
	if w.err != nil {
		s.Failing, s.Err = w.err.Error(), w.err
	}
	return s
}
