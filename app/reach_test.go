package app

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/saltclient"
	"github.com/syscollective/saltpeter/saltclient/salttest"
)

// fakeMaster is a master of a fleet, standing on a node's host.
type fakeMaster struct{ *salttest.Fake }

func (m fakeMaster) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// inThreeWithFleet runs a test with three nodes of which those named stand on masters of a fleet.
func inThreeWithFleet(t *testing.T, hosts []string, settings string, test func(w *three, fleet *salttest.Fleet, masters map[string]*salttest.Fake)) {
	t.Helper()
	fleet := salttest.NewFleet("db07", "db19", "web-12")
	masters := map[string]*salttest.Fake{}
	for _, name := range hosts {
		masters[name] = fleet.Master("n-" + name)
	}
	inThreeAs(t, func(w *three) {
		w.adjust = func(name string, o *Options) {
			o.Seams.Salt = func(*App) (SaltMaster, error) {
				if m := masters[name]; m != nil {
					return fakeMaster{m}, nil
				}
				return nil, nil
			}
			w.writeText(name, "saltpeter_config: {launcher: salt, auth: none"+settings+"}\nj: {schedule: '0 0 1 1 *', targets: '*', command: 'true'}\n")
		}
	}, func(w *three) {
		time.Sleep(15 * time.Second) // the files are in force, the nodes introduced
		test(w, fleet, masters)
	})
}

func machinesOf(m *api.Matched) []string {
	var out []string
	for i := range m.Machines {
		out = append(out, m.Machines[i].Machine)
	}
	return out
}

// Every node says what an expression matches and through which master, also those that stand on none.
func TestMatchOnAnyNode(t *testing.T) {
	inThreeWithFleet(t, []string{"a", "b"}, "", func(w *three, fleet *salttest.Fleet, masters map[string]*salttest.Fake) {
		fleet.Change("db19", func(m *salttest.Minion) { m.Down = true })
		for _, name := range threeNames {
			r := reach{w.nodes[name]}
			got, err := r.Match(context.Background(), "glob", []string{"db*"}, false)
			if err != nil || !slices.Equal(machinesOf(&got), []string{"db07", "db19"}) || len(got.Machines[0].Masters) != 2 || got.Machines[0].Up != nil {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
			got, err = r.Match(context.Background(), "list", []string{"ghost", "db07", "db19"}, true)
			if err != nil || !slices.Equal(machinesOf(&got), []string{"db07", "db19", "ghost"}) || got.Unknown != 1 || got.Machines[2].Known {
				t.Fatalf("%s, a list: %+v, %v", name, got, err)
			}
			if up := got.Machines; !*up[0].Up || *up[1].Up || *up[2].Up {
				t.Errorf("%s: db07 alone is up, and it says %v %v %v", name, *up[0].Up, *up[1].Up, *up[2].Up)
			}
			if _, err = r.Match(context.Background(), "nodegroup", []string{"none"}, false); saltpeter.CodeOf(err) != saltpeter.CodeConfig || !strings.Contains(err.Error(), "unknown nodegroup") {
				t.Errorf("%s, unknown nodegroup: %v", name, err)
			}
		}
		masters["a"].Fail(salttest.Fault{Err: saltclient.ErrDenied})
		got, err := reach{w.nodes["c"]}.Match(context.Background(), "glob", []string{"web*"}, false)
		if err != nil || len(got.Failed) != 1 || !strings.HasPrefix(got.Failed[0], "n-a: ") || len(got.Machines) != 1 {
			t.Errorf("one of two masters denies: %+v, %v", got, err)
		}
		masters["b"].Fail(salttest.Fault{Err: saltclient.ErrUnreachable})
		if _, err = (reach{w.nodes["c"]}).Match(context.Background(), "glob", []string{"*"}, false); saltpeter.CodeOf(err) != saltpeter.CodeUnavailable {
			t.Errorf("no master answers: %v", err)
		}
	})
}

func TestMatchWithoutMaster(t *testing.T) {
	inThreeWithFleet(t, nil, "", func(w *three, _ *salttest.Fleet, _ map[string]*salttest.Fake) {
		_, err := reach{w.nodes["a"]}.Match(context.Background(), "glob", []string{"*"}, false)
		if saltpeter.CodeOf(err) != saltpeter.CodeUnavailable || !strings.Contains(err.Error(), "no node stands on a Salt master") {
			t.Errorf("%v", err)
		}
	})
}

func TestMatchOnMachinesOfThisHost(t *testing.T) {
	inThree(t, nil, func(w *three) {
		time.Sleep(15 * time.Second) // the files are in force
		r := reach{w.leader()}
		played := localMachines(w.leader().machine.View().Settings())
		got, err := r.Match(context.Background(), "list", []string{played[0], "ghost"}, true)
		if err != nil || got.Launcher != saltpeter.LauncherLocal || got.Unknown != 1 || len(got.Machines) != 2 {
			t.Fatalf("%+v, %v", got, err)
		}
		for _, m := range got.Machines {
			if want := m.Machine != "ghost"; m.Known != want || *m.Up != want {
				t.Errorf("%+v", m)
			}
		}
		_, err = r.Match(context.Background(), "grain", []string{"a:b"}, false)
		if e, ok := errors.AsType[*saltpeter.Error](err); !ok || e.Hint == "" {
			t.Errorf("the local launcher knows no grains: %v", err)
		}
	})
}
