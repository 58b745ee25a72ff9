package wsgateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

// Under a leader that refuses, forgets to answer, is slow and is away, with sessions that break at any moment and move from
// node to node, every byte is in the record once and in order, nothing is acked before it is, and nobody executes who was
// not granted. The record itself complains about gaps, two calls with one target and calls that are too big.
func TestExactUnderFaults(t *testing.T) {
	seeds := 12
	if testing.Short() {
		seeds = 3
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { exactUnderFaults(t, seed) })
		})
	}
}

func exactUnderFaults(t *testing.T, seed uint64) {
	r := newRecord(t)
	r.setFault(outages(seed))
	nodes := []*node{serve(t, r, nil), serve(t, r, nil)}
	var all sync.WaitGroup
	var executed sync.Map
	for i := range 8 {
		ref := saltpeter.TargetRef{Run: uint64(i + 1), Target: uint32(i)}
		machine := fmt.Sprint("web-", i)
		r.add(ref, testLaunch, machine)
		for twin := range 2 { // Salt published twice
			w := &miniWrapper{
				t: t, r: r, nodes: nodes, ref: ref, machine: machine, who: fmt.Sprint(machine, " twin ", twin),
				rng: rand.New(rand.NewPCG(seed, uint64(2*i+twin))), executed: &executed,
			}
			all.Go(w.run)
		}
	}
	all.Wait()
	for ref, x := range r.targets {
		won, ok := executed.Load(ref)
		if !ok || !x.done {
			t.Errorf("%v: not executed or not done: %+v", ref, x)
			continue
		}
		if w := won.(*miniWrapper); !bytes.Equal(w.output, x.data.Bytes()) || nonceOf(w.who) != x.nonce {
			t.Errorf("%v: the record has %d bytes, the command wrote %d", ref, x.data.Len(), len(w.output))
		}
	}
	time.Sleep(10 * time.Second)
	for _, n := range nodes {
		if s := n.g.Sessions(); s != (Stats{}) {
			t.Errorf("left behind: %+v", s)
		}
	}
}

// miniWrapper is the other side of the protocol in its shortest form: start, tell, keep what is not acked, resume.
type miniWrapper struct {
	t        *testing.T
	r        *record
	nodes    []*node
	ref      saltpeter.TargetRef
	machine  string
	who      string
	rng      *rand.Rand
	executed *sync.Map

	won, refused, ended bool
	ask                 uint32
	frames              [][]byte // all that the command writes, frame by frame
	output              []byte
	acked               uint64 // everything below is in the record
	sent                uint64 // next to send on this session
}

func (w *miniWrapper) run() {
	for began := time.Now(); !w.ended && !w.refused; {
		if time.Since(began) > time.Hour {
			w.t.Errorf("%s: not done after an hour", w.who)
			return
		}
		if err := w.session(); err != nil && !errors.Is(err, errSession) {
			w.t.Errorf("%s: %v", w.who, err)
			return
		}
		time.Sleep(time.Duration(w.rng.IntN(300)) * time.Millisecond)
	}
}

// errSession is a session that broke, which is nothing special.
var errSession = errors.New("session broke")

func (w *miniWrapper) session() error {
	c, err := w.nodes[w.rng.IntN(len(w.nodes))].tryDial()
	if err != nil {
		return errSession
	}
	defer c.hangUp()
	patience := time.AfterFunc(time.Duration(50+w.rng.IntN(4000))*time.Millisecond, c.hangUp)
	defer patience.Stop()
	for m := range c.in {
		if err := w.heard(c, m); err != nil || w.ended || w.refused {
			return err
		}
	}
	if code := websocket.CloseStatus(c.err); code == websocket.StatusPolicyViolation || code == websocket.StatusInvalidFramePayloadData {
		return fmt.Errorf("closed by the gateway: %w", c.err)
	}
	return errSession
}

func (w *miniWrapper) heard(c *client, m *wire.Message) error {
	switch m.Type {
	case wire.TypeChallenge:
		return w.open(c)
	case wire.TypeRetry:
		time.Sleep(time.Duration(m.AfterMS) * time.Millisecond)
		if w.won {
			return w.tell(c, resumeOf(w.ref, w.who))
		}
		if w.ask == 0 {
			return w.tell(c, helloOf(testLaunch, w.machine, w.who))
		}
		return w.start(c)
	case wire.TypeRuns:
		return w.start(c)
	case wire.TypeRefused:
		if w.won {
			return fmt.Errorf("the winner is refused: %s", m.Text)
		}
		w.refused = true
	case wire.TypeGrant:
		if !w.won {
			w.execute()
		}
		return w.goOn(c, max(m.Next, 1))
	case wire.TypeResumed:
		if w.ended = m.Done; !m.Done {
			return w.goOn(c, m.Next)
		}
	case wire.TypeExpect:
		return w.goOn(c, m.Next)
	case wire.TypeAck:
		return w.ack(c, m)
	}
	return nil
}

func (w *miniWrapper) open(c *client) error {
	if w.won {
		return w.tell(c, resumeOf(w.ref, w.who))
	}
	w.ask = 0
	return w.tell(c, helloOf(testLaunch, w.machine, w.who))
}

func (w *miniWrapper) start(c *client) error {
	w.ask++
	return w.tell(c, &wire.Message{Type: wire.TypeStart, Ask: w.ask})
}

func (w *miniWrapper) execute() {
	w.won = true
	if other, loaded := w.executed.LoadOrStore(w.ref, w); loaded {
		w.t.Errorf("%v executed by %s and by %s", w.ref, other.(*miniWrapper).who, w.who)
	}
	for range 40 + w.rng.IntN(200) {
		f := make([]byte, 1+w.rng.IntN(3000))
		for i := range f {
			f[i] = byte(w.rng.Uint32())
		}
		w.frames = append(w.frames, f)
		w.output = append(w.output, f...)
	}
	w.acked = 1
}

// goOn sends from next on, as far as a window of 16 allows.
func (w *miniWrapper) goOn(c *client, next uint64) error {
	if next < w.acked {
		return fmt.Errorf("asked for %d, %d is acked", next, w.acked)
	}
	w.sent = next
	if err := w.tell(c, &wire.Message{Type: wire.TypeStarted}); err != nil {
		return err
	}
	return w.fill(c)
}

func (w *miniWrapper) fill(c *client) error {
	last := uint64(len(w.frames) + 1) // the result's number
	for ; w.sent <= last && w.sent < w.acked+16; w.sent++ {
		if w.sent == last {
			return w.tell(c, &wire.Message{Type: wire.TypeResult, Seq: last, Cause: "exit"})
		}
		f := wire.Frame{Kind: wire.FrameOutput, Seq: w.sent, Data: w.frames[w.sent-1]}
		if c.ws.Write(context.Background(), websocket.MessageBinary, wire.AppendFrame(nil, &f)) != nil {
			return errSession
		}
	}
	return nil
}

func (w *miniWrapper) ack(c *client, m *wire.Message) error {
	if in := w.r.nextOf(w.ref); m.Next > in {
		return fmt.Errorf("%d acked, the record has %d", m.Next, in)
	}
	w.acked = max(w.acked, m.Next)
	w.sent = max(w.sent, w.acked)
	w.ended = m.Ended
	if w.ended {
		return nil
	}
	return w.fill(c)
}

func (w *miniWrapper) tell(c *client, m *wire.Message) error {
	b, err := wire.Encode(m)
	if err != nil {
		return err
	}
	if c.ws.Write(context.Background(), websocket.MessageText, b) != nil {
		return errSession
	}
	return nil
}
