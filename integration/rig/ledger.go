package rig

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
)

// Output gives the bytes that a command writes: arbitrary, but the same for one instance and machine.
func Output(instance, machine string, size int) []byte {
	h := fnv.New64a()
	fmt.Fprintf(h, "%s %s", instance, machine)
	r := rand.New(rand.NewPCG(h.Sum64(), 1))
	out := make([]byte, size)
	for i := range out {
		out[i] = byte(r.Uint32())
	}
	return out
}

// line is one of a ledger.
type line struct {
	Job, instance, machine string
	pid, ppid              int
	nanos                  int64
	code                   int
	end                    bool
}

// execution is a command's life as the ledger has it.
type execution struct {
	Start line
	end   *line
}

// Key is what may be executed once.
type Key struct{ Instance, Machine string }

// ReadLedgers gives all executions. A line that can't be read is an error: they are written with one call and synced.
func ReadLedgers(dir string) (map[Key][]execution, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := make(map[Key][]execution)
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			return nil, err
		}
		for text := range bytes.Lines(b) {
			l, err := parseLine(string(text))
			if err != nil {
				return nil, fmt.Errorf("ledger %s: %w", f.Name(), err)
			}
			if err := enter(out, l); err != nil {
				return nil, fmt.Errorf("ledger %s: %w", f.Name(), err)
			}
		}
	}
	return out, nil
}

func parseLine(text string) (l line, err error) {
	var what string
	text = strings.TrimSuffix(text, "\n")
	n, err := fmt.Sscanf(text, "%s %s %s %s %d %d %d %d", &what, &l.Job, &l.instance, &l.machine, &l.pid, &l.ppid, &l.nanos, &l.code)
	if err != nil || n != 8 || what != "start" && what != "end" {
		return l, fmt.Errorf("line %q: %w", text, err)
	}
	l.end = what == "end"
	return l, nil
}

func enter(all map[Key][]execution, l line) error {
	k := Key{l.instance, l.machine}
	if !l.end {
		all[k] = append(all[k], execution{Start: l})
		return nil
	}
	for i := range all[k] {
		if e := &all[k][i]; e.Start.pid == l.pid && e.end == nil {
			e.end = &l
			return nil
		}
	}
	return fmt.Errorf("an end without a start: %+v", l)
}
