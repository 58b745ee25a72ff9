package backup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

var update = flag.Bool("update", false, "write testdata")

var example = About{Cluster: "c1", Epoch: 2, Index: 7, Term: 3, Created: 1_790_000_000_000, Node: "sp-1", Program: "1.0", Jobs: 2, Runs: 3, Targets: 4, Output: true}

func sample(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, example)
	for seq := range uint64(5) {
		if err := w.Frame(Frame{Run: 1, Target: 2, Seq: seq + 1, Data: bytes.Repeat([]byte{byte(seq)}, 40_000)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Frame(Frame{Run: 1, Target: 3, Seq: 9, Skip: true, Skipped: 77}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte("record"), 50_000)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	var record []byte
	var frames []Frame
	about, totals, err := Read(bytes.NewReader(sample(t)), func(k Kind, body []byte) error {
		if len(body) >= MaxPart {
			t.Errorf("a part of %d bytes", len(body))
		}
		if k == KindRecord {
			record = append(record, body...)
			return nil
		}
		list, err := DecodeFrames(body)
		frames = append(frames, list...)
		return err
	})
	if err != nil || about != example {
		t.Fatal(about, err)
	}
	if !bytes.Equal(record, bytes.Repeat([]byte("record"), 50_000)) || len(frames) != 6 || frames[5].Skipped != 77 || len(frames[4].Data) != 40_000 {
		t.Fatalf("%d bytes of record, %d frames", len(record), len(frames))
	}
	if totals.Frames != 6 || totals.Output != 200_000 || totals.Record != 300_000 || len(totals.SHA256) != 64 {
		t.Fatalf("%+v", totals)
	}
	if d, err := Describe(bytes.NewReader(sample(t))); err != nil || d != example {
		t.Fatal(d, err)
	}
}

// TestDamage: whatever bit is flipped, wherever the file is cut, it is noticed.
func TestDamage(t *testing.T) {
	good := sample(t)
	for n := 0; n < len(good); n += 1 + n%977 {
		for what, b := range map[string][]byte{"cut": good[:n], "flipped": flip(good, n)} {
			_, _, err := Read(bytes.NewReader(b), nil)
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrForeign) && !errors.Is(err, ErrNewer) {
				t.Fatalf("%s at %d: %v", what, n, err)
			}
		}
	}
	if _, _, err := Read(bytes.NewReader(append(slices.Clone(good), 0)), nil); !errors.Is(err, ErrDamaged) {
		t.Fatalf("longer: %v", err)
	}
	newer := slices.Clone(good)
	newer[len(magic)] = version + 1
	if _, _, err := Read(bytes.NewReader(newer), nil); !errors.Is(err, ErrNewer) {
		t.Fatalf("newer: %v", err)
	}
	for _, b := range [][]byte{nil, []byte("saltpeter snapshot\n\x01"), make([]byte, 4096)} {
		if _, _, err := Read(bytes.NewReader(b), nil); !errors.Is(err, ErrForeign) {
			t.Fatalf("foreign: %v", err)
		}
	}
}

func flip(b []byte, n int) []byte {
	b = slices.Clone(b)
	b[n] ^= 1 << (n % 8)
	return b
}

func TestErrorsOfOthersArePassedOn(t *testing.T) {
	mine := errors.New("mine")
	if _, _, err := Read(bytes.NewReader(sample(t)), func(Kind, []byte) error { return mine }); !errors.Is(err, mine) {
		t.Fatal(err)
	}
	if _, _, err := Read(io.MultiReader(bytes.NewReader(sample(t)[:1000]), failing{mine}), nil); !errors.Is(err, mine) {
		t.Fatal(err)
	}
	full := NewWriter(failing{mine}, example)
	_, _ = full.Write(make([]byte, 1<<20))
	if _, err := full.Close(); !errors.Is(err, mine) {
		t.Fatal(err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error)  { return 0, f.err }
func (f failing) Write([]byte) (int, error) { return 0, f.err }

// TestOldFormats: a file of each released format stays readable.
func TestOldFormats(t *testing.T) {
	path := filepath.Join("testdata", "backup-v1.spbackup")
	if *update {
		if err := os.WriteFile(path, small(t), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	about, totals, err := Read(bytes.NewReader(b), nil)
	if err != nil || about != example || totals.Frames != 1 || totals.Record != 6 {
		t.Fatal(about, totals, err)
	}
}

func small(t testing.TB) []byte {
	var b bytes.Buffer
	w := NewWriter(&b, example)
	_ = w.Frame(Frame{Run: 1, Target: 2, Seq: 1, Data: []byte("output")})
	_, _ = w.Write([]byte("record"))
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// FuzzRead: no input makes the reader panic, and none that it did not write is taken for whole.
func FuzzRead(f *testing.F) {
	f.Add(small(f))
	f.Add([]byte(magic))
	f.Add(binary.AppendUvarint(append([]byte(magic), version), 1<<40))
	f.Fuzz(func(t *testing.T, b []byte) {
		parts := 0
		_, totals, err := Read(bytes.NewReader(b), func(Kind, []byte) error { parts++; return nil })
		if err == nil && totals.Parts != parts {
			t.Fatalf("%d parts of %d", parts, totals.Parts)
		}
	})
}
