package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"sync"
	"time"

	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/client"
)

// Bounds of following.
const (
	followWait    = 30 * time.Second // one request for a change
	followRetry   = 2 * time.Second  // between tries while no node answers
	followTries   = 2 * time.Minute  // without an answer until following fails
	followStreams = 64               // machines whose output is read at a time
	maxPrefix     = 24               // columns of a machine's name before its lines
	maxPartial    = 64 << 10         // bytes of a line that has no end yet
)

// follower shows a run until it is finished: states as they change, output as it comes. Its goroutines, one for each
// machine's output, end before follow returns.
type follower struct {
	c      *cli
	cl     *client.Client
	run    string
	only   map[string]bool // machines whose output is shown; nil = all
	states bool            // tell states
	silent bool            // show no output
	raw    bool            // there must be one machine only

	seen    map[string]string   // state that was told, by machine
	reads   map[string]*reading // of output, by machine
	slots   chan struct{}
	streams sync.WaitGroup

	failMu sync.Mutex
	fail   error // first failure of a stream

	outMu sync.Mutex // lines of different machines are not mixed
}

func newFollower(c *cli, cl *client.Client, run string, machines []string) *follower {
	f := &follower{
		c: c, cl: cl, run: run, seen: map[string]string{}, reads: map[string]*reading{}, slots: make(chan struct{}, followStreams),
	}
	if len(machines) > 0 {
		f.only = map[string]bool{}
		for _, m := range machines {
			f.only[m] = true
		}
	}
	return f
}

// follow returns the finished run.
func (f *follower) follow(ctx context.Context) (client.Answer[api.Run], error) {
	ctx, cancel := context.WithCancel(ctx)
	run, err := f.watch(ctx)
	if err != nil {
		cancel() // the streams have nothing to wait for
	}
	f.streams.Wait()
	cancel()
	if err == nil {
		err = f.fail
	}
	return run, err
}

func (f *follower) watch(ctx context.Context) (run client.Answer[api.Run], err error) {
	tag, alive := "", f.c.now()
	for {
		a, changed, err := f.cl.WaitRun(ctx, f.run, tag, followWait)
		if err == nil && changed != tag {
			if err = f.update(ctx, &a.Value); err == nil {
				run, tag = a, changed
			}
		}
		if err == nil {
			alive = f.c.now()
		} else if err = f.endure(ctx, err, alive); err != nil {
			return run, err
		}
		if tag != "" && run.Value.Final() {
			return run, nil
		}
		// A list of many machines is not asked for at every change.
		if err := sleep(ctx, min(time.Duration(run.Value.Counts["total"])*time.Millisecond, time.Second)); err != nil {
			return run, err
		}
	}
}

