package entry

import (
	"bytes"
	"errors"
	"testing"
)

func TestSplitGivesBackWhatWasAppended(t *testing.T) {
	long := bytes.Repeat([]byte{7}, 300)
	tests := map[string][][]byte{
		"none":          {},
		"one":           {[]byte("a")},
		"empty command": {{}, []byte("b"), {}},
		"long":          {long, []byte("x"), long},
	}
	for name, cmds := range tests {
		t.Run(name, func(t *testing.T) {
			data := Append(nil, nil)
			for _, cmd := range cmds {
				data = Append(data, cmd)
			}
			got, err := Split(data)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(cmds) {
				t.Fatalf("commands = %d, want %d", len(got), len(cmds))
			}
			for i := range cmds {
				if !bytes.Equal(got[i], cmds[i]) {
					t.Errorf("command %d = %q, want %q", i, got[i], cmds[i])
				}
			}
		})
	}
}

func TestSplitRefuses(t *testing.T) {
	tests := map[string][]byte{
		"nothing":          {},
		"unknown version":  {2, 1, 'a'},
		"cut command":      {Version, 3, 'a', 'b'},
		"cut length":       {Version, 0x80},
		"overlong length":  {Version, 0x81, 0x00, 'a'},
		"length too large": append([]byte{Version}, bytes.Repeat([]byte{0xff}, 10)...),
	}
	for name, data := range tests {
		t.Run(name, func(t *testing.T) {
			if cmds, err := Split(data); !errors.Is(err, ErrMalformed) {
				t.Fatalf("Split = %q, %v, want ErrMalformed", cmds, err)
			}
		})
	}
}

func TestSplitSlicesDoNotReachIntoTheNextCommand(t *testing.T) {
	data := Append(Append(nil, []byte("ab")), []byte("cd"))
	cmds, err := Split(data)
	if err != nil {
		t.Fatal(err)
	}
	_ = append(cmds[0], 'X', 'Y')
	if string(cmds[1]) != "cd" {
		t.Fatalf("appending to the first command changed the second to %q", cmds[1])
	}
}

func TestOverheadIsExact(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 16383, 16384, 1 << 20} {
		got := len(Append(Append(nil, nil), make([]byte, n))) - 1 - n
		if got != Overhead(n) {
			t.Errorf("overhead of %d bytes = %d, Append added %d", n, Overhead(n), got)
		}
	}
}

func FuzzSplit(f *testing.F) {
	f.Add([]byte{Version})
	f.Add(Append(Append(nil, []byte("a")), []byte{}))
	f.Add([]byte{Version, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		cmds, err := Split(data)
		if err != nil {
			return
		}
		again := Append(nil, nil)
		for _, cmd := range cmds {
			again = Append(again, cmd)
		}
		if !bytes.Equal(again, data) {
			t.Fatalf("an entry has two encodings: %x and %x", data, again)
		}
	})
}

func BenchmarkSplit1024(b *testing.B) {
	data := Append(nil, nil)
	for range 1024 {
		data = Append(data, make([]byte, 200))
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Split(data); err != nil {
			b.Fatal(err)
		}
	}
}
