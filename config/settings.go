package config

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
)

// Limits that settings and jobs share.
const (
	maxGrace   = time.Hour
	maxMisfire = 7 * 24 * time.Hour
	minOutput  = 1 << 10
	maxOutput  = 256 << 20

	minPeriod  = 100 * time.Millisecond
	maxPeriod  = 15 * time.Minute
	minTotal   = 1 << 20
	minFeed    = 32 << 20 // two segments: the feed is dropped by segments, and never the newest
	maxTotal   = 1 << 40
	maxRecords = 10_000_000
)

// Defaults of the wrapper's keys. A site that starts the Python program's wrappers directly finds them where they were.
const (
	defaultWrapper  = "/usr/local/bin/sp_wrapper"
	pythonWrapper   = "/usr/local/bin/sp_wrapper.py"
	defaultLogLevel = "normal"
	defaultLogDir   = "/var/log/sp_wrapper"
)

// nodeOnly are the keys that differ from node to node.
var nodeOnly = []string{"name", "data_dir", "bind", "advertise", "join", "key_file", "socket", "node_file", "node_port", "gossip_port"}

// settings are the cluster's settings and the defaults that jobs take over.
type settings struct {
	saltpeter.Settings
	wrapperPath, wrapperLogLevel, wrapperLogDir, serverHost string
}

// readSettings reads saltpeter_config, merged over the files; m is nil where no file has it.
func readSettings(rep *report, m *value) *settings {
	s := &settings{Settings: saltpeter.DefaultSettings(), wrapperLogLevel: defaultLogLevel, wrapperLogDir: defaultLogDir}
	if m == nil {
		m = &value{scalar: scalar{kind: kindMap}}
	}
	r := settingsReader{newReader(rep, m, configKey), s}
	s.Written = m.written()
	r.hideSecrets()
	r.launcher()
	r.addresses()
	r.saltAPI()
	r.times()
	r.limits()
	r.sinks()
	s.wrapperPath = r.text("default_wrapper_path", "")
	s.wrapperLogLevel = r.text("default_wrapper_loglevel", s.wrapperLogLevel)
	s.wrapperLogDir = r.text("default_wrapper_logdir", s.wrapperLogDir)
	s.serverHost = r.text("default_saltpeter_server_host", "")
	r.unknown(func(f field) { r.unknownKey(f) })
	return s
}

type settingsReader struct {
	*reader
	s *settings
}

func (r settingsReader) launcher() {
	s := r.s
	s.Launcher = r.choice("launcher", saltpeter.LauncherSalt, saltpeter.LauncherLocal)
	s.LocalMinions = r.texts("local_minions", false)
	if f, ok := r.get("local_minions"); ok && s.Launcher != saltpeter.LauncherLocal {
		r.warn(f, "write launcher: local if this host is to play these machines", "has no effect with launcher: %s", s.Launcher)
	}
	if s.Launcher == saltpeter.LauncherLocal && len(s.LocalMinions) == 0 {
		s.LocalMinions = saltpeter.DefaultLocalMinions()
	}
	s.Auth = r.choice("auth", "token", "none")
	s.APIRead = r.choice("api_read", "token", "open")
	s.WrapperIdentity = r.choice("wrapper_identity", saltpeter.IdentitySaltKey, saltpeter.IdentityToken)
	s.Debug = r.flag("debug", s.Debug)
	s.LogDir = r.text("logdir", s.LogDir)
}

func (r settingsReader) addresses() {
	s := r.s
	s.APIWS = r.flag("api_ws", s.APIWS)
	s.APIPort = r.number("api_ws_port", s.APIPort, 1, 65535)
	s.WrapperPort = r.number("machines_ws_port", s.WrapperPort, 1, 65535)
	s.APIBind = r.address("api_ws_bind_addr", s.APIBind)
	s.WrapperBind = r.address("machines_ws_bind_addr", s.WrapperBind)
	if f, ok := r.get("machines_ws_port"); ok && s.APIPort == s.WrapperPort {
		r.fail(f, "give each a port of its own", "the API has the port %d too (api_ws_port)", s.APIPort)
	} else if f, ok := r.get("api_ws_port"); ok && s.APIPort == s.WrapperPort {
		r.fail(f, "give each a port of its own", "the wrappers have the port %d too (machines_ws_port)", s.APIPort)
	}
}

func (r settingsReader) address(key, fallback string) string {
	text := r.text(key, fallback)
	addr, err := parseAddress(text)
	if err != nil {
		f, _ := r.get(key)
		r.fail(f, "write such as 0.0.0.0, 127.0.0.1 or ::", "%v", err)
		return fallback
	}
	return addr
}

// parseAddress reads an address to listen on. Host names are refused, but for localhost: what they stand for may change.
func parseAddress(text string) (string, error) {
	text = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	if text == "localhost" {
		return "127.0.0.1", nil
	}
	if text == "" {
		return "0.0.0.0", nil // as in the Python program
	}
	a, err := netip.ParseAddr(text)
	if err != nil {
		return "", fmt.Errorf("%q is not an IP address", text)
	}
	return a.Unmap().String(), nil
}

