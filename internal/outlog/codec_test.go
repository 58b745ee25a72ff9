package outlog

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"testing"
)

// TestFrameBytes pins the format on disk: files of one version are read by the next.
func TestFrameBytes(t *testing.T) {
	for _, c := range []struct {
		key  Key
		f    Frame
		want string
	}{
		{Key{300, 2}, Frame{Seq: 1, Kind: Data, AtMillis: 128, Data: []byte("hi")}, "17e7a84a08000010ac02020180016869"},
		{Key{1, 0}, Frame{Seq: 9, Kind: Skip, Skipped: 5}, "5ebd1084050000200100090005"},
		{Key{1, 7}, Frame{Kind: kindDropKey}, "4ba628da020000300107"},
		{Key{1, 0}, Frame{Kind: kindDropRun}, "e7c46158020000400100"},
	} {
		b := appendRecord(nil, c.key, c.f)
		if got := hex.EncodeToString(b); got != c.want {
			t.Errorf("%+v: %s, want %s", c.f, got, c.want)
		}
		r, err := decodeRecord(b)
		must(t, err)
		if r.key != c.key || !equalFrame(r.Frame, c.f) || r.size != len(b) {
			t.Errorf("read back as %+v", r)
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(appendRecord(nil, Key{1, 2}, Frame{Seq: 3, Kind: Data, AtMillis: 4, Data: []byte("five")}))
	f.Add(appendRecord(nil, Key{math.MaxUint64, math.MaxUint32}, Frame{Seq: math.MaxUint64, Kind: Skip, Skipped: math.MaxUint64}))
	f.Add(appendRecord(nil, Key{1, 2}, Frame{Kind: kindDropRun}))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(b)
		if err != nil {
			if !errors.Is(err, errShort) && !errors.Is(err, errSum) && !errors.Is(err, errFormat) {
				t.Fatalf("error %v", err)
			}
			return
		}
		again, err := decodeRecord(appendRecord(nil, r.key, r.Frame))
		must(t, err)
		if again.key != r.key || !equalFrame(again.Frame, r.Frame) {
			t.Fatalf("%+v became %+v", r, again)
		}
	})
}

func FuzzDecodeManifest(f *testing.F) {
	s := open(f, NewLossy(1), dir, testOpts, nil)
	grow(f, s, 4, 60, Key{1, 1}, Key{2, 1})
	must(f, s.DropRun(1))
	must(f, s.Compact(1, 2))
	b, err := s.Manifest().Encode()
	must(f, err)
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest(b)
		if err != nil {
			mustBe(t, err, ErrManifest)
			return
		}
		once, err := m.Encode()
		must(t, err)
		twice, err := viaCBOR(t, m).Encode()
		must(t, err)
		if !bytes.Equal(once, twice) {
			t.Fatal("encoding is not stable")
		}
		opts := testOpts
		opts.Origin = m.Origin + "x"
		disk := NewLossy(1)
		open, err := Open(disk, dir, opts, &m)
		must(t, err)
		must(t, open.Append(Key{1, 1}, Frame{Seq: 1, Kind: Data, Data: []byte("x")}))
	})
}

func FuzzDecodeSummary(f *testing.F) {
	s := open(f, NewLossy(1), dir, testOpts, nil)
	grow(f, s, 2, 60, Key{1, 1}, Key{2, 1})
	info := s.Manifest().Segments[0]
	sum, err := s.summaryOf(s.viewOf(s.segs[0]))
	must(f, err)
	f.Add(encodeSummary(info, sum))
	f.Fuzz(func(t *testing.T, b []byte) {
		if sum, ok := decodeSummary(b, info); ok && !bytes.Equal(encodeSummary(info, sum), b) {
			t.Fatal("not the only encoding")
		}
	})
}

func TestManifestValidate(t *testing.T) {
	good := func() Manifest {
		return Manifest{Version: 1, Segments: []SegmentInfo{
			{No: 1, Last: 3, Gen: 1, Bytes: 100}, {No: 4, Last: 4, Unknown: true}, {No: 5, Last: 6, Gen: 1}, {No: 7, Last: 7, Bytes: 8},
		}}
	}
	must(t, good().Validate())
	for name, harm := range map[string]func(*Manifest){
		"version":          func(m *Manifest) { m.Version = 2 },
		"no segment":       func(m *Manifest) { m.Segments = nil },
		"number 0":         func(m *Manifest) { m.Segments[0].No = 0 },
		"overlap":          func(m *Manifest) { m.Segments[1].No = 3 },
		"backwards":        func(m *Manifest) { m.Segments[0].Last = 0 },
		"number too large": func(m *Manifest) { m.Segments[3].No, m.Segments[3].Last = math.MaxUint32, math.MaxUint32 },
		"too short":        func(m *Manifest) { m.Segments[0].Bytes = 7 },
		"negative":         func(m *Manifest) { m.Segments[0].Bytes = -1 },
		"too long":         func(m *Manifest) { m.Segments[0].Bytes = 1 << 33 },
		"hole too long":    func(m *Manifest) { m.Segments[0].Hole = 101 },
		"unknown and long": func(m *Manifest) { m.Segments[1].Bytes = 10 },
		"empty with a sum": func(m *Manifest) { m.Segments[2].CRC = 1 },
		"head empty":       func(m *Manifest) { m.Segments[3].Bytes = 0 },
		"head unknown":     func(m *Manifest) { m.Segments[3].Bytes, m.Segments[3].Unknown = 0, true },
		"head of several":  func(m *Manifest) { m.Segments[3].Last = 9 },
	} {
		m := good()
		harm(&m)
		if err := m.Validate(); !errors.Is(err, ErrManifest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
