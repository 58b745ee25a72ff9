package wrapper

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/syscollective/saltpeter/internal/wire"
)

// steadyAfter is how long a connection must have worked for its end to count as the first break.
const steadyAfter = 5 * time.Second

// link is one connection of a session: what is to be sent on it, and what was learnt from it.
type link struct {
	Link
	url       string
	challenge *wire.Message
	cancel    context.CancelFunc
	out       chan outItem // to the writer, which takes the next when it is done with the last
	next      *outItem     // built, not taken yet
	control   []*wire.Message

	hello    bool // hello was sent and is not answered
	retryAt  time.Time
	accepted bool // hello or resume was answered: the node works for us
	opened   time.Time
	age      time.Duration // of the leader contact as last reported; negative = never
	waiting  time.Time     // since when an answer is due; zero = none is
	beatAt   time.Time
	beats    uint64
	seats    []*seat // by ordinal
}

// seat is a target's place on one connection.
type seat struct {
	t       *target
	mayAsk  bool // hello's answer lists it
	open    bool // the node takes the winner's words
	resume  time.Time
	resumed bool // resume was sent and is not answered

	pos                                          uint64 // the number to send next
	low                                          uint64 // everything below it is in the record, as this node said
	startedSent, softSent, remarkSent, finalSent bool
}

type outItem struct {
	msg   *wire.Message
	frame wire.Frame
}

type inbound struct {
	l   *link
	msg *wire.Message
	err error
}

// run starts the link's reader and writer. They end with ctx or with the connection.
func (l *link) run(ctx context.Context, s *Session) {
	ctx, l.cancel = context.WithCancel(ctx)
	tell := func(in inbound) bool {
		select {
		case s.inbound <- in:
			return in.err == nil
		case <-ctx.Done():
			return false
		}
	}
	s.wg.Go(func() {
		for ok := true; ok; {
			m, err := l.Recv(ctx)
			ok = tell(inbound{l, m, err})
		}
	})
	s.wg.Go(func() {
		for {
			var err error
			select {
			case item := <-l.out:
				if item.msg != nil {
					err = l.Send(ctx, item.msg)
				} else {
					err = l.SendFrame(ctx, &item.frame)
				}
			case <-ctx.Done():
				return
			}
			if err != nil {
				tell(inbound{l, nil, err})
				return
			}
		}
	})
}

// offer gives the channel and the item to send next; a nil channel if there is none. Words of targets are only taken from
// a session that is given.
func (l *link) offer(words *Session) (chan<- outItem, outItem) {
	if l == nil {
		return nil, outItem{}
	}
	if l.next == nil && len(l.control) > 0 {
		l.next = &outItem{msg: l.control[0]}
		l.control = l.control[1:]
	}
	if l.next == nil && words != nil {
		l.next = words.nextWord(l)
	}
	if l.next == nil {
		return nil, outItem{}
	}
	return l.out, *l.next
}

// queue puts a control message that is answered on the connection.
func (l *link) queue(m *wire.Message, now time.Time) {
	l.control = append(l.control, m)
	if l.waiting.IsZero() {
		l.waiting = now
	}
}

// sick reports whether other nodes should be tried: this one is silent, or cut off from the leader.
func (l *link) sick(now time.Time) bool {
	return l.age < 0 || l.age > sickAfter || (!l.waiting.IsZero() && now.Sub(l.waiting) > sickAfter)
}

func (l *link) seatOf(t *target) (int, *seat) {
	if l == nil {
		return 0, nil
	}
	for i, seat := range l.seats {
		if seat.t == t {
			return i, seat
		}
	}
	return 0, nil
}

// tendDial dials when there is no connection, and tries other nodes when the one in use is sick.
func (s *Session) tendDial(ctx context.Context) {
	if s.cand != nil && s.now.Sub(s.cand.opened) > sickAfter {
		s.drop(s.cand, "no answer")
	}
	switch {
	case s.dialing || s.cand != nil:
		return
	case s.cur != nil && !s.cur.sick(s.now):
		if !s.cur.waiting.IsZero() {
			s.wakeBy(s.cur.waiting.Add(sickAfter + time.Millisecond))
		}
		return
	case s.now.Before(s.dialAt):
		s.wakeBy(s.dialAt)
		return
	}
	urls, want := s.dialOrder()
	s.dialing = true
	s.wg.Go(func() {
		d, err := race(ctx, s.parts.Dialer, urls, want)
		select {
		case s.dialed <- dialOutcome{d, err}:
		case <-ctx.Done():
			if err == nil {
				d.link.Close()
			}
		}
	})
}

