package app

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/internal/buildinfo"
	"github.com/syscollective/saltpeter/internal/wire"
	"github.com/syscollective/saltpeter/saltclient"
	"github.com/syscollective/saltpeter/saltclient/salttest"
)

// found gives the checks of a machine, or of none, as "level check: text: hint".
func found(h *api.Health, machine string) []string {
	var out []string
	for _, k := range h.Checks {
		if k.Machine == machine {
			out = append(out, strings.TrimSuffix(fmt.Sprintf("%s %s: %s: %s", k.Level, k.Check, k.Text, k.Hint), ": "))
		}
	}
	return out
}

// wants fails if no line begins with a text.
func wants(t *testing.T, lines []string, begins ...string) {
	t.Helper()
	for _, b := range begins {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, b) }) {
			t.Errorf("no %q in:\n%s", b, strings.Join(lines, "\n"))
		}
	}
}

// checkups plays what wrappers answer, by minion.
type checkups struct {
	mu     sync.Mutex // guards the following
	change map[string]func(*wire.Checkup)
	plain  map[string]saltclient.Return
	ids    map[saltpeter.LaunchID]string // that were asked, with the command
}

func (c *checkups) do(minion string, p *saltclient.Publication) saltclient.Return {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids[p.ID], _ = p.Kwargs["cmd"].(string)
	if r, ok := c.plain[minion]; ok {
		r.Minion = minion
		return r
	}
	up := wire.Checkup{Version: buildinfo.Version(), Protocol: wire.Version, Millis: time.Now().UnixMilli(),
		Key: &wire.KeyCheck{Path: "/etc/salt/pki/minion/minion.pem", Public: acceptedDigest(minion)}, State: &wire.StateCheck{Path: "/s"},
		Gateways: []wire.DialCheck{{URL: "wss://a", Result: wire.DialOK}, {URL: "wss://b", Result: wire.DialOK}}}
	if f := c.change[minion]; f != nil {
		f(&up)
	}
	text, err := json.Marshal(&up)
	if err != nil {
		return saltclient.Return{Minion: minion, Refused: err.Error()}
	}
	return saltclient.Return{Minion: minion, Success: true, Stdout: string(text)}
}

// acceptedDigest gives the digest of the key that the fleet's masters have accepted for a minion.
func acceptedDigest(minion string) []byte {
	fleet := salttest.NewFleet(minion)
	text, err := fleet.Master("m").Key(context.Background(), minion)
	if err != nil {
		return nil
	}
	block, _ := pem.Decode(text)
	sum := sha256.Sum256(block.Bytes)
	return sum[:]
}

