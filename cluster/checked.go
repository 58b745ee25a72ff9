package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"runtime"
	"sync"

	"github.com/hashicorp/raft"
)

// castagnoli is the polynomial that processors compute.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumSize is what the checksum adds to an entry's extensions and to a stable value.
const sumSize = 4

// stores are Raft's log and stable store behind a checksum for every entry and value, a cache of the newest entries, and a
// latch: a store that failed once stays failed. bbolt gives back flipped bits without noticing, and goes on
// after a failed sync; Raft, in turn, panics on some errors of its stores and forgets others. So the first failure is
// reported to the node, which ends; a goroutine of Raft's that meets it where it would panic is ended in place, with its
// deferred functions run.
type stores struct {
	log    raft.LogStore
	stable raft.StableStore
	fail   func(error)
	busy   monitor
	cache  *logCache

	mu     sync.Mutex // guards failed
	failed error
}

func newStores(log raft.LogStore, stable raft.StableStore, fail func(error)) *stores {
	return &stores{log: log, stable: stable, fail: fail, cache: newLogCache(cacheBytes)}
}

// err is the error that latched the stores.
func (s *stores) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// latch keeps the first failure and reports it.
func (s *stores) latch(what string, cause error) error {
	s.mu.Lock()
	first := s.failed == nil
	if first {
		s.failed = fmt.Errorf("%w: %s: %w", ErrStore, what, cause)
	}
	err := s.failed
	s.mu.Unlock()
	if first {
		s.fail(err)
	}
	return err
}

// do runs one call of a store: not at all if the stores have failed, and with a panic of the store's as its error.
func (s *stores) do(what string, call func() error) (err error) {
	if err := s.err(); err != nil {
		return err
	}
	defer s.busy.begin()()
	defer func() {
		if p := recover(); p != nil { // bbolt panics on pages that make no sense
			err = s.latch(what, fmt.Errorf("panic: %v", p))
		}
	}()
	switch err := call(); {
	case err == nil, isAbsent(err):
		return err
	default:
		return s.latch(what, err)
	}
}

// isAbsent tells an error that means "no such thing" from a failure. raft-boltdb and Raft agree on the text alone for
// absent keys of the stable store (Raft compares it), so values() maps it before it gets here.
func isAbsent(err error) bool {
	return errors.Is(err, raft.ErrLogNotFound) || errors.Is(err, errAbsent)
}

// errAbsent has the text by which Raft knows an absent key.
var errAbsent = errors.New("not found")

// orEnd ends the calling goroutine if err is a failure: for the calls after which Raft would panic.
func (s *stores) orEnd(err error) error {
	if err != nil && !isAbsent(err) {
		runtime.Goexit()
	}
	return err
}

// FirstIndex implements raft.LogStore.
func (s *stores) FirstIndex() (index uint64, err error) {
	err = s.do("read first index", func() error { index, err = s.log.FirstIndex(); return err })
	return index, err
}

// LastIndex implements raft.LogStore.
func (s *stores) LastIndex() (index uint64, err error) {
	err = s.do("read last index", func() error { index, err = s.log.LastIndex(); return err })
	return index, err
}

// GetLog implements raft.LogStore. It does not return if the entry is damaged.
func (s *stores) GetLog(index uint64, log *raft.Log) error {
	return s.orEnd(s.get(index, log))
}

// get is GetLog for callers that are not Raft.
func (s *stores) get(index uint64, log *raft.Log) error {
	if s.cache.get(index, log) {
		return s.err()
	}
	return s.do(fmt.Sprintf("read entry %d", index), func() error {
		var stored raft.Log
		if err := s.log.GetLog(index, &stored); err != nil {
			return err
		}
		return unseal(index, &stored, log)
	})
}

// StoreLog implements raft.LogStore.
func (s *stores) StoreLog(log *raft.Log) error { return s.StoreLogs([]*raft.Log{log}) }

// StoreLogs implements raft.LogStore.
func (s *stores) StoreLogs(logs []*raft.Log) error {
	sealed := make([]*raft.Log, len(logs))
	for i, log := range logs {
		sealed[i] = seal(log)
	}
	err := s.do("write entries", func() error { return s.log.StoreLogs(sealed) })
	if err == nil {
		s.cache.put(logs)
	}
	return err
}

// DeleteRange implements raft.LogStore.
func (s *stores) DeleteRange(first, last uint64) error {
	s.cache.drop(first, last)
	return s.do("delete entries", func() error { return s.log.DeleteRange(first, last) })
}

// seal returns a copy of the entry whose extensions end with the entry's checksum.
func seal(log *raft.Log) *raft.Log {
	out := *log
	out.Extensions = binary.BigEndian.AppendUint32(log.Extensions[:len(log.Extensions):len(log.Extensions)], sum(log))
	return &out
}

