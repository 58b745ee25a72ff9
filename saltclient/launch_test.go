package saltclient

import (
	"bytes"
	"encoding/json"
	"errors"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
)

const (
	launchToken = "1.kJ-_x0"
	launchPin   = "ab12"
)

func testStarter() *Starter {
	return &Starter{
		Cluster:  "0b7e5c1e-5d5c-4f0e-9a37-1c2f6d1f0a11",
		Identity: func() string { return saltpeter.IdentitySaltKey },
		URLs:     func(*saltpeter.Job) []string { return []string{"wss://10.0.0.1:8889", "wss://[fe80::1]:8889"} },
		Secrets:  func(saltpeter.LaunchID) (string, string, error) { return launchToken, launchPin, nil },
	}
}

func testLaunch(t testing.TB) *saltpeter.Launch {
	t.Helper()
	id, err := saltpeter.ParseLaunchID("20261123000000000001")
	if err != nil {
		t.Fatal(err)
	}
	return &saltpeter.Launch{ID: id, Run: 7, RunID: "backup_1795392000", Job: "backup", Machines: []string{"web-1"}}
}

func publication(t testing.TB, s *Starter, job *saltpeter.Job) *Publication {
	t.Helper()
	p, err := s.Publication(testLaunch(t), job, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLaunchCommand(t *testing.T) {
	p := publication(t, testStarter(), &saltpeter.Job{WrapperPath: "/usr/local/bin/sp_wrapper"})
	want := "/bin/sh -c '" + startScript + "' /usr/local/bin/sp_wrapper launch --id 20261123000000000001 --machine {{ opts['id'] | string | quote }}" +
		" --cluster 0b7e5c1e-5d5c-4f0e-9a37-1c2f6d1f0a11 --urls 'wss://10.0.0.1:8889,wss://[fe80::1]:8889' --token 1.kJ-_x0 --pin ab12 --window 1m0s" +
		" --identity salt-key --key {{ (opts['pki_dir'] ~ '/minion.pem') | quote }}" +
		"{{ (' --state ' ~ opts['sp_wrapper_state'] | string | quote) if opts.get('sp_wrapper_state') else '' }}"
	if p.Function != "cmd.run_all" || p.Kwargs["cmd"] != want || p.Kwargs["template"] != "jinja" || p.Kwargs["python_shell"] != false ||
		p.Kwargs["timeout"] != 30 || p.Kwargs["output_loglevel"] != "quiet" || p.ID != testLaunch(t).ID {
		t.Errorf("got %+v\nwant %s", p, want)
	}
	s := testStarter()
	s.Identity = func() string { return saltpeter.IdentityToken }
	if text := publication(t, s, &saltpeter.Job{WrapperPath: "/w"}).Kwargs["cmd"].(string); !strings.Contains(text, " --identity token{{") || strings.Contains(text, "--key") {
		t.Errorf("with wrapper_identity token: %s", text)
	}
}

func TestLaunchModule(t *testing.T) {
	s := testStarter()
	s.Module = true
	p := publication(t, s, &saltpeter.Job{WrapperPath: "/opt/my wrapper"})
	want := map[string]any{
		"launch_id": "20261123000000000001", "cluster": s.Cluster, "urls": "wss://10.0.0.1:8889,wss://[fe80::1]:8889", "token": launchToken, "pin": launchPin,
		"window": "1m0s", "identity": "salt-key", "wrapper": "/opt/my wrapper", "limit": 30,
	}
	if p.Function != "saltpeter.launch" || !reflect.DeepEqual(p.Kwargs, want) {
		t.Errorf("got %+v", p)
	}
}

// render has jinja and shlex do with texts what a minion does, for each of its ids.
const render = `
import json, shlex, sys
from jinja2 import StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
env = SandboxedEnvironment(undefined=StrictUndefined)
env.filters["quote"] = shlex.quote
given = json.load(sys.stdin)
json.dump([shlex.split(env.from_string(given["text"]).render(opts=opts)) for opts in given["opts"]], sys.stdout)
`

// argvs gives what becomes of a text on minions with some options. It skips the test where Python has no jinja2; the same is
// tried with Salt itself in integration/salt.
func argvs(t *testing.T, text string, opts []map[string]any) (out [][]string) {
	t.Helper()
	if err := exec.Command("python3", "-c", "import jinja2").Run(); err != nil {
		t.Skip("needs python3 with jinja2")
	}
	in, err := json.Marshal(map[string]any{"text": text, "opts": opts})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("python3", "-c", render)
	cmd.Stdin = bytes.NewReader(in)
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, err.(*exec.ExitError).Stderr)
	}
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// One text gives each minion its own id, however odd, and nothing is expanded.
func TestLaunchCommandRendered(t *testing.T) {
	ids := []string{
		"web-1", "web 1", " lead and trail ", "it's", `say "hi"`, `back\slash\`, "$HOME", "$(id)", "`id`", "{{ opts }}", "{%x%}", "{#", "a;b|c&d>e", "*", "~", "#no",
		"-x", "--identity", "--key=/etc/shadow", "Büro", "日本", "😀", "a\nb", "\t", "=", "a=b", "!", "''", `'"'"'`, "x\u00a0y",
	}
	wrapper := "/opt/it's {a} \"dir\"/$sp/sp_wrapper }}"
	var opts []map[string]any
	for i, id := range ids {
		opts = append(opts, map[string]any{"id": id, "pki_dir": "/etc/" + id})
		if i%2 == 1 {
			opts[i]["sp_wrapper_state"] = "/var/" + id
		}
	}
	opts = append(opts, map[string]any{"id": 4711, "pki_dir": "/p"}) // YAML's idea of an id of digits
	s := testStarter()
	for i, got := range argvs(t, publication(t, s, &saltpeter.Job{WrapperPath: wrapper}).Kwargs["cmd"].(string), opts) {
		id, dir := "4711", "/p"
		if i < len(ids) {
			id, dir = ids[i], "/etc/"+ids[i]
		}
		want := []string{
			"/bin/sh", "-c", startScript, wrapper, "launch", "--id", "20261123000000000001", "--machine", id, "--cluster", s.Cluster, "--urls", "wss://10.0.0.1:8889,wss://[fe80::1]:8889",
			"--token", launchToken, "--pin", launchPin, "--window", "1m0s", "--identity", "salt-key", "--key", dir + "/minion.pem",
		}
		if i < len(ids) && i%2 == 1 {
			want = append(want, "--state", "/var/"+id)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: got  %q\nwant %q", id, got, want)
		}
	}
}

// What a machine without the wrapper answers.
func TestStartScript(t *testing.T) {
	var stderr strings.Builder
	cmd := exec.Command("/bin/sh", "-c", startScript, "/no/such wrapper", "launch")
	cmd.Stderr = &stderr
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 127 || stderr.String() != "sp_wrapper is not at /no/such wrapper: salt MINION state.apply saltpeter.wrapper\n" {
		t.Errorf("%v: %s", err, stderr.String())
	}
	out, err := exec.Command("/bin/sh", "-c", startScript, "/bin/echo", "a  b", "$c").Output()
	if err != nil || string(out) != "a  b $c\n" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestLaunchRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Starter, *saltpeter.Job)
		want   string
	}{
		"a template in the path":   {func(_ *Starter, j *saltpeter.Job) { j.WrapperPath = "/x/{{ opts }}" }, "template"},
		"a block in the path":      {func(_ *Starter, j *saltpeter.Job) { j.WrapperPath = "/x{%y" }, "template"},
		"a comment in the path":    {func(_ *Starter, j *saltpeter.Job) { j.WrapperPath = "/x{#y" }, "template"},
		"a relative path":          {func(_ *Starter, j *saltpeter.Job) { j.WrapperPath = "sp_wrapper" }, "not absolute"},
		"no path":                  {func(_ *Starter, j *saltpeter.Job) { j.WrapperPath = "" }, "not absolute"},
		"a line in the path":       {func(_ *Starter, j *saltpeter.Job) { j.WrapperPath = "/x\n/y" }, "control character"},
		"a path that is no text":   {func(_ *Starter, j *saltpeter.Job) { j.WrapperPath = "/x\xff" }, "UTF-8"},
		"an endless path":          {func(_ *Starter, j *saltpeter.Job) { j.WrapperPath = "/" + strings.Repeat("x", maxPath) }, "longer"},
		"a template in a URL":      {func(s *Starter, _ *saltpeter.Job) { gateways(s, "wss://{{x}}:1") }, "{{x}}"},
		"a template in its path":   {func(s *Starter, _ *saltpeter.Job) { gateways(s, "wss://h:1/{{x}}") }, "not allowed"},
		"a comma in a URL":         {func(s *Starter, _ *saltpeter.Job) { gateways(s, "wss://h:1/a,b") }, "not allowed"},
		"a URL without TLS":        {func(s *Starter, _ *saltpeter.Job) { gateways(s, "ws://h:1") }, "wss://"},
		"a password in a URL":      {func(s *Starter, _ *saltpeter.Job) { gateways(s, "wss://u:p@h:1") }, "not allowed"},
		"no URL":                   {func(s *Starter, _ *saltpeter.Job) { gateways(s) }, "0 gateways"},
		"an odd token":             {func(s *Starter, _ *saltpeter.Job) { secrets(s, "a b", launchPin) }, "token"},
		"no pin":                   {func(s *Starter, _ *saltpeter.Job) { secrets(s, launchToken, "") }, "pin"},
		"an unknown kind of proof": {func(s *Starter, _ *saltpeter.Job) { s.Identity = func() string { return "none" } }, "salt-key, token"},
	} {
		s, job := testStarter(), &saltpeter.Job{WrapperPath: "/w"}
		c.change(s, job)
		for _, s.Module = range []bool{false, true} {
			p, err := s.Publication(testLaunch(t), job, time.Minute)
			if p != nil || !errors.Is(err, errLaunch) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: got %+v, %v", name, p, err)
			}
		}
	}
	s, broken := testStarter(), errors.New("no such key")
	s.Secrets = func(saltpeter.LaunchID) (string, string, error) { return "", "", broken }
	if _, err := s.Publication(testLaunch(t), &saltpeter.Job{WrapperPath: "/w"}, time.Minute); !errors.Is(err, broken) {
		t.Errorf("no secrets: %v", err)
	}
	if _, err := testStarter().Publication(testLaunch(t), &saltpeter.Job{WrapperPath: "/w"}, 0); !errors.Is(err, errLaunch) {
		t.Errorf("no window: %v", err)
	}
}

