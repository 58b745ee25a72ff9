package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/cronexpr"
)

// Whatever a file holds, Load comes back, says where, and lets no job through that can't be scheduled or stored.
func FuzzLoad(f *testing.F) {
	paths, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte("j: &j\n  <<: *j\n  schedule: '@daily'\n"))
	f.Add([]byte("a: [\n  *\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := LoadFiles([]File{{"x.yaml", data}})
		for _, p := range r.Problems {
			if p.Message == "" || p.Level == "" || (p.Source != "" && (p.Col < 1 || p.Col > len(p.Source)+1)) {
				t.Errorf("%+v has no place", p)
			}
		}
		_ = r.String()
		if r.OK() {
			for _, j := range r.Jobs {
				checkJob(t, j)
			}
		}
	})
}

// checkJob holds a job of a good result against what the rest of the program relies on.
func checkJob(t *testing.T, j *saltpeter.Job) {
	t.Helper()
	loc, err := cronexpr.LoadLocation(j.Schedule.Timezone)
	if err != nil {
		t.Errorf("%s: %v", j.Name, err)
	}
	s := j.Schedule
	fields := cronexpr.Fields{Sec: s.Sec, Min: s.Min, Hour: s.Hour, Dom: s.Dom, Mon: s.Mon, Dow: s.Dow, Year: s.Year}
	if _, err := cronexpr.Compile(fields, cronexpr.Options{Location: loc, Or: s.MatchAny}); err != nil {
		t.Errorf("%s: %v", j.Name, err)
	}
	if err := saltpeter.CheckJobName(j.Name); err != nil {
		t.Error(err)
	}
	b, err := j.Encode()
	if err != nil || !json.Valid(j.Written) {
		t.Errorf("%s: %v, written %s", j.Name, err, j.Written)
	}
	if back, err := saltpeter.DecodeJob(b); err != nil || back.Name != j.Name {
		t.Errorf("%s: %v", j.Name, err)
	}
	if strings.TrimSpace(j.Command) == "" || len(j.Targets) == 0 {
		t.Errorf("%s has no command or no targets", j.Name)
	}
}

// BenchmarkLoad loads 10,000 jobs in 100 files.
func BenchmarkLoad(b *testing.B) {
	files := make([]File, 100)
	size := 0
	for i := range files {
		var text strings.Builder
		for k := range 100 {
			fmt.Fprintf(&text, "job_%d_%d:\n  min: '%d'\n  hour: '*/2'\n  dom: '*'\n  mon: '*'\n  dow: 1-5\n  command: '/usr/bin/work --part %d'\n"+
				"  user: root\n  cwd: /\n  targets: 'web%d*'\n  target_type: glob\n  timeout: 600\n  env: {PART: %d, MODE: full}\n", i, k, k%60, k, i, k)
		}
		files[i] = File{fmt.Sprintf("f%03d.yaml", i), []byte(text.String())}
		size += text.Len()
	}
	b.SetBytes(int64(size))
	b.ReportAllocs()
	for b.Loop() {
		if r := LoadFiles(files); !r.OK() || len(r.Jobs) != 10_000 {
			b.Fatal(r.Summary())
		}
	}
}