// unseal checks a stored entry and gives it back as it was.
func unseal(index uint64, stored, log *raft.Log) error {
	n := len(stored.Extensions) - sumSize
	if n < 0 {
		return fmt.Errorf("entry %d has no checksum", index)
	}
	want := binary.BigEndian.Uint32(stored.Extensions[n:])
	*log = *stored
	log.Extensions = stored.Extensions[:n:n]
	if n == 0 {
		log.Extensions = nil
	}
	if log.Index != index || sum(log) != want {
		return fmt.Errorf("entry %d is damaged: checksum %08x, stored %08x", index, sum(log), want)
	}
	return nil
}

// sum is the CRC32C of all of an entry that Raft acts on.
func sum(log *raft.Log) uint32 {
	var head [25]byte
	binary.BigEndian.PutUint64(head[0:], log.Index)
	binary.BigEndian.PutUint64(head[8:], log.Term)
	binary.BigEndian.PutUint64(head[16:], uint64(len(log.Data)))
	head[24] = byte(log.Type)
	crc := crc32.Update(0, castagnoli, head[:])
	crc = crc32.Update(crc, castagnoli, log.Data)
	return crc32.Update(crc, castagnoli, log.Extensions)
}

// Set implements raft.StableStore. It does not return if the store fails: Raft would panic, or vote again.
func (s *stores) Set(key, value []byte) error {
	sealed := binary.BigEndian.AppendUint32(append([]byte(nil), value...), valueSum(key, value))
	return s.orEnd(s.do("write "+string(key), func() error { return s.stable.Set(key, sealed) }))
}

// Get implements raft.StableStore.
func (s *stores) Get(key []byte) (value []byte, err error) {
	err = s.do("read "+string(key), func() error {
		sealed, err := s.stable.Get(key)
		if err != nil {
			return absent(err)
		}
		n := len(sealed) - sumSize
		if n < 0 || binary.BigEndian.Uint32(sealed[n:]) != valueSum(key, sealed[:n]) {
			return fmt.Errorf("value of %q is damaged", key)
		}
		value = sealed[:n:n]
		return nil
	})
	return value, err
}

// absent maps the two stores' ways to say that there is no such key to errAbsent.
func absent(err error) error {
	if err.Error() == errAbsent.Error() { // the contract of raft.StableStore is this text
		return errAbsent
	}
	return err
}

func valueSum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// SetUint64 implements raft.StableStore.
func (s *stores) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 implements raft.StableStore.
func (s *stores) GetUint64(key []byte) (uint64, error) {
	value, err := s.Get(key)
	if err != nil {
		return 0, err
	}
	if len(value) != 8 {
		return 0, s.latch("read "+string(key), fmt.Errorf("value of %q has %d bytes", key, len(value)))
	}
	return binary.BigEndian.Uint64(value), nil
}

// verify reads the log backwards as far as it has no gap, so that damage is an error at start and not a panic of Raft's.
// It returns the first and last index of that stretch; last is 0 for an empty log. (A gap is no damage: it is
// where a snapshot was installed.)
func (s *stores) verify() (first, last uint64, err error) {
	begin, err := s.FirstIndex()
	if err != nil {
		return 0, 0, err
	}
	if last, err = s.LastIndex(); err != nil || last == 0 {
		return 0, 0, err
	}
	for first = last; ; first-- {
		var log raft.Log
		err := s.get(first, &log)
		if isAbsent(err) && first < last {
			return first + 1, last, nil
		}
		if err != nil || first == begin {
			return first, last, err
		}
	}
}

// keyTerm is where Raft keeps its term.
const keyTerm = "CurrentTerm"

// verifyTerm says whether the stored term goes with the log: a node that has lost it could vote twice in one term.
func (s *stores) verifyTerm(last uint64) error {
	if last == 0 {
		return nil
	}
	var log raft.Log
	if err := s.get(last, &log); err != nil {
		return err
	}
	term, err := s.GetUint64([]byte(keyTerm))
	if isAbsent(err) || err == nil && term < log.Term {
		return s.latch("check the term", fmt.Errorf("the stored term is %d, the log's is %d: it is damaged", term, log.Term))
	}
	return err
}

// bootstrap writes the first entry of every log of the cluster, which is the same on all nodes. Raft's own function does
// nothing for a node that was killed between its term and its first entry, which then would wait for ever.
func (s *stores) bootstrap(conf raft.Configuration) error {
	if _, err := s.GetUint64([]byte(keyTerm)); isAbsent(err) {
		if err := s.SetUint64([]byte(keyTerm), 1); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return s.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(conf)})
}
