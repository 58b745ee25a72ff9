package fsm

import (
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
	"github.com/syscollective/saltpeter/internal/entry"
	"github.com/syscollective/saltpeter/internal/outlog"
)

// ErrHalted is under every error of a machine that can't go on: an entry that it doesn't understand, or a store that
// failed. The process must end; nothing is applied any more.
var ErrHalted = errors.New("state machine halted")

// Options say where a Machine keeps what does not fit into memory.
type Options struct {
	FS  outlog.FS // the file layer; outlog.OS() but in tests
	Dir string    // holds "output" and "feed"
	// Output and Feed are the segments' settings.
	Output outlog.Options
	Feed   outlog.Options
	// Changed is called after each entry, by raft's goroutine: it must not block and must not call the machine.
	// After a Restore its Plan is set.
	Changed func(Change)
}

// Machine is the state machine as raft sees it. Apply, Snapshot and Restore are raft's to call; View, Wait and the
// readers of output may be called by anyone.
type Machine struct {
	opts Options

	mu     sync.RWMutex
	state  *state        // changed under mu by raft's goroutine alone
	view   *View         // of the present state, nil after a change
	moved  chan struct{} // closed at the next change of the applied index; nil if nobody waits
	halted error
	haltCh chan struct{}

	output *outlog.Store // opened by the first Apply or Restore: a snapshot's manifest says what is valid
	feed   *outlog.Feed
}

// New makes a machine. Its files are opened when raft has said whether there is a snapshot.
func New(o Options) *Machine {
	if o.Changed == nil {
		o.Changed = func(Change) {}
	}
	return &Machine{opts: o, state: newState(), haltCh: make(chan struct{})}
}

// Halted is closed when the machine can't go on; Err says why.
func (m *Machine) Halted() <-chan struct{} { return m.haltCh }

// Err gives the reason of Halted, nil before.
func (m *Machine) Err() error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.halted
}

// halt latches the first reason. m.mu must be held.
func (m *Machine) halt(err error) {
	if m.halted == nil {
		m.halted = fmt.Errorf("%w: %w", ErrHalted, err)
		close(m.haltCh)
	}
}

// Close closes the files. Raft must have been stopped.
func (m *Machine) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.output == nil {
		return nil
	}
	return errors.Join(m.output.Close(), m.feed.Close())
}

// open opens the files as of a snapshot's manifests, nil for none. m.mu must be held.
func (m *Machine) open(output, feed *outlog.Manifest) error {
	store, err := outlog.Open(m.opts.FS, m.opts.Dir+"/output", m.opts.Output, output)
	if err != nil {
		return fmt.Errorf("open output: %w", err)
	}
	f, err := outlog.OpenFeed(m.opts.FS, m.opts.Dir+"/feed", m.opts.Feed, feed)
	if err != nil {
		return errors.Join(fmt.Errorf("open change feed: %w", err), store.Close())
	}
	m.output, m.feed = store, f
	return nil
}

// Apply applies one raft entry, a batch of commands, and gives []any, one result per command: a result type of this
// package or *Refusal. When the machine has halted it gives an error instead, and nothing is applied any more.
func (m *Machine) Apply(l *raft.Log) any {
	cmds, err := entry.Split(l.Data)
	m.mu.Lock()
	if err == nil && m.halted == nil && m.output == nil {
		err = m.open(nil, nil)
	}
	if err != nil {
		m.halt(fmt.Errorf("entry %d: %w", l.Index, err))
	}
	results := make([]any, len(cmds))
	a := &applier{s: m.state, term: l.Term, out: (*files)(m)}
	a.changed.Index = l.Index
	for i, cmd := range cmds {
		results[i] = m.applyOne(a, l.Index, cmd)
	}
	halted := m.halted
	if halted == nil {
		m.state.index = l.Index
	}
	m.view = nil
	moved := m.moved
	m.moved = nil
	m.mu.Unlock()
	if moved != nil {
		close(moved)
	}
	if halted != nil {
		return halted
	}
	m.opts.Changed(a.changed)
	return results
}

// maxMillis is the last instant of the year 9999. Instant 0 means "not yet" everywhere.
const maxMillis = 253_402_300_799_999

func (m *Machine) applyOne(a *applier, index uint64, cmd []byte) any {
	if m.halted != nil {
		return m.halted
	}
	env, c, err := Decode(cmd)
	if err != nil {
		m.halt(fmt.Errorf("entry %d: %w", index, err))
		return m.halted
	}
	env.Millis = min(max(env.Millis, 1), maxMillis)
	a.env = &env
	if code := c.Code(); code > BaseCode {
		a.s.used = max(a.s.used, code)
	}
	result := c.apply(a)
	if m.halted != nil { // by an effect
		return m.halted
	}
	return result
}

// View gives an immutable view of the present state, in O(1).
func (m *Machine) View() *View {
	m.mu.RLock()
	v := m.view
	m.mu.RUnlock()
	if v != nil {
		return v
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.view == nil {
		m.view = &View{s: m.state.freeze()}
	}
	return m.view
}

// AppliedIndex gives the index of the last entry in the state.
func (m *Machine) AppliedIndex() uint64 {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.state.index
}

// Moved gives a channel that is closed when an entry is applied after this call.
func (m *Machine) Moved() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.moved == nil {
		m.moved = make(chan struct{})
	}
	return m.moved
}

// Output gives the store of output for reading; nil before the first entry.
func (m *Machine) Output() *outlog.Store {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.output
}

// Feed gives the change feed for reading; nil before the first entry.
func (m *Machine) Feed() *outlog.Feed {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.feed
}

// files is the machine as the applier's effects. Its errors halt the machine.
type files Machine

func (f *files) check(err error) {
	if err != nil {
		(*Machine)(f).halt(err)
	}
}

func (f *files) appendOutput(k outlog.Key, fr outlog.Frame) { f.check(f.output.Append(k, fr)) }
func (f *files) dropOutput(run uint64)                      { f.check(f.output.DropRun(run)) }
func (f *files) compact(from, to uint64)                    { f.check(f.output.Compact(from, to)) }
func (f *files) lose(feed bool, lost []outlog.SegmentInfo) {
	if feed {
		f.check(f.feed.Lose(lost))
		return
	}
	f.check(f.output.Lose(lost))
}
func (f *files) appendEvent(seq uint64, b []byte, limit int64) {
	f.check(f.feed.Append(seq, b, limit))
}
