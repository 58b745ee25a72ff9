package app

import (
	"context"
	"net"
	"time"

	"github.com/syscollective/saltpeter/cluster/gossip"
	"github.com/syscollective/saltpeter/internal/buildinfo"
)

// Gossip is what a node shows of others without asking a leader. Nothing is decided on it.
type Gossip interface {
	Run(ctx context.Context) error
	Peers() []gossip.Peer
	Close() error
}

// silent is the gossip of a node that is alone, or whose tests have none.
type silent struct{}

func (silent) Run(context.Context) error { return nil }
func (silent) Peers() []gossip.Peer      { return nil }
func (silent) Close() error              { return nil }

// openGossip opens the gossip port of a node that has others to talk to. A node whose port can't be had works without it:
// nothing depends on gossip.
func (a *App) openGossip() {
	a.gossip = silent{}
	switch {
	case a.opts.Seams.Gossip != nil:
		a.gossip = a.opts.Seams.Gossip
	case a.opts.Seams.Listen == nil && a.ident.standing() == several:
		g, err := a.startGossip()
		if err != nil {
			a.log.Warn("no gossip: cluster status will not show who is seen where", "err", err)
			return
		}
		a.gossip = g
	}
}

func (a *App) startGossip() (*gossip.Gossip, error) {
	advertise, err := a.opts.Node.AdvertiseNode(net.LookupHost)
	if err != nil {
		return nil, err
	}
	return gossip.Open(gossip.Config{
		ID: a.ident.NodeID, Cluster: a.ident.ClusterID, Keys: a.ring.GossipKeys(), Listen: a.listen.Gossip, Advertise: advertise,
		About: func() gossip.About {
			return gossip.About{Name: a.opts.Node.Name, Node: advertise, Version: buildinfo.Version(), Files: a.files.digest()}
		},
		Members: a.memberHosts, Wall: a.wall, Log: a.log,
	})
}

// memberHosts gives the ids of all members and the hosts at which they were.
func (a *App) memberHosts() map[string]string {
	out := map[string]string{}
	for _, m := range a.node.Members() {
		if host, _, err := net.SplitHostPort(m.Addr); err == nil {
			out[m.ID] = host
		} else {
			out[m.ID] = m.Addr
		}
	}
	return out
}

// gossiped is what gossip says, by node id. Without a name in the record, the one that the node gives itself is shown.
func (a *App) gossiped() map[string]gossip.Peer {
	out := map[string]gossip.Peer{}
	for _, p := range a.gossip.Peers() {
		out[p.ID] = p
	}
	return out
}

// aheadMillis is how far a node's clock is ahead of this node's as far as gossip has measured it.
func aheadMillis(p gossip.Peer) *int64 {
	if !p.AheadKnown {
		return nil
	}
	ms := p.Ahead.Round(time.Millisecond).Milliseconds()
	return &ms
}
