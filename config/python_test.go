package config

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/syscollective/saltpeter"
)

// eachLine decodes every line of a JSON lines file.
func eachLine[T any](t *testing.T, name string, use func(T)) {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := 0
	for s := bufio.NewScanner(f); s.Scan(); lines++ {
		var v T
		if err := json.Unmarshal(s.Bytes(), &v); err != nil {
			t.Fatalf("%s: %v", s.Text(), err)
		}
		use(v)
	}
	if lines == 0 {
		t.Fatalf("%s holds nothing", name)
	}
}

// The vectors are what PyYAML 6.0.3's FullLoader made of each text, and Python's str() of that.
func TestScalarsAsPyYAML(t *testing.T) {
	types := map[kind]string{kindNull: "null", kindBool: "bool", kindInt: "int", kindFloat: "float", kindDate: "date", kindText: "str"}
	type vector struct{ Text, Type, Str string }
	eachLine(t, "pyyaml_scalars.jsonl", func(v vector) {
		got := value{scalar: resolve(v.Text), text: v.Text}
		if types[got.kind] != v.Type {
			t.Errorf("%q is %s, PyYAML says %s", v.Text, types[got.kind], v.Type)
			return
		}
		if s, _ := got.asText(); s != v.Str {
			t.Errorf("str of %q is %q, Python says %q", v.Text, s, v.Str)
		}
	})
}

// Merges, block scalars, keys and tags: the documents as Python's json writes them.
func TestDocumentsAsPyYAML(t *testing.T) {
	type vector struct{ YAML, JSON string }
	eachLine(t, "pyyaml_documents.jsonl", func(v vector) {
		var rep report
		src := newSource("x.yaml", v.YAML)
		got := newDecoder(src, &rep).decode(parse(src, &rep), "", 0).val.written()
		if len(rep.problems) > 0 {
			t.Errorf("%q: %v", v.YAML, rep.problems)
		}
		var want bytes.Buffer
		if err := json.Compact(&want, []byte(v.JSON)); err != nil {
			t.Fatal(err)
		}
		if string(got) != want.String() {
			t.Errorf("%q is\n%s, PyYAML says\n%s", v.YAML, got, want.String())
		}
	})
}

// The example of the Python program's README loads without a word, and means what it meant there.
func TestPythonExample(t *testing.T) {
	r := Load("testdata/python")
	if !r.OK() {
		t.Fatalf("errors:\n%s", r)
	}
	if got, want := r.Summary(), "3 jobs in 3 files: 1 note"; got != want {
		t.Errorf("summary %q, want %q", got, want)
	}
	job := jobOf(t, r, "example")
	want := saltpeter.Schedule{Sec: "0,15,30,45", Min: "*/2", Hour: "1-23", Dom: "*", Mon: "*", Dow: "*", Year: "*"}
	if job.Schedule != want || job.Group != "example" || job.User != "root" || job.Cwd != "/" || job.TargetType != "glob" {
		t.Errorf("example is %+v", job)
	}
	backup := jobOf(t, r, "backup")
	for name, want := range map[string]string{"DRY": "False", "LEVEL": "3", "RATIO": "1.5", "SINCE": "2025-01-01"} {
		if backup.Env[name] != want {
			t.Errorf("env %s is %q, want %q", name, backup.Env[name], want)
		}
	}
	if backup.Schedule.Min != "08" || backup.Schedule.Hour != "4" || backup.Targets[0] != "G@role:db and not db99" {
		t.Errorf("backup is %+v", backup)
	}
	if vacuum := jobOf(t, r, "vacuum"); !vacuum.AllowOverlap || vacuum.Schedule.Min != "10" || !vacuum.UseWrapper {
		t.Errorf("vacuum is %+v", vacuum)
	}
	if !r.Settings.APIWS || r.Settings.Elasticsearch != "http://es:9200" {
		t.Errorf("settings are %+v", r.Settings)
	}
	if m := r.Maintenance; m.Global || len(m.Machines) != 2 || m.Machines[0] != "server01.example.com" {
		t.Errorf("maintenance is %+v", m)
	}
}

func jobOf(t *testing.T, r *Result, name string) *saltpeter.Job {
	t.Helper()
	for _, j := range r.Jobs {
		if j.Name == name {
			return j
		}
	}
	t.Fatalf("no job %s in\n%s", name, r)
	return nil
}
