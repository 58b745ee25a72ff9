package wrapper

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/syscollective/saltpeter/internal/wire"
)

const (
	askLimit     = 15 * time.Minute // asking to start ends, whatever the window says
	grantLimit   = 20 * time.Second // between an ask and the execution on its grant
	askAgain     = 5 * time.Second  // an ask without an answer is repeated, under a new number
	askPause     = time.Second      // at least, between an ask and one that its answer makes necessary
	defaultBeat  = 5 * time.Second
	sickAfter    = 10 * time.Second    // silence of a gateway, or its leader's age, that makes a wrapper try other nodes
	keepResult   = 30 * 24 * time.Hour // a result that no node has taken by then is not kept for longer
	lockedWait   = 5 * time.Second     // for the answer to "locked"
	frameWindow  = 32                  // numbers that may be on their way without an ack
	minRetry     = 50 * time.Millisecond
	maxRetry     = 10 * time.Second
	defaultRetry = 500 * time.Millisecond
)

// Parts are what a session is composed of.
type Parts struct {
	Dialer   Dialer
	Locker   Locker
	Journal  Journal
	Executor Executor
	// Boot reads CLOCK_BOOTTIME.
	Boot func() time.Duration
	// Temp makes a file without a name, for output that doesn't fit in memory.
	Temp func() (*os.File, error)
	// Stop, if not nil, asks the session to give up what it has not started. It never ends a command.
	Stop <-chan os.Signal
}

// About is what a wrapper tells of its machine and itself.
type About struct {
	BootID string
	Host   string
	Build  string
}

// Session is one wrapper's work, from hello to the last word of its last run.
type Session struct {
	opts   *Options
	parts  Parts
	about  About
	log    *slog.Logger
	secret [sha256.Size]byte
	nonce  [sha256.Size]byte
	remark string // of the journal, for hello

	targets []*target
	told    bool // a gateway has said which runs there are
	over    bool // asking to start has ended
	// helloRefused says that hello is useless, but that a run may have been granted before.
	helloRefused bool

	cur, cand *link // the connection in use, and one that may take its place
	dialing   bool
	dialAt    time.Time
	tries     int
	sentAway  map[string]int // how often the node at a URL said that another should be asked
	beat      time.Duration

	began    time.Time
	now      time.Time // of this turn of the loop
	wake     time.Time // when the next turn is due at the latest
	counted  time.Duration
	lastTick time.Time
	turn     int // for fairness between targets

	inbound chan inbound
	dialed  chan dialOutcome
	news    chan news
	chunks  chan chunk
	wg      sync.WaitGroup
}

type dialOutcome struct {
	dialed
	err error
}

// NewSession makes a session and draws its secret.
func NewSession(opts *Options, parts Parts, about About, log *slog.Logger) *Session {
	s := &Session{
		opts: opts, parts: parts, about: about, log: log, beat: defaultBeat, sentAway: make(map[string]int),
		inbound: make(chan inbound), dialed: make(chan dialOutcome), news: make(chan news), chunks: make(chan chunk),
	}
	rand.Read(s.secret[:]) // never fails: crypto/rand ends the process instead
	s.nonce = sha256.Sum256(s.secret[:])
	return s
}

// Run works until every run of the launch has its last word in the record, or needs none. When ctx ends before, it kills
// what it runs.
func (s *Session) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer s.close()
	defer s.wg.Wait()
	defer cancel()
	s.began = time.Now()
	s.lastTick = s.began
	s.remark = s.orphans()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		s.now = time.Now()
		s.wake = s.now.Add(time.Hour)
		s.tend(ctx)
		if s.finished() {
			return nil
		}
		timer.Reset(s.wake.Sub(s.now))
		curOut, curItem := s.cur.offer(s)
		candOut, candItem := s.cand.offer(nil)
		var do func()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case curOut <- curItem:
			s.cur.next = nil
		case candOut <- candItem:
			s.cand.next = nil
		case in := <-s.inbound:
			do = func() { s.receive(in) }
		case d := <-s.dialed:
			do = func() { s.onDialed(ctx, d) }
		case n := <-s.news:
			do = func() { s.onNews(n) }
		case c := <-s.chunks:
			do = func() { s.onChunk(c) }
		case sig := <-s.parts.Stop:
			do = func() { s.stop(sig) }
		}
		s.now = time.Now()
		if do != nil {
			do()
		}
	}
}

// close frees what is left when all goroutines have ended.
func (s *Session) close() {
	for _, l := range []*link{s.cur, s.cand} {
		if l != nil {
			l.Close()
		}
	}
	for _, t := range s.targets {
		t.free()
	}
}

