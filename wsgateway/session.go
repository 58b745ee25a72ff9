package wsgateway

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

// maxHello bounds messages until a session is known: a hello with token and proof takes about 2 KiB.
const maxHello = 16 << 10

// session is one wrapper's connection. Its reader goroutine owns the fields above mu; whoever is told to write (see out.go)
// writes alone.
type session struct {
	g  *Gateway
	ws *websocket.Conn
	nc net.Conn // below ws, for deadlines: a context per message would double the library's cost

	challenge [32]byte
	claimed   *claimed               // nil until a hello was verified
	told      bool                   // hello was answered with its runs
	down      bool                   // hello was refused for good
	resumed   *saltpeter.LaunchSight // what a winner who resumed says of itself
	known     bool                   // a hello was verified or a resume asked: idle time is measured from the last message
	armed     time.Time
	bucket    bucket
	strange   int // resumes that were not the winner's

	done chan struct{} // closed by shut
	room chan struct{} // 1 deep: words were settled

	mu        sync.Mutex
	lanes     []*lane // by ordinal; entries may be nil
	out       [][]byte
	beat      uint64
	beatDue   bool
	writing   bool // a writer is under way or due
	ending    *ending
	heldWords int
	heldBytes int64
}

// claimed is who the peer proved to be.
type claimed struct {
	sight saltpeter.LaunchSight
	nonce saltpeter.Nonce
}

// ending is why a session is closed, as an error of the reader and as what the peer is told.
type ending struct {
	code   websocket.StatusCode
	reason string // at most 123 bytes, constant
	broken bool   // the connection is gone: nothing can be told
}

func (e *ending) Error() string { return e.reason }

var (
	goingAway = &ending{code: websocket.StatusGoingAway, reason: "this node stops: try another node"}
	anew      = &ending{code: websocket.StatusGoingAway, reason: "the record is another now: come again"}
	peerLeft  = &ending{code: websocket.StatusNormalClosure, reason: "closed by the peer", broken: true}
	tooSlow   = &ending{code: websocket.StatusPolicyViolation, reason: "messages are not read", broken: true}
	silent    = &ending{code: websocket.StatusPolicyViolation, reason: "silent for too long"}
	heldLong  = &ending{code: websocket.StatusTryAgainLater, reason: "words wait too long: try another node"}
	replaced  = &ending{code: websocket.StatusNormalClosure, reason: "a newer session has taken over"}
	tooMany   = &ending{code: websocket.StatusTryAgainLater, reason: "too many sessions of this machine"}
)

// violation closes the session; reason is a constant.
func violation(reason string) *ending {
	return &ending{code: websocket.StatusPolicyViolation, reason: reason}
}

func malformed(reason string) *ending {
	return &ending{code: websocket.StatusInvalidFramePayloadData, reason: reason}
}

func newSession(g *Gateway, nc net.Conn) *session {
	return &session{g: g, nc: nc, done: make(chan struct{}), room: make(chan struct{}, 1)}
}

// run reads the session to its end. quiet never ends: reads are bounded by deadlines and by the close of the connection,
// which costs nothing per message; ctx is for what is asked of the leader.
func (s *session) run(ctx, quiet context.Context) {
	err := s.begin()
	for err == nil {
		if err = s.readable(); err == nil {
			err = s.readOne(ctx, quiet)
		}
	}
	end, ok := errors.AsType[*ending](err)
	if !ok {
		end = s.readEnding(err)
	}
	s.shut(end)
	s.leave()
}

// readEnding says what a failed read means.
func (s *session) readEnding(err error) *ending {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return silent
	case errors.Is(err, websocket.ErrMessageTooBig):
		return &ending{code: websocket.StatusMessageTooBig, reason: "message too big"}
	}
	return peerLeft
}

// leave takes the session out of everything that could reach it. Words that wait are reported once more.
func (s *session) leave() {
	s.mu.Lock()
	lanes := make([]*lane, 0, len(s.lanes))
	for _, l := range s.lanes {
		if l != nil {
			l.gone = true
			lanes = append(lanes, l)
		}
	}
	s.mu.Unlock()
	machine := ""
	if s.claimed != nil {
		machine = s.claimed.sight.Machine
	}
	s.g.unregister(s, machine, lanes)
}

