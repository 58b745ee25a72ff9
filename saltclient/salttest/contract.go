package salttest

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/saltclient"
)

// Subject is a master under contract, and what its world is like.
type Subject struct {
	Master  saltclient.Master
	Up      []string // two or more minions that answer; odd characters in their ids are welcome
	Down    string   // one that the master has accepted and that does not run; "" if there is none
	Matches []Match  // expressions that mean something here, beside globs and lists
	Wrong   []saltclient.Expression
	// Count makes the function and arguments of a publication whose executions can be counted.
	Count      func(id saltpeter.LaunchID) (function string, kwargs map[string]any)
	Executions func(t *testing.T, id saltpeter.LaunchID) map[string]int
	// Fails is a function that writes "out" and "err" and ends with code 7, Refused one that can't be done; they are like
	// Count's. Nil where a subject can't.
	Fails, Refused func() (function string, kwargs map[string]any)
	// Faults are what can be done to the master. At the end of each the suite waits until it is healthy again.
	Faults   []SubjectFault
	Patience time.Duration // how long what must come may take
}

// Match is an expression and the minions that it means.
type Match struct {
	Expression saltclient.Expression
	Minions    []string
}

// SubjectFault is something that makes the master fail.
type SubjectFault struct {
	Name       string
	Begin, End func(t *testing.T)
}

// Setup calls check with a subject: a fresh one in a bubble for a fake, the same one again for real Salt.
type Setup func(t *testing.T, check func(t *testing.T, s *Subject))

// Contract checks what everybody who uses a saltclient.Master relies on.
func Contract(t *testing.T, setup Setup) {
	for _, c := range []struct {
		name  string
		check func(*testing.T, *Subject)
	}{
		{"Resolve", resolves}, {"NoMatch", matchesNobody}, {"WrongExpression", refusesWrong}, {"Publish", publishes},
		{"SameIDTwice", publishesTwice}, {"WiderList", publishesWider}, {"TooOld", refusesOld}, {"Returns", returns}, {"Refused", saysRefused},
		{"Ping", pings}, {"PingSilent", pingsSilent}, {"Key", keys}, {"Health", isHealthy}, {"SideBySide", worksSideBySide},
		{"ContextEnds", endsWithContext}, {"Faults", fails},
	} {
		t.Run(c.name, func(t *testing.T) { setup(t, c.check) })
	}
}

// lastID makes ids as the state machine does: from the clock, each larger than the last.
var lastID atomic.Int64

func nextID() saltpeter.LaunchID {
	for {
		last := lastID.Load()
		next := max(last+1, int64(saltpeter.LaunchIDAt(time.Now())))
		if lastID.CompareAndSwap(last, next) {
			return saltpeter.LaunchID(next)
		}
	}
}

func list(ids ...string) saltclient.Expression {
	return saltclient.Expression{Type: "list", Text: ids}
}

func glob(text string) saltclient.Expression {
	return saltclient.Expression{Type: "glob", Text: []string{text}}
}

// globOf matches one minion. Salt 3008 takes a comma in a glob for the end of one and the begin of another.
func globOf(id string) saltclient.Expression { return glob(strings.ReplaceAll(id, ",", "?")) }

// all gives the minions that the master knows.
func (s *Subject) all() []string {
	out := slices.Clone(s.Up)
	if s.Down != "" {
		out = append(out, s.Down)
	}
	slices.Sort(out)
	return out
}

func (s *Subject) ctx(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), s.Patience)
	t.Cleanup(cancel)
	return ctx
}

// publish publishes what is counted.
func (s *Subject) publish(t *testing.T, id saltpeter.LaunchID, e saltclient.Expression, want ...string) {
	t.Helper()
	fun, kwargs := s.Count(id)
	got, err := s.Master.Publish(s.ctx(t), &saltclient.Publication{ID: id, Target: e, Function: fun, Kwargs: kwargs})
	if err != nil || !same(got, want) {
		t.Fatalf("publish to %v: got %q, %v, want %q", e, got, err, want)
	}
}

// awaitReturns waits until these minions, and no others, have returned, and gives their returns by minion.
func (s *Subject) awaitReturns(t *testing.T, id saltpeter.LaunchID, minions ...string) map[string]saltclient.Return {
	t.Helper()
	ctx := s.ctx(t)
	for {
		got, err := s.Master.Returns(ctx, id)
		by := make(map[string]saltclient.Return)
		for _, r := range got {
			by[r.Minion] = r
		}
		if err == nil && same(slices.Collect(maps.Keys(by)), minions) {
			return by
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("returns of %s: got %+v, %v, want %q", id, got, err, minions)
		}
	}
}

