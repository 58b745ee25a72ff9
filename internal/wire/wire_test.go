package wire

import (
	"bytes"
	"errors"
	"testing"
)

func FuzzFrame(f *testing.F) {
	f.Add(AppendFrame(nil, &Frame{Kind: FrameOutput, Run: 1, Seq: 7, AtMillis: 300, Data: []byte("x\xff\x00")}))
	f.Add(AppendFrame(nil, &Frame{Kind: FrameSkip, Seq: 9, Covers: 3, Skipped: 1 << 40}))
	f.Add([]byte{1, 0x80})
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := ParseFrame(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error without sentinel: %v", err)
			}
			return
		}
		again, err := ParseFrame(AppendFrame(nil, &frame))
		if err != nil || again.Seq != frame.Seq || again.Run != frame.Run || again.AtMillis != frame.AtMillis ||
			again.Skipped != frame.Skipped || again.Covers != frame.Covers || !bytes.Equal(again.Data, frame.Data) {
			t.Fatalf("not the same after a round trip: %+v, %+v, %v", frame, again, err)
		}
	})
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"type":"hello","version":1,"launch":"20261123000000000000","nonce":"AAEC"}`))
	f.Add([]byte(`{"type":"beat","leader_age_ms":-1}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("error without sentinel: %v", err)
			}
			return
		}
		if _, err := Encode(m); err != nil {
			t.Fatalf("encode what was decoded: %v", err)
		}
	})
}

func TestFrameRefusals(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":             {},
		"unknown kind":      {9, 0, 1, 0},
		"number zero":       AppendFrame(nil, &Frame{Kind: FrameOutput, Data: []byte("x")}),
		"skip of nothing":   AppendFrame(nil, &Frame{Kind: FrameSkip, Seq: 1}),
		"bytes after skip":  append(AppendFrame(nil, &Frame{Kind: FrameSkip, Seq: 1, Covers: 1}), 1),
		"cut in the middle": {1, 0, 0x80},
		"too long":          AppendFrame(nil, &Frame{Kind: FrameOutput, Seq: 1, Data: make([]byte, MaxOutput+1)}),
	} {
		if _, err := ParseFrame(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v, want ErrMalformed", name, err)
		}
	}
}

func TestTranscriptPartsDoNotRun(t *testing.T) {
	a := Transcript("ab", "c", "m", nil, nil, nil)
	b := Transcript("a", "bc", "m", nil, nil, nil)
	if bytes.Equal(a, b) {
		t.Fatal("two different tuples have one transcript")
	}
}
