package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
)

const (
	// defaultTimeout is the Python program's.
	defaultTimeout = time.Hour
	// maxDefinition bounds an encoded definition in bytes: it travels in one entry of the replicated log.
	maxDefinition = 192 << 10
	maxMachines   = 1_000_000
)

// targetTypes are the ways of naming machines that Salt knows, the default first.
var targetTypes = []string{"glob", "pcre", "list", "grain", "grain_pcre", "pillar", "pillar_pcre", "nodegroup", "range", "compound", "ipcidr"}

// jobKeys are all keys that a job knows, for "did you mean".
var jobKeys = append([]string{
	"schedule", "timezone", "day_match", "command", "user", "cwd", "env", "targets", "target_type", "number_of_targets", "batch_size",
	"timeout", "soft_timeout", "hard_timeout", "kill_grace", "misfire_grace", "output_limit", "allow_overlap", "lockfile",
	"wait_for_children", "use_wrapper", "start", "wrapper_path", "wrapper_loglevel", "wrapper_logdir", "saltpeter_server_host", "group", "utc",
}, fieldNames...)

// jobReader reads one job.
type jobReader struct {
	*reader
	job *saltpeter.Job
}

// readJob gives the complete definition of a job. What is wrong is reported, and then the result is not meant for use.
func readJob(rep *report, f field, settings *settings, c *compiler) *saltpeter.Job {
	at := f.key.at()
	r := jobReader{newReader(rep, f.val, f.name), &saltpeter.Job{
		Name: f.name, Group: stem(at.src.name), Source: fmt.Sprintf("%s:%d", at.src.name, at.line), Written: f.val.written(),
	}}
	r.job.Schedule = readSchedule(r.reader, c)
	r.command()
	r.targets()
	r.limits(settings)
	r.overlap()
	r.start(settings)
	r.inherited()
	r.unknown(r.unknownKey)
	r.checkSize(f)
	return r.job
}

// stem gives the group that a file's jobs are in: its name without the ending.
func stem(file string) string { return strings.TrimSuffix(file, ".yaml") }

func (r jobReader) command() {
	r.job.Command = r.text("command", "")
	if f, ok := r.get("command"); !ok || (f.val.kind == kindText && strings.TrimSpace(f.val.text) == "") {
		r.missing("command", "write command: 'what to run'")
	}
	r.job.User = r.text("user", "")
	r.job.Cwd = r.text("cwd", "")
	r.env()
}

// missing reports a required key at the key if it is written, else at the job.
func (r jobReader) missing(key, hint string) {
	if f, ok := r.m.field(key); ok {
		r.fail(f, hint, "is empty")
		return
	}
	r.errorf(r.m.at(), r.path, hint, "%s is missing", key)
}

// env reads the environment. Values become texts as Python's str() makes them.
func (r jobReader) env() {
	f, ok := r.get("env")
	if !ok {
		return
	}
	if f.val.kind != kindMap {
		r.fail(f, "write env: {NAME: value}", "is %s, a mapping is wanted", f.val.described())
		return
	}
	r.job.Env = make(map[string]string, len(f.val.fields))
	for _, e := range f.val.fields {
		r.envValue(field{"env." + e.name, e.key, e.val}, e.key)
	}
}

func (r jobReader) envValue(e field, key *value) {
	name, _ := key.asText()
	text, ok := e.val.asText()
	switch {
	case name == "" || strings.ContainsAny(name, "=\x00"):
		r.errorf(key.at(), r.inner(e.name), "write a name without =", "%q can't name a variable", name)
	case !ok:
		r.fail(e, "write a text", "is %s, a text is wanted", e.val.kind)
	case strings.ContainsRune(text, 0):
		r.fail(e, "leave it out", "holds a NUL character")
	case e.val.kind == kindNull:
		r.warn(e, `write "" for an empty value`, `is empty in YAML: the command gets "None", as before`)
	default:
		r.surprise(e)
	}
	r.job.Env[name] = text
}

