package config

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones must be there wherever the tests run

	"github.com/syscollective/saltpeter"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Each directory of testdata has its problems, as people see them, in a golden file beside it.
func TestProblems(t *testing.T) {
	for _, dir := range []string{"python", "broken", "syntax", "warnings", "conflict", "templates"} {
		t.Run(dir, func(t *testing.T) {
			r := Load(filepath.Join("testdata", dir))
			checkGolden(t, filepath.Join("testdata", dir+".golden"), r.String())
			for _, p := range r.Problems {
				checkPlace(t, dir, p)
			}
		})
	}
}

func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s:\n%s", name, got)
	}
}

// checkPlace holds a problem against its file: the line is the one that is shown, the underlined part lies in it.
func checkPlace(t *testing.T, dir string, p saltpeter.Problem) {
	t.Helper()
	if p.Line == 0 {
		return
	}
	data, err := os.ReadFile(filepath.Join("testdata", dir, p.File))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(data), "\n")
	if p.Line > len(lines) || strings.TrimSuffix(lines[p.Line-1], "\r") != p.Source {
		t.Errorf("%v: line is not %q", p, p.Source)
	}
	if p.Col < 1 || p.Len < 1 || p.Col-1+p.Len > len(p.Source) {
		t.Errorf("%v: %d bytes from column %d don't lie in %q", p, p.Len, p.Col, p.Source)
	}
}

// one loads a text as the only file.
func one(text string) *Result { return LoadFiles([]File{{"x.yaml", []byte(text)}}) }

// jobText makes a file with one job of some more keys.
func jobText(keys string) string {
	return "j:\n  schedule: '@daily'\n  command: c\n  targets: '*'\n" + indent(keys)
}

func indent(keys string) string {
	var b strings.Builder
	for line := range strings.Lines(keys) {
		b.WriteString("  " + strings.TrimSuffix(line, "\n") + "\n")
	}
	return b.String()
}

func TestJobDefaults(t *testing.T) {
	r := one("saltpeter_config: {kill_grace: 3, misfire_grace: 5m, output_limit: 64KiB, default_wrapper_path: /opt/w, " +
		"default_wrapper_loglevel: debug, default_wrapper_logdir: /tmp/l, default_saltpeter_server_host: h}\n" + jobText(""))
	if !r.OK() {
		t.Fatal(r)
	}
	got := *jobOf(t, r, "j")
	got.Written = nil
	want := saltpeter.Job{
		Name: "j", Group: "x", Command: "c", Targets: []string{"*"}, TargetType: "glob", Timeout: time.Hour,
		Schedule:  saltpeter.Schedule{Sec: "0", Min: "0", Hour: "0", Dom: "*", Mon: "*", Dow: "*", Year: "*", Written: "@daily"},
		KillGrace: 3 * time.Second, MisfireGrace: 5 * time.Minute, OutputLimit: 64 << 10, WaitForChildren: true, UseWrapper: true,
		Start: saltpeter.StartClaim, WrapperPath: "/opt/w", WrapperLogLevel: "debug", WrapperLogDir: "/tmp/l", ServerHost: "h", Source: "x.yaml:2",
	}
	if a, b := encoded(t, &got), encoded(t, &want); a != b {
		t.Errorf("got\n%s\nwant\n%s", a, b)
	}
}

