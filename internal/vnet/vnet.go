// Package vnet is a network in memory for tests, above all for bubbles of testing/synctest, where real sockets would keep
// time from passing.
//
// Hosts have names; addresses are "host:port". Connections behave like TCP: buffered, with deadlines, usable under TLS. What
// is sent over a cut path is held back, as retransmission would, and arrives when the path is healed; that goes for the
// end of a connection too. Dialing over a cut path waits. A paused host accepts connections into its backlog, as a
// stopped process's kernel does, but nothing that it sends leaves and nothing that it is sent is read.
//
// Loss is a connection reset: TCP hides lost packets but for the delay. Whether one happens depends on the network's seed
// and the order of writes. The package starts no goroutines.
package vnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Network connects hosts. Its methods are safe for concurrent use.
type Network struct {
	mu        sync.Mutex // guards what follows
	random    *rand.Rand
	listeners map[string]*listener
	cut       map[path]bool
	delay     map[path]time.Duration
	paused    map[string]bool
	loss      float64
	conns     map[*conn]bool // both ends of each connection
	nextPort  int
	changed   chan struct{} // closed and replaced when a path or host changes
}

// path is one direction between two hosts.
type path struct{ from, to string }

// New returns a network without hosts. The seed decides which writes break their connection where there is loss.
func New(seed uint64) *Network {
	return &Network{
		random:    rand.New(rand.NewPCG(seed, 0)),
		listeners: map[string]*listener{},
		cut:       map[path]bool{},
		delay:     map[path]time.Duration{},
		paused:    map[string]bool{},
		conns:     map[*conn]bool{},
		nextPort:  40000,
		changed:   make(chan struct{}),
	}
}

// change applies f to the network's state and wakes all who wait for it.
func (n *Network) change(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
	close(n.changed)
	n.changed = make(chan struct{})
}

// Cut holds back all that from sends to to; the other direction goes on.
func (n *Network) Cut(from, to string) { n.change(func() { n.cut[path{from, to}] = true }) }

// CutBoth holds back all between two hosts.
func (n *Network) CutBoth(a, b string) { n.Cut(a, b); n.Cut(b, a) }

// Heal lets pass what from sends to to, with all that was held back.
func (n *Network) Heal(from, to string) { n.change(func() { delete(n.cut, path{from, to}) }) }

// HealAll lets pass everything between all hosts. Paused hosts stay paused.
func (n *Network) HealAll() { n.change(func() { clear(n.cut) }) }

// Isolate cuts a host off from the others named, both ways.
func (n *Network) Isolate(host string, others ...string) {
	for _, other := range others {
		if other != host {
			n.CutBoth(host, other)
		}
	}
}

// SetDelay makes what from sends to to arrive d later; what is on its way already keeps its time, and order is kept.
func (n *Network) SetDelay(from, to string, d time.Duration) {
	n.change(func() { n.delay[path{from, to}] = d })
}

// SetLoss makes every write between different hosts reset its connection with the probability p.
func (n *Network) SetLoss(p float64) { n.change(func() { n.loss = p }) }

// Pause stops a host as SIGSTOP stops a process, as far as others can see.
func (n *Network) Pause(host string) { n.change(func() { n.paused[host] = true }) }

// Resume lets a paused host go on.
func (n *Network) Resume(host string) { n.change(func() { delete(n.paused, host) }) }

// Reset breaks all connections between two hosts; both sides learn of it, unless the path to them is cut.
func (n *Network) Reset(a, b string) {
	n.mu.Lock()
	var broken []*conn
	for c := range n.conns {
		if c.out.path == (path{a, b}) || c.out.path == (path{b, a}) {
			broken = append(broken, c)
		}
	}
	n.mu.Unlock()
	for _, c := range broken {
		c.reset()
	}
}

// Crash closes all listeners and connections of a host, as the end of its process does.
func (n *Network) Crash(host string) {
	n.mu.Lock()
	var broken []*conn
	var closed []*listener
	for c := range n.conns {
		if c.out.path.from == host {
			broken = append(broken, c)
		}
	}
	for _, l := range n.listeners {
		if l.host == host {
			closed = append(closed, l)
		}
	}
	n.mu.Unlock()
	for _, l := range closed {
		l.Close()
	}
	for _, c := range broken {
		c.reset()
	}
}

// open says whether bytes pass now, and otherwise returns a channel that is closed when that may have changed.
func (n *Network) open(p path) (bool, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.cut[p] && !n.paused[p.from] && !n.paused[p.to], n.changed
}

