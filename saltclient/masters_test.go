package saltclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter"
)

// stub is a master whose keys, connected minions and faults are set.
type stub struct {
	name      string
	keys      []string
	connected []string

	mu    sync.Mutex // guards the following
	err   error      // every call's
	hangs bool
	slow  time.Duration
	calls []string
	now   int
	most  int // calls at a time
	heard func(saltpeter.LaunchID, string)
}

func (s *stub) Name() string { return s.name }

func (s *stub) begin(ctx context.Context, format string, args ...any) error {
	s.mu.Lock()
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
	s.now++
	s.most = max(s.most, s.now)
	err, hangs, slow := s.err, s.hangs, s.slow
	s.mu.Unlock()
	defer func() { s.mu.Lock(); s.now--; s.mu.Unlock() }()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	if slow > 0 && !pause(ctx, slow) {
		return ctx.Err()
	}
	return err
}

func (s *stub) took() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

func (s *stub) fails(err error) { s.mu.Lock(); s.err = err; s.mu.Unlock() }

func (s *stub) Resolve(ctx context.Context, e Expression) (Matched, error) {
	if err := s.begin(ctx, "resolve %s", e.Type); err != nil {
		return Matched{}, err
	}
	if e.Type != "list" {
		return Matched{Minions: slices.Clone(s.keys)}, nil
	}
	var m Matched
	for _, id := range e.Text {
		if slices.Contains(s.keys, id) {
			m.Minions = append(m.Minions, id)
		} else {
			m.Missing = append(m.Missing, id)
		}
	}
	return m, nil
}

func (s *stub) Publish(ctx context.Context, p *Publication) ([]string, error) {
	text := p.Target.Type
	if len(p.Target.Text) < 10 {
		text += " " + strings.Join(p.Target.Text, ",")
	} else {
		text += fmt.Sprintf(" of %d", len(p.Target.Text))
	}
	if err := s.begin(ctx, "publish %s", text); err != nil {
		return nil, err
	}
	m := Matched{Minions: s.keys}
	if p.Target.Type == "list" {
		m = Matched{}
		for _, id := range p.Target.Text {
			if slices.Contains(s.keys, id) {
				m.Minions = append(m.Minions, id)
			}
		}
	}
	for _, id := range m.Minions {
		if s.heard != nil && slices.Contains(s.connected, id) {
			s.heard(p.ID, id)
		}
	}
	return m.Minions, nil
}

func (s *stub) Ping(ctx context.Context, minions []string, answered func(string)) error {
	if err := s.begin(ctx, "ping %s", strings.Join(minions, ",")); err != nil {
		return err
	}
	all := true
	for _, id := range minions {
		if slices.Contains(s.connected, id) {
			answered(id)
		} else {
			all = false
		}
	}
	if !all {
		<-ctx.Done()
	}
	return nil
}

func (s *stub) Returns(context.Context, saltpeter.LaunchID) ([]Return, error) { return nil, nil }

func (s *stub) Key(ctx context.Context, minion string) ([]byte, error) {
	if err := s.begin(ctx, "key %s", minion); err != nil {
		return nil, err
	}
	if !slices.Contains(s.keys, minion) {
		return nil, ErrNoKey
	}
	return []byte("key of " + minion), nil
}

func (s *stub) Health(ctx context.Context) (Health, error) {
	return Health{Version: "3007.14"}, s.begin(ctx, "health")
}

func newStubs(limits Limits, stubs ...*stub) *Masters {
	m := NewMasters(Options{
		Masters: func() []Master {
			var out []Master
			for _, s := range stubs {
				out = append(out, s)
			}
			return out
		},
		Publication: func(*saltpeter.Launch, *saltpeter.Job, time.Duration) (*Publication, error) {
			return &Publication{Function: "cmd.run_all", Kwargs: map[string]any{"cmd": "true"}}, nil
		},
		Limits: limits, Logger: slog.New(slog.DiscardHandler),
	})
	for _, s := range stubs {
		s.heard = m.Heard
	}
	return m
}

func twoStubs() (a, b *stub, m *Masters) {
	all := []string{"m1", "m2", "m3"}
	a = &stub{name: "a", keys: all, connected: all}
	b = &stub{name: "b", keys: all, connected: all}
	return a, b, newStubs(Limits{}, a, b)
}

var webJob = &saltpeter.Job{Name: "web", Targets: []string{"*"}, TargetType: "glob"}

func launchOf(id saltpeter.LaunchID, machines ...string) *saltpeter.Launch {
	return &saltpeter.Launch{ID: id, Machines: machines}
}

