package config

import (
	"testing"

	"github.com/syscollective/saltpeter"
)

func TestFormat(t *testing.T) {
	problems := []saltpeter.Problem{
		{File: "db.yaml", Line: 14, Col: 9, Len: 4, Path: "backup.min", Level: LevelError, Message: `"*/60" can never match`,
			Hint: `use min: 0 for "once an hour"`, Source: "  min: '*/60'"},
		{File: "a.yaml", Line: 2, Col: 7, Len: 4, Level: LevelWarning, Message: "tab and wide", Source: "\té: \"äö\""},
		{File: "b.yaml", Level: LevelNote, Message: "the file is empty", Hint: "remove it"},
		{File: "c.yaml", Line: 1, Col: 1, Len: 99, Level: LevelError, Message: "steers \x1b[31m the terminal", Source: "a: \x1b[2J"},
	}
	want := `db.yaml:14:9: error: backup.min: "*/60" can never match
   14 |   min: '*/60'
      |         ^^^^   use min: 0 for "once an hour"
a.yaml:2:7: warning: tab and wide
    2 | 	é: "äö"
      | 	    ^^
b.yaml: note: the file is empty (remove it)
c.yaml:1:1: error: steers �[31m the terminal
    1 | a: �[2J
      | ^^^^^^^
`
	if got := Format(problems); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestSummary(t *testing.T) {
	tests := []struct {
		counts Counts
		want   string
	}{
		{Counts{Jobs: 412, Files: 37, Errors: 2, Warnings: 1, Notes: 1}, "412 jobs in 37 files: 2 errors, 1 warning, 1 note"},
		{Counts{Jobs: 1, Files: 1}, "1 job in 1 file: no problems"},
		{Counts{Files: 2, Warnings: 2}, "0 jobs in 2 files: 2 warnings"},
	}
	for _, tt := range tests {
		if got := (&Result{Counts: tt.counts}).Summary(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestDidYouMean(t *testing.T) {
	for name, want := range map[string]string{
		"comand": "command", "taget_type": "target_type", "hours": "hour", "mni": "min", "notify": "", "x": "", "timout": "timeout",
	} {
		if got := didYouMean(name, jobKeys); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