// tend does all that is due now and notes when to be called again.
func (s *Session) tend(ctx context.Context) {
	s.now = time.Now()
	s.countWindow()
	s.tendDial(ctx)
	s.tendLink(s.cur)
	s.tendLink(s.cand)
	for _, t := range s.targets {
		if t.phase == phaseNew {
			s.takeLock(ctx, t)
		}
		if t.phase == phaseGranted {
			s.execute(ctx, t)
		}
		s.tendTarget(t)
	}
}

// finished reports whether nothing is left to do.
func (s *Session) finished() bool {
	if !s.told {
		return s.over
	}
	for _, t := range s.targets {
		if t.phase != phaseGone {
			return false
		}
	}
	return true
}

// stop gives up what was not granted.
func (s *Session) stop(sig os.Signal) {
	s.log.Info("asked to stop", "signal", sig.String())
	s.over = true
	for _, t := range s.targets {
		if t.phase < phaseGranted {
			t.leave()
		}
	}
}

func (s *Session) wakeBy(at time.Time) {
	if at.Before(s.wake) {
		s.wake = at
	}
}

// countWindow counts the start window, which only runs while a gateway reports a fresh leader, and ends the asking.
func (s *Session) countWindow() {
	if s.cur != nil && !s.cur.sick(s.now) {
		s.counted += s.now.Sub(s.lastTick)
	}
	s.lastTick = s.now
	late := s.now.Sub(s.began) >= askLimit
	if !s.told {
		s.over = s.over || late || s.counted >= s.opts.Window
		s.wakeBy(s.now.Add(s.opts.Window - s.counted))
		s.wakeBy(s.began.Add(askLimit))
	}
	for _, t := range s.targets {
		if t.phase != phaseLock && t.phase != phaseAsk {
			continue
		}
		if late || s.counted >= t.window {
			s.windowOver(t)
			continue
		}
		s.wakeBy(s.now.Add(t.window - s.counted))
		s.wakeBy(s.began.Add(askLimit))
	}
}

// windowOver ends a target's asking. An ask on its way may still be granted, so its answer is waited for as long as it could be
// followed, and a little while in any case: a process that was stopped finds the window over before it has read what came
// meanwhile, and a grant that is not declined stays in the record as a command that may run.
func (s *Session) windowOver(t *target) {
	if !t.over {
		t.over, t.overAt = true, s.now
	}
	end := t.askedAt.Add(grantLimit)
	if least := t.overAt.Add(askAgain); end.Before(least) {
		end = least
	}
	if t.askOpen && s.now.Before(end) {
		s.wakeBy(end)
		return
	}
	s.log.Info("not started: the start window is over", "run", t.entry.Run)
	if !t.granted {
		t.leave()
		return
	}
	s.decline(t, ErrTooLate.Error(), codeNotStart, "") // that is worth more than the silence that the record rests on
	if _, seat := s.cur.seatOf(t); seat != nil && !seat.open {
		seat.resume = s.now
		s.wakeBy(s.now)
	}
}

// orphans says for hello which commands outlived their wrappers.
func (s *Session) orphans() string {
	entries, err := s.parts.Journal.Orphans()
	if err != nil {
		s.log.Warn("journal is not readable", "err", err)
		return ""
	}
	var parts []string
	for _, e := range entries {
		parts = append(parts, fmt.Sprintf("%s (PID %d)", e.Run, e.PID))
		if len(parts) == 10 {
			break
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "command may still run: " + strings.Join(parts, ", ")
}

// hello is the first message of a wrapper that still wants to start something.
func (s *Session) hello(l *link) *wire.Message {
	m := s.introduce(wire.TypeHello)
	m.Nonce = s.nonce[:]
	m.Token = s.opts.Token
	m.Text = s.remark
	if s.opts.Prove == nil {
		return m
	}
	var err error
	if m.Proof, err = s.opts.Prove(wire.Transcript(s.opts.Cluster, s.opts.Launch, s.opts.Machine, s.nonce[:], l.challenge.Challenge, l.Exporter())); err != nil {
		s.log.Error("identity can't be proved", "err", err) // the gateway refuses it, and shows that
	}
	return m
}

// introduce makes a message that says who speaks.
func (s *Session) introduce(kind wire.Type) *wire.Message {
	return &wire.Message{
		Type: kind, Version: wire.Version, Launch: s.opts.Launch, Machine: s.opts.Machine,
		BootID: s.about.BootID, Host: s.about.Host, Build: s.about.Build,
	}
}
