package fsm

import (
	"errors"
	"strings"
	"testing"
)

func TestASnapshotFromANewerProgramIsRefused(t *testing.T) {
	w := newWorld(t)
	if got := w.m.View().Used(); got != BaseCode {
		t.Fatalf("used %d", got)
	}
	w.m.state.used = newestKnown
	if s, _, err := readSnapshot(strings.NewReader(string(encodeState(t, w.m)))); err != nil || s.used != newestKnown {
		t.Fatalf("the newest known: %v", err)
	}
	w.m.state.used = newestKnown + 1
	if _, _, err := readSnapshot(strings.NewReader(string(encodeState(t, w.m)))); !errors.Is(err, ErrUnknownCommand) || !errors.Is(err, ErrSnapshot) {
		t.Fatalf("one above: %v", err)
	}
}

func TestKnowledge(t *testing.T) {
	if k := Known(); !k.Covers(newestKnown) || k.Covers(newestKnown+1) {
		t.Errorf("%+v", k)
	}
	if k := (Knowledge{}); !k.Covers(BaseCode) || k.Covers(BaseCode+1) {
		t.Error("who says nothing knows the base")
	}
	rec := NodeRecord{Commands: 33, Envelope: 1, Snapshot: 1}
	if k := rec.Knowledge(); !k.Covers(33) || k.Covers(34) {
		t.Errorf("%+v", k)
	}
}
