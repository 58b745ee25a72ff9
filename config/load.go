package config

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/syscollective/saltpeter"
)

// The two top-level keys that are not jobs.
const (
	configKey      = "saltpeter_config"
	maintenanceKey = "saltpeter_maintenance"
)

// maxFile bounds one file, in bytes.
const maxFile = 32 << 20

// File is one file of the configuration directory: its name in the directory and what it holds.
type File struct {
	Name string
	Data []byte
}

// Result is what the files of a directory say, as a whole.
type Result struct {
	Jobs        []*saltpeter.Job // those without errors, sorted by name
	Settings    saltpeter.Settings
	Maintenance saltpeter.FileMaintenance
	Problems    []saltpeter.Problem // in the order of the files
	Digest      string              // hexadecimal SHA-256 over names and contents; empty where the directory can't be read
	Files       []string            // names, sorted
	Counts      Counts

	targets map[string]place // of the jobs' targets, by name
}

// Counts are the figures of the summary.
type Counts struct {
	Jobs     int // all that the files define, with errors or without
	Files    int
	Errors   int
	Warnings int
	Notes    int
}

// OK reports whether the files may go into force.
func (r *Result) OK() bool { return r.Counts.Errors == 0 }

// AddTarget adds a problem that somebody else has found with a job's targets, at their place.
func (r *Result) AddTarget(job, level, message, hint string) {
	var more report
	more.add(level, r.targets[job], join(job, "targets"), hint, message)
	r.Problems = append(r.Problems, more.problems...)
	sortProblems(r.Problems)
	r.count()
}

// count counts the problems by level.
func (r *Result) count() {
	r.Counts.Errors = count(r.Problems, LevelError)
	r.Counts.Warnings = count(r.Problems, LevelWarning)
	r.Counts.Notes = count(r.Problems, LevelNote)
}

// Load reads every *.yaml directly in a directory. It always gives a Result; what is wrong is among its problems.
func Load(dir string) *Result {
	files, problems := ReadDir(dir)
	return loadFiles(files, problems)
}

// LoadFiles is Load for files that have been read already.
func LoadFiles(files []File) *Result { return loadFiles(files, nil) }

func loadFiles(files []File, problems []saltpeter.Problem) *Result {
	l := &loader{compiler: newCompiler(), first: make(map[string]field)}
	for _, p := range problems {
		l.addProblem(p)
	}
	for _, f := range files {
		l.file(f)
	}
	r := l.result()
	for _, f := range files {
		r.Files = append(r.Files, f.Name)
	}
	unreadable := count(problems, LevelError) > 0
	if len(files) > 0 && !unreadable && !l.content {
		r.Problems = append(r.Problems, saltpeter.Problem{File: files[0].Name, Level: LevelError,
			Message: "none of the files holds anything", Hint: "write saltpeter_config: {} where no job is wanted"})
	}
	if !unreadable {
		r.Digest = digest(files)
	}
	sortProblems(r.Problems)
	r.Counts.Files = len(files)
	r.count()
	return r
}

// digest identifies the files: names and contents, each with its length.
func digest(files []File) string {
	h := sha256.New()
	put := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	for _, f := range files {
		put([]byte(f.Name))
		put(f.Data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// ReadDir reads every *.yaml directly in a directory, hidden ones included, sorted by name. A directory that can't be read or has
// none is an error among the problems.
func ReadDir(dir string) ([]File, []saltpeter.Problem) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, []saltpeter.Problem{{File: dir, Level: LevelError, Message: fmt.Sprintf("read directory: %v", cause(err)),
			Hint: "the configuration in force stays"}}
	}
	var files []File
	var problems []saltpeter.Problem
	for _, e := range entries {
		name := e.Name()
		switch {
		case isConfig(name):
			data, err := readFile(filepath.Join(dir, name))
			if err != nil {
				problems = append(problems, saltpeter.Problem{File: name, Level: LevelError, Message: fmt.Sprintf("read file: %v", cause(err))})
				continue
			}
			files = append(files, File{name, data})
		case strings.HasSuffix(name, ".yml"):
			problems = append(problems, saltpeter.Problem{File: name, Level: LevelWarning, Message: "is not read: only *.yaml is",
				Hint: "rename it to " + strings.TrimSuffix(name, ".yml") + ".yaml"})
		}
	}
	if len(files) == 0 && count(problems, LevelError) == 0 {
		problems = append(problems, saltpeter.Problem{File: dir, Level: LevelError, Message: "holds no *.yaml file",
			Hint: "the configuration in force stays; write a file with saltpeter_config: {} where no job is wanted"})
	}
	return files, problems
}

// isConfig reports whether a name is that of a configuration file.
func isConfig(name string) bool { return len(name) > len(".yaml") && strings.HasSuffix(name, ".yaml") }

// readFile reads a regular file of bounded size; reading a pipe would never end.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("more than %s", showSize(maxFile))
	}
	return data, err
}

func uniqueSorted(s []string) []string {
	slices.Sort(s)
	return slices.Compact(s)
}
