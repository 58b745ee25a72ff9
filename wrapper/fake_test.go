package wrapper

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

const testCluster = "6f1c0a52-0000-4000-8000-000000000001"

// record is the cluster's record as the fake nodes share it, with one target per run.
type record struct {
	mu      sync.Mutex
	targets []*recorded
	trouble []string // what no wrapper may do
}

// recorded is one target of the record.
type recorded struct {
	entry   wire.RunEntry
	spec    saltpeter.Spec
	state   saltpeter.TargetState
	nonce   [32]byte
	next    uint64
	seen    map[uint64][]byte // the frames as they first came, committed or not
	out     []byte
	holes   []hole
	started int
	final   *wire.Message
	words   []wire.Type
	grants  int
	unknown bool // forgotten: "no such run"
}

// hole is a skip: n bytes are left out after off bytes of out.
type hole struct {
	off int
	n   uint64
}

func newRecord(specs ...saltpeter.Spec) *record {
	r := &record{}
	for i, spec := range specs {
		r.targets = append(r.targets, &recorded{
			entry: wire.RunEntry{
				RunNum: uint64(i + 1), Run: spec.Run, Job: spec.Job, AllowOverlap: true, State: "launched",
				HeartbeatMS: 5000, StartWindowMS: 60000,
			},
			spec: spec, state: saltpeter.Launched, next: 1, seen: map[uint64][]byte{},
		})
	}
	return r
}

func (r *record) bad(text string) { r.trouble = append(r.trouble, text) }

// node is one fake gateway. Its fields may be changed while it serves, under the record's mutex.
type node struct {
	rec       *record
	down      bool          // refuses connections
	silent    bool          // accepts, and answers nothing
	noLeader  bool          // answers retry
	leaderAge time.Duration // as it tells; negative = never
	slow      time.Duration // between a word and its commit
	hold      time.Duration // before a grant
	refuse    string        // starts, if not empty
	refuseAll string        // hellos, if not empty
	sendAway  bool          // hellos, to other nodes
	askless   bool          // grants name no ask
	until     time.Time     // grants wait for this time
	lossy     int           // of so many frames one is lost inside of the node
	lose      int           // this frame of a connection is lost
	deaf      bool          // asks get no answer
	links     []*fakeLink
	hellos    int
	dials     int
}

// fakeNet is the network: it dials nodes by URL.
type fakeNet map[string]*node

func (n fakeNet) Dial(ctx context.Context, url string) (Link, error) {
	nd := n[url]
	nd.rec.mu.Lock()
	defer nd.rec.mu.Unlock()
	nd.dials++
	if nd.down {
		return nil, errors.New("connection refused")
	}
	l := &fakeLink{node: nd, up: make(chan any, 100), downlink: make(chan *wire.Message, 256), cut: make(chan struct{})}
	nd.links = append(nd.links, l)
	go l.serve()
	return l, nil
}

// cutAll cuts the node's connections.
func (nd *node) cutAll() {
	nd.rec.mu.Lock()
	links := nd.links
	nd.links = nil
	nd.rec.mu.Unlock()
	for _, l := range links {
		l.Close()
	}
}

// fakeLink is both ends of a connection to a node.
type fakeLink struct {
	node     *node
	up       chan any // *wire.Message or []byte
	downlink chan *wire.Message
	cut      chan struct{}
	once     sync.Once

	hello  bool
	frames int
	nonce  [32]byte
	seats  map[int]*recorded
	opened map[int]bool
}

func (l *fakeLink) Exporter() []byte { return []byte("exporter") }
func (l *fakeLink) Close()           { l.once.Do(func() { close(l.cut) }) }

