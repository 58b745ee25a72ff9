package rig

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
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

// Execution is a command's life as the ledger has it.
type Execution struct {
	Start line
	end   *line
}

// Key is what may be executed once.
type Key struct{ Instance, Machine string }

// ReadLedgers gives all executions. A line that can't be read is an error: they are written with one call and synced.
func ReadLedgers(dir string) (map[Key][]Execution, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := make(map[Key][]Execution)
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

func enter(all map[Key][]Execution, l line) error {
	k := Key{l.instance, l.machine}
	if !l.end {
		all[k] = append(all[k], Execution{Start: l})
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

// Running counts the commands of a job that have begun and not ended, by their own ledgers.
func (c *Cluster) Running(job string) (n int, err error) {
	all, err := ReadLedgers(c.LedgerDir())
	for _, starts := range all {
		for _, x := range starts {
			if x.Start.Job == job && x.end == nil {
				n++
			}
		}
	}
	return n, err
}

// Ended counts the commands of a job that ended between two instants, by their own ledger.
func (e *Evidence) Ended(job string, from, to time.Time) (n int) {
	for _, all := range e.ledger {
		for _, x := range all {
			if x.Start.Job == job && x.end != nil && x.end.nanos >= from.UnixNano() && x.end.nanos < to.UnixNano() {
				n++
			}
		}
	}
	return n
}

// Pause gives the longest time between two instants in which nothing was started, by the ledgers.
func (e *Evidence) Pause(from, to time.Time) (begin, end time.Time) {
	starts := []int64{from.UnixNano(), to.UnixNano()}
	for _, all := range e.ledger {
		for _, x := range all {
			if n := x.Start.nanos; n > from.UnixNano() && n < to.UnixNano() {
				starts = append(starts, n)
			}
		}
	}
	slices.Sort(starts)
	longest := 1
	for i := range starts {
		if i > 0 && starts[i]-starts[i-1] > starts[longest]-starts[longest-1] {
			longest = i
		}
	}
	return time.Unix(0, starts[longest-1]), time.Unix(0, starts[longest])
}
