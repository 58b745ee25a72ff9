package wsgateway

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

// What is asked of the leader is asked in the session's reader: a wrapper has nothing else to say until it is answered, the
// grant is in its outbox before the first word is read, and asks of one session can't overtake each other. An ask ends after
// lim.Ask, so that heartbeats behind it are answered soon enough.

// Bounds of what a wrapper may say of itself.
const (
	maxName  = 256 // machine, boot id, host, version
	maxToken = 1024
	maxText  = 4 << 10
	// stateUnknown stands in resumed where a state would: the leader says, after a barrier, that there is no such run.
	stateUnknown = "unknown"
	minSecret    = 16
	maxSecret    = 64
	// A wrapper asks again after retryAfter plus up to as much again, so that a fleet does not ask in step.
	retryAfter = 300 * time.Millisecond
)

// message does what a control message says.
func (s *session) message(ctx context.Context, m *wire.Message) error {
	switch m.Type {
	case wire.TypeBeat:
		return s.heartbeat(m)
	case wire.TypeHello:
		return s.hello(ctx, m)
	case wire.TypeStart:
		return s.start(ctx, m)
	case wire.TypeResume:
		return s.resume(ctx, m)
	case wire.TypeLocked:
		return s.locked(ctx, m)
	case wire.TypeStarted, wire.TypeResult, wire.TypeDeclined, wire.TypeRemark, wire.TypeSoft:
		return s.control(ctx, m)
	}
	return violation("unexpected message")
}

func (s *session) hello(ctx context.Context, m *wire.Message) error {
	if s.told || s.down {
		return violation("second hello")
	}
	c, err := checkHello(m)
	if err != nil {
		return err
	}
	if again := s.claimed; again != nil && (again.sight.Launch != c.sight.Launch || again.sight.Machine != c.sight.Machine || again.nonce != c.nonce) {
		return violation("hello changed")
	}
	if err := s.checkToken(ctx, c.sight.Launch, m.Token); err != nil {
		if errors.Is(err, ErrTokenUnchecked) {
			return s.retry(0, "the token can't be checked here yet")
		}
		s.g.log.Info("start token refused", "launch", m.Launch, "machine", m.Machine, "err", err)
		return s.turnDown("token refused")
	}
	if ok, err := s.identify(ctx, m); err != nil || !ok {
		return err
	}
	if s.claimed == nil {
		if !s.g.addMachine(c.sight.Machine) {
			return tooMany
		}
		s.claimed = c
		s.becomeKnown()
	}
	return s.askHello(ctx)
}

func (s *session) checkToken(ctx context.Context, launch saltpeter.LaunchID, token string) error {
	ctx, cancel := context.WithTimeout(ctx, s.g.lim.Ask)
	defer cancel()
	return s.g.cfg.Tokens.Verify(ctx, launch, token)
}

// checkHello reads what the wrapper says of itself.
func checkHello(m *wire.Message) (*claimed, error) {
	if m.Version != wire.Version {
		return nil, violation("protocol version is not spoken here")
	}
	sight := sightOf(m)
	if sight == nil || len(m.Nonce) != len(saltpeter.Nonce{}) {
		return nil, malformed("hello without launch, machine or nonce")
	}
	if len(m.Token) > maxToken || len(m.Text) > maxText {
		return nil, malformed("hello is too long")
	}
	sight.Remark = m.Text
	return &claimed{sight: *sight, nonce: saltpeter.Nonce(m.Nonce)}, nil
}

// sightOf reads what hello and resume have in common, nil if it is not usable.
func sightOf(m *wire.Message) *saltpeter.LaunchSight {
	launch, err := saltpeter.ParseLaunchID(m.Launch)
	if err != nil || m.Machine == "" || max(len(m.Machine), len(m.BootID), len(m.Host), len(m.Build)) > maxName {
		return nil
	}
	return &saltpeter.LaunchSight{Launch: launch, Machine: m.Machine, BootID: m.BootID, Host: m.Host, Version: m.Build}
}

// identify checks the machine's proof. Without an error and without ok the wrapper was refused, or told to try another node: there
// it goes on a new connection, so that one whose key can't be had is looked up once per connection.
func (s *session) identify(ctx context.Context, m *wire.Message) (ok bool, err error) {
	exporter, err := s.exporter()
	if err != nil {
		return false, violation("connection can't be bound to a proof")
	}
	ctx, cancel := context.WithTimeout(ctx, s.g.lim.Ask)
	defer cancel()
	transcript := wire.Transcript(s.g.cfg.Cluster, m.Launch, m.Machine, m.Nonce, s.challenge[:], exporter)
	err = s.g.cfg.Identity.Verify(ctx, m.Machine, m.Proof, transcript)
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, ErrIdentityRefused):
		s.g.log.Warn("machine's proof refused", "machine", m.Machine, "launch", m.Launch, "err", err)
		return false, s.turnDown("identity refused")
	}
	s.g.log.Warn("machine's key can't be had", "machine", m.Machine, "err", err)
	s.down = true
	return false, s.send(&wire.Message{Type: wire.TypeRefused, Text: "identity can't be checked here: try another node"})
}