func expect(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestResolveAsksAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &stub{name: "a", keys: []string{"m1", "m2"}, connected: []string{"m1"}}
		b := &stub{name: "b", keys: []string{"m2", "m3"}, connected: []string{"m2"}}
		m := newStubs(Limits{}, a, b)
		names := func(job *saltpeter.Job, subset []string, up bool) (out []string) {
			t.Helper()
			found, err := m.Resolve(t.Context(), *job, subset, up)
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range found {
				if f.Up {
					f.Machine += "+"
				}
				out = append(out, f.Machine)
			}
			return out
		}
		expect(t, "both", names(webJob, nil, false), "m1", "m2", "m3")
		expect(t, "subset", names(webJob, []string{"m3", "m9"}, false), "m3")
		began := time.Now()
		expect(t, "who is up", names(webJob, nil, true), "m1+", "m2+", "m3")
		if took := time.Since(began); took != pingStage+pingQuiet {
			t.Errorf("one machine down held the answer up for %s", took)
		}
		list := &saltpeter.Job{TargetType: "list", Targets: []string{"m3", "nobody"}}
		expect(t, "list", names(list, nil, false), "m3", "nobody")

		b.fails(ErrUnreachable)
		expect(t, "one master down", names(webJob, nil, false), "m1", "m2")
		a.fails(fmt.Errorf("%w: unknown nodegroup x", ErrExpression))
		if _, err := m.Resolve(t.Context(), *webJob, nil, false); !errors.Is(err, ErrExpression) || !errors.Is(err, ErrUnreachable) {
			t.Errorf("no master answers: %v", err)
		}
	})
}

func TestResolveWaitsForNoHungMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b, m := twoStubs()
		b.hangs = true
		began := time.Now()
		found, err := m.Resolve(t.Context(), *webJob, nil, false)
		if err != nil || len(found) != 3 || time.Since(began) != matchGrace {
			t.Errorf("found %d, %v after %s", len(found), err, time.Since(began))
		}
	})
}

func TestNoMasterIsAnError(t *testing.T) {
	m := newStubs(Limits{})
	_, resolve := m.Resolve(t.Context(), *webJob, nil, false)
	_, ping := m.Ping(t.Context(), []string{"m1"})
	_, key := m.Key(t.Context(), "m1")
	for _, err := range []error{resolve, ping, key, m.Publish(t.Context(), launchOf(1, "m1"), webJob, time.Minute)} {
		if !errors.Is(err, ErrUnreachable) {
			t.Errorf("without a master: %v", err)
		}
	}
	if m.Some() {
		t.Error("there is none")
	}
}

func TestPublishTakesTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, m := twoStubs()
		publish := func(id saltpeter.LaunchID, machines ...string) error {
			return m.Publish(t.Context(), launchOf(id, machines...), webJob, time.Minute)
		}
		if err := publish(1, "m1", "m2"); err != nil {
			t.Fatal(err)
		}
		expect(t, "a at first", a.took(), "publish list m1,m2")
		expect(t, "b at first", b.took())

		a.fails(ErrUnreachable)
		if err := publish(2, "m1"); err != nil {
			t.Fatal(err)
		}
		expect(t, "a failing", a.took(), "publish list m1")
		expect(t, "b instead", b.took(), "publish list m1")
		if err := publish(3, "m1"); err != nil {
			t.Fatal(err)
		}
		expect(t, "a that failed lately", a.took())
		b.took()

		b.fails(ErrDoubtful)
		if err := publish(4, "m1"); !errors.Is(err, ErrDoubtful) || !errors.Is(err, ErrUnreachable) {
			t.Errorf("both failing: %v", err)
		}
		a.took()
		b.took()

		a.fails(nil)
		b.fails(nil)
		a.keys = []string{"m1"}
		if err := publish(5, "m1", "m2", "nobody"); err != nil {
			t.Fatal(err)
		}
		expect(t, "a that knows one", a.took(), "publish list m1,m2,nobody")
		expect(t, "b that knows another", b.took(), "publish list m2,nobody")
	})
}

func TestPublishGivesUpOnAHungMaster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, m := twoStubs()
		a.hangs = true
		began := time.Now()
		if err := m.Publish(t.Context(), launchOf(1, "m1"), webJob, time.Minute); err != nil || time.Since(began) != callLimit {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		expect(t, "b", b.took(), "publish list m1")
		if s := m.States()[0]; !strings.Contains(s.Failing, "within 5s") {
			t.Errorf("state of a: %+v", s)
		}
		began = time.Now()
		if err := m.Publish(t.Context(), launchOf(2, "m1"), webJob, time.Minute); err != nil || time.Since(began) != 0 {
			t.Errorf("%v after %s: the hung one was asked first again", err, time.Since(began))
		}
	})
}

func TestPublishInLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &stub{name: "a"}
		for i := range 450 {
			a.keys = append(a.keys, fmt.Sprintf("m%03d", i))
		}
		m := newStubs(Limits{}, a)
		launch := launchOf(1, a.keys...)
		if err := m.Publish(t.Context(), launch, webJob, time.Minute); err != nil {
			t.Fatal(err)
		}
		expect(t, "lists", sorted(a.took()), "publish list of 200", "publish list of 50")
		launch.AllMatched = true
		launch.ID++
		if err := m.Publish(t.Context(), launch, webJob, time.Minute); err != nil {
			t.Fatal(err)
		}
		expect(t, "all that matched", a.took(), "publish glob *")
	})
}