// dialOrder gives the URLs in an order of their own for every wrapper, so that a launch on many machines doesn't meet in one
// node; those that sent us elsewhere come late, the one in use last. What is dialed beside a sick connection must hear the leader
// itself.
func (s *Session) dialOrder() ([]string, func(*wire.Message) error) {
	urls := shuffled(s.opts.URLs)
	slices.SortStableFunc(urls, func(a, b string) int { return cmp.Compare(s.sentAway[a], s.sentAway[b]) })
	cluster := s.opts.Cluster
	if s.cur == nil {
		return urls, func(m *wire.Message) error { return wantChallenge(m, cluster) }
	}
	if i := slices.Index(urls, s.cur.url); i >= 0 {
		urls = append(slices.Delete(urls, i, i+1), s.cur.url)
	}
	return urls, func(m *wire.Message) error { return wantFresh(m, cluster) }
}

func (s *Session) onDialed(ctx context.Context, d dialOutcome) {
	s.dialing = false
	if d.err != nil {
		if s.tries&(s.tries-1) == 0 { // less and less often: nodes may be away for hours
			s.log.Warn("no gateway answers", "tries", s.tries+1, "err", d.err)
		}
		s.pause()
		return
	}
	l := &link{Link: d.link, url: d.url, challenge: d.challenge, out: make(chan outItem), opened: s.now, age: leaderAge(d.challenge)}
	if s.cur == nil {
		s.cur = l
	} else {
		s.cand = l
	}
	l.run(ctx, s)
	s.open(l)
}

// pause sets the time of the next dial. Beside a connection that is only cut off from the leader there is less hurry.
func (s *Session) pause() {
	wait := backoff(s.tries)
	if s.cur != nil {
		wait *= 3
	}
	s.dialAt = s.now.Add(wait)
	s.tries++
}

// open says on a new connection what this wrapper is there for.
func (s *Session) open(l *link) {
	if !s.helloRefused && s.wantsStart() {
		l.hello = true
		l.queue(s.hello(l), s.now)
		return
	}
	for _, t := range s.targets {
		s.seatFor(l, t)
	}
}

// wantsStart reports whether anything is still to be asked.
func (s *Session) wantsStart() bool {
	if !s.told {
		return true
	}
	return slices.ContainsFunc(s.targets, func(t *target) bool {
		return t.phase == phaseNew || t.phase == phaseLock || t.phase == phaseAsk || t.phase == phaseLocked
	})
}

// seatFor gives a target that speaks a place on the connection, and resumes it there.
func (s *Session) seatFor(l *link, t *target) {
	if t.phase == phaseGone || t.own {
		return
	}
	l.seats = append(l.seats, &seat{t: t, resume: s.now})
}

// tendLink sends what is due: heartbeats, hello and resume again after a retry.
func (s *Session) tendLink(l *link) {
	if l == nil {
		return
	}
	if !l.retryAt.IsZero() {
		if s.now.Before(l.retryAt) {
			s.wakeBy(l.retryAt)
		} else {
			l.retryAt = time.Time{}
			l.queue(s.hello(l), s.now)
		}
	}
	for i, seat := range l.seats {
		if seat.resume.IsZero() {
			continue
		}
		if s.now.Before(seat.resume) {
			s.wakeBy(seat.resume)
			continue
		}
		seat.resume, seat.resumed = time.Time{}, true
		m := s.introduce(wire.TypeResume)
		m.Run, m.Secret, m.RunNum, m.Target = i, s.secret[:], seat.t.entry.RunNum, seat.t.entry.Target
		l.queue(m, s.now)
	}
	if l.accepted {
		s.tendBeat(l)
	}
}

func (s *Session) tendBeat(l *link) {
	if due := l.beatAt.Add(s.beat); s.now.Before(due) {
		s.wakeBy(due)
		return
	}
	l.beatAt = s.now
	l.beats++
	if len(l.control) < 16 { // a connection that takes nothing needs no more of them
		l.queue(&wire.Message{Type: wire.TypeBeat, N: l.beats}, s.now)
	}
	s.wakeBy(s.now.Add(s.beat))
}

// accept notes that a node works for us; one that was tried beside another takes its place.
func (s *Session) accept(l *link) {
	l.accepted = true
	if l == s.cand {
		old := s.cur
		s.cur, s.cand = l, nil
		s.drop(old, "another node is closer to the leader")
	}
}

// drop gives a connection up.
func (s *Session) drop(l *link, why string) {
	if l == nil {
		return
	}
	s.log.Info("connection given up", "url", l.url, "why", why)
	if l.cancel != nil {
		l.cancel()
	}
	l.Close()
	if l.accepted && s.now.Sub(l.opened) > steadyAfter {
		s.tries = 0
	}
	switch l {
	case s.cand:
		s.cand = nil
		s.pause()
	case s.cur:
		s.cur, s.cand = s.cand, nil
		if s.cur == nil {
			s.pause()
		}
	}
}

// leaderAge reads how long ago a node last heard the leader; negative = never.
func leaderAge(m *wire.Message) time.Duration {
	if m.LeaderAge == nil || *m.LeaderAge < 0 {
		return -1
	}
	return time.Duration(*m.LeaderAge) * time.Millisecond
}