func (r jobReader) targets() {
	j := r.job
	j.TargetType = r.choice("target_type", targetTypes...)
	j.NumberOfTargets = r.number("number_of_targets", 0, 0, maxMachines)
	r.batch()
	f, ok := r.get("targets")
	if !ok {
		r.missing("targets", "write targets: '*' for all machines")
		return
	}
	if f.val.kind == kindList {
		j.Targets = r.texts("targets", false)
		r.listOf(f)
		return
	}
	if text := strings.TrimSpace(r.text("targets", "")); text != "" {
		j.Targets = []string{text}
	}
	if j.TargetType == "list" {
		j.Targets = cutList(j.Targets)
	}
	if len(j.Targets) == 0 && f.val.kind == kindText {
		r.fail(f, "write targets: '*' for all machines", "is empty")
	}
}

// listOf says what a YAML list of targets is under each target type.
func (r jobReader) listOf(f field) {
	switch {
	case len(f.val.list) == 0:
		r.fail(f, "write targets: '*' with target_type: glob for all machines", "is an empty list")
	case r.job.TargetType == "list" || len(r.job.Targets) < 2:
	case r.job.TargetType == "compound":
		r.job.Targets = []string{strings.Join(r.job.Targets, " ")}
	default:
		r.fail(f, "write target_type: list, or one expression", "is a list, which target_type: %s does not take", r.job.TargetType)
	}
}

// cutList cuts "a,b" into its machines, as Salt does.
func cutList(targets []string) []string {
	var out []string
	for _, t := range targets {
		for m := range strings.SplitSeq(t, ",") {
			if m = strings.TrimSpace(m); m != "" {
				out = append(out, m)
			}
		}
	}
	return out
}

// batch reads batch_size: a number of machines or "10%".
func (r jobReader) batch() {
	f, ok := r.get("batch_size")
	if !ok {
		return
	}
	percent, isPercent := strings.CutSuffix(strings.TrimSpace(f.val.text), "%")
	if f.val.kind != kindText || !isPercent {
		r.job.Batch.Size = r.number("batch_size", 0, 0, maxMachines)
		return
	}
	n, ok := (&value{scalar: scalar{kind: kindText}, text: strings.TrimSpace(percent)}).asInt()
	if !ok || n < 1 || n > 100 {
		r.fail(f, "allowed is 1% to 100%, or a number of machines", "is %s", f.val.described())
		return
	}
	r.job.Batch = saltpeter.Batch{Size: int(n), Percent: true}
}

// limits reads the durations and the limit of the output.
func (r jobReader) limits(s *settings) {
	j := r.job
	j.Timeout = r.timeout()
	j.SoftTimeout = r.duration("soft_timeout", 0, 0, maxDuration)
	if f, ok := r.get("soft_timeout"); ok && j.Timeout > 0 && j.SoftTimeout >= j.Timeout {
		r.warn(f, "make it shorter than the timeout", "is never reached: the timeout is %s", showDuration(j.Timeout))
	}
	j.KillGrace = r.duration("kill_grace", s.KillGrace, 0, maxGrace)
	j.MisfireGrace = r.duration("misfire_grace", s.MisfireGrace, 0, maxMisfire)
	j.OutputLimit = r.size("output_limit", s.OutputLimit, minOutput, maxOutput)
	j.WaitForChildren = r.flag("wait_for_children", true)
}

// timeout gives timeout, or hard_timeout where that is absent.
func (r jobReader) timeout() time.Duration {
	hard := r.duration("hard_timeout", defaultTimeout, 0, maxDuration)
	f, isHard := r.get("hard_timeout")
	if _, ok := r.get("timeout"); ok {
		if isHard {
			r.warn(f, "leave one of them out", "hard_timeout has no effect beside timeout")
		}
		return r.duration("timeout", defaultTimeout, 0, maxDuration)
	}
	if isHard {
		what := fmt.Sprintf("will kill after %s", showDuration(hard))
		if hard == 0 {
			what = "lets the command run without limit"
		}
		r.warn(f, fmt.Sprintf("write timeout: %s to confirm", f.val.text),
			"hard_timeout: %s %s (the Python program of 2025-12 ignored it and killed after 3600 s)", f.val.text, what)
	}
	return hard
}