// exporter gives the bytes that bind a proof to this TLS connection; none on a plain one.
func (s *session) exporter() ([]byte, error) {
	c, ok := s.nc.(*tls.Conn)
	if !ok {
		return nil, nil
	}
	state := c.ConnectionState()
	return state.ExportKeyingMaterial(wire.ExporterLabel, nil, 32)
}

func (s *session) askHello(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.g.lim.Ask)
	defer cancel()
	runs, err := s.g.cfg.Leader.Hello(ctx, s.claimed.sight)
	switch {
	case err != nil && saltpeter.CodeOf(err) == saltpeter.CodeNotFound:
		return s.turnDown("no such launch")
	case err != nil:
		s.g.log.Debug("hello not answered", "launch", s.claimed.sight.Launch.String(), "err", err)
		return s.retry(0, "no answer from the leader")
	case len(runs) > s.g.lim.Runs:
		return violation("too many runs in one launch")
	}
	s.told = true
	entries := make([]wire.RunEntry, len(runs))
	for i := range runs {
		r := &runs[i]
		if _, err := s.bind(i, r.Ref); err != nil {
			return err
		}
		entries[i] = wire.RunEntry{
			RunNum: r.Ref.Run, Target: r.Ref.Target, Run: r.Run, Job: r.Job, Lockfile: r.Lockfile, AllowOverlap: r.AllowOverlap,
			State: r.State.String(), HeartbeatMS: r.Heartbeat.Milliseconds(), StartWindowMS: r.StartWindow.Milliseconds(),
		}
	}
	return s.send(&wire.Message{Type: wire.TypeRuns, Runs: entries})
}

// bind gives the lane of an ordinal; an ordinal means one target for the whole session.
func (s *session) bind(run int, ref saltpeter.TargetRef) (*lane, error) {
	if run >= s.g.lim.Runs {
		return nil, violation("too many runs on one session")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.lanes) <= run {
		s.lanes = append(s.lanes, nil)
	}
	for i, l := range s.lanes {
		if l != nil && (i == run) != (l.ref == ref) {
			return nil, violation("a run's number is taken")
		}
	}
	if s.lanes[run] == nil {
		s.lanes[run] = &lane{s: s, run: run, ref: ref}
	}
	return s.lanes[run], nil
}

// lane gives the lane of an ordinal that was bound, or nil. The reader alone changes lanes.
func (s *session) lane(run int) *lane {
	if run < 0 || run >= len(s.lanes) {
		return nil
	}
	return s.lanes[run]
}

func (s *session) start(ctx context.Context, m *wire.Message) error {
	l := s.lane(m.Run)
	c := s.speaker(l)
	if l == nil || c == nil {
		return violation("start without hello")
	}
	if m.Ask == 0 {
		return malformed("start without a number")
	}
	s.g.attach(l) // from here on a kill finds it
	ctx, cancel := context.WithTimeout(ctx, s.g.lim.Ask)
	defer cancel()
	a, err := s.g.cfg.Leader.Start(ctx, saltpeter.StartAsk{Sight: c.sight, Ref: l.ref, Nonce: c.nonce, Ask: m.Ask})
	if err == nil && a.Granted && a.Spec == nil {
		err = errNoSpec
	}
	if err != nil {
		s.g.log.Debug("start not answered", "run", l.ref.Run, "target", l.ref.Target, "err", err)
		return s.retry(m.Run, "no answer from the leader")
	}
	if !a.Granted {
		s.g.stats.asks.WithLabelValues("refused").Inc()
		return s.refuse(l, a.Refusal)
	}
	s.g.stats.asks.WithLabelValues("granted").Inc()
	return s.grant(l, c.nonce, m.Ask, &saltpeter.ResumeAnswer{State: saltpeter.Granted, Spec: a.Spec, Kill: a.Kill})
}

// speaker is who asks to start: the winner who resumed the run here, else the machine that said hello, else nobody.
func (s *session) speaker(l *lane) *claimed {
	switch {
	case l == nil:
		return nil
	case l.won && s.resumed != nil:
		return &claimed{sight: *s.resumed, nonce: l.nonce}
	case s.told:
		return s.claimed
	}
	return nil
}

var errNoSpec = errors.New("grant without a spec")

