// Package gossip lets nodes see each other without a leader: addresses, versions, digests of configuration files, health and
// clocks, through memberlist. It is for showing. Nothing is decided on what it says: healthy nodes get marked dead under
// load, and whoever holds the key may say anything. It takes in no names but those of members, so what it keeps is bounded.
//
// Everything is encrypted with the cluster's gossip key and bears the cluster's UUID; who lacks either is not heard. With several
// keys the first encrypts and all are accepted.
//
// Open opens the port and starts memberlist's goroutines, Close ends them; Run keeps in touch with the other members.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	joinEvery = 2 * time.Second
	// streamLimit bounds one exchange over TCP, dialing and hanging peers included.
	streamLimit = time.Second
	tellLimit   = 200 * time.Millisecond // for news and goodbyes
	// reclaimAfter is how long a node must be gone before it may come back under another address, and syncEvery how often two
	// nodes compare all that they know: so long may a new address go unseen that was told while the old one still counted.
	reclaimAfter = time.Millisecond
	syncEvery    = 10 * time.Second
)

// States of a Peer. They are opinions.
const (
	Alive = "alive"
	Gone  = "gone" // it doesn't answer, or has said goodbye
)

// Peer is what gossip says of a member.
type Peer struct {
	ID     string
	About  About
	Gossip string // host:port from which it gossips
	State  string
	// Ahead is how far the node's wall clock is ahead of this node's, once the two have measured it.
	Ahead      time.Duration
	AheadKnown bool
}

// Config is what a Gossip is made of. All but Log is required.
type Config struct {
	ID        string   // this node's
	Cluster   string   // UUID
	Keys      [][]byte // of 32 bytes, newest first
	Listen    string   // host:port, TCP and UDP
	Advertise string   // host or host:port of another port, as others reach this node
	About     func() About
	Members   func() map[string]string // ids of all members, this node among them, and the hosts at which they were
	Wall      func() time.Time
	Log       *slog.Logger // nil = discard
}

// Gossip is one node's part. Its methods are safe for concurrent use.
type Gossip struct {
	cfg   Config
	log   *slog.Logger
	port  int
	list  *memberlist.Memberlist
	hooks *hooks

	closed atomic.Bool
}

// Open opens the port. The node is heard by others once Run has met one of them.
func Open(cfg Config) (*Gossip, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	host, portText, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("open gossip port: %w", err)
	}
	g := &Gossip{cfg: cfg, log: cfg.Log.With("component", "gossip")}
	if g.port, err = strconv.Atoi(portText); err != nil {
		return nil, fmt.Errorf("open gossip port %q: %w", portText, err)
	}
	if len(cfg.Keys) == 0 {
		return nil, errors.New("open gossip port: no key")
	}
	g.hooks = newHooks(&g.cfg)
	logger := log.New(logWriter{g.log}, "", 0)
	trans, err := newTransport(host, g.port, logger)
	if err != nil {
		return nil, fmt.Errorf("open gossip port: %w", err)
	}
	mc, err := g.settings(host, trans, logger)
	if err == nil {
		g.list, err = memberlist.Create(mc)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start gossip: %w", err), trans.Shutdown())
	}
	return g, nil
}

func (g *Gossip) settings(host string, trans *transport, logger *log.Logger) (*memberlist.Config, error) {
	mc := memberlist.DefaultLANConfig()
	mc.Name, mc.Label, mc.Transport, mc.Logger = g.cfg.ID, g.cfg.Cluster, trans, logger
	mc.BindAddr, mc.BindPort, mc.AdvertisePort = host, g.port, g.port
	mc.AdvertiseAddr = advertised(g.cfg.Advertise)
	mc.TCPTimeout, mc.DeadNodeReclaimTime, mc.PushPullInterval = streamLimit, reclaimAfter, syncEvery
	mc.Delegate, mc.Alive, mc.Ping = g.hooks, g.hooks, g.hooks
	var err error
	mc.Keyring, err = memberlist.NewKeyring(g.cfg.Keys, g.cfg.Keys[0])
	return mc, err
}

// advertised gives the IP of an advertised address, empty where it can't be found: memberlist then takes one of the interfaces.
func advertised(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		addr = host
	}
	if net.ParseIP(addr) != nil {
		return addr
	}
	if ips, err := net.LookupHost(addr); err == nil && len(ips) > 0 {
		return ips[0]
	}
	return ""
}

// Run keeps in touch until ctx ends, then says goodbye.
func (g *Gossip) Run(ctx context.Context) error {
	told := g.cfg.About()
	for tick := time.NewTicker(joinEvery); ; {
		g.meet(ctx)
		if now := g.cfg.About(); now != told {
			if err := g.list.UpdateNode(tellLimit); err != nil {
				g.log.Debug("news not told", "err", err)
			}
			told = now
		}
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		tick.Stop()
		if g.closed.Load() { // memberlist panics over a goodbye after its end
			return nil
		}
		if err := g.list.Leave(tellLimit); err != nil {
			g.log.Debug("left without a goodbye", "err", err)
		}
		return nil
	}
}

// meet looks for the members that are not seen alive, at the hosts where they were.
func (g *Gossip) meet(ctx context.Context) {
	seen := map[string]bool{}
	for _, m := range g.list.Members() {
		seen[m.Name] = true
	}
	for id, host := range g.cfg.Members() {
		if ctx.Err() != nil {
			return
		}
		if seen[id] || id == g.cfg.ID {
			continue
		}
		if _, err := g.list.Join([]string{net.JoinHostPort(host, strconv.Itoa(g.port))}); err != nil {
			g.log.Debug("not met", "node", id, "err", err)
		}
	}
}

// Peers gives what is said of the other members, sorted by id. Who was never heard of is not among them.
func (g *Gossip) Peers() []Peer {
	out := g.hooks.peers()
	for _, m := range g.list.Members() { // those that are not gone; a node's name never changes, the rest of it may at any time
		if i := slices.IndexFunc(out, func(p Peer) bool { return p.ID == m.Name }); i >= 0 {
			out[i].State = Alive
		}
	}
	return out
}

// Close closes the port and ends what Open started. It must not be called while Run ends.
func (g *Gossip) Close() error {
	g.closed.Store(true)
	if err := g.list.Shutdown(); err != nil {
		return fmt.Errorf("end gossip: %w", err)
	}
	return nil
}

// logWriter takes memberlist's log: what it says of health is shown by status, so all of it is for debugging.
type logWriter struct{ log *slog.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.log.Debug("memberlist", "text", strings.TrimSpace(string(p)))
	return len(p), nil
}