// overlap reads allow_overlap, which the one sentence turns on and nothing else.
func (r jobReader) overlap() {
	r.job.Lockfile = r.text("lockfile", "")
	if f, ok := r.get("lockfile"); ok && !strings.HasPrefix(r.job.Lockfile, "/") {
		r.warn(f, "write an absolute path", "is relative: the machine resolves it where its wrapper happens to run")
	}
	f, ok := r.get("allow_overlap")
	if !ok {
		return
	}
	text, _ := f.val.asText()
	r.job.AllowOverlap = f.val.kind == kindText && text == saltpeter.OverlapSentence
	if !r.job.AllowOverlap && text != "False" && text != "0" && text != "" {
		r.warn(f, fmt.Sprintf("write allow_overlap: '%s'", saltpeter.OverlapSentence), "overlap stays off: only the exact sentence turns it on")
	}
}

// start reads how the command gets to the machine.
func (r jobReader) start(s *settings) {
	j := r.job
	j.UseWrapper = r.flag("use_wrapper", true)
	j.Start = r.choice("start", saltpeter.StartClaim, saltpeter.StartDirect)
	if f, ok := r.get("start"); !j.UseWrapper {
		if ok && j.Start == saltpeter.StartClaim {
			r.fail(f, "leave use_wrapper: false out, or write start: direct", "start: claim needs the wrapper")
		}
		j.Start = saltpeter.StartDirect
		if e, ok := r.get("env"); ok {
			r.warn(e, "put the variables into the command", "is not passed to the command with use_wrapper: false, as before")
		}
	}
	path := s.wrapperPath
	if path == "" {
		path = defaultWrapper
		if j.Start == saltpeter.StartDirect {
			path = pythonWrapper
		}
	}
	j.WrapperPath = r.text("wrapper_path", path)
	j.WrapperLogLevel = r.text("wrapper_loglevel", s.wrapperLogLevel)
	j.WrapperLogDir = r.text("wrapper_logdir", s.wrapperLogDir)
	j.ServerHost = r.text("saltpeter_server_host", s.serverHost)
}

// inherited reads the keys that never did what they say.
func (r jobReader) inherited() {
	if f, ok := r.get("utc"); ok {
		r.warn(f, "leave it out; write timezone: Europe/Bucharest for local time", "has no effect: schedules are in UTC, as they always were")
	}
	if f, ok := r.get("group"); ok {
		r.job.Group = r.text("group", r.job.Group)
		if err := saltpeter.CheckJobName(r.job.Group); err != nil {
			r.fail(f, "", "not a name for a group: %v", err)
		}
		r.warn(f, "", "the group is %s (the Python program always took the file's name, %s)", r.job.Group, stem(r.m.src.name))
	}
}

func (r jobReader) unknownKey(f field) {
	hint := "it is kept and shown, and does nothing"
	if near := didYouMean(strings.ToLower(f.name), jobKeys); near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	r.warnf(f.key.at(), r.inner(f.name), hint, "%s is not a key of a job", f.name)
}

// checkSize refuses a definition that does not fit into an entry. Every text of it stands in Written too, and JSON makes six bytes
// of one at most: most jobs are so far below that nothing has to be encoded.
func (r jobReader) checkSize(f field) {
	if 2*6*len(r.job.Written) < maxDefinition/2 {
		return
	}
	encoded, err := r.job.Encode()
	if err != nil {
		r.errorf(f.key.at(), r.path, "", "%v", err)
		return
	}
	if len(encoded) > maxDefinition {
		r.errorf(f.key.at(), r.path, "move the text into a script on the machines", "the job is too large: %d bytes (at most %d)", len(encoded), maxDefinition)
	}
}