func (l *fakeLink) put(ctx context.Context, v any) error {
	select {
	case <-l.cut:
		return io.ErrClosedPipe
	default:
	}
	select {
	case l.up <- v:
		return nil
	case <-l.cut:
		return io.ErrClosedPipe
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *fakeLink) Send(ctx context.Context, m *wire.Message) error {
	b, err := wire.Encode(m)
	if err != nil {
		return err
	}
	m, err = wire.Decode(b)
	if err != nil {
		return err
	}
	return l.put(ctx, m)
}

func (l *fakeLink) SendFrame(ctx context.Context, f *wire.Frame) error {
	rec := l.node.rec
	rec.mu.Lock()
	if t := l.seats[f.Run]; t != nil && f.Seq >= t.next+frameWindow {
		rec.bad(fmt.Sprintf("frame %d is outside of the window from %d", f.Seq, t.next))
	}
	rec.mu.Unlock()
	return l.put(ctx, wire.AppendFrame(nil, f))
}

func (l *fakeLink) Recv(ctx context.Context) (*wire.Message, error) {
	select {
	case m := <-l.downlink:
		return m, nil
	case <-l.cut:
		return nil, io.EOF
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *fakeLink) send(m wire.Message) {
	select {
	case l.downlink <- &m:
	case <-l.cut:
	}
}

// serve is the node's side.
func (l *fakeLink) serve() {
	rec := l.node.rec
	l.seats, l.opened = map[int]*recorded{}, map[int]bool{}
	rec.mu.Lock()
	silent := l.node.silent
	age := l.node.leaderAge.Milliseconds()
	rec.mu.Unlock()
	if !silent {
		l.send(wire.Message{Type: wire.TypeChallenge, Versions: []int{1}, Cluster: testCluster, Challenge: make([]byte, 32), LeaderAge: &age})
	}
	var pending []func()
	for {
		var v any
		select {
		case v = <-l.up:
		case <-l.cut:
			return
		}
		rec.mu.Lock()
		silent, slow := l.node.silent, l.node.slow
		rec.mu.Unlock()
		if silent {
			continue
		}
		rec.mu.Lock()
		commit, answer := l.take(v)
		rec.mu.Unlock()
		pending = append(pending, commit)
		if len(l.up) > 0 && len(pending) < 8 && answer == nil {
			continue // more is there: one commit for all
		}
		if !l.pause(slow) {
			return // what was not committed is lost with the connection
		}
		rec.mu.Lock()
		for _, c := range pending {
			if c != nil {
				c()
			}
		}
		rec.mu.Unlock()
		pending = nil
		if answer != nil {
			answer()
		}
		l.ack()
	}
}

func (l *fakeLink) pause(d time.Duration) bool {
	if d == 0 {
		return true
	}
	select {
	case <-time.After(d):
		return true
	case <-l.cut:
		return false
	}
}

// ack tells what is in the record.
func (l *fakeLink) ack() {
	for ord := range l.opened {
		rec := l.seats[ord]
		l.node.rec.mu.Lock()
		m := wire.Message{Type: wire.TypeAck, Run: ord, Next: rec.next, Started: rec.started > 0, Ended: rec.final != nil}
		l.node.rec.mu.Unlock()
		l.send(m)
	}
}

// take judges one thing that came in; commit changes the record, answer is sent after that.
func (l *fakeLink) take(v any) (commit, answer func()) {
	if b, ok := v.([]byte); ok {
		return l.takeFrame(b)
	}
	m := v.(*wire.Message)
	nd, rec := l.node, l.node.rec
	if m.Type == wire.TypeBeat {
		age := nd.leaderAge.Milliseconds()
		return nil, func() { l.send(wire.Message{Type: wire.TypeBeat, N: m.N, LeaderAge: &age}) }
	}
	if nd.noLeader {
		return nil, func() { l.send(wire.Message{Type: wire.TypeRetry, Run: m.Run, AfterMS: 300}) }
	}
	switch m.Type {
	case wire.TypeHello:
		return nil, l.takeHello(m)
	case wire.TypeResume:
		return nil, l.takeResume(m)
	}
	t := l.seats[m.Run]
	if t == nil {
		rec.bad("word without a seat: " + string(m.Type))
		return nil, nil
	}
	if m.Type == wire.TypeStart {
		if nd.deaf {
			return nil, nil
		}
		return nil, l.takeStart(t, m)
	}
	if m.Type == wire.TypeLocked {
		return func() { t.words = append(t.words, m.Type); t.state = saltpeter.NotStarted },
			func() { l.send(wire.Message{Type: wire.TypeAck, Run: m.Run, Ended: true}) }
	}
	if !l.opened[m.Run] && !(m.Type == wire.TypeDeclined && l.hello) {
		rec.bad("word before grant or resume: " + string(m.Type))
	}
	return l.takeWord(t, m)
}

func (l *fakeLink) takeHello(m *wire.Message) func() {
	l.node.hellos++
	if r := l.node.refuseAll; r != "" {
		return func() { l.send(wire.Message{Type: wire.TypeRefused, Text: r, Final: true}) }
	}
	if l.node.sendAway {
		return func() { l.send(wire.Message{Type: wire.TypeRefused, Text: "try another node"}) }
	}
	l.hello = true
	copy(l.nonce[:], m.Nonce)
	runs := wire.Message{Type: wire.TypeRuns}
	for i, t := range l.node.rec.targets {
		l.seats[i] = t
		e := t.entry
		e.State = t.state.String()
		runs.Runs = append(runs.Runs, e)
	}
	return func() { l.send(runs) }
}

func (l *fakeLink) takeStart(t *recorded, m *wire.Message) func() {
	refused := func(text string) func() {
		return func() { l.send(wire.Message{Type: wire.TypeRefused, Run: m.Run, Text: text, Final: true}) }
	}
	switch {
	case l.node.refuse != "":
		return refused(l.node.refuse)
	case t.state == saltpeter.Launched:
		t.state, t.nonce = saltpeter.Granted, l.nonce
	case t.state != saltpeter.Granted || t.nonce != l.nonce:
		return refused("state " + t.state.String())
	}
	l.opened[m.Run] = true
	t.grants++
	spec := t.spec
	ask := m.Ask
	if l.node.askless {
		ask = 0
	}
	hold := l.node.hold
	if wait := time.Until(l.node.until); wait > 0 {
		hold = wait + time.Duration(ask)*time.Millisecond // in order
	}
	return func() {
		go func() {
			if l.pause(hold) {
				l.send(wire.Message{Type: wire.TypeGrant, Run: m.Run, Ask: ask, Spec: &spec})
			}
		}()
	}
}

func (l *fakeLink) takeResume(m *wire.Message) func() {
	var t *recorded
	for _, c := range l.node.rec.targets {
		if c.entry.RunNum == m.RunNum && c.entry.Target == m.Target {
			t = c
		}
	}
	if t == nil || t.unknown {
		return func() { l.send(wire.Message{Type: wire.TypeResumed, Run: m.Run, State: stateUnknown}) }
	}
	if sha256.Sum256(m.Secret) != t.nonce {
		if t.state != saltpeter.Waiting && t.state != saltpeter.Launched {
			return func() { l.send(wire.Message{Type: wire.TypeRefused, Run: m.Run, Text: "not the winner", Final: true}) }
		}
		return func() { l.send(wire.Message{Type: wire.TypeResumed, Run: m.Run, State: t.state.String()}) }
	}
	l.nonce = t.nonce
	l.seats[m.Run], l.opened[m.Run] = t, true
	if t.state == saltpeter.Granted {
		spec := t.spec
		return func() { l.send(wire.Message{Type: wire.TypeGrant, Run: m.Run, Ask: m.Ask, Spec: &spec, Next: t.next}) }
	}
	answer := wire.Message{Type: wire.TypeResumed, Run: m.Run, State: t.state.String(), Next: t.next, Done: t.final != nil, Started: t.started > 0}
	return func() { l.send(answer) }
}

// takeWord commits a control message of the winner.
func (l *fakeLink) takeWord(t *recorded, m *wire.Message) (func(), func()) {
	if t.unknown {
		return nil, func() { l.send(wire.Message{Type: wire.TypeRefused, Run: m.Run, Text: "unknown run"}) }
	}
	gap := m.Type == wire.TypeResult && m.Seq > l.expected(t)
	commit := func() {
		t.words = append(t.words, m.Type)
		switch m.Type {
		case wire.TypeStarted:
			t.started++
			t.state = saltpeter.Started
		case wire.TypeResult:
			if m.Seq == t.next && t.final == nil {
				t.final = m
				t.next++
				t.state = saltpeter.OK
			}
		case wire.TypeDeclined:
			if t.final == nil {
				t.final = m
				t.state = saltpeter.NotStarted
			}
		}
	}
	if gap {
		next := l.expected(t)
		return nil, func() { l.send(wire.Message{Type: wire.TypeExpect, Run: m.Run, Next: next}) }
	}
	return commit, nil
}

// expected is the number that comes next; what waits for its commit on this connection is in order by then.
func (l *fakeLink) expected(t *recorded) uint64 {
	next := t.next
	for f := t.seen[next]; f != nil; f = t.seen[next] {
		frame, err := wire.ParseFrame(f)
		if err != nil {
			break
		}
		next += max(frame.Covers, 1)
	}
	return next
}

// takeFrame commits output. A number that comes twice must be the same bytes.
func (l *fakeLink) takeFrame(b []byte) (func(), func()) {
	f, err := wire.ParseFrame(b)
	t := l.seats[f.Run]
	if err != nil || t == nil || !l.opened[f.Run] {
		l.node.rec.bad("frame that can't be taken")
		return nil, nil
	}
	if t.unknown {
		return nil, func() { l.send(wire.Message{Type: wire.TypeRefused, Run: f.Run, Text: "unknown run"}) }
	}
	if l.frames++; l.frames == l.node.lose || (l.node.lossy > 0 && l.frames%l.node.lossy == 0) {
		return nil, nil
	}
	ord := f.Run
	f.Run = 0
	norm := wire.AppendFrame(nil, &f)
	// What is in the record may come again as a skip: its ack, by another node, overtook a resume's answer.
	stale := f.Kind == wire.FrameSkip && f.Seq+f.Covers <= t.next
	if was, ok := t.seen[f.Seq]; ok && !stale && !bytes.Equal(was, norm) {
		before, _ := wire.ParseFrame(was)
		l.node.rec.bad(fmt.Sprintf("number %d came with other bytes: kind %d covers %d skipped %d at %d size %d, before kind %d covers %d skipped %d at %d size %d; record is at %d",
			f.Seq, f.Kind, f.Covers, f.Skipped, f.AtMillis, len(f.Data), before.Kind, before.Covers, before.Skipped, before.AtMillis, len(before.Data), t.next))
	}
	if !stale {
		t.seen[f.Seq] = norm
	}
	data := bytes.Clone(f.Data)
	return func() {
		if f.Seq != t.next {
			if f.Seq > t.next {
				next := t.next
				go l.send(wire.Message{Type: wire.TypeExpect, Run: ord, Next: next})
			}
			return
		}
		if f.Kind == wire.FrameSkip {
			t.holes = append(t.holes, hole{len(t.out), f.Skipped})
			t.next += f.Covers
			return
		}
		t.out = append(t.out, data...)
		t.next++
	}, nil
}