// endure waits where the nodes may come back: one restarts, or a leader is being elected.
func (f *follower) endure(ctx context.Context, err error, alive time.Time) error {
	code := saltpeter.CodeOf(err)
	if ctx.Err() != nil || code != saltpeter.CodeUnavailable && code != saltpeter.CodeNoLeader || f.c.now().Sub(alive) > followTries {
		return err
	}
	if !f.silent {
		f.c.say("%s %s; trying again\n", f.c.paint(yellow, "!"), printable(err.Error()))
	}
	return sleep(ctx, followRetry)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// update tells what changed and begins to read the output of the machines that started.
func (f *follower) update(ctx context.Context, run *api.Run) error {
	if run.Counts["total"] == 0 {
		return nil // its machines are not known yet, or there are none
	}
	machines, err := f.cl.Machines(ctx, f.run, nil, 0)
	if err != nil {
		return err
	}
	if err := f.missing(ctx, machines.Items); err != nil {
		return err
	}
	width := 0
	for i := range machines.Items {
		width = max(width, min(text.StringWidth(printable(machines.Items[i].Machine)), maxPrefix))
	}
	alone := len(machines.Items) == 1 || len(f.only) == 1
	if f.raw && !alone {
		return manyRaw(machines.Items)
	}
	for i := range machines.Items {
		m := &machines.Items[i]
		if f.only != nil && !f.only[m.Machine] {
			continue
		}
		if f.states && !m.Final() {
			f.tell(m, width)
		}
		if r := f.reads[m.Machine]; r != nil && m.Back && run.Final() {
			r.end() // it was taken for lost and still runs: the run is finished without it
		}
		if !f.silent && f.reads[m.Machine] == nil && (m.State == "started" || m.Stored > 0) {
			f.read(ctx, m, f.writer(m.Machine, width, alone))
		}
		if f.states && m.Final() {
			f.tellEnd(m, width)
		}
	}
	return nil
}

// missing refuses machines that are not in the run: they would be waited for in vain.
func (f *follower) missing(ctx context.Context, machines []api.Machine) error {
	left := maps.Clone(f.only)
	for i := range machines {
		delete(left, machines[i].Machine)
	}
	for name := range left {
		err := saltpeter.Errorf(saltpeter.CodeNotFound, "machine %q is not in run %s", name, f.run)
		return missingMachine(ctx, f.cl, f.run, []string{name}, err)
	}
	return nil
}

// tellEnd shows a machine's outcome behind the last of its output.
func (f *follower) tellEnd(m *api.Machine, width int) {
	r := f.reads[m.Machine]
	if r == nil || f.seen[m.Machine] == m.State {
		f.tell(m, width)
		return
	}
	f.seen[m.Machine] = m.State
	f.streams.Go(func() {
		<-r.done
		f.show(m, width)
	})
}

// tell shows the state of a machine if it is new.
func (f *follower) tell(m *api.Machine, width int) {
	if f.seen[m.Machine] != m.State {
		f.seen[m.Machine] = m.State
		f.show(m, width)
	}
}

func (f *follower) show(m *api.Machine, width int) {
	state := machineState(m)
	line := state.text
	switch {
	case m.State == "ok":
		line = "✓ ok"
	case m.Final() && m.State != "maintenance":
		line = "✗ " + m.State
		if m.Code != nil {
			line += fmt.Sprintf(" %d", *m.Code)
		}
	}
	if m.Final() && m.Started != 0 {
		line += " " + f.c.span(m.Started, m.Ended)
	}
	if r := remark(m); r != "" {
		line += " (" + r + ")"
	}
	f.outMu.Lock()
	defer f.outMu.Unlock()
	f.c.say("%s  %s\n", pad(m.Machine, width), f.c.paint(state.color, printable(line)))
}

// reading is the reading of one machine's output.
type reading struct {
	end  context.CancelFunc
	done chan struct{}
}

// read shows one machine's output until it has its outcome; of a winner that is back only what is there.
func (f *follower) read(ctx context.Context, m *api.Machine, w *lines) {
	ctx, cancel := context.WithCancel(ctx)
	r := &reading{cancel, make(chan struct{})}
	f.reads[m.Machine] = r
	machine, going := m.Machine, !m.Final()
	f.streams.Go(func() {
		defer close(r.done)
		defer cancel()
		select {
		case f.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		err := f.cl.Output(ctx, f.run, machine, 0, going, w)
		if flushed := w.flush(); err == nil {
			err = flushed
		}
		<-f.slots
		f.failMu.Lock()
		defer f.failMu.Unlock()
		if f.fail == nil && ctx.Err() == nil {
			f.fail = err
		}
	})
}

// writer gives where a machine's output goes: as it is where there is one machine, else in lines behind its name.
func (f *follower) writer(machine string, width int, alone bool) *lines {
	w := &lines{out: f.c.out, mu: &f.outMu}
	if !alone {
		w.prefix = f.c.paint(faint, pad(machine, width)+" │ ")
	}
	return w
}

// pad makes a name width columns wide.
func pad(name string, width int) string {
	name = text.Trim(printable(name), maxPrefix)
	return text.Pad(name, width, ' ')
}

// lines writes whole lines behind a prefix. Without a prefix it writes bytes as they come.
type lines struct {
	out     io.Writer
	mu      *sync.Mutex // of out
	prefix  string
	partial []byte
}

// Write takes bytes; the last line waits for its end.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.prefix == "" {
		return l.out.Write(p)
	}
	rest := p
	for {
		line, after, found := bytes.Cut(rest, []byte("\n"))
		l.partial = append(l.partial, line...)
		if !found && len(l.partial) < maxPartial {
			return len(p), nil
		}
		if err := l.line(); err != nil {
			return 0, err
		}
		if !found {
			return len(p), nil
		}
		rest = after
	}
}

func (l *lines) line() error {
	_, err := fmt.Fprintf(l.out, "%s%s\n", l.prefix, l.partial)
	l.partial = l.partial[:0]
	return err
}

// flush writes a last line that has no end.
func (l *lines) flush() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.partial) == 0 {
		return nil
	}
	return l.line()
}
