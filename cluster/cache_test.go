package cluster

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// The stores, cache and checksum included, must answer as a plain log does, whatever is written, cut and compacted.
func TestStoresAnswerAsAPlainLog(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain := raft.NewInmemStore()
		s := newStores(raft.NewInmemStore(), raft.NewInmemStore(), func(err error) { t.Fatal(err) })
		s.cache = newLogCache(rapid.IntRange(0, 4000).Draw(t, "cache"))
		next := uint64(1)
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				var logs []*raft.Log
				for range rapid.IntRange(1, 5).Draw(t, "entries") {
					logs = append(logs, &raft.Log{Index: next, Term: 1, Data: rapid.SliceOfN(rapid.Byte(), 1, 300).Draw(t, "data"),
						Extensions: rapid.SampledFrom([][]byte{nil, []byte("ext")}).Draw(t, "ext")})
					next++
				}
				must(t, plain.StoreLogs(logs))
				must(t, s.StoreLogs(logs))
			},
			"cut": func(t *rapid.T) { // as a follower does whose entries conflict
				if next == 1 {
					t.Skip()
				}
				from := rapid.Uint64Range(1, next-1).Draw(t, "from")
				must(t, plain.DeleteRange(from, next-1))
				must(t, s.DeleteRange(from, next-1))
				next = from
			},
			"compact": func(t *rapid.T) {
				if next == 1 {
					t.Skip()
				}
				first, _ := plain.FirstIndex()
				if first == 0 {
					t.Skip()
				}
				to := rapid.Uint64Range(first, next-1).Draw(t, "to")
				must(t, plain.DeleteRange(first, to))
				must(t, s.DeleteRange(first, to))
			},
			"gap": func(*rapid.T) { next += 3 }, // where a snapshot was installed
			"": func(t *rapid.T) {
				for index := uint64(0); index <= next; index++ {
					var want, got raft.Log
					wantErr, gotErr := plain.GetLog(index, &want), s.get(index, &got)
					if !errors.Is(gotErr, wantErr) || !bytes.Equal(got.Data, want.Data) || !bytes.Equal(got.Extensions, want.Extensions) {
						t.Fatalf("entry %d: %+v, %v, want %+v, %v", index, got, gotErr, want, wantErr)
					}
				}
				if s.cache.bytes > s.cache.limit {
					t.Fatalf("the cache has %d bytes, its limit is %d", s.cache.bytes, s.cache.limit)
				}
				bytes := 0
				for i := range s.cache.logs {
					bytes += size(&s.cache.logs[i])
				}
				if bytes != s.cache.bytes {
					t.Fatalf("the cache counts %d bytes and has %d", s.cache.bytes, bytes)
				}
			},
		})
	})
}

func must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryBitOfAnEntryCounts(t *testing.T) {
	log := &raft.Log{Index: 7, Term: 3, Type: raft.LogCommand, Data: []byte("some data"), Extensions: []byte("more")}
	sealed := seal(log)
	var back raft.Log
	if err := unseal(7, sealed, &back); err != nil || !bytes.Equal(back.Extensions, log.Extensions) {
		t.Fatalf("%+v, %v", back, err)
	}
	changes := map[string]func(l *raft.Log){
		"index":      func(l *raft.Log) { l.Index++ },
		"term":       func(l *raft.Log) { l.Term++ },
		"type":       func(l *raft.Log) { l.Type++ },
		"data":       func(l *raft.Log) { l.Data = []byte("some dada") },
		"boundary":   func(l *raft.Log) { l.Data, l.Extensions = l.Data[:8], append([]byte("a"), l.Extensions...) },
		"extensions": func(l *raft.Log) { l.Extensions = append([]byte("M"), l.Extensions[1:]...) },
		"checksum": func(l *raft.Log) {
			l.Extensions = binary.BigEndian.AppendUint32(append([]byte(nil), log.Extensions...), 1)
		},
		"none": func(l *raft.Log) { l.Extensions = nil },
	}
	for name, change := range changes {
		bad := *sealed
		bad.Extensions = bytes.Clone(sealed.Extensions)
		change(&bad)
		if err := unseal(7, &bad, &back); err == nil {
			t.Errorf("%s: the change was not noticed", name)
		}
	}
	if err := unseal(8, sealed, &back); err == nil {
		t.Error("an entry was taken for another")
	}
}

func TestStableValues(t *testing.T) {
	inner := raft.NewInmemStore()
	var failed error
	s := newStores(inner, inner, func(err error) { failed = err })
	if _, err := s.Get([]byte("k")); err == nil || err.Error() != "not found" {
		t.Fatalf("absent key: %v; Raft compares the text", err)
	}
	if err := s.Set([]byte("k"), []byte("value")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get([]byte("k")); err != nil || string(got) != "value" {
		t.Fatalf("%q, %v", got, err)
	}
	raw, _ := inner.Get([]byte("k"))
	inner.Set([]byte("other"), raw)
	if _, err := s.Get([]byte("other")); !errors.Is(err, ErrStore) || failed == nil {
		t.Fatalf("a value under another key: %v", err)
	}
	if _, err := s.Get([]byte("k")); !errors.Is(err, ErrStore) {
		t.Fatalf("a failed store answers: %v", err)
	}
}

func TestPanicOfTheStoreIsItsFailure(t *testing.T) {
	var failed error
	s := newStores(&faultyLog{LogStore: raft.NewInmemStore(), store: func([]*raft.Log) error { panic("page 7 already freed") }},
		raft.NewInmemStore(), func(err error) { failed = err })
	if err := s.StoreLog(&raft.Log{Index: 1}); !errors.Is(err, ErrStore) || !errors.Is(failed, ErrStore) {
		t.Fatalf("StoreLog: %v, reported: %v", err, failed)
	}
}
