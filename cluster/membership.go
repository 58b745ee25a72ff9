package cluster

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// Member is a node of the Raft configuration.
type Member struct {
	ID     string
	Addr   string // of its node port
	Voter  bool
	Leader bool // as far as this node knows
	Self   bool
}

// Members are the nodes of the newest configuration in this node's log, sorted by id.
func (n *Node) Members() []Member {
	_, leader := n.raft.LeaderWithID()
	var members []Member
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		members = append(members, Member{ID: string(s.ID), Addr: string(s.Address), Voter: s.Suffrage == raft.Voter,
			Leader: s.ID == leader, Self: string(s.ID) == n.cfg.ID})
	}
	slices.SortFunc(members, func(a, b Member) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return members
}

// staticConfiguration is the configuration of a fresh data directory: exactly the peers, or this node alone. Every peer
// must be started with the same list: they agree on it because it is entry 1 of every log.
func (c *Config) staticConfiguration() (raft.Configuration, error) {
	peers := c.Peers
	if len(peers) == 0 {
		peers = []Peer{{ID: c.ID, Addr: c.Advertise}}
	}
	var conf raft.Configuration
	var errs []error
	self := false
	for _, p := range peers {
		for _, s := range conf.Servers {
			if string(s.ID) == p.ID || string(s.Address) == p.Addr {
				errs = append(errs, fmt.Errorf("peer %s at %s: id or address is listed twice", p.ID, p.Addr))
			}
		}
		if p.ID == c.ID {
			self = true
			if p.Addr != c.Advertise {
				errs = append(errs, fmt.Errorf("peer %s at %s: this node advertises %s", p.ID, p.Addr, c.Advertise))
			}
		}
		conf.Servers = append(conf.Servers, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(p.ID), Address: raft.ServerAddress(p.Addr)})
	}
	if !self {
		errs = append(errs, fmt.Errorf("node %s is not among the peers", c.ID))
	}
	slices.SortFunc(conf.Servers, func(a, b raft.Server) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return conf, errors.Join(errs...)
}

// warnOfOtherPeers says so if the static peers are not those of the log, which are in force.
func (n *Node) warnOfOtherPeers(given raft.Configuration) {
	if len(n.cfg.Peers) == 0 {
		return
	}
	inForce := n.raft.GetConfiguration().Configuration()
	same := len(inForce.Servers) == len(given.Servers)
	for _, s := range given.Servers {
		same = same && slices.Contains(inForce.Servers, s)
	}
	if !same {
		n.log.Warn("the peers given are not those of the data directory, which are in force", "peers", fmt.Sprint(inForce.Servers))
	}
}

// Status is what a status page shows of a node.
type Status struct {
	ID, Name, ClusterID string
	State               string // leader, follower, candidate or shutdown
	Serving             bool   // the leader's work runs here
	Term                uint64
	LeaderID            string // empty if unknown
	LeaderAddr          string
	LastIndex           uint64 // of the log
	CommitIndex         uint64
	AppliedIndex        uint64        // of the state machine
	ContactAge          time.Duration // see LeaderContact
	ContactKnown        bool
	Members             []Member
	Err                 error // what failed the node
}

var stateWords = map[raft.RaftState]string{
	raft.Leader: "leader", raft.Follower: "follower", raft.Candidate: "candidate", raft.Shutdown: "shutdown",
}

// Status says how the node is. Nothing may be decided on it: leadership can't be checked, only committed.
func (n *Node) Status() Status {
	addr, leader := n.raft.LeaderWithID()
	age, known := n.LeaderContact()
	return Status{
		ID: n.cfg.ID, Name: n.cfg.Name, ClusterID: n.cfg.ClusterID,
		State: stateWords[n.raft.State()], Serving: n.leading.Load() != nil, Term: n.raft.CurrentTerm(),
		LeaderID: string(leader), LeaderAddr: string(addr),
		LastIndex: n.raft.LastIndex(), CommitIndex: n.raft.CommitIndex(), AppliedIndex: n.machine.appliedIndex(),
		ContactAge: age, ContactKnown: known, Members: n.Members(), Err: n.failure(),
	}
}

// LeaderContact is how long ago this node last knew of a leader with a majority: a follower by its heartbeat, the leader
// itself by the time at which it sent what a majority then stored (at least once a second). known is false if there was
// none since the node was opened.
func (n *Node) LeaderContact() (age time.Duration, known bool) { return n.contact.age() }

// LeaderID names the leader that this node knows of, itself or another; empty if it knows none.
func (n *Node) LeaderID() string {
	_, id := n.raft.LeaderWithID()
	return string(id)
}

// notLeader is the error that says who leads.
func (n *Node) notLeader() error {
	addr, id := n.raft.LeaderWithID()
	if string(id) == n.cfg.ID { // on the way in or out
		return &NotLeaderError{}
	}
	return &NotLeaderError{LeaderID: string(id), LeaderAddr: string(addr)}
}