func encoded(t *testing.T, j *saltpeter.Job) string {
	t.Helper()
	b, err := j.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Every key of a job does what it says.
func TestJobKeys(t *testing.T) {
	tests := []struct {
		keys string
		ok   func(j *saltpeter.Job) bool
	}{
		{"user: root\ncwd: /tmp", func(j *saltpeter.Job) bool { return j.User == "root" && j.Cwd == "/tmp" }},
		{"user: 1000", func(j *saltpeter.Job) bool { return j.User == "1000" }},
		{"timeout: 0", func(j *saltpeter.Job) bool { return j.Timeout == 0 }},
		{"timeout: 1h30m", func(j *saltpeter.Job) bool { return j.Timeout == 90*time.Minute }},
		{"timeout: 0.5", func(j *saltpeter.Job) bool { return j.Timeout == 500*time.Millisecond }},
		{"timeout: '90'", func(j *saltpeter.Job) bool { return j.Timeout == 90*time.Second }},
		{"timeout:", func(j *saltpeter.Job) bool { return j.Timeout == time.Hour }},
		{"hard_timeout: 240", func(j *saltpeter.Job) bool { return j.Timeout == 4*time.Minute }},
		{"hard_timeout: 0", func(j *saltpeter.Job) bool { return j.Timeout == 0 }},
		{"hard_timeout: 240\ntimeout: 1d", func(j *saltpeter.Job) bool { return j.Timeout == 24*time.Hour }},
		{"soft_timeout: 120", func(j *saltpeter.Job) bool { return j.SoftTimeout == 2*time.Minute && j.Timeout == time.Hour }},
		{"kill_grace: 0", func(j *saltpeter.Job) bool { return j.KillGrace == 0 }},
		{"misfire_grace: 2h", func(j *saltpeter.Job) bool { return j.MisfireGrace == 2*time.Hour }},
		{"output_limit: 2MiB", func(j *saltpeter.Job) bool { return j.OutputLimit == 2<<20 }},
		{"number_of_targets: 3", func(j *saltpeter.Job) bool { return j.NumberOfTargets == 3 }},
		{"batch_size: 7", func(j *saltpeter.Job) bool { return j.Batch == saltpeter.Batch{Size: 7} }},
		{"batch_size: 10%", func(j *saltpeter.Job) bool { return j.Batch == saltpeter.Batch{Size: 10, Percent: true} }},
		{"allow_overlap: i know what i am doing!", func(j *saltpeter.Job) bool { return j.AllowOverlap }},
		{"allow_overlap: true", func(j *saltpeter.Job) bool { return !j.AllowOverlap }},
		{"lockfile: /run/x", func(j *saltpeter.Job) bool { return j.Lockfile == "/run/x" }},
		{"wait_for_children: no", func(j *saltpeter.Job) bool { return !j.WaitForChildren }},
		{"use_wrapper: off", func(j *saltpeter.Job) bool { return !j.UseWrapper && j.Start == saltpeter.StartDirect }},
		{"start: direct", func(j *saltpeter.Job) bool {
			return j.UseWrapper && j.Start == saltpeter.StartDirect && j.WrapperPath == "/usr/local/bin/sp_wrapper.py"
		}},
		{"wrapper_path: /w\nwrapper_loglevel: debug\nwrapper_logdir: /l\nsaltpeter_server_host: h", func(j *saltpeter.Job) bool {
			return j.WrapperPath == "/w" && j.WrapperLogLevel == "debug" && j.WrapperLogDir == "/l" && j.ServerHost == "h"
		}},
		{"group: web", func(j *saltpeter.Job) bool { return j.Group == "web" }},
		{"timezone: Europe/Bucharest\nday_match: or", func(j *saltpeter.Job) bool {
			return j.Schedule.Timezone == "Europe/Bucharest" && j.Schedule.MatchAny
		}},
		{"env: {A: true, B: 010, C: 1.50, D: x}", func(j *saltpeter.Job) bool {
			return j.Env["A"] == "True" && j.Env["B"] == "8" && j.Env["C"] == "1.5" && j.Env["D"] == "x"
		}},
		{"number_of_targets: 05", func(j *saltpeter.Job) bool { return j.NumberOfTargets == 5 }},
		{"unheard_of: {a: [1, on, 2025-01-01]}", func(j *saltpeter.Job) bool {
			return strings.Contains(string(j.Written), `"unheard_of":{"a":[1,true,"2025-01-01"]}`)
		}},
	}
	for _, tt := range tests {
		r := one(jobText(tt.keys))
		if !r.OK() || !tt.ok(jobOf(t, r, "j")) {
			t.Errorf("%s\ngives %s\n%s", tt.keys, encoded(t, r.Jobs[0]), r)
		}
	}
}

// Numbers as people write them in schedules, and what the Python program made of them.
func TestScheduleNumbers(t *testing.T) {
	for text, want := range map[string]string{"05": "5", "00": "0", "08": "08", "7": "7", "'010'": "010", "1_0": "10", "+5": "5", "'*/5'": "*/5", "0,30": "0,30"} {
		r := one("j: {min: " + text + ", hour: 0, dom: '*', mon: jan, dow: '?', command: c, targets: a}\n")
		if strings.Contains(text, ",") {
			r = one("j:\n  min: " + text + "\n  hour: 0\n  dom: '*'\n  mon: jan\n  dow: '?'\n  command: c\n  targets: a\n")
		}
		if !r.OK() {
			t.Errorf("%s: %s", text, r)
			continue
		}
		got := jobOf(t, r, "j").Schedule.Min
		if got != want {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
}

func TestTargets(t *testing.T) {
	tests := []struct {
		keys, want string // joined with |
	}{
		{"targets: 'web*'", "web*"},
		{"targets: [web1]", "web1"},
		{"targets: a, b,c\ntarget_type: list", "a|b|c"},
		{"targets: [a, b]\ntarget_type: list", "a|b"},
		{"targets: [G@os:Debian, and, web*]\ntarget_type: compound", "G@os:Debian and web*"},
		{"targets: 12", "12"},
	}
	for _, tt := range tests {
		r := one("j:\n  schedule: '@daily'\n  command: c\n" + indent(tt.keys))
		if !r.OK() {
			t.Errorf("%s: %s", tt.keys, r)
			continue
		}
		if got := strings.Join(jobOf(t, r, "j").Targets, "|"); got != tt.want {
			t.Errorf("%s: targets %q, want %q", tt.keys, got, tt.want)
		}
	}
}

// What is said of each, and where: the messages are part of the interface.
func TestMessages(t *testing.T) {
	tests := []struct{ text, want string }{
		{jobText("min: 5"), "x.yaml:5:8: error: j.min: min stands beside schedule: (keep one of the two forms)"},
		{"j: {min: 0, hour: 010, dom: '*', mon: '*', dow: '*', command: c, targets: a}",
			"x.yaml:1:19: error: j.hour: 010 is 8 to the Python program (YAML reads it as octal) and 10 to people (write hour: 8 or hour: '10')"},
		{"j: {min: 1:30, hour: 0, dom: '*', mon: '*', dow: '*', command: c, targets: a}",
			"x.yaml:1:10: error: j.min: 1:30 is 90 to the Python program (YAML reads it as base 60) and 1:30 to people (write min: 90 or min: '1:30')"},
		{jobText("allow_overlap: sure"), "x.yaml:5:18: warning: j.allow_overlap: overlap stays off: only the exact sentence turns it on (write allow_overlap: 'i know what i am doing!')"},
		{jobText("utc: false"), "x.yaml:5:8: warning: j.utc: has no effect: schedules are in UTC, as they always were (leave it out; write timezone: Europe/Bucharest for local time)"},
		{jobText("comand: x"), "x.yaml:5:3: warning: j.comand: comand is not a key of a job (did you mean command? it is kept and shown, and does nothing)"},
		{jobText("user: on"), "x.yaml:5:9: error: j.user: on is a boolean in YAML, a text is wanted (write user: 'on')"},
		{"saltpeter_config: {join: [a]}", "x.yaml:1:20: error: saltpeter_config.join: join differs from node to node and can't stand in files for the whole cluster (write join in /etc/saltpeter-node.yaml, or use --join or SALTPETER_JOIN on each node)"},
		{"j:\n  schedule: '*/61 * * * *'\n  command: c\n  targets: a", `x.yaml:2:14: error: j.schedule: "*/61": the step is larger than the field's maximum 59 (write "0", the only value that it could match)`},
		{"é: {schedule: '@daily', command: c, targets: on}", "x.yaml:1:47: error: é.targets: on is a boolean in YAML, a text is wanted (write targets: 'on')"},
		{"a: &a [*a]", "x.yaml:1:8: error: a[0]: the anchor a holds itself (write the value out)"},
		{"j:\n  hour: *\n", "x.yaml:2:9: error: j.hour: unquoted * starts a YAML alias (the Python program dropped this whole file) (write hour: '*')"},
	}
	for _, tt := range tests {
		r := one(tt.text)
		var got []string
		for _, p := range r.Problems {
			got = append(got, p.String())
		}
		if all := strings.Join(got, "\n"); !strings.Contains("\n"+all+"\n", "\n"+tt.want+"\n") {
			t.Errorf("%s\ngives\n%s\nwant\n%s", tt.text, all, tt.want)
		}
	}
}

func TestNoTargets(t *testing.T) {
	for _, keys := range []string{"targets: []", "targets: ''", "targets: ', ,'\ntarget_type: list", "targets:", "user: x"} {
		r := one("j:\n  schedule: '@daily'\n  command: c\n" + indent(keys))
		if r.Counts.Errors != 1 || !strings.Contains(r.String(), "target") {
			t.Errorf("%s gives\n%s", keys, r)
		}
	}
}

func TestMerged(t *testing.T) {
	a := File{"a.yaml", []byte("saltpeter_config: {heartbeat: 2, launcher: local}\nsaltpeter_maintenance: {machines: [b, a]}\n")}
	b := File{"b.yaml", []byte("saltpeter_config: {launcher: local, auth: none}\nsaltpeter_maintenance: {global: true, machines: [b, c]}\n" + jobText(""))}
	r := LoadFiles([]File{a, b})
	if !r.OK() {
		t.Fatal(r)
	}
	s := r.Settings
	if s.Heartbeat != 2*time.Second || s.Launcher != "local" || s.Auth != "none" || strings.Join(s.LocalMinions, " ") != "local-1 local-2 local-3" {
		t.Errorf("settings are %+v", s)
	}
	if got := string(s.Written); got != `{"heartbeat":2,"launcher":"local","auth":"none"}` {
		t.Errorf("written settings are %s", got)
	}
	if m := r.Maintenance; !m.Global || strings.Join(m.Machines, " ") != "a b c" {
		t.Errorf("maintenance is %+v", m)
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	if r := Load(dir); r.OK() || r.Digest != "" || len(r.Jobs) != 0 {
		t.Errorf("an empty directory gives %s", r)
	}
	if r := Load(filepath.Join(dir, "absent")); r.OK() {
		t.Errorf("an absent directory gives %s", r)
	}
	write(t, dir, "a.yaml", "# all taken out\n")
	if r := Load(dir); r.OK() {
		t.Errorf("files that hold nothing give %s", r)
	}
	write(t, dir, "b.yaml", jobText(""))
	write(t, dir, "c.yaml~", "not: read")
	write(t, dir, ".yaml", "not: read")
	r := Load(dir)
	if !r.OK() || strings.Join(r.Files, " ") != "a.yaml b.yaml" {
		t.Errorf("files %v\n%s", r.Files, r)
	}
	if err := os.Symlink("absent", filepath.Join(dir, "d.yaml")); err != nil {
		t.Fatal(err)
	}
	if r := Load(dir); r.OK() {
		t.Errorf("a link to nowhere gives %s", r)
	}
	if err := os.Remove(filepath.Join(dir, "d.yaml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "d.yaml"), 0o755); err != nil {
		t.Fatal(err)
	}
	if r := Load(dir); r.OK() {
		t.Errorf("a directory in place of a file gives %s", r)
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDigest(t *testing.T) {
	d := func(files ...File) string { return LoadFiles(files).Digest }
	base := d(File{"a.yaml", []byte("x")}, File{"b.yaml", []byte("y")})
	if len(base) != 64 || base != d(File{"a.yaml", []byte("x")}, File{"b.yaml", []byte("y")}) {
		t.Errorf("digest %q is not stable", base)
	}
	for name, other := range map[string]string{
		"content": d(File{"a.yaml", []byte("x")}, File{"b.yaml", []byte("z")}),
		"name":    d(File{"a.yaml", []byte("x")}, File{"c.yaml", []byte("y")}),
		"cut":     d(File{"a.yaml", []byte("xb.yamly")}),
	} {
		if other == base {
			t.Errorf("another %s has the same digest", name)
		}
	}
}

// A few lines of anchors must not become gigabytes.
func TestAnchorBomb(t *testing.T) {
	var b strings.Builder
	b.WriteString("a0: &a0 {x: 1}\n")
	for i := range 40 {
		n, m := string(rune('A'+i)), string(rune('A'+i-1))
		if i == 0 {
			m = "a0"
		}
		b.WriteString("k" + n + ": &" + n + " [*" + m + ", *" + m + ", *" + m + "]\n")
	}
	r := one(b.String())
	if r.OK() || !strings.Contains(r.String(), "once its anchors are followed") {
		t.Errorf("got %.500s", r)
	}
}

// A large file with many slips is not parsed again for ever: the first ones are reported.
func TestManySyntaxErrors(t *testing.T) {
	text := strings.Repeat("  key: [value, value, value]\n", 20_000)
	var b strings.Builder
	for i := range 30 {
		b.WriteString("j" + string(rune('a'+i%26)) + string(rune('a'+i/26)) + ":\n" + text[:len(text)/30] + "  bad: ]\n")
	}
	start := time.Now()
	r := one(b.String())
	if r.Counts.Errors < 10 {
		t.Errorf("%d errors", r.Counts.Errors)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestTooLarge(t *testing.T) {
	r := one(jobText("env: {A: '" + strings.Repeat("x", 100_000) + "'}"))
	if r.OK() || !strings.Contains(r.String(), "the job is too large") {
		t.Errorf("got %.500s", r)
	}
}

// The settings' relations, each broken once.
func TestSettingsRules(t *testing.T) {
	tests := []struct{ keys, want string }{
		{"heartbeat: 10ms", "out of range"},
		{"heartbeat: 5s, lost_after: 9s", "one heartbeat that is late"},
		{"start_window: 16m", "allowed is 100ms to 15m"},
		{"api_ws_port: 8889", "the wrappers have the port 8889 too"},
		{"machines_ws_port: 8888", "the API has the port 8888 too"},
		{"output_total: 1MiB", "at least 1.5 times output_limit"},
		{"history_age: 5m", "allowed is 1h to 3660d"},
		{"auth: off", "a boolean in YAML"},
		{"wrapper_identity: salt", "allowed: salt-key, token"},
		{"api_read: closed", "allowed: token, open"},
		{"elasticsearch: 'http://'", "not the address of a search server"},
		{"local_minions: [a, '']", "a text is wanted"},
	}
	for _, tt := range tests {
		r := one("saltpeter_config: {" + tt.keys + "}\n")
		if r.OK() || !strings.Contains(r.String(), tt.want) {
			t.Errorf("%s gives\n%swant %q", tt.keys, r, tt.want)
		}
	}
	r := one("saltpeter_config: {launcher: local, local_minions: [m1, m2], auth: none, api_read: open, heartbeat: 200ms, lost_after: 1s, " +
		"silence_to_ping: 300ms, ping_timeout: 300ms, start_window: 1s, default_wrapper_path: /w, history_age: 7d, history_runs: 10, " +
		"history_targets: 1000, output_total: 1GiB, feed_total: 64MiB, wrapper_identity: token, debug: on, resolve_retry: 2s}\n")
	if !r.OK() || len(r.Problems) > 0 {
		t.Errorf("good settings give\n%s", r)
	}
}
