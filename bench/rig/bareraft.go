package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"

	"github.com/syscollective/saltpeter/internal/wire"
)

// Raft is a bare voter on disk with a state machine that does nothing.
type Raft struct {
	raft  *raft.Raft
	store *raftboltdb.BoltStore
	trans *raft.NetworkTransport // nil without a network
}

type nothing struct{}

func (nothing) Apply(*raft.Log) any                 { return nil }
func (nothing) Snapshot() (raft.FSMSnapshot, error) { return nothing{}, nil }
func (nothing) Restore(rc io.ReadCloser) error      { return rc.Close() }
func (nothing) Persist(s raft.SnapshotSink) error   { return s.Close() }
func (nothing) Release()                            {}

// BareSpec is what a bare voter is made of.
type BareSpec struct {
	Dir    string   // exists and is empty
	Self   string   // host:port of its transport
	Voters []string // of all; none = alone, without a network
}

// OpenRaft opens a bare voter. One that is alone leads when this returns.
func OpenRaft(spec BareSpec) (*Raft, error) {
	store, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(spec.Dir, "bare.db"),
		BoltOptions: &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType}})
	if err != nil {
		return nil, err
	}
	r := &Raft{store: store}
	trans, voters, err := r.network(spec)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	conf := raft.DefaultConfig()
	conf.LocalID, conf.Logger = raft.ServerID(trans.LocalAddr()), hclog.NewNullLogger()
	snaps := raft.NewInmemSnapshotStore()
	if err := raft.BootstrapCluster(conf, store, store, snaps, trans, raft.Configuration{Servers: voters}); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if r.raft, err = raft.NewRaft(conf, nothing{}, store, store, snaps, trans); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if len(voters) > 1 {
		return r, nil
	}
	select {
	case <-r.raft.LeaderCh():
		return r, nil
	case <-time.After(time.Minute):
		return nil, errors.Join(fmt.Errorf("no leader: %w", errStuck), r.Close())
	}
}

func (r *Raft) network(spec BareSpec) (raft.Transport, []raft.Server, error) {
	if len(spec.Voters) == 0 {
		addr, trans := raft.NewInmemTransport("bare")
		return trans, []raft.Server{{ID: raft.ServerID(addr), Address: addr}}, nil
	}
	var voters []raft.Server
	for _, v := range spec.Voters {
		voters = append(voters, raft.Server{ID: raft.ServerID(v), Address: raft.ServerAddress(v)})
	}
	trans, err := raft.NewTCPTransport(spec.Self, nil, 3, 10*time.Second, io.Discard)
	if err == nil {
		r.trans = trans
	}
	return trans, voters, err
}

// Leads says whether it leads, as far as it knows.
func (r *Raft) Leads() bool { return r.raft.State() == raft.Leader }

// Commit commits one entry.
func (r *Raft) Commit(entry []byte) error { return r.raft.Apply(entry, 0).Error() }

// Close stops it.
func (r *Raft) Close() error {
	var errs []error
	if r.raft != nil {
		errs = append(errs, r.raft.Shutdown().Error())
	}
	if r.trans != nil {
		errs = append(errs, r.trans.Close())
	}
	return errors.Join(append(errs, r.store.Close())...)
}

// bareRaft is the role of the bare prototype: what arrives over WebSockets goes into raft entries, up to 1,024 words or 256
// KiB in one and two entries in flight, and is acked cumulatively once it is committed. There is no state machine.
type bareRaft struct {
	bareServer
	raft *Raft

	mu      sync.Mutex
	pending []byte
	words   int
	touched map[*bareConn]uint64 // the next number of who has words in pending
	room    *sync.Cond

	kick   chan struct{} // capacity 1
	stop   chan struct{}
	flight chan flight
	loops  sync.WaitGroup
}

type flight struct {
	future  raft.ApplyFuture
	touched map[*bareConn]uint64
}

// bareConn is a connection with the number that its writer is to ack.
type bareConn struct {
	ws    *websocket.Conn
	next  atomic.Uint64
	wake  chan struct{} // capacity 1
	ended chan struct{}
}

const (
	bareWords  = 1024
	bareBytes  = 256 << 10
	bareLinger = time.Millisecond
)

func (b *bareRaft) begin(raw json.RawMessage, _ teller) (any, error) {
	var spec BareSpec
	if err := json.Unmarshal(raw, &spec); err != nil {
		return nil, err
	}
	var err error
	if b.raft, err = OpenRaft(spec); err != nil {
		return nil, err
	}
	b.touched = make(map[*bareConn]uint64)
	b.room = sync.NewCond(&b.mu)
	b.kick, b.stop, b.flight = make(chan struct{}, 1), make(chan struct{}), make(chan flight, 1)
	b.loops.Go(b.proposeLoop)
	b.loops.Go(b.ackLoop)
	return b.serve(b.talk)
}

func (b *bareRaft) talk(ws *websocket.Conn) {
	c := &bareConn{ws: ws, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	defer close(c.ended)
	b.loops.Go(c.writeAcks)
	for {
		_, msg, err := ws.Read(context.Background())
		if err != nil {
			return
		}
		f, err := wire.ParseFrame(msg)
		if err != nil {
			return
		}
		b.put(c, f.Seq+1, msg)
	}
}

func (b *bareRaft) put(c *bareConn, next uint64, msg []byte) {
	b.mu.Lock()
	for b.words >= bareWords || b.words > 0 && len(b.pending)+len(msg) > bareBytes {
		b.room.Wait()
	}
	b.pending = append(b.pending, msg...)
	b.words++
	b.touched[c] = next
	b.mu.Unlock()
	select {
	case b.kick <- struct{}{}:
	default:
	}
}

// proposeLoop proposes what has come while the last entries were under way.
func (b *bareRaft) proposeLoop() {
	defer close(b.flight)
	for {
		select {
		case <-b.stop:
			return
		case <-b.kick:
		}
		if b.few() {
			time.Sleep(bareLinger)
		}
		b.mu.Lock()
		entry, touched := b.pending, b.touched
		if b.words > 0 {
			b.pending, b.words, b.touched = nil, 0, make(map[*bareConn]uint64)
			b.room.Broadcast()
		}
		b.mu.Unlock()
		if len(touched) > 0 {
			b.flight <- flight{b.raft.raft.Apply(entry, 0), touched}
		}
	}
}

// few reports whether an entry would be nearly empty: it waits a little for more, as ours does.
func (b *bareRaft) few() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.words < bareWords/2
}

func (b *bareRaft) ackLoop() {
	for f := range b.flight {
		if f.future.Error() != nil {
			continue // the clients see no ack
		}
		for c, next := range f.touched {
			c.next.Store(next)
			select {
			case c.wake <- struct{}{}:
			default:
			}
		}
	}
}

func (c *bareConn) writeAcks() {
	for {
		select {
		case <-c.ended:
			return
		case <-c.wake:
		}
		if c.ws.Write(context.Background(), websocket.MessageText, bareAck(c.next.Load())) != nil {
			return
		}
	}
}

func (b *bareRaft) ops() map[string]op {
	all := common()
	all["leads"] = func(json.RawMessage) (any, error) { return b.raft.Leads(), nil }
	return all
}

func (b *bareRaft) end() error {
	if b.raft == nil {
		return nil
	}
	err := b.close() // readers that wait for room get it: the loops go on until then
	close(b.stop)
	b.loops.Wait()
	return errors.Join(err, b.raft.Close())
}