func TestDoctorOnMachines(t *testing.T) {
	inThreeWithFleet(t, []string{"a", "b"}, "", func(w *three, fleet *salttest.Fleet, _ map[string]*salttest.Fake) {
		for _, id := range []string{"old", "noexec", "odd's", "refuses", "proto", "nokey", "otherkey", "state", "cutoff", "half", "clock"} {
			fleet.Change(id, func(*salttest.Minion) {})
		}
		fleet.Change("db19", func(m *salttest.Minion) { m.Down = true })
		c := &checkups{ids: map[saltpeter.LaunchID]string{}, plain: map[string]saltclient.Return{
			"web-12":  {Code: 127, Stderr: "sp_wrapper is not at /usr/local/bin/sp_wrapper"},
			"odd's":   {Code: 127},
			"noexec":  {Code: 126},
			"old":     {Code: 1, Stderr: `sp_wrapper: unknown command "check" (allowed: launch, version)`},
			"refuses": {Code: 1, Refused: "ERROR: Unable to run command '['/bin/sh', " + strings.Repeat("x", 200) + " SECRET=canary"},
		}, change: map[string]func(*wire.Checkup){
			"proto": func(u *wire.Checkup) { u.Protocol++ },
			"nokey": func(u *wire.Checkup) {
				u.Key.Public, u.Key.Error = nil, "/k can't be read by user salt (uid 7): permission denied"
			},
			"otherkey": func(u *wire.Checkup) { u.Key.Public = make([]byte, 32) },
			"state":    func(u *wire.Checkup) { u.State.Error = "read-only file system" },
			"cutoff": func(u *wire.Checkup) {
				u.Gateways[0], u.Gateways[1] = wire.DialCheck{URL: "wss://a", Result: wire.DialTimeout, Millis: 6000}, wire.DialCheck{URL: "wss://b", Result: wire.DialPin}
			},
			"half":  func(u *wire.Checkup) { u.Gateways[1].Result = wire.DialRefused },
			"clock": func(u *wire.Checkup) { u.Millis -= 90_000; u.Version = "0.0.1" },
		}}
		fleet.Does(c.do)
		all := []string{"db07", "db19", "ghost", "web-12", "old", "noexec", "odd's", "refuses", "proto", "nokey", "otherkey", "state", "cutoff", "half", "clock"}
		for _, name := range threeNames { // the leader and those that ask it
			began := time.Now()
			h, err := reach{w.nodes[name]}.Diagnose(context.Background(), all)
			if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > diagnoseLimit || h.Healthy {
				t.Errorf("%s: healthy %v after %s", name, h.Healthy, took)
			}
			version := buildinfo.Version()
			well := found(&h, "db07")
			wants(t, well, "ok key: accepted on ", "ok ping: answers", "ok wrapper: sp_wrapper "+version, "ok identity: its key", "ok gateway: reaches all 2", "ok clock: agrees")
			if len(well) != 6 {
				t.Errorf("all is well with db07: %q", well)
			}
			wants(t, found(&h, "web-12"), "fail wrapper: minion web-12 answered ping but sp_wrapper is missing (exit 127): install with: salt 'web-12' state.apply saltpeter.wrapper")
			wants(t, found(&h, "odd's"), `fail wrapper: minion odd's answered ping but sp_wrapper is missing (exit 127): install with: salt 'odd'\''s' state.apply`)
			wants(t, found(&h, "db19"), "ok key: ", "fail ping: minion db19 does not answer test.ping within 6s: is salt-minion running there?")
			wants(t, found(&h, "ghost"), "fail key: no master has accepted a key of minion ghost")
			wants(t, found(&h, "old"), `fail wrapper: /usr/local/bin/sp_wrapper on old can't check itself (exit 1): sp_wrapper: unknown command "check"`)
			wants(t, found(&h, "noexec"), "fail wrapper: /usr/local/bin/sp_wrapper on noexec can't be executed (exit 126)")
			wants(t, found(&h, "refuses"), "fail wrapper: minion refuses can't run cmd.run_all: ERROR: Unable")
			wants(t, found(&h, "proto"), "fail wrapper: ")
			wants(t, found(&h, "nokey"), "fail identity: the wrapper can't prove which machine it is: /k can't be read by user salt")
			wants(t, found(&h, "otherkey"), "fail identity: the key in /etc/salt/pki/minion/minion.pem (SHA-256 0000000000000000…) is not the one that ")
			wants(t, found(&h, "state"), "fail state: no wrapper can keep its files in /s: read-only file system")
			wants(t, found(&h, "cutoff"), "fail gateway: cutoff does not reach wss://a: timeout after 6000 ms", "fail gateway: cutoff does not reach wss://b: pin-mismatch")
			wants(t, found(&h, "half"), "warn gateway: half does not reach wss://b: refused")
			wants(t, found(&h, "clock"), "warn clock: the clock of clock is -1m30s off", "warn wrapper: sp_wrapper is 0.0.1")
			if text := fmt.Sprint(h); strings.Contains(text, "canary") {
				t.Errorf("it shows a minion's environment: %s", text)
			}
		}
		for id, cmd := range c.ids {
			if past := time.Since(id.Time()); past < 59*time.Minute || past > 3*time.Hour {
				t.Errorf("question %s: a launch may be given that id", id)
			}
			if strings.Contains(cmd, "--token") || !strings.Contains(cmd, " check --json ") {
				t.Errorf("it asks %s", cmd)
			}
		}
	})
}

