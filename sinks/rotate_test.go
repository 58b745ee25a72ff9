package sinks

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
)

// rotations are what logrotate and people do to a log, and what the files then hold.
var rotations = []struct {
	name string
	do   func(path string) error
	// old is the name of the file that keeps the earlier records, empty if none does.
	old string
	// kept says that the earlier records stay in place.
	kept bool
}{
	{"rename", func(p string) error { return os.Rename(p, p+".1") }, ".1", false},
	{"rename and create", func(p string) error {
		return errors.Join(os.Rename(p, p+".1"), os.WriteFile(p, nil, 0o640))
	}, ".1", false},
	{"copytruncate", func(p string) error {
		b, err := os.ReadFile(p)
		return errors.Join(err, os.WriteFile(p+".1", b, 0o640), os.Truncate(p, 0))
	}, ".1", false},
	{"remove", os.Remove, "", false},
	{"remove the directory", func(p string) error { return os.RemoveAll(filepath.Dir(p)) }, "", false},
	{"write by hand", func(p string) error { return appendTo(p, "by hand\n") }, "", true},
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, text)
	return errors.Join(err, f.Close())
}

func TestRotateBetweenBatches(t *testing.T) {
	for _, tt := range rotations {
		t.Run(tt.name, func(t *testing.T) {
			n, l := newLogs(t)
			path := filepath.Join(n.dir, "a.log")
			n.add(claimed("a"))
			drain(t, l)
			if err := tt.do(path); err != nil {
				t.Fatal(err)
			}
			n.add(finished("a"))
			drain(t, l)
			checkRotated(t, n, path, tt.old, tt.kept, startLine("a"), endLine("a"))
		})
	}
}

func checkRotated(t *testing.T, n *node, path, old string, kept bool, before, after string) {
	t.Helper()
	if kept {
		before, after = "", before+"by hand\n"+after
	}
	wantLog(t, n, "a", after)
	if old == "" {
		return
	}
	if b, err := os.ReadFile(path + old); err != nil || string(b) != before {
		t.Errorf("rotated file: %q, %v; want %q", b, err, before)
	}
}

// hookDisk calls a function before each flush looks at its file.
type hookDisk struct {
	osDisk
	stats  func() error
	opened func(logFile) logFile
}

func (d *hookDisk) stat(path string) (fileID, int64, error) {
	if err := d.stats(); err != nil {
		return fileID{}, 0, err
	}
	return d.osDisk.stat(path)
}

func (d *hookDisk) open(path string, create bool) (logFile, error) {
	f, err := d.osDisk.open(path, create)
	if err == nil && d.opened != nil {
		f = d.opened(f)
	}
	return f, err
}

// TestRotateInBatch rotates in the midst of a batch, between two records that are written one after the other; then the
// process is killed at the end of the batch, and what was declared must still be enough to mend the new file.
func TestRotateInBatch(t *testing.T) {
	for _, tt := range rotations {
		for _, killed := range []bool{false, true} {
			t.Run(tt.name+map[bool]string{true: ", killed"}[killed], func(t *testing.T) {
				n, l := newLogs(t)
				path := filepath.Join(n.dir, "a.log")
				looks := 0
				l.disk = &hookDisk{stats: func() error {
					switch looks++; {
					case looks == 2:
						return tt.do(path)
					case looks == 3 && killed:
						return errDead
					}
					return nil
				}}
				l.bounds.flush = 1 // every write is a flush
				n.add(claimed("a"), finished("a"), finished("a"))
				_, err := l.step(t.Context())
				if killed != (err != nil) {
					t.Fatalf("step: %v", err)
				}
				if looks < 3 {
					t.Fatalf("%d looks", looks)
				}
				after := endLine("a") + endLine("a")
				if !killed {
					checkRotated(t, n, path, tt.old, tt.kept, startLine("a"), after)
					return
				}
				drain(t, n.sink())
				// The rotated file keeps what it has; all is written again to the present one, cut to what others left.
				want := startLine("a") + after
				if tt.kept {
					want = startLine("a") + "by hand\n" + want
				}
				wantLog(t, n, "a", want)
			})
		}
	}
}

// TestRecordNotSplit: a long record stays in the file in which it began.
func TestRecordNotSplit(t *testing.T) {
	n, l := newLogs(t)
	path := filepath.Join(n.dir, "a.log")
	ref := saltpeter.TargetRef{Run: 1}
	n.outputs[ref] = strings.Repeat("line\n", 100_000)
	looks := 0
	l.disk = &hookDisk{stats: func() error {
		if looks++; looks == 2 {
			return os.Rename(path, path+".1")
		}
		return nil
	}}
	result := saltpeter.Event{Type: saltpeter.EventMachineResult, Job: "a", Run: "a_1", Machine: "m", Ref: ref, State: "ok", Millis: t0}
	n.add(claimed("a"), result, result, finished("a"))
	drain(t, l)
	record := "########## m from a_1 ################\n**** Exit Code 0 ******\n" + n.outputs[ref] +
		"\n####### END m from a_1 at 2026-11-23 04:26:08+00:00 #########\n"
	old, err := os.ReadFile(path + ".1")
	if err != nil {
		t.Fatal(err)
	}
	now := readLog(t, n, "a")
	if string(old)+now != startLine("a")+record+record+endLine("a") {
		t.Error("the two files together are not the records")
	}
	if !strings.HasSuffix(string(old), " #########\n") || now == "" {
		t.Errorf("a record is split between files: the first ends in %q", old[max(0, len(old)-80):])
	}
}