// resume answers a wrapper that presents its secret. It needs no hello: who knows the secret is the winner.
func (s *session) resume(ctx context.Context, m *wire.Message) error {
	if m.RunNum == 0 || len(m.Secret) < minSecret || len(m.Secret) > maxSecret {
		return malformed("resume without run or secret")
	}
	l, err := s.bind(m.Run, saltpeter.TargetRef{Run: m.RunNum, Target: m.Target})
	if err != nil {
		return err
	}
	s.becomeKnown()
	nonce := saltpeter.Nonce(sha256.Sum256(m.Secret))
	ctx, cancel := context.WithTimeout(ctx, s.g.lim.Ask)
	defer cancel()
	a, err := s.g.cfg.Leader.Resume(ctx, saltpeter.ResumeAsk{Ref: l.ref, Nonce: nonce})
	if err != nil {
		s.g.log.Debug("resume not answered", "run", l.ref.Run, "target", l.ref.Target, "err", err)
		return s.retry(m.Run, "no answer from the leader")
	}
	if !a.Unknown && a.Winner {
		s.g.stats.asks.WithLabelValues("resumed").Inc()
		s.resumed = sightOf(m)
		return s.grant(l, nonce, m.Ask, &a)
	}
	if s.strange++; s.strange > s.g.lim.Runs {
		return violation("too many resumes of strangers")
	}
	switch {
	case a.Unknown:
		return s.send(&wire.Message{Type: wire.TypeResumed, Run: m.Run, State: stateUnknown})
	case a.State == saltpeter.Waiting || a.State == saltpeter.Launched:
		return s.send(&wire.Message{Type: wire.TypeResumed, Run: m.Run, State: a.State.String()})
	}
	return s.refuse(l, "another wrapper holds this target, or none may any more: "+a.State.String())
}

// grant makes the session the winner's and says so: with the grant while the target is granted, else with the number to go
// on from. The lane is held and the message queued in one step, so that a kill comes after it.
func (s *session) grant(l *lane, nonce saltpeter.Nonce, ask uint32, a *saltpeter.ResumeAnswer) error {
	for _, other := range s.g.attach(l) {
		other.s.supersede(other, nonce)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	queued, weight := l.queued && l.flying == nil, l.waitBytes
	dropped := l.hold(nonce, a.Next, a.Done)
	if queued && len(dropped) > 0 {
		s.g.batch.ready(-len(dropped), -weight)
	}
	s.forget(dropped)
	kill := a.Kill || l.killed
	if a.State == saltpeter.Granted && a.Spec != nil && !a.Done {
		l.killTold = kill
		return s.sendLocked(&wire.Message{
			Type: wire.TypeGrant, Run: l.run, Ask: ask, Spec: a.Spec, Kill: kill, State: a.State.String(), Next: l.next,
		})
	}
	if err := s.sendLocked(&wire.Message{Type: wire.TypeResumed, Run: l.run, State: a.State.String(), Next: l.next, Done: a.Done}); err != nil {
		return err
	}
	if kill && !a.Done {
		return s.tellKill(l)
	}
	return nil
}

// locked takes the wrapper's word that the job's lock is held; the machine has proved who it is.
func (s *session) locked(ctx context.Context, m *wire.Message) error {
	l := s.lane(m.Run)
	if !s.told || l == nil || l.won {
		return violation("locked without hello, or after a grant")
	}
	if len(m.Text) > maxText {
		return malformed("text is too long")
	}
	ctx, cancel := context.WithTimeout(ctx, s.g.lim.Ask)
	defer cancel()
	err := s.g.cfg.Leader.Lock(ctx, saltpeter.LockRefusal{Sight: s.claimed.sight, Ref: l.ref, Text: m.Text})
	if err != nil {
		s.g.log.Debug("lock not answered", "run", l.ref.Run, "target", l.ref.Target, "err", err)
		return s.retry(m.Run, "no answer from the leader")
	}
	return s.send(&wire.Message{Type: wire.TypeAck, Run: m.Run, Ended: true})
}

// retry tells the wrapper to ask again, here or elsewhere.
func (s *session) retry(run int, text string) error {
	after := retryAfter + rand.N(retryAfter)
	return s.send(&wire.Message{Type: wire.TypeRetry, Run: run, Text: text, AfterMS: after.Milliseconds()})
}

// refuse tells that this wrapper will not execute the run.
func (s *session) refuse(l *lane, text string) error {
	s.g.detach(l)
	return s.send(&wire.Message{Type: wire.TypeRefused, Run: l.run, Final: true, Text: text})
}

// turnDown refuses a hello for good. The connection stays for a resume: an ask may have been granted before a break, and the
// secret needs neither token nor proof. The limits for strangers go on counting.
func (s *session) turnDown(text string) error {
	s.g.stats.asks.WithLabelValues("turned down").Inc()
	s.down = true
	return s.send(&wire.Message{Type: wire.TypeRefused, Final: true, Text: text})
}
