package salttest

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/saltclient"
)

func TestFakeKeepsTheContract(t *testing.T) {
	Contract(t, func(t *testing.T, check func(*testing.T, *Subject)) {
		synctest.Test(t, func(t *testing.T) { check(t, fakeSubject()) })
	})
}

func fakeSubject() *Subject {
	odd := "Büro 1,'x'$(y)"
	f := NewFleet("a1", "a2", odd, "down")
	f.Change("down", func(m *Minion) { m.Down = true })
	f.Change("a1", func(m *Minion) { m.Grains, m.Delay = map[string]string{"role": "web"}, time.Second })
	f.Change("a2", func(m *Minion) { m.Pillar = map[string]string{"tier": "front"} })
	f.Change("stranger", func(m *Minion) { m.NoKey = true })
	f.Group("web", "a1", "down")
	f.Does(func(minion string, p *saltclient.Publication) saltclient.Return {
		switch p.Function {
		case "fails":
			return saltclient.Return{Code: 7, Stdout: "out", Stderr: "err"}
		case "refused":
			return saltclient.Return{Code: 1, Refused: "'refused' is not available."}
		}
		return saltclient.Return{Success: true}
	})
	m := f.Master("m1")
	named := func(fun string) func() (string, map[string]any) {
		return func() (string, map[string]any) { return fun, nil }
	}
	fault := func(name string, begin Fault) SubjectFault {
		return SubjectFault{name, func(*testing.T) { m.Fail(begin) }, func(*testing.T) { m.Heal() }}
	}
	return &Subject{
		Master: m, Up: []string{"a1", "a2", odd}, Down: "down", Patience: 20 * time.Second,
		Matches: []Match{
			{saltclient.Expression{Type: "pcre", Text: []string{"a[12]|down"}}, []string{"a1", "a2", "down"}},
			{saltclient.Expression{Type: "grain", Text: []string{"role:web"}}, []string{"a1"}},
			{saltclient.Expression{Type: "pillar", Text: []string{"tier:front"}}, []string{"a2"}},
			{saltclient.Expression{Type: "nodegroup", Text: []string{"web"}}, []string{"a1", "down"}},
			{saltclient.Expression{Type: "compound", Text: []string{"a*"}}, []string{"a1", "a2"}},
		},
		Wrong: []saltclient.Expression{{Type: "nodegroup", Text: []string{"nope"}}, {Type: "pcre", Text: []string{"("}},
			{Type: "compound", Text: []string{"( and"}}, {Type: "range", Text: []string{"%x"}}},
		Count:      func(saltpeter.LaunchID) (string, map[string]any) { return "count", nil },
		Executions: func(_ *testing.T, id saltpeter.LaunchID) map[string]int { return f.Executions(id) },
		Fails:      named("fails"), Refused: named("refused"),
		Faults: []SubjectFault{
			fault("dead", Fault{Err: saltclient.ErrUnreachable}), fault("hangs", Fault{Hang: true}),
			fault("500 after 9 s", Fault{After: 9 * time.Second, Err: saltclient.ErrDoubtful}),
		},
	}
}

func count(id saltpeter.LaunchID, minions ...string) *saltclient.Publication {
	return &saltclient.Publication{ID: id, Target: list(minions...), Function: "count"}
}

// The faults of real Salt that a caller must live with.
func TestFakeForgets(t *testing.T) {
	f := NewFleet("a", "b")
	m1, m2 := f.Master("m1"), f.Master("m2")
	publish := func(m *Fake, id saltpeter.LaunchID, minions ...string) {
		t.Helper()
		if _, err := m.Publish(t.Context(), count(id, minions...)); err != nil {
			t.Fatal(err)
		}
	}
	publish(m1, 1, "a", "b")
	publish(m2, 1, "a", "b")
	if got := f.Executions(1); got["a"] != 1 || got["b"] != 1 {
		t.Errorf("by two masters: %v", got)
	}
	if got, _ := m2.Returns(t.Context(), 1); len(got) != 0 {
		t.Errorf("the second master has returns: %v", got)
	}
	f.Restart("a")
	publish(m1, 1, "a", "b")
	if got := f.Executions(1); got["a"] != 2 || got["b"] != 1 {
		t.Errorf("after a restart: %v", got)
	}
	for i := range saltpeter.LaunchID(remembered) {
		publish(m1, 100+i, "b")
	}
	publish(m1, 1, "b")
	if got := f.Executions(1); got["b"] != 2 {
		t.Errorf("after %d other jobs: %v", remembered, got)
	}
	f.Change("b", func(m *Minion) { m.Masters = []string{"m2"} })
	publish(m1, 2, "b")
	if got := f.Executions(2); len(got) != 0 {
		t.Errorf("by a master that it isn't connected to: %v", got)
	}
}

func TestFakeFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := NewFleet("a", "b")
		m := f.Master("m1")
		m.Fail(Fault{Ops: []string{"publish"}, Calls: 1, After: 9 * time.Second, Err: saltclient.ErrDoubtful, Delivered: true})
		began := time.Now()
		_, err := m.Publish(t.Context(), count(1, "a"))
		if !errors.Is(err, saltclient.ErrDoubtful) || time.Since(began) != 9*time.Second || f.Executions(1)["a"] != 1 {
			t.Errorf("%v after %s, %v", err, time.Since(began), f.Executions(1))
		}
		if got, err := m.Publish(t.Context(), count(2, "a")); err != nil || len(got) != 1 {
			t.Errorf("the call after: %v, %v", got, err)
		}
		m.Fail(Fault{Empty: true})
		if got, err := m.Publish(t.Context(), count(3, "a")); err != nil || len(got) != 0 || len(f.Executions(3)) != 0 {
			t.Errorf("empty: %v, %v", got, err)
		}
		m.Heal()
		f.Change("a", func(m *Minion) { m.Silent = true })
		f.Change("b", func(m *Minion) { m.Doubled, m.Delay = true, 2*time.Second })
		if _, err := m.Publish(t.Context(), count(4, "a", "b")); err != nil {
			t.Fatal(err)
		}
		if got, _ := m.Returns(t.Context(), 4); len(got) != 0 {
			t.Errorf("too early: %v", got)
		}
		time.Sleep(2 * time.Second)
		if got, _ := m.Returns(t.Context(), 4); len(got) != 2 || got[0].Minion != "b" || got[1].Minion != "b" || f.Executions(4)["a"] != 1 {
			t.Errorf("got %v, %v", got, f.Executions(4))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		var answers []string
		if err := m.Ping(ctx, []string{"a", "b"}, func(m string) { answers = append(answers, m) }); err != nil || len(answers) != 2 {
			t.Errorf("ping: %v, %v", answers, err)
		}
		if m.Calls("publish") != 4 || m.Calls("ping") != 1 {
			t.Errorf("%d publishes, %d pings", m.Calls("publish"), m.Calls("ping"))
		}
	})
}