func TestDoctorOnMasters(t *testing.T) {
	inThreeWithFleet(t, []string{"a", "b"}, ", wrapper_identity: token", func(w *three, fleet *salttest.Fleet, masters map[string]*salttest.Fake) {
		for i := range 600 {
			fleet.Change(fmt.Sprintf("m%03d", i), func(*salttest.Minion) {})
		}
		masters["a"].SetHealth(saltclient.Health{Version: "3008.1", Filtered: true, Notes: "job_cache is off"})
		diagnose := func(machines ...string) *api.Health {
			t.Helper()
			h, err := reach{w.nodes["c"]}.Diagnose(context.Background(), machines)
			if err != nil {
				t.Fatal(err)
			}
			return &h
		}
		h := diagnose()
		wants(t, found(h, ""), "warn master: n-a runs Salt 3008.1", "warn master: n-a: job_cache is off", "warn master: n-b sends every publish to all of its 603 minions (zmq_filtering is off): set zmq_filtering",
			"warn identity: wrapper_identity: token", "ok clock: ")
		if !h.Healthy {
			t.Errorf("warnings are no failure: %q", found(h, ""))
		}
		masters["a"].Fail(salttest.Fault{Err: saltclient.ErrDenied})
		wants(t, found(diagnose(), ""), "warn master: n-a: salt denies it: the node must run as")
		masters["b"].Fail(salttest.Fault{Err: saltclient.ErrUnreachable})
		h = diagnose("db07")
		wants(t, found(h, ""), "fail master: n-a: salt denies it", "fail master: n-b: salt master can't be reached")
		wants(t, found(h, "db07"), "fail key: no master could say")
		if h.Healthy {
			t.Error("nothing can be started, and it counts as healthy")
		}
	})
}

func TestDoctorWithoutMaster(t *testing.T) {
	inThreeWithFleet(t, nil, "", func(w *three, _ *salttest.Fleet, _ map[string]*salttest.Fake) {
		h, err := reach{w.nodes["a"]}.Diagnose(context.Background(), []string{"db07"})
		if err != nil || h.Healthy {
			t.Fatalf("%+v, %v", h, err)
		}
		wants(t, found(&h, ""), "fail launcher: no node stands on a Salt master and no endpoint is given")
	})
}

func TestDoctorWhereThisHostPlays(t *testing.T) {
	inThree(t, nil, func(w *three) {
		time.Sleep(15 * time.Second) // the files are in force
		lead := w.leader()
		played := localMachines(lead.machine.View().Settings())[0]
		h, err := reach{lead}.Diagnose(context.Background(), []string{played, "ghost"})
		if err != nil {
			t.Fatal(err)
		}
		wants(t, found(&h, ""), "ok launcher: this host plays")
		wants(t, found(&h, played), "ok machine: ")
		wants(t, found(&h, "ghost"), "fail machine: this host does not play it")
	})
}

func TestDoctorOnGateways(t *testing.T) {
	lookup := func(_ context.Context, host string) ([]string, error) {
		switch host {
		case "sp.example":
			return []string{"10.0.0.1"}, nil
		case "sp-1":
			return []string{"127.0.1.1"}, nil
		}
		return nil, errors.New("no such host")
	}
	tests := map[string]struct {
		urls []string
		salt bool
		want []string
	}{
		"well":       {[]string{"wss://sp.example:8889", "wss://10.0.0.2:8889"}, true, []string{"ok gateway: launches carry [wss://sp.example:8889 wss://10.0.0.2:8889]"}},
		"loopback":   {[]string{"wss://127.0.0.1:8889"}, true, []string{"warn gateway: launches carry wss://127.0.0.1:8889, which wrappers on other hosts can't reach: give"}},
		"local":      {[]string{"wss://127.0.0.1:8889"}, false, []string{"ok gateway: "}},
		"debian":     {[]string{"wss://sp-1:8889"}, true, []string{"warn gateway: launches carry wss://sp-1:8889, which wrappers"}},
		"everywhere": {[]string{"wss://[::]:8889"}, true, []string{"warn gateway: launches carry wss://[::]:8889"}},
		"no name":    {[]string{"wss://nosuch:8889"}, true, []string{"warn gateway: launches carry wss://nosuch:8889, which this node can't resolve: no such host"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var f findings
			f.gateways(t.Context(), tt.urls, tt.salt, lookup)
			got := found(&api.Health{Checks: f}, "")
			if wants(t, got, tt.want...); len(got) != len(tt.want) {
				t.Errorf("%q", got)
			}
		})
	}
}