// begin sends the challenge; until a hello or resume the peer has lim.Hello.
func (s *session) begin() error {
	s.ws.SetReadLimit(maxHello)
	_, _ = rand.Read(s.challenge[:]) // never fails
	now := time.Now()
	s.bucket = bucket{tokens: s.g.lim.Burst, at: now}
	if err := s.nc.SetReadDeadline(now.Add(s.g.lim.Hello)); err != nil {
		return peerLeft
	}
	return s.send(&wire.Message{
		Type: wire.TypeChallenge, Versions: []int{wire.Version}, Cluster: s.g.cfg.Cluster, Node: s.g.cfg.Node,
		Challenge: s.challenge[:], LeaderAge: s.g.leaderAge(),
	})
}

// becomeKnown lifts the limits for strangers.
func (s *session) becomeKnown() {
	s.known = true
	s.ws.SetReadLimit(wire.MaxToGateway)
}

// readable waits while the session's words wait, and arms the read deadline.
func (s *session) readable() error {
	if s.full() {
		if err := s.waitRoom(); err != nil {
			return err
		}
	}
	now := time.Now()
	// Moving the deadline costs a timer: once per quarter is enough.
	if s.known && now.Sub(s.armed) > s.g.lim.Idle/4 {
		s.armed = now
		if err := s.nc.SetReadDeadline(now.Add(s.g.lim.Idle)); err != nil {
			return peerLeft
		}
	}
	return nil
}

func (s *session) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.heldWords > s.g.lim.SessionWords || s.heldBytes > s.g.lim.SessionBytes
}

func (s *session) waitRoom() error {
	s.g.stats.heldBack.Inc()
	patience := time.NewTimer(s.g.lim.Idle)
	defer patience.Stop()
	for s.full() {
		select {
		case <-s.room:
		case <-s.done:
			return peerLeft
		case <-patience.C:
			return heldLong
		}
	}
	return nil
}

// readOne reads a message and does what it says.
func (s *session) readOne(ctx, quiet context.Context) error {
	kind, r, err := s.ws.Reader(quiet)
	if err != nil {
		return err
	}
	buf, _ := s.g.bufs.Get().(*bytes.Buffer)
	defer s.g.bufs.Put(buf)
	buf.Reset()
	if _, err = buf.ReadFrom(r); err != nil {
		return err
	}
	if err := s.spend(1 + float64(buf.Len())/1024); err != nil {
		return err
	}
	if kind == websocket.MessageBinary {
		return s.frame(ctx, buf.Bytes())
	}
	m, err := wire.Decode(buf.Bytes())
	if err != nil {
		return malformed("message is not understood")
	}
	return s.message(ctx, m)
}

// spend takes units of the session's rate and waits when there are none: the peer feels it as back-pressure.
func (s *session) spend(units float64) error {
	wait := s.bucket.take(time.Now(), units, s.g.lim.Rate, s.g.lim.Burst)
	if wait <= 0 {
		return nil
	}
	s.g.stats.slowed.Inc()
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-s.done:
		return peerLeft
	}
}

// ping is asked by the library for every WebSocket ping, in the reader. Wrappers use "beat"; a flood of pings is not
// answered, so that a peer that does not read can't make us write.
func (s *session) ping(context.Context, []byte) bool {
	select {
	case <-s.done: // the closing handshake is read by the writer, and the bucket is the reader's
		return false
	default:
		return s.bucket.take(time.Now(), 1, s.g.lim.Rate, s.g.lim.Burst) <= 0
	}
}

// bucket is a token bucket that may go into debt; take says how long to wait until the debt is paid.
type bucket struct {
	tokens float64
	at     time.Time
}

func (b *bucket) take(now time.Time, units, rate, burst float64) time.Duration {
	b.tokens = min(burst, b.tokens+now.Sub(b.at).Seconds()*rate) - units
	b.at = now
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(-b.tokens / rate * float64(time.Second))
}
