package config

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/syscollective/saltpeter"
)

// Levels of a saltpeter.Problem.
const (
	LevelError   = "error"   // the configuration does not go into force
	LevelWarning = "warning" // it does, but probably not as meant
	LevelNote    = "note"    // worth knowing
)

// report gathers problems. A line that several jobs share by an anchor is reported once.
type report struct {
	problems []saltpeter.Problem
	seen     map[seenKey]bool
	errors   int // all that were found, repeated ones included
}

type seenKey struct {
	file      string
	line, col int
	message   string
}

// add adds a problem at a place; p.length may be zero.
func (r *report) add(level string, p place, path, hint, message string) {
	problem := saltpeter.Problem{Line: p.line, Col: p.col, Len: p.length, Path: path, Level: level, Message: message, Hint: hint, Source: p.shown()}
	if p.src != nil {
		problem.File = p.src.name
	}
	r.addProblem(problem)
}

func (r *report) addProblem(p saltpeter.Problem) {
	if p.Level == LevelError {
		r.errors++
	}
	key := seenKey{p.File, p.Line, p.Col, p.Message}
	if r.seen[key] {
		return
	}
	if r.seen == nil {
		r.seen = make(map[seenKey]bool)
	}
	r.seen[key] = true
	r.problems = append(r.problems, p)
}

// errorf adds an error; hint may be empty.
func (r *report) errorf(p place, path, hint, format string, args ...any) {
	r.add(LevelError, p, path, hint, fmt.Sprintf(format, args...))
}

func (r *report) warnf(p place, path, hint, format string, args ...any) {
	r.add(LevelWarning, p, path, hint, fmt.Sprintf(format, args...))
}

func (r *report) notef(p place, path, hint, format string, args ...any) {
	r.add(LevelNote, p, path, hint, fmt.Sprintf(format, args...))
}

// count gives the number of problems of one level.
func count(problems []saltpeter.Problem, level string) int {
	n := 0
	for _, p := range problems {
		if p.Level == level {
			n++
		}
	}
	return n
}

// sortProblems brings them into the order of the files.
func sortProblems(problems []saltpeter.Problem) {
	slices.SortStableFunc(problems, func(a, b saltpeter.Problem) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
}