// arrival is when what is sent now arrives; lost says that it breaks its connection instead.
func (n *Network) arrival(p path) (at time.Time, lost bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	lost = n.loss > 0 && p.from != p.to && n.random.Float64() < n.loss
	return time.Now().Add(n.delay[p]), lost
}

// Host is a machine on the network.
type Host struct {
	network *Network
	name    string
}

// Host returns the host with the name, which needs no other introduction.
func (n *Network) Host(name string) *Host { return &Host{network: n, name: name} }

// Addr is "host:port".
type Addr string

// Network implements net.Addr.
func (Addr) Network() string { return "vnet" }

func (a Addr) String() string { return string(a) }

// Listen listens on a port of the host; 0 picks one.
func (h *Host) Listen(port int) (net.Listener, error) {
	n := h.network
	n.mu.Lock()
	defer n.mu.Unlock()
	if port == 0 {
		n.nextPort++
		port = n.nextPort
	}
	addr := net.JoinHostPort(h.name, strconv.Itoa(port))
	if n.listeners[addr] != nil {
		return nil, &net.OpError{Op: "listen", Net: "vnet", Addr: Addr(addr), Err: syscall.EADDRINUSE}
	}
	l := &listener{network: n, host: h.name, addr: Addr(addr), backlog: make(chan *conn, 128), closed: make(chan struct{})}
	n.listeners[addr] = l
	return l, nil
}

// Dial connects to an address, or waits while the way there or back is cut, until ctx ends.
func (h *Host) Dial(ctx context.Context, addr string) (net.Conn, error) {
	c, err := h.dial(ctx, addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "vnet", Addr: Addr(addr), Err: err}
	}
	return c, nil
}

func (h *Host) dial(ctx context.Context, addr string) (net.Conn, error) {
	n := h.network
	to, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if err := h.handshake(ctx, to); err != nil {
		return nil, err
	}
	n.mu.Lock()
	l := n.listeners[addr]
	n.nextPort++
	local := Addr(net.JoinHostPort(h.name, strconv.Itoa(n.nextPort)))
	n.mu.Unlock()
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	near, far := newConns(n, path{h.name, to}, local, l.addr)
	select {
	case <-l.closed:
		return nil, syscall.ECONNREFUSED
	case l.backlog <- far:
	default:
		return nil, errors.New("backlog is full")
	}
	n.mu.Lock()
	n.conns[near], n.conns[far] = true, true
	n.mu.Unlock()
	return near, nil
}

// handshake waits until a packet can go there and one back, for as long as they take. A paused host's kernel answers.
func (h *Host) handshake(ctx context.Context, to string) error {
	n := h.network
	for {
		n.mu.Lock()
		there, back := path{h.name, to}, path{to, h.name}
		passes := !n.cut[there] && !n.cut[back] && !n.paused[h.name]
		trip, changed := n.delay[there]+n.delay[back], n.changed
		n.mu.Unlock()
		if passes && trip == 0 {
			return ctx.Err()
		}
		var over <-chan time.Time
		if passes {
			timer := time.NewTimer(trip)
			defer timer.Stop()
			over = timer.C
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over:
			return nil
		case <-changed:
		}
	}
}

type listener struct {
	network *Network
	host    string
	addr    Addr
	backlog chan *conn
	once    sync.Once
	closed  chan struct{}
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	for {
		running, changed := l.network.open(path{l.host, l.host})
		backlog := l.backlog
		if !running {
			backlog = nil
		}
		select {
		case <-l.closed:
			return nil, &net.OpError{Op: "accept", Net: "vnet", Addr: l.addr, Err: net.ErrClosed}
		case c := <-backlog:
			return c, nil
		case <-changed:
		}
	}
}

// Close implements net.Listener. Connections in the backlog are reset.
func (l *listener) Close() error {
	err := error(&net.OpError{Op: "close", Net: "vnet", Addr: l.addr, Err: net.ErrClosed})
	l.once.Do(func() {
		close(l.closed)
		l.network.mu.Lock()
		delete(l.network.listeners, string(l.addr))
		l.network.mu.Unlock()
		for {
			select {
			case c := <-l.backlog:
				c.reset()
				continue
			default:
			}
			break
		}
		err = nil
	})
	return err
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) String() string { return fmt.Sprintf("listener on %s", l.addr) }
