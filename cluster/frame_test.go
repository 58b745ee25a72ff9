package cluster

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestFramesComeBack(t *testing.T) {
	frames := []*frame{
		{typ: frameRequest, prio: Low, kind: 7, id: 1 << 60, payload: []byte("x")},
		{typ: framePing},
		{typ: frameAnswer, prio: High, payload: make([]byte, MaxPayload+1)},
	}
	var stream []byte
	for _, f := range frames {
		stream = f.append(stream)
	}
	r := bufio.NewReader(bytes.NewReader(stream))
	for i, want := range frames {
		got, err := readFrame(r)
		if err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
		if got.typ != want.typ || got.prio != want.prio || got.kind != want.kind || got.id != want.id || !bytes.Equal(got.payload, want.payload) {
			t.Fatalf("frame %d = %+v", i, got)
		}
	}
	if _, err := readFrame(r); err != io.EOF {
		t.Fatalf("at the end: %v, want EOF", err)
	}
}

func TestAnswersComeBack(t *testing.T) {
	errs := map[string]struct {
		err  error
		want error
	}{
		"unknown":    {unknown(io.EOF), ErrUnknown},
		"not leader": {&NotLeaderError{}, ErrNotLeader},
		"bare":       {ErrNotLeader, ErrNotLeader},
		"closed":     {ErrClosed, ErrClosed},
		"too large":  {ErrTooLarge, ErrTooLarge},
		// What is both is unknown: the other word would promise too much.
		"unknown not leader": {unknown(&NotLeaderError{}), ErrUnknown},
	}
	for name, tt := range errs {
		if _, err := decodeAnswer(encodeAnswer(nil, tt.err)); !errors.Is(err, tt.want) {
			t.Errorf("%s came back as %v", name, err)
		}
	}
	var leader *NotLeaderError
	_, err := decodeAnswer(encodeAnswer(nil, &NotLeaderError{LeaderID: "n", LeaderAddr: "h:1"}))
	if !errors.As(err, &leader) || *leader != (NotLeaderError{"n", "h:1"}) {
		t.Errorf("the leader came back as %v", err)
	}
	if _, err := decodeAnswer(encodeAnswer(make([]byte, MaxPayload+1), nil)); !errors.Is(err, ErrUnknown) {
		t.Errorf("an answer too large for a frame: %v, want ErrUnknown", err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add((&frame{typ: frameRequest, prio: Low, kind: 7, id: 3, payload: []byte("x")}).append(nil))
	f.Add((&frame{typ: framePing}).append(nil)[:9])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := readFrame(bufio.NewReader(bytes.NewReader(data)))
		if err != nil {
			return
		}
		if again := got.append(nil); !bytes.Equal(again, data[:len(again)]) {
			t.Fatalf("a frame has two encodings: %x, %x", again, data)
		}
	})
}

func FuzzPreface(f *testing.F) {
	f.Add(preface{kind: 'R', cluster: "c", from: "a", to: "b"}.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := readPreface(bytes.NewReader(data))
		if err == nil && !bytes.HasPrefix(data, got.encode()) {
			t.Fatalf("%x came back as %x", data, got.encode())
		}
	})
}

func FuzzAnswer(f *testing.F) {
	f.Add([]byte{statusNotLeader, 'a', 0, 'b'})
	f.Add([]byte{statusOK})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if answer, err := decodeAnswer(data); err == nil && (len(data) == 0 || data[0] != statusOK || !bytes.Equal(answer, data[1:])) {
			t.Fatalf("%x was taken for the answer %x", data, answer)
		}
	})
}
