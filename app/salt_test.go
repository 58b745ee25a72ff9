package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/saltclient"
)

// playedMaster stands for a Salt master on a node's host.
type playedMaster struct {
	name string
	mu   sync.Mutex // guards the following
	down bool
	ids  []saltpeter.LaunchID
	ran  int // calls of Run
}

var errPlayedDown = fmt.Errorf("%w: played", saltclient.ErrUnreachable)

func (m *playedMaster) Name() string { return m.name }

func (m *playedMaster) Run(ctx context.Context) error {
	m.mu.Lock()
	m.ran++
	m.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (m *playedMaster) runs() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ran
}

func (m *playedMaster) state() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down {
		return errPlayedDown
	}
	return nil
}

func (m *playedMaster) set(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
}

func (m *playedMaster) published() []saltpeter.LaunchID {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.ids)
}

func (m *playedMaster) Resolve(context.Context, saltclient.Expression) (saltclient.Matched, error) {
	return saltclient.Matched{Minions: []string{"m1"}}, m.state()
}

func (m *playedMaster) Publish(_ context.Context, p *saltclient.Publication) ([]string, error) {
	if err := m.state(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ids = append(m.ids, p.ID)
	return []string{"m1"}, nil
}

func (m *playedMaster) Ping(context.Context, []string, func(string)) error { return m.state() }

func (m *playedMaster) Returns(context.Context, saltpeter.LaunchID) ([]saltclient.Return, error) {
	return nil, m.state()
}

func (m *playedMaster) Key(_ context.Context, minion string) ([]byte, error) {
	return []byte("key of " + minion), m.state()
}

func (m *playedMaster) Health(context.Context) (saltclient.Health, error) {
	return saltclient.Health{Version: "3007.14", Minions: 1}, m.state()
}

// inThreeWithSalt runs a test with three nodes of which those named stand on Salt masters, and a job that is due each minute.
func inThreeWithSalt(t *testing.T, hosts []string, test func(w *three, masters map[string]*playedMaster)) {
	t.Helper()
	masters := map[string]*playedMaster{}
	for _, name := range hosts {
		masters[name] = &playedMaster{name: "n-" + name}
	}
	inThreeAs(t, func(w *three) {
		w.adjust = func(name string, o *Options) {
			o.Seams.Salt = func(*App) (SaltMaster, error) {
				if m := masters[name]; m != nil {
					return m, nil
				}
				return nil, nil
			}
			w.writeText(name, "saltpeter_config: {launcher: salt, auth: none}\nj: {schedule: '* * * * *', targets: '*', command: 'true'}\n")
		}
	}, func(w *three) {
		time.Sleep(15 * time.Second) // the files are in force, the nodes introduced
		test(w, masters)
	})
}

// notLeading gives a node that follows.
func (w *three) notLeading() string {
	lead := w.leader()
	for _, name := range threeNames {
		if w.nodes[name] != lead {
			return name
		}
	}
	return ""
}

// awaitLead waits until a node leads.
func (w *three) awaitLead(name string) *App {
	w.t.Helper()
	for range 600 {
		if w.nodes[name].leads.Load() != 0 {
			return w.nodes[name]
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.t.Fatalf("%s does not lead after 30 s", name)
	return nil
}

// A leader without a master publishes through another node's, under the launch's own id, and hands on to the next where one fails.
func TestLaunchThroughOtherNodesMasters(t *testing.T) {
	inThreeWithSalt(t, []string{"b", "c"}, func(w *three, masters map[string]*playedMaster) {
		lead := w.leader()
		if lead == w.nodes["b"] || lead == w.nodes["c"] {
			if err := lead.node.TransferTo(context.Background(), "a"); err != nil {
				t.Fatal(err)
			}
			lead = w.awaitLead("a")
		}
		time.Sleep(time.Minute)
		b, c := masters["b"].published(), masters["c"].published()
		if len(b)+len(c) == 0 {
			t.Fatalf("nothing was published; status: %+v", lead.masters.States())
		}
		for _, id := range slices.Concat(b, c) {
			if targets := lead.machine.View().LaunchedOn(id, "m1"); len(targets) != 1 {
				t.Errorf("%s is no launch of the record", id)
			}
		}
		if len(b) == 0 || len(c) == 0 {
			t.Errorf("no sign came, and yet it was not published through both: %d and %d", len(b), len(c))
		}

		masters["b"].set(true)
		time.Sleep(time.Minute)
		if got := masters["c"].published(); len(got) == len(c) {
			t.Error("nothing went through c while b was down")
		}
		if text := lead.launcherState(lead.machine.View().Settings()); text != "" {
			t.Errorf("one of two works, and it says %q", text)
		}
		masters["c"].set(true)
		time.Sleep(30 * time.Second)
		if text := lead.launcherState(lead.machine.View().Settings()); !strings.Contains(text, "n-b: ") || !strings.Contains(text, "n-c: ") {
			t.Errorf("none works, and it says %q", text)
		}
	})
}

// What would be executed by being published is refused before.
func TestDirectIsNotLaunchedThroughSalt(t *testing.T) {
	inThreeWithSalt(t, []string{"a", "b", "c"}, func(w *three, masters map[string]*playedMaster) {
		for _, name := range threeNames {
			w.writeText(name, "saltpeter_config: {launcher: salt, auth: none}\nd: {schedule: '* * * * *', targets: '*', command: 'true', use_wrapper: false}\n")
		}
		time.Sleep(4 * time.Minute)
		job, _ := w.leader().machine.View().Job("d")
		last := job.LastEnd
		if last == nil || last.State != saltpeter.RunLaunchFailed || !strings.Contains(last.Text, errDirect.Error()) {
			t.Errorf("the last run: %+v", last)
		}
	})
}

// Where no node stands on a master ticks are recorded as skipped.
func TestWithoutSaltTicksAreSkipped(t *testing.T) {
	inThreeWithSalt(t, nil, func(w *three, _ map[string]*playedMaster) {
		time.Sleep(2 * time.Minute)
		v := w.leader().machine.View()
		skips := v.Skips("j")
		if len(skips) != 1 || skips[0].Reason != saltpeter.SkipNoLauncher || skips[0].Count < 2 {
			t.Errorf("skips: %+v", skips)
		}
		if text := w.leader().launcherState(v.Settings()); !strings.HasPrefix(text, "no Salt connection: ") {
			t.Errorf("it says %q", text)
		}
	})
}

// A gateway's node asks the node that stands on a master for a minion's key; that none can be asked is no refusal.
func TestKeysOfMinionsFromOtherNodes(t *testing.T) {
	inThreeWithSalt(t, []string{"b"}, func(w *three, masters map[string]*playedMaster) {
		for _, name := range []string{"a", "b", "c"} {
			if key, err := w.nodes[name].saltKey(context.Background(), "m1"); err != nil || string(key) != "key of m1" {
				t.Errorf("%s: %q, %v", name, key, err)
			}
		}
		masters["b"].set(true)
		if _, err := w.nodes["c"].saltKey(context.Background(), "m1"); !errors.Is(err, saltclient.ErrUnreachable) {
			t.Errorf("no master works: %v", err)
		}
	})
}

// What a deposed leader wants published is refused by who knows of a newer term.
func TestOlderTermDoesNotPublish(t *testing.T) {
	inThreeWithSalt(t, []string{"a", "b", "c"}, func(w *three, masters map[string]*playedMaster) {
		follower := w.notLeading()
		lead := w.leader()
		old := lead.leads.Load()
		remote := &saltclient.Remote{Node: "x", Ask: lead.asksSaltOf(follower), Term: func() uint64 { return old }}
		before := len(masters[follower].published())
		p := &saltclient.Publication{ID: 1, Target: saltclient.Expression{Type: "list", Text: []string{"m1"}}}
		if _, err := remote.Publish(context.Background(), p); err != nil || len(masters[follower].published()) != before+1 {
			t.Fatalf("the leader is refused: %v", err)
		}
		if err := lead.node.TransferTo(context.Background(), follower); err != nil {
			t.Fatal(err)
		}
		w.awaitLead(follower)
		before = len(masters[follower].published())
		if _, err := remote.Publish(context.Background(), p); !errors.Is(err, saltclient.ErrUnreachable) || len(masters[follower].published()) != before {
			t.Errorf("published for a deposed leader: %v", err)
		}
	})
}

// A master on a host that plays the machines is left alone until the settings name Salt.
func TestMasterIsLeftAloneWhereHostsPlayTheMachines(t *testing.T) {
	inThreeWithSalt(t, []string{"a", "b", "c"}, func(w *three, masters map[string]*playedMaster) {
		if n := masters["a"].runs(); n != 1 {
			t.Fatalf("with launcher: salt the master was served %d times", n)
		}
		for _, name := range threeNames {
			w.write(name, "j")
		}
		time.Sleep(15 * time.Second) // the files are in force
		w.stop("a")
		w.start("a")
		time.Sleep(15 * time.Second) // it is up to date
		if n := masters["a"].runs(); n != 1 {
			t.Error("a node with launcher: local serves its host's master")
		}
		for _, name := range threeNames {
			w.writeText(name, "saltpeter_config: {launcher: salt, auth: none}\nj: {schedule: '0 0 1 1 *', targets: '*', command: 'true'}\n")
		}
		time.Sleep(15 * time.Second) // the files are in force
		if n := masters["a"].runs(); n != 2 {
			t.Errorf("back at launcher: salt the master was served %d times", n)
		}
	})
}
