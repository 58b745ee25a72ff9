package saltclient_test

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/saltclient"
	"github.com/syscollective/saltpeter/saltclient/salttest"
)

// mastersOf joins masters of a fleet.
func mastersOf(fakes ...*salttest.Fake) *saltclient.Masters {
	return saltclient.NewMasters(saltclient.Options{Logger: slog.New(slog.DiscardHandler), Masters: func() []saltclient.Master {
		var out []saltclient.Master
		for _, f := range fakes {
			out = append(out, f)
		}
		return out
	}})
}

func TestLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fleet := salttest.NewFleet("a", "b")
		one, two := fleet.Master("one"), fleet.Master("two")
		m := mastersOf(one, two)
		list := saltclient.Expression{Type: "list", Text: []string{"b", "a", "ghost"}}
		seen, failed, err := m.Look(t.Context(), list)
		both := []string{"one", "two"}
		want := []saltclient.Sight{{Machine: "a", Masters: both}, {Machine: "b", Masters: both}, {Machine: "ghost"}}
		if err != nil || len(failed) > 0 || !reflect.DeepEqual(seen, want) {
			t.Errorf("%+v, %v, %v", seen, failed, err)
		}

		two.Fail(salttest.Fault{Ops: []string{"resolve"}, Err: saltclient.ErrDenied})
		seen, failed, err = m.Look(t.Context(), list)
		if err != nil || len(failed) != 1 || !errors.Is(failed[0], saltclient.ErrDenied) || !slices.Equal(seen[0].Masters, []string{"one"}) {
			t.Errorf("one master denies it: %+v, %v, %v", seen, failed, err)
		}
		two.Heal()
		two.Fail(salttest.Fault{Ops: []string{"resolve"}, Hang: true})
		began := time.Now()
		if seen, failed, err = m.Look(t.Context(), list); err != nil || len(failed) != 1 || len(seen) != 3 || time.Since(began) > 3*time.Second {
			t.Errorf("one master hangs: %+v, %v, %v after %s", seen, failed, err, time.Since(began))
		}
		two.Heal()
		if _, _, err = m.Look(t.Context(), saltclient.Expression{Type: "nodegroup", Text: []string{"none"}}); !errors.Is(err, saltclient.ErrExpression) {
			t.Errorf("unknown nodegroup: %v", err)
		}
		if _, _, err = mastersOf().Look(t.Context(), list); !errors.Is(err, saltclient.ErrUnreachable) {
			t.Errorf("no master: %v", err)
		}
	})
}

func TestAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fleet := salttest.NewFleet("a")
		one, two, three := fleet.Master("one"), fleet.Master("two"), fleet.Master("three")
		m := mastersOf(one, two, three)
		two.Fail(salttest.Fault{Ops: []string{"key"}, Err: saltclient.ErrNoKey})
		three.Fail(salttest.Fault{Ops: []string{"key"}, Err: saltclient.ErrUnreachable})
		keys, failed := m.Accepted(t.Context(), "a")
		if len(keys) != 1 || len(keys["one"]) == 0 || len(failed) != 1 || !errors.Is(failed[0], saltclient.ErrUnreachable) {
			t.Errorf("%v, %v", keys, failed)
		}
	})
}

// A question reaches machines that listen to one master only, once each, and ends when all have returned.
func TestAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fleet := salttest.NewFleet("a", "b", "c", "down")
		fleet.Change("a", func(m *salttest.Minion) { m.Masters = []string{"one"} })
		fleet.Change("b", func(m *salttest.Minion) { m.Masters, m.Delay = []string{"two"}, 3*time.Second })
		fleet.Change("down", func(m *salttest.Minion) { m.Down = true })
		fleet.Does(func(minion string, p *saltclient.Publication) saltclient.Return {
			return saltclient.Return{Minion: minion, Success: true, Stdout: p.Function}
		})
		one, two, dead := fleet.Master("one"), fleet.Master("two"), fleet.Master("dead")
		dead.Fail(salttest.Fault{Err: saltclient.ErrUnreachable})
		m := mastersOf(one, two, dead)
		ask := func(id saltpeter.LaunchID, machines ...string) (map[string]saltclient.Reply, time.Duration, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			began := time.Now()
			got, err := m.Ask(ctx, saltclient.Publication{ID: id, Function: "f"}, machines)
			return got, time.Since(began), err
		}
		got, took, err := ask(1, "a", "b", "c")
		if err != nil || len(got) != 3 || got["b"].Stdout != "f" || got["b"].After < 3*time.Second || got["a"].After > time.Second || took > 4*time.Second {
			t.Errorf("%v after %s, %v", got, took, err)
		}
		for minion, times := range fleet.Executions(1) {
			if times != 1 {
				t.Errorf("%s did it %d times", minion, times)
			}
		}
		if got, took, err = ask(2, "a", "down"); err != nil || len(got) != 1 || took < 20*time.Second {
			t.Errorf("one is down: %v after %s, %v", got, took, err)
		}
		one.Fail(salttest.Fault{Ops: []string{"publish"}, Err: saltclient.ErrDenied})
		two.Fail(salttest.Fault{Ops: []string{"publish"}, Err: saltclient.ErrDenied})
		if _, took, err = ask(3, "a"); !errors.Is(err, saltclient.ErrDenied) || took > time.Second {
			t.Errorf("nobody may: %v after %s", err, took)
		}
	})
}
