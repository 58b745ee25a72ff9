package saltclient

import (
	"slices"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
)

func testCheckup() *Checkup {
	return &Checkup{Wrapper: "/opt/sp wrapper", Cluster: "0b7e5c1e", Identity: saltpeter.IdentitySaltKey, Pin: launchPin, URLs: []string{"wss://10.0.0.1:8889"}}
}

func TestCheckupCommand(t *testing.T) {
	p, err := testCheckup().Publication()
	if err != nil {
		t.Fatal(err)
	}
	want := "/bin/sh -c '" + startScript + "' '/opt/sp wrapper' check --json --machine " + machineWord + " --cluster 0b7e5c1e --urls wss://10.0.0.1:8889 --pin ab12 --key " + keyWord + stateWords
	if p.Function != "cmd.run_all" || p.Kwargs["cmd"] != want || p.Kwargs["python_shell"] != false || p.Kwargs["timeout"] != 12 {
		t.Errorf("got %+v\nwant %s", p, want)
	}
	byToken := testCheckup()
	byToken.Identity = saltpeter.IdentityToken
	if p, err = byToken.Publication(); err != nil || strings.Contains(p.Kwargs["cmd"].(string), "--key") {
		t.Errorf("no key is needed: %+v, %v", p, err)
	}
}

func TestCheckupRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*Checkup){
		"template in the path": func(c *Checkup) { c.Wrapper = "/opt/{{ x }}" },
		"relative path":        func(c *Checkup) { c.Wrapper = "sp_wrapper" },
		"no gateway":           func(c *Checkup) { c.URLs = nil },
		"blank in a gateway":   func(c *Checkup) { c.URLs = []string{"wss://a b"} },
		"no pin":               func(c *Checkup) { c.Pin = "" },
		"quote in the cluster": func(c *Checkup) { c.Cluster = "'" },
	} {
		c := testCheckup()
		spoil(c)
		if p, err := c.Publication(); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// One text has each minion check its own key and directory.
func TestCheckupRendered(t *testing.T) {
	p, err := testCheckup().Publication()
	if err != nil {
		t.Fatal(err)
	}
	opts := []map[string]any{{"id": "it's", "pki_dir": "/etc/a b"}, {"id": "$(id)", "pki_dir": "/p", "sp_wrapper_state": "/var/x y"}}
	got := argvs(t, p.Kwargs["cmd"].(string), opts)
	begin := []string{"/bin/sh", "-c", startScript, "/opt/sp wrapper", "check", "--json", "--machine"}
	reach := []string{"--cluster", "0b7e5c1e", "--urls", "wss://10.0.0.1:8889", "--pin", launchPin, "--key"}
	want := [][]string{
		slices.Concat(begin, []string{"it's"}, reach, []string{"/etc/a b/minion.pem"}),
		slices.Concat(begin, []string{"$(id)"}, reach, []string{"/p/minion.pem", "--state", "/var/x y"}),
	}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
