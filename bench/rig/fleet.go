package rig

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// FleetSpec is what a fleet of played wrappers is made of.
type FleetSpec struct {
	Addrs        []string // gateways, used in turn
	Pin, Cluster string   // an empty pin: without TLS
	Seed         []byte   // of the key that all machines have
	Bare         bool     // the other side is a bare prototype: no claims
	Lives        int      // whole lives under way at one time
}

// fleet is the role of many wrappers.
type fleet struct {
	spec FleetSpec
	tls  *tls.Config
	key  ed25519.PrivateKey

	ctx    context.Context //nolint:containedctx // a role lives from begin to end
	cancel context.CancelFunc
	all    sync.WaitGroup
	peers  []*held

	slots                chan struct{}
	lived, failed, alive atomic.Int64
	dialled              atomic.Uint64
	trouble              atomic.Pointer[string]
}

// held is a session that stays open.
type held struct {
	mu sync.Mutex // one use at a time
	*peer
}

const (
	beatEvery = 20 * time.Second // the gateway closes what is silent for 90 s
	beaters   = 8
)

func (f *fleet) begin(raw json.RawMessage, _ teller) (any, error) {
	var spec FleetSpec
	if err := json.Unmarshal(raw, &spec); err != nil {
		return nil, err
	}
	return nil, f.open(spec)
}

func (f *fleet) open(spec FleetSpec) (err error) {
	f.spec = spec
	if f.spec.Pin != "" {
		if f.tls, err = pinned(f.spec.Pin); err != nil {
			return err
		}
	}
	if !f.spec.Bare {
		f.key = ed25519.NewKeyFromSeed(f.spec.Seed)
	}
	f.slots = make(chan struct{}, max(f.spec.Lives, 1))
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return nil
}

func (f *fleet) ops() map[string]op {
	all := common()
	all["win"] = with(f.win)
	all["push"] = with(f.push)
	all["pace"] = with(f.pace)
	all["send"] = with(f.sendAll)
	all["live"] = with(f.live)
	all["lives"] = func(json.RawMessage) (any, error) { return f.counts(), nil }
	return all
}

// Win has sessions opened, each of which wins a claim of the launch and stays.
type Win struct {
	LaunchTold
	Parallel int
}

func (f *fleet) win(w Win) (any, error) {
	began := time.Now()
	peers := make([]*held, len(w.Machines))
	g, ctx := errgroup.WithContext(f.ctx)
	g.SetLimit(w.Parallel)
	for i, m := range w.Machines {
		g.Go(func() error {
			p, err := dial(ctx, f.next(), f.tls)
			if err != nil {
				return fmt.Errorf("dial %d: %w", i, err)
			}
			peers[i] = &held{peer: p}
			if f.spec.Bare {
				return nil
			}
			if err := p.win(f.startOf(&w.LaunchTold, m)); err != nil {
				return fmt.Errorf("win on %s: %w", m, err)
			}
			return nil
		})
	}
	err := g.Wait()
	took := time.Since(began)
	f.peers = append(f.peers, slices.DeleteFunc(peers, func(h *held) bool { return h == nil })...)
	if err == nil && !f.spec.Bare {
		f.keepAlive()
	}
	return took, err
}

// next is the gateway whose turn it is.
func (f *fleet) next() string { return f.spec.Addrs[f.dialled.Add(1)%uint64(len(f.spec.Addrs))] }

func (f *fleet) startOf(l *LaunchTold, machine string) *start {
	return &start{cluster: f.spec.Cluster, launch: l.Launch, token: l.Token, machine: machine, key: f.key}
}

// keepAlive has heartbeats sent on the sessions that nobody uses.
func (f *fleet) keepAlive() {
	for i := range beaters {
		f.all.Go(func() {
			tick := time.NewTicker(beatEvery)
			defer tick.Stop()
			for {
				select {
				case <-f.ctx.Done():
					return
				case <-tick.C:
				}
				for k := i; k < len(f.peers); k += beaters {
					f.beat(f.peers[k])
				}
			}
		})
	}
}

func (f *fleet) beat(h *held) {
	if !h.mu.TryLock() {
		return // it is talking anyway
	}
	defer h.mu.Unlock()
	if err := h.heartbeat(); err != nil && f.ctx.Err() == nil {
		f.note(fmt.Errorf("beat: %w", err))
	}
}

func (f *fleet) note(err error) {
	f.failed.Add(1)
	text := err.Error()
	f.trouble.CompareAndSwap(nil, &text)
}