func TestMachineThatOnlyTheOtherReaches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, m := twoStubs()
		a.connected, b.connected = []string{"m1"}, []string{"m2", "m3"}
		publish := func(id saltpeter.LaunchID, machines ...string) {
			t.Helper()
			if err := m.Publish(t.Context(), launchOf(id, machines...), webJob, time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		publish(1, "m1", "m2", "m3")
		a.took()
		publish(1, "m2", "m3") // those that gave no sign
		expect(t, "a again", a.took())
		expect(t, "b", b.took(), "publish list m2,m3")
		m.Heard(1, "m2")
		m.Heard(1, "m3")

		publish(2, "m1", "m2", "m3")
		expect(t, "a later", a.took(), "publish list m1")
		expect(t, "b later", b.took(), "publish list m2,m3")

		b.fails(ErrUnreachable)
		publish(3, "m2")
		expect(t, "b failing", b.took(), "publish list m2")
		expect(t, "a instead", a.took(), "publish list m2")
	})
}

func TestPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, m := twoStubs()
		ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
		defer cancel()
		began := time.Now()
		up, err := m.Ping(ctx, []string{"m1", "m2"})
		if err != nil || time.Since(began) != 0 {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		expect(t, "all", up, "m1", "m2")
		expect(t, "b had no part in it", b.took())

		a.connected = []string{"m1"}
		b.connected = []string{"m2"}
		up, err = m.Ping(ctx, []string{"m1", "m2"})
		if err != nil || time.Since(began) != pingStage {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		expect(t, "through both", up, "m1", "m2")

		a.fails(ErrUnreachable)
		up, err = m.Ping(ctx, []string{"m2", "m3"})
		if err != nil || time.Since(began) != 15*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		expect(t, "m3 is down", up, "m2")

		b.fails(ErrUnreachable)
		if _, err = m.Ping(t.Context(), []string{"m2"}); !errors.Is(err, ErrUnreachable) {
			t.Errorf("nobody could ask: %v", err)
		}
	})
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &stub{name: "a", keys: []string{"m1"}, slow: 10 * time.Millisecond}
		m := newStubs(Limits{Publishes: 100, InFlight: 4}, a)
		began := time.Now()
		var g sync.WaitGroup
		for i := range 250 {
			g.Go(func() {
				if err := m.Publish(t.Context(), launchOf(saltpeter.LaunchID(i), "m1"), webJob, time.Minute); err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(time.Second)
		if s := m.States()[0]; s.Waiting == 0 {
			t.Errorf("nothing waits: %+v", s)
		}
		g.Wait()
		if took := time.Since(began); took < 2*time.Second || took > 3*time.Second {
			t.Errorf("250 publishes at 100/s and 50 at once took %s", took)
		}
		if a.most > 4 {
			t.Errorf("%d calls at a time", a.most)
		}
		if s := m.States()[0]; s.Waiting != 0 || s.InFlight != 0 {
			t.Errorf("afterwards: %+v", s)
		}
	})
}

func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, m := twoStubs()
		b.fails(ErrDenied)
		ctx, cancel := context.WithCancel(t.Context())
		var g sync.WaitGroup
		g.Go(func() { _ = m.Run(ctx) })
		synctest.Wait()
		s := m.States()
		if s[0].Failing != "" || s[0].Health.Version != "3007.14" || s[1].Failing == "" {
			t.Errorf("states %+v", s)
		}
		a.fails(ErrUnreachable)
		b.fails(nil)
		time.Sleep(checkEvery + time.Second)
		s = m.States()
		if s[0].Failing == "" || s[1].Failing != "" || time.Since(s[1].Since) != time.Second {
			t.Errorf("states %+v", s)
		}
		cancel()
		g.Wait()
	})
}

func TestKey(t *testing.T) {
	a, b, m := twoStubs()
	a.keys = []string{"m1"}
	if key, err := m.Key(t.Context(), "m2"); err != nil || string(key) != "key of m2" {
		t.Errorf("%q, %v", key, err)
	}
	b.fails(ErrUnreachable)
	if _, err := m.Key(t.Context(), "m2"); !errors.Is(err, ErrUnreachable) || !errors.Is(err, ErrNoKey) {
		t.Errorf("one has none, the other fails: %v", err)
	}
	if _, err := m.Key(t.Context(), "m1"); err != nil {
		t.Error(err)
	}
}

func TestSentIsBounded(t *testing.T) {
	s := newSent()
	for i := range saltpeter.LaunchID(3 * sentLaunches) {
		s.add(i, "a", []string{"m"})
	}
	if len(s.launches) != sentLaunches || s.masters(0) != nil || s.masters(3*sentLaunches-1) == nil {
		t.Errorf("%d launches are remembered", len(s.launches))
	}
}

func TestQuestionsDoNotHoldUpALaunch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &stub{name: "a", keys: []string{"m1"}, hangs: true}
		m := newStubs(Limits{InFlight: 2}, a)
		var g sync.WaitGroup
		for range 10 {
			g.Go(func() { _, _ = m.Key(t.Context(), "m1") })
		}
		synctest.Wait()
		a.mu.Lock()
		a.hangs = false
		a.mu.Unlock()
		began := time.Now()
		if err := m.Publish(t.Context(), launchOf(1, "m1"), webJob, time.Minute); err != nil || time.Since(began) != 0 {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		g.Wait()
	})
}