func gateways(s *Starter, urls ...string) { s.URLs = func(*saltpeter.Job) []string { return urls } }

func secrets(s *Starter, token, pin string) {
	s.Secrets = func(saltpeter.LaunchID) (string, string, error) { return token, pin, nil }
}

const canary = "canary-7b1c"

// mark puts a canary into everything of a value that can hold text.
func mark(v reflect.Value) (marked int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(canary)
		return 1
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				marked += mark(v.Field(i))
			}
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte(canary))
			return 1
		}
		return mark(v.Index(0))
	case reflect.Map:
		text := reflect.New(v.Type().Key()).Elem()
		marked = mark(text)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(text, text)
	}
	return marked
}

// Nothing of a job travels through Salt but where its wrapper lies and the gateways that it dials, nor its name.
func TestNothingOfAJobTravels(t *testing.T) {
	var job saltpeter.Job
	if n := mark(reflect.ValueOf(&job).Elem()); n < 20 {
		t.Fatalf("only %d fields are marked", n)
	}
	job.WrapperPath = "/usr/local/bin/sp_wrapper"
	launch := testLaunch(t)
	launch.Job, launch.RunID, launch.Machines = canary, canary, []string{canary}
	for _, module := range []bool{false, true} {
		s := testStarter()
		s.Module = module
		p, err := s.Publication(launch, &job, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(p)
		if err != nil || bytes.Contains(text, []byte(canary)) {
			t.Errorf("%v, %s", err, text)
		}
	}
}
