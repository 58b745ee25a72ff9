package config

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/syscollective/saltpeter"
)

// loader gathers what the files say, one after another.
type loader struct {
	report
	*compiler
	content     bool // some file holds something
	configs     []field
	maintenance []field
	jobs        []field
	first       map[string]field // of each job's name
}

// file takes in one file.
func (l *loader) file(f File) {
	src := newSource(f.Name, string(bytes.TrimPrefix(f.Data, []byte("\uFEFF"))))
	whole := place{src: src}
	if !utf8.ValidString(f.Name) {
		l.errorf(whole, "", "rename the file", "the file's name is not UTF-8")
		return
	}
	before := l.errors
	root := parse(src, &l.report)
	if root == nil || (root.Value == "" && len(root.Content) == 0 && root.Tag == "!!null") {
		if l.errors == before {
			l.notef(whole, "", "", "the file is empty")
		} else {
			l.content = true
		}
		return
	}
	l.content = true
	top := newDecoder(src, &l.report).decode(root, "", 0).val
	if top.kind != kindMap {
		l.errorf(top.at(), "", "write the name of a job, a colon, and its keys below", "the file is %s, a mapping of jobs is wanted", top.kind)
		return
	}
	for _, entry := range top.fields {
		l.entry(entry)
	}
}

// entry sorts a top-level entry.
func (l *loader) entry(f field) {
	special := f.name == configKey || f.name == maintenanceKey
	switch {
	case special && f.val.kind == kindNull:
	case f.val.kind != kindMap:
		l.errorf(f.at(), f.name, "indent its keys below it", "is %s, a mapping is wanted (the Python program dropped this whole file)", f.val.kind)
	case f.name == configKey:
		l.configs = append(l.configs, f)
	case f.name == maintenanceKey:
		l.maintenance = append(l.maintenance, f)
	case l.isSlip(f):
	case !isJob(f.val):
		l.template(f)
	case l.nameOK(f):
		l.jobs = append(l.jobs, f)
	}
}

// isSlip recognises a special key that is misspelt: as a job it would be ignored silently.
func (l *loader) isSlip(f field) bool {
	if isJob(f.val) || !strings.HasPrefix(f.name, "saltpeter") {
		return false
	}
	hint := "known: " + configKey + ", " + maintenanceKey
	if near := didYouMean(f.name, []string{configKey, maintenanceKey}); near != "" {
		hint = "did you mean " + near + "?"
	}
	l.errorf(f.key.at(), f.name, hint, "%s is neither a job nor a section", f.name)
	return true
}

// isJob reports whether a mapping is a job: the Python program took those with all five keys.
func isJob(m *value) bool {
	_, short := m.field("schedule")
	return short || len(missingFields(m)) == 0
}

func missingFields(m *value) []string {
	var missing []string
	for _, name := range requiredFields {
		if _, ok := m.field(name); !ok {
			missing = append(missing, name)
		}
	}
	return missing
}

// template says that a mapping is not a job: people keep anchors in such. One that has all that a job needs but a part of its
// schedule is more likely a slip.
func (l *loader) template(f field) {
	missing := missingFields(f.val)
	_, command := f.val.field("command")
	_, targets := f.val.field("targets")
	if command && targets && !strings.HasPrefix(f.name, ".") {
		l.warnf(f.key.at(), f.name, "add what is missing, or schedule:", "is not a job and is ignored, as before: %s missing", isAre(missing))
		return
	}
	l.notef(f.key.at(), f.name, "", "has no schedule and is no job (a template for anchors?)")
}

func isAre(names []string) string {
	if len(names) == 1 {
		return names[0] + " is"
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1] + " are"
}

// nameOK checks the name of a job and that no other file has it.
func (l *loader) nameOK(f field) bool {
	if f.key.kind != kindText {
		l.errorf(f.key.at(), f.name, fmt.Sprintf("write '%s':", f.key.text), "the job's name is %s in YAML, a text is wanted", f.key.kind)
		return false
	}
	if err := saltpeter.CheckJobName(f.name); err != nil {
		l.errorf(f.key.at(), f.name, "", "%v", err)
		return false
	}
	if other, ok := l.first[f.name]; ok {
		at := other.key.at()
		l.errorf(f.key.at(), f.name, "rename one of them", "the job is defined in %s:%d:%d too", at.src.name, at.line, at.col)
		return false
	}
	l.first[f.name] = f
	return true
}

// result reads settings, maintenance and jobs.
func (l *loader) result() *Result {
	s := readSettings(&l.report, l.mergedConfig())
	out := &Result{Settings: s.Settings, Maintenance: readMaintenance(&l.report, l.maintenance), targets: make(map[string]place, len(l.jobs))}
	for _, f := range l.jobs {
		before := l.errors
		job := readJob(&l.report, f, s, l.compiler)
		if l.errors == before {
			out.Jobs = append(out.Jobs, job)
			if targets, ok := f.val.field("targets"); ok {
				out.targets[job.Name] = targets.at()
			}
		}
	}
	slices.SortFunc(out.Jobs, func(a, b *saltpeter.Job) int { return strings.Compare(a.Name, b.Name) })
	out.Counts.Jobs = len(l.jobs)
	out.Problems = l.problems
	return out
}

// mergedConfig merges saltpeter_config over the files. One key with two values would depend on the order of the files.
func (l *loader) mergedConfig() *value {
	if len(l.configs) == 0 {
		return nil
	}
	merged := &value{scalar: scalar{kind: kindMap}, src: l.configs[0].val.src, line: l.configs[0].val.line, char: l.configs[0].val.char}
	for _, section := range l.configs {
		for _, f := range section.val.fields {
			other, ok := merged.field(f.name)
			if !ok {
				merged.fields = append(merged.fields, f)
				continue
			}
			if !bytes.Equal(other.val.written(), f.val.written()) {
				at := other.at()
				l.errorf(f.at(), join(configKey, f.name), "keep one of them",
					"%s has another value in %s:%d:%d (the Python program took either)", f.name, at.src.name, at.line, at.col)
			}
		}
	}
	return merged
}

// cause strips the path from an error of the file system: the problem names the file already.
func cause(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