func (r settingsReader) times() {
	s := r.s
	s.Heartbeat = r.duration("heartbeat", s.Heartbeat, minPeriod, maxPeriod)
	s.LostAfter = r.duration("lost_after", s.LostAfter, 2*minPeriod, 24*time.Hour)
	s.StartWindow = r.duration("start_window", s.StartWindow, minPeriod, maxPeriod)
	s.SilenceToPing = r.duration("silence_to_ping", s.SilenceToPing, minPeriod, maxPeriod)
	s.PingTimeout = r.duration("ping_timeout", s.PingTimeout, minPeriod, maxPeriod)
	s.ResolveRetry = r.duration("resolve_retry", s.ResolveRetry, 0, maxPeriod)
	s.MisfireGrace = r.duration("misfire_grace", s.MisfireGrace, 0, maxMisfire)
	s.KillGrace = r.duration("kill_grace", s.KillGrace, 0, maxGrace)
	if s.LostAfter < 2*s.Heartbeat {
		r.fail(r.either("lost_after", "heartbeat"), "make lost_after at least twice the heartbeat",
			"lost_after is %s and heartbeat %s: one heartbeat that is late would be a lost machine", showDuration(s.LostAfter), showDuration(s.Heartbeat))
	}
	if s.SilenceToPing+s.PingTimeout > s.StartWindow {
		r.warn(r.either("start_window", "silence_to_ping", "ping_timeout"), "make start_window at least silence_to_ping + ping_timeout",
			"a silent machine's start window (%s) ends before the ping's answer is waited for (%s)",
			showDuration(s.StartWindow), showDuration(s.SilenceToPing+s.PingTimeout))
	}
}

// either gives the first of some keys that is written.
func (r settingsReader) either(keys ...string) field {
	for _, k := range keys {
		if f, ok := r.get(k); ok {
			return f
		}
	}
	return field{name: keys[0], key: r.m, val: r.m}
}

func (r settingsReader) limits() {
	s := r.s
	s.OutputLimit = r.size("output_limit", s.OutputLimit, minOutput, maxOutput)
	s.HistoryAge = r.duration("history_age", s.HistoryAge, time.Hour, maxDuration)
	s.HistoryRuns = r.number("history_runs", s.HistoryRuns, 1, maxRecords)
	s.HistoryTargets = r.number("history_targets", s.HistoryTargets, 100, maxRecords)
	s.OutputTotal = r.size("output_total", s.OutputTotal, minTotal, maxTotal)
	s.FeedTotal = r.size("feed_total", s.FeedTotal, minFeed, maxTotal)
	// A machine may store its limit and half of it again.
	if most := s.OutputLimit / 2 * 3; s.OutputTotal < most {
		r.fail(r.either("output_total", "output_limit"), "make output_total at least 1.5 times output_limit",
			"output_total is %s: one machine may store %d bytes", showSize(s.OutputTotal), most)
	}
}

func (r settingsReader) sinks() {
	s := r.s
	s.Elasticsearch = r.url("elasticsearch")
	s.Opensearch = r.url("opensearch")
	s.ElasticsearchIndex = r.index("elasticsearch_index", s.ElasticsearchIndex)
	s.OpensearchIndex = r.index("opensearch_index", s.OpensearchIndex)
}

func (r settingsReader) url(key string) string {
	text := r.text(key, "")
	if err := checkURL(text); err != nil {
		f, _ := r.get(key)
		r.fail(f, "write such as https://es.example:9200", "%v", err)
		return ""
	}
	return text
}

// checkURL accepts http and https addresses, and host:port as the Python program's clients did.
func checkURL(text string) error {
	if text == "" {
		return nil
	}
	full := text
	if !strings.Contains(text, "://") {
		full = "http://" + text
	}
	u, err := url.Parse(full)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("not the address of a search server") // without the text: it may hold a password
	}
	return nil
}

func (r settingsReader) index(key, fallback string) string {
	text := r.text(key, fallback)
	if err := checkIndex(text); err != nil {
		f, _ := r.get(key)
		r.fail(f, "write lower-case letters, digits, - and _", "%v", err)
		return fallback
	}
	return text
}

// checkIndex refuses what search servers refuse in the name of an index.
func checkIndex(name string) error {
	if name == "" || strings.ToLower(name) != name || strings.ContainsAny(name, `\/*?"<>| ,#:`) || strings.ContainsAny(name[:1], "-_+.") || len(name) > 200 {
		return fmt.Errorf("%q can't name an index", name)
	}
	return nil
}

// unknownKey reports a key of saltpeter_config that is not known: it is strict, because a slip in it would change the whole cluster.
func (r settingsReader) unknownKey(f field) {
	for _, k := range nodeOnly {
		if f.name == k {
			r.errorf(f.key.at(), r.inner(f.name), fmt.Sprintf("write %s in %s, or use --%s or %s on each node",
				f.name, DefaultNodeFile, strings.ReplaceAll(f.name, "_", "-"), envName(f.name)),
				"%s differs from node to node and can't stand in files for the whole cluster", f.name)
			return
		}
	}
	known := make([]string, 0, len(r.used))
	for k := range r.used {
		known = append(known, k)
	}
	r.errorf(f.key.at(), r.inner(f.name), unknownHint(f.name, known), "%s is not a setting", f.name)
}

// unknownHint suggests a known key, or lists them where they are few.
func unknownHint(name string, known []string) string {
	slices.Sort(known)
	if near := didYouMean(strings.ToLower(name), known); near != "" {
		return "did you mean " + near + "?"
	}
	if len(known) <= 5 {
		return "known: " + strings.Join(known, ", ")
	}
	return "leave it out"
}

// readMaintenance reads saltpeter_maintenance of all files: global is on if any says so, the machines are united.
func readMaintenance(rep *report, sections []field) saltpeter.FileMaintenance {
	var out saltpeter.FileMaintenance
	for _, f := range sections {
		r := newReader(rep, f.val, maintenanceKey)
		if r.flag("global", false) {
			out.Global = true
		}
		out.Machines = append(out.Machines, r.texts("machines", false)...)
		r.unknown(func(f field) {
			r.errorf(f.key.at(), r.inner(f.name), unknownHint(f.name, []string{"global", "machines"}), "%s is not a key of %s", f.name, maintenanceKey)
		})
	}
	out.Machines = uniqueSorted(out.Machines)
	return out
}
