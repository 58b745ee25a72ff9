package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"
)

// recoverTerms is how far recovery raises the term: no leader of the lost majority can have given an entry the same number
// in the same term.
const recoverTerms = 1 << 20

// ErrNothingToRecover says that a data directory has no Raft state.
var ErrNothingToRecover = errors.New("there is no raft state")

// Lost is what a stopped node's data directory says of its cluster.
type Lost struct {
	Members   []Member // of the newest configuration in the log, whether it was committed or not
	LastIndex uint64
	LastTerm  uint64
	Alone     bool // this node is the only member already
}

// Inspect reads a stopped node's data directory. It fails, wrapping ErrStore, while a node runs on it, and gives
// ErrNothingToRecover where there is nothing to read.
func Inspect(dir, id string) (Lost, error) {
	r, err := openRecovery(dir)
	if err != nil {
		return Lost{}, err
	}
	lost, _, err := r.inspect(id)
	return lost, errors.Join(err, r.disk.Close())
}

// Recover makes the stopped node the only member of its cluster: what is in its log is committed when it starts, and what
// only the others had is lost. It is one entry at the end of the log, so a crash leaves the old state or the new one.
// Doing it again changes nothing.
func Recover(dir, id string) (Lost, error) {
	r, err := openRecovery(dir)
	if err != nil {
		return Lost{}, err
	}
	lost, self, err := r.inspect(id)
	if err == nil && !lost.Alone {
		err = r.appoint(lost, self)
	}
	return lost, errors.Join(err, r.disk.Close())
}

// recovery is a data directory that is open.
type recovery struct {
	disk interface {
		raft.LogStore
		raft.StableStore
		Close() error
	}
	stores    *stores
	snapshots *usableSnapshots
}

func openRecovery(dir string) (*recovery, error) {
	if _, err := os.Stat(filepath.Join(dir, logFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w in %s", ErrNothingToRecover, dir)
	}
	disk, err := openDisk(dir)
	if err != nil {
		return nil, err
	}
	r := &recovery{disk: disk, stores: newStores(disk, disk, func(error) {})}
	if err := r.check(dir); err != nil {
		return nil, errors.Join(err, disk.Close())
	}
	return r, nil
}

// check looks at the stores as a start does.
func (r *recovery) check(dir string) (err error) {
	r.snapshots = &usableSnapshots{}
	if r.snapshots.newest, err = newestSnapshot(dir); err != nil {
		return err
	}
	if r.snapshots.SnapshotStore, err = openSnapshots(dir, newRaftLogger(slog.New(slog.DiscardHandler))); err != nil {
		return err
	}
	if r.snapshots.first, r.snapshots.last, err = r.stores.verify(); err != nil {
		return err
	}
	if err := r.stores.verifyTerm(r.snapshots.last); err != nil {
		return err
	}
	if r.snapshots.none() {
		return fmt.Errorf("%w in %s", ErrNothingToRecover, dir)
	}
	return r.snapshots.check()
}

// inspect finds the end of the log and the newest configuration, and this node in it.
func (r *recovery) inspect(id string) (lost Lost, self raft.Server, err error) {
	usable, err := r.snapshots.List()
	if err != nil {
		return lost, self, fmt.Errorf("%w: list snapshots: %w", ErrStore, err)
	}
	var conf raft.Configuration
	if len(usable) > 0 {
		lost.LastIndex, lost.LastTerm, conf = usable[0].Index, usable[0].Term, usable[0].Configuration
	}
	for index := max(r.snapshots.first, lost.LastIndex+1); index <= r.snapshots.last; index++ {
		var log raft.Log
		if err := r.stores.get(index, &log); err != nil {
			return lost, self, err
		}
		lost.LastIndex, lost.LastTerm = log.Index, log.Term
		if log.Type == raft.LogConfiguration {
			conf = raft.DecodeConfiguration(log.Data)
		}
	}
	found := false
	for _, s := range conf.Servers {
		m := Member{ID: string(s.ID), Addr: string(s.Address), Voter: s.Suffrage == raft.Voter, Self: string(s.ID) == id}
		lost.Members = append(lost.Members, m)
		if m.Self {
			found, self = true, s
		}
	}
	if !found {
		return lost, self, fmt.Errorf("%w: node %s is not in the configuration of its own log", ErrStore, id)
	}
	lost.Alone = len(lost.Members) == 1 && lost.Members[0].Voter
	return lost, self, nil
}

// appoint raises the term, then writes the configuration of one.
func (r *recovery) appoint(lost Lost, self raft.Server) error {
	term, err := r.stores.GetUint64([]byte(keyTerm))
	if err != nil && !isAbsent(err) {
		return err
	}
	err = nil
	term = max(term, lost.LastTerm) + recoverTerms
	self.Suffrage = raft.Voter
	conf := raft.Configuration{Servers: []raft.Server{self}}
	// A goroutine of its own, because one that meets a failure of the stable store is ended by it (see stores).
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err = r.stores.SetUint64([]byte(keyTerm), term); err == nil {
			err = r.stores.StoreLog(&raft.Log{Index: lost.LastIndex + 1, Term: term, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(conf)})
		}
	}()
	<-done
	return errors.Join(err, r.stores.err())
}