// sendAll has every session send so many KiB in frames of 16 KiB, and waits for the acks.
func (f *fleet) sendAll(kib int) (any, error) {
	began := time.Now()
	var g errgroup.Group
	g.SetLimit(64)
	for _, h := range f.peers {
		g.Go(func() error {
			h.mu.Lock()
			defer h.mu.Unlock()
			data := make([]byte, 16<<10)
			for sent := 0; sent < kib; sent += 16 {
				if _, err := h.output(nil, data); err != nil {
					return err
				}
			}
			for h.next <= h.seq {
				if _, err := h.read(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	return time.Since(began), err
}

// Push has every session send output as fast as its window allows.
type Push struct {
	For          time.Duration
	Size, Window int
}

// Pushed is what came of it.
type Pushed struct {
	Words, Bytes uint64 // acked before the time was over
	P50, P99     time.Duration
}

func (f *fleet) push(p Push) (any, error) {
	var mu sync.Mutex
	var words atomic.Uint64
	var all []time.Duration
	until := time.Now().Add(p.For)
	var g errgroup.Group
	for _, h := range f.peers {
		g.Go(func() error {
			h.mu.Lock()
			defer h.mu.Unlock()
			acked, sample, err := h.push(until, p.Size, p.Window)
			words.Add(acked)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, sample...)
			return err
		})
	}
	err := g.Wait()
	times := pushedOf(all, p.Size)
	return Pushed{Words: words.Load(), Bytes: words.Load() * uint64(p.Size), P50: times.P50, P99: times.P99}, err
}

// Pace has every session send a word now and then.
type Pace struct {
	For, Every time.Duration
	Size       int
}

func (f *fleet) pace(p Pace) (any, error) {
	var mu sync.Mutex
	var all []time.Duration
	until := time.Now().Add(p.For)
	var g errgroup.Group
	for i, h := range f.peers {
		g.Go(func() error {
			h.mu.Lock()
			defer h.mu.Unlock()
			// They are spread evenly over the interval.
			time.Sleep(p.Every * time.Duration(i) / time.Duration(len(f.peers)))
			took, err := h.paced(until, p.Every, p.Size)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			return err
		})
	}
	err := g.Wait()
	return pushedOf(all, p.Size), err
}

// pushedOf makes figures of the times from word to ack, one for each word.
func pushedOf(all []time.Duration, size int) Pushed {
	out := Pushed{Words: uint64(len(all)), Bytes: uint64(len(all) * size)}
	if len(all) > 0 {
		slices.Sort(all)
		out.P50, out.P99 = all[len(all)/2], all[len(all)*99/100]
	}
	return out
}

// Lives counts whole lives.
type Lives struct {
	Done, Failed, Under int64
	Trouble             string // the first
}

func (f *fleet) counts() (l Lives) {
	if f == nil {
		return l
	}
	l = Lives{Done: f.lived.Load(), Failed: f.failed.Load(), Under: f.alive.Load()}
	if t := f.trouble.Load(); t != nil {
		l.Trouble = *t
	}
	return l
}

// live has the machines of a launch live their whole lives; it does not wait for them.
func (f *fleet) live(l LaunchTold) (any, error) {
	for _, m := range l.Machines {
		f.alive.Add(1)
		f.all.Go(func() {
			defer f.alive.Add(-1)
			select {
			case f.slots <- struct{}{}:
				defer func() { <-f.slots }()
			case <-f.ctx.Done():
				return
			}
			if err := f.oneLife(f.startOf(&l, m)); err != nil && f.ctx.Err() == nil {
				f.note(err)
				return
			}
			f.lived.Add(1)
		})
	}
	return nil, nil
}

func (f *fleet) oneLife(s *start) error {
	p, err := dial(f.ctx, f.next(), f.tls)
	if err != nil {
		return err
	}
	defer p.ws.CloseNow()
	if f.spec.Bare {
		return nil
	}
	if err := p.live(s); err != nil {
		return fmt.Errorf("live on %s: %w", s.machine, err)
	}
	return nil
}

func (f *fleet) end() error {
	if f.cancel == nil {
		return nil
	}
	f.cancel()
	var errs []error
	for _, h := range f.peers {
		if err := h.ws.CloseNow(); err != nil {
			errs = append(errs, err)
		}
	}
	f.all.Wait()
	return errors.Join(errs...)
}