// executed waits until each has done it once, and no other has.
func (s *Subject) executed(t *testing.T, id saltpeter.LaunchID, minions ...string) {
	t.Helper()
	want := make(map[string]int)
	for _, m := range minions {
		want[m] = 1
	}
	deadline := time.Now().Add(s.Patience)
	for {
		got := s.Executions(t, id)
		if maps.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("executions of %s: got %v, want one by each of %q", id, got, minions)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func same(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

func resolves(t *testing.T, s *Subject) {
	matches := append([]Match{
		{glob("*"), s.all()}, {list(s.all()...), s.all()}, {list(s.Up[0]), s.Up[:1]}, {globOf(s.Up[0]), s.Up[:1]},
	}, s.Matches...)
	for _, m := range matches {
		got, err := s.Master.Resolve(s.ctx(t), m.Expression)
		if err != nil || !same(got.Minions, m.Minions) || len(got.Missing) > 0 {
			t.Errorf("%v: got %+v, %v, want %q", m.Expression, got, err, m.Minions)
		}
		if !slices.IsSorted(got.Minions) {
			t.Errorf("%v: not sorted: %q", m.Expression, got.Minions)
		}
	}
	got, err := s.Master.Resolve(s.ctx(t), list("zz-nobody", s.Up[0], "aa-nobody"))
	if err != nil || !slices.Equal(got.Minions, s.Up[:1]) || !slices.Equal(got.Missing, []string{"aa-nobody", "zz-nobody"}) {
		t.Errorf("a list of known and unknown: got %+v, %v", got, err)
	}
}

func matchesNobody(t *testing.T, s *Subject) {
	id := nextID()
	for _, e := range []saltclient.Expression{glob("nobody-*"), list("nobody")} {
		if got, err := s.Master.Resolve(s.ctx(t), e); err != nil || len(got.Minions) > 0 {
			t.Errorf("resolve %v: got %+v, %v", e, got, err)
		}
		s.publish(t, id, e)
	}
	if got, err := s.Master.Returns(s.ctx(t), id); err != nil || len(got) > 0 {
		t.Errorf("returns: %v, %v", got, err)
	}
	s.executed(t, id)
}

func refusesWrong(t *testing.T, s *Subject) {
	wrong := append([]saltclient.Expression{{Type: "glob"}, {Type: "glob", Text: []string{"a", "b"}}, {Type: "nonsense", Text: []string{"x"}}}, s.Wrong...)
	for _, e := range wrong {
		if got, err := s.Master.Resolve(s.ctx(t), e); !errors.Is(err, saltclient.ErrExpression) {
			t.Errorf("resolve %v: got %+v, %v", e, got, err)
		}
		fun, kwargs := s.Count(1)
		got, err := s.Master.Publish(s.ctx(t), &saltclient.Publication{ID: nextID(), Target: e, Function: fun, Kwargs: kwargs})
		if !errors.Is(err, saltclient.ErrExpression) {
			t.Errorf("publish to %v: got %q, %v", e, got, err)
		}
	}
}

func publishes(t *testing.T, s *Subject) {
	for _, c := range []struct {
		e       saltclient.Expression
		matched []string
		does    []string
	}{
		{glob("*"), s.all(), s.Up}, {list(s.Up[1]), s.Up[1:2], s.Up[1:2]}, {list(s.Up[0], "nobody"), s.Up[:1], s.Up[:1]},
	} {
		id := nextID()
		s.publish(t, id, c.e, c.matched...)
		s.executed(t, id, c.does...)
		for m, r := range s.awaitReturns(t, id, c.does...) {
			if r.Code != 0 || !r.Success || r.Refused != "" {
				t.Errorf("%s returned %+v", m, r)
			}
		}
	}
}

func publishesTwice(t *testing.T, s *Subject) {
	id := nextID()
	for range 3 {
		s.publish(t, id, list(s.Up...), s.Up...)
		s.awaitReturns(t, id, s.Up...)
	}
	s.executed(t, id, s.Up...)
}

func publishesWider(t *testing.T, s *Subject) {
	id := nextID()
	s.publish(t, id, list(s.Up[0]), s.Up[0])
	s.executed(t, id, s.Up[0])
	s.publish(t, id, list(s.Up...), s.Up...)
	s.executed(t, id, s.Up...)
	s.awaitReturns(t, id, s.Up...)
}

func refusesOld(t *testing.T, s *Subject) {
	id, later := nextID(), nextID()
	fun, kwargs := s.Count(id)
	_, err := s.Master.Publish(s.ctx(t), &saltclient.Publication{ID: id, Target: list(s.Up[0]), Function: fun, Kwargs: kwargs, Deadline: time.Now().Add(-time.Second)})
	if !errors.Is(err, saltclient.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
	s.publish(t, later, list(s.Up[0]), s.Up[0]) // what was published before would be executed before
	s.executed(t, later, s.Up[0])
	s.executed(t, id)
	fun, kwargs = s.Count(id)
	if _, err := s.Master.Publish(s.ctx(t), &saltclient.Publication{ID: id, Target: list(s.Up[0]), Function: fun, Kwargs: kwargs, Deadline: time.Now().Add(s.Patience)}); err != nil {
		t.Errorf("in time: %v", err)
	}
	s.executed(t, id, s.Up[0])
}

func returns(t *testing.T, s *Subject) {
	if got, err := s.Master.Returns(s.ctx(t), nextID()); err != nil || len(got) > 0 {
		t.Errorf("of an id that was never published: %+v, %v", got, err)
	}
	if s.Fails == nil {
		return
	}
	id := nextID()
	fun, kwargs := s.Fails()
	if _, err := s.Master.Publish(s.ctx(t), &saltclient.Publication{ID: id, Target: list(s.Up...), Function: fun, Kwargs: kwargs}); err != nil {
		t.Fatal(err)
	}
	for m, r := range s.awaitReturns(t, id, s.Up...) {
		if want := (saltclient.Return{Minion: m, Code: 7, Stdout: "out", Stderr: "err"}); r != want {
			t.Errorf("got %+v, want %+v", r, want)
		}
	}
}

func saysRefused(t *testing.T, s *Subject) {
	if s.Refused == nil {
		return
	}
	id := nextID()
	fun, kwargs := s.Refused()
	if _, err := s.Master.Publish(s.ctx(t), &saltclient.Publication{ID: id, Target: list(s.Up[0]), Function: fun, Kwargs: kwargs}); err != nil {
		t.Fatal(err)
	}
	if r := s.awaitReturns(t, id, s.Up[0])[s.Up[0]]; r.Refused == "" || r.Code == 0 {
		t.Errorf("got %+v", r)
	}
}

// ping gives who answered within a time.
func (s *Subject) ping(t *testing.T, limit time.Duration, minions ...string) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	up := make(map[string]bool)
	err := s.Master.Ping(ctx, minions, func(m string) { up[m] = true })
	return up, err
}

func pings(t *testing.T, s *Subject) {
	began := time.Now()
	up, err := s.ping(t, s.Patience, append(slices.Clone(s.Up), "nobody")...)
	if err != nil || !same(slices.Collect(maps.Keys(up)), s.Up) {
		t.Errorf("got %v, %v", up, err)
	}
	if time.Since(began) >= s.Patience {
		t.Error("it waited to the end though all had answered")
	}
	if up, err := s.ping(t, s.Patience); err != nil || len(up) > 0 {
		t.Errorf("nobody: got %v, %v", up, err)
	}
}

func pingsSilent(t *testing.T, s *Subject) {
	if s.Down == "" {
		return
	}
	limit := s.Patience / 4
	began := time.Now()
	up, err := s.ping(t, limit, s.Up[0], s.Down)
	if err != nil || !up[s.Up[0]] || up[s.Down] {
		t.Errorf("got %v, %v", up, err)
	}
	if took := time.Since(began); took < limit || took > limit+s.Patience {
		t.Errorf("it took %s", took)
	}
}

func keys(t *testing.T, s *Subject) {
	seen := make(map[string]string)
	for _, m := range s.all() {
		key, err := s.Master.Key(s.ctx(t), m)
		block, _ := pem.Decode(key)
		if err != nil || block == nil || block.Type != "PUBLIC KEY" {
			t.Errorf("%q: got %q, %v", m, key, err)
		}
		if other := seen[string(key)]; other != "" {
			t.Errorf("%q and %q have one key", m, other)
		}
		seen[string(key)] = m
	}
	for _, m := range []string{"nobody", "", ".", "..", "../minions/" + s.Up[0], "./" + s.Up[0], s.Up[0] + "\x00", s.Up[0] + "/", "*"} {
		if key, err := s.Master.Key(s.ctx(t), m); !errors.Is(err, saltclient.ErrNoKey) {
			t.Errorf("%q: got %q, %v", m, key, err)
		}
	}
}

func isHealthy(t *testing.T, s *Subject) {
	h, err := s.Master.Health(s.ctx(t))
	if err != nil || h.Version == "" || h.Took <= 0 || h.Minions != len(s.all()) || h.Notes != "" {
		t.Errorf("got %+v, %v", h, err)
	}
	if s.Master.Name() == "" {
		t.Error("it has no name")
	}
}

func worksSideBySide(t *testing.T, s *Subject) {
	const n = 20
	ids := make([]saltpeter.LaunchID, n)
	errs := make([]error, n)
	var g sync.WaitGroup
	for i := range n {
		ids[i] = nextID()
		g.Go(func() {
			m := s.Up[i%len(s.Up)]
			fun, kwargs := s.Count(ids[i])
			got, err := s.Master.Publish(s.ctx(t), &saltclient.Publication{ID: ids[i], Target: list(m), Function: fun, Kwargs: kwargs})
			if err == nil && !slices.Equal(got, []string{m}) {
				err = fmt.Errorf("published to %q, not to %q", got, m)
			}
			matched, err2 := s.Master.Resolve(s.ctx(t), globOf(m))
			if err2 == nil && !slices.Equal(matched.Minions, []string{m}) {
				err2 = fmt.Errorf("resolved to %q, not to %q", matched.Minions, m)
			}
			errs[i] = errors.Join(err, err2)
		})
	}
	g.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		s.executed(t, id, s.Up[i%len(s.Up)])
	}
}

// calls are all that asks a master, each with a context.
func (s *Subject) calls(id saltpeter.LaunchID) map[string]func(context.Context) error {
	fun, kwargs := s.Count(id)
	return map[string]func(context.Context) error{
		"resolve": func(ctx context.Context) error { _, err := s.Master.Resolve(ctx, glob("*")); return err },
		"publish": func(ctx context.Context) error {
			_, err := s.Master.Publish(ctx, &saltclient.Publication{ID: id, Target: list(s.Up[0]), Function: fun, Kwargs: kwargs})
			return err
		},
		"ping":    func(ctx context.Context) error { return s.Master.Ping(ctx, s.Up[:1], func(string) {}) },
		"returns": func(ctx context.Context) error { _, err := s.Master.Returns(ctx, id); return err },
		"key":     func(ctx context.Context) error { _, err := s.Master.Key(ctx, s.Up[0]); return err },
		"health":  func(ctx context.Context) error { _, err := s.Master.Health(ctx); return err },
	}
}

func endsWithContext(t *testing.T, s *Subject) {
	id := nextID()
	for name, call := range s.calls(id) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		err := call(ctx)
		if err == nil {
			t.Errorf("%s: no error with a context that has ended", name)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("%s took %s with a context that has ended", name, took)
		}
	}
	s.executed(t, id)
}

// fails checks that a master that fails is told from one that works, in time, and that it works again afterwards. What
// comes from its files may still be had.
func fails(t *testing.T, s *Subject) {
	limit := s.Patience / 4
	for _, f := range s.Faults {
		f.Begin(t)
		for name, call := range s.calls(nextID()) {
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			began := time.Now()
			err := call(ctx)
			took := time.Since(began)
			cancel()
			asksMaster := name == "publish" || name == "health"
			if asksMaster && !errors.Is(err, saltclient.ErrUnreachable) && !errors.Is(err, saltclient.ErrDoubtful) {
				t.Errorf("%s: %s: %v", f.Name, name, err)
			}
			if took > limit+2*time.Second {
				t.Errorf("%s: %s took %s", f.Name, name, took)
			}
		}
		f.End(t)
		deadline := time.Now().Add(4 * s.Patience)
		for {
			_, err := s.Master.Health(s.ctx(t))
			if err == nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: it never gets well: %v", f.Name, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}
