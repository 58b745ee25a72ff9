package app

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/cluster/gossip"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/buildinfo"
)

// healthyLag is how many entries a member may be behind: one that came back is not asked for its log at once, and until it has
// caught up nothing commits without the others.
const healthyLag = 256

// reportLimit is how long a node may take to tell how it is.
const reportLimit = time.Second

// nodeReport is what a node says of itself when another asks.
type nodeReport struct {
	_       struct{} `cbor:",toarray"`
	Version string
	Role    string
	Term    uint64
	Applied uint64
	Contact int64 // ms since the leader was heard; -1 = never
	Wall    int64 // its wall clock, Unix nanoseconds
}

// tell says how this node is.
func (a *App) tell(struct{}) (nodeReport, error) {
	st := a.node.Status()
	r := nodeReport{Version: buildinfo.Version(), Role: st.State, Term: st.Term, Applied: st.AppliedIndex, Contact: -1, Wall: a.wall().UnixNano()}
	if st.ContactKnown {
		r.Contact = st.ContactAge.Milliseconds()
	}
	return r, nil
}

// heard is what came back from one member.
type heard struct {
	nodeReport
	ok     bool
	offset time.Duration // how far its wall clock is ahead of this node's
}

// askReports asks all members at once how they are.
func (a *App) askReports(ctx context.Context, list []cluster.Member) map[string]heard {
	return askMembers(ctx, list, func(ctx context.Context, m cluster.Member) (heard, bool) { return a.askReport(ctx, m), true })
}

// askMembers asks all members at once, for as long as one may take, and gives by id what those said of whom ask says ok.
func askMembers[T any](ctx context.Context, list []cluster.Member, ask func(context.Context, cluster.Member) (said T, ok bool)) map[string]T {
	ctx, cancel := context.WithTimeout(ctx, reportLimit)
	defer cancel()
	var (
		group sync.WaitGroup
		mu    sync.Mutex // guards out
		out   = map[string]T{}
	)
	for _, m := range list {
		group.Go(func() {
			said, ok := ask(ctx, m)
			if !ok {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			out[m.ID] = said
		})
	}
	group.Wait()
	return out
}

// askReport compares clocks in the middle between question and answer. An answer that took longer than it may, as when this
// process was stopped meanwhile, says nothing.
func (a *App) askReport(ctx context.Context, m cluster.Member) (h heard) {
	before, began := a.wall(), time.Now()
	b, err := a.node.Ask(ctx, m.ID, cluster.High, peerReport, []byte{0xf6}) // null: there is nothing to say
	took := time.Since(began)
	if err != nil || took > reportLimit || cbor.Unmarshal(b, &h.nodeReport) != nil {
		return heard{}
	}
	h.ok = true
	h.offset = time.Unix(0, h.Wall).Sub(before.Round(0).Add(took / 2))
	return h
}

// members is the cluster as the API sees it.
type members struct{ a *App }

// Cluster asks every member and tells how they are.
func (c members) Cluster(ctx context.Context) (api.Cluster, error) {
	cl, _ := c.look(ctx)
	return cl, nil
}

// look asks every member how it is and what may be wrong with it.
func (c members) look(ctx context.Context) (api.Cluster, map[string]healthReport) {
	a := c.a
	out := api.Cluster{ID: a.ident.ClusterID, Members: []api.ClusterMember{}, Forming: a.forming.text()}
	if !a.serves() {
		return out, nil
	}
	// A node that has just started may not know the others' names yet. Without a leader it tells what it knows.
	short, cancel := context.WithTimeout(ctx, reportLimit)
	_, _ = a.node.Barrier(short)
	cancel()
	st := a.node.Status()
	out.Term = st.Term
	records := make(map[string]fsm.NodeRecord)
	for _, n := range a.machine.View().Nodes() {
		records[n.ID] = n
	}
	var health map[string]healthReport
	var both sync.WaitGroup
	both.Go(func() { health = a.askHealth(ctx, st.Members) })
	reports, seen := a.askReports(ctx, st.Members), a.gossiped()
	both.Wait()
	alive := map[string]bool{}
	out.Healthy = st.LeaderID != ""
	for _, m := range st.Members {
		one := memberOf(m, records[m.ID], reports[m.ID], reports[st.LeaderID], m.ID == st.LeaderID)
		if p, ok := seen[m.ID]; ok {
			addGossip(&one, p)
		}
		if r, ok := health[m.ID]; ok {
			addHealth(&one, &r)
		}
		if one.Name = cmp.Or(a.nameOf(m.ID), seen[m.ID].About.Name, m.ID); one.Leader {
			out.Leader = one.Name
		}
		if m.Voter {
			out.Voters++
		}
		alive[m.ID] = reports[m.ID].ok
		out.Healthy = out.Healthy && alive[m.ID] && m.Voter && (one.Lag == nil || *one.Lag <= healthyLag)
		out.Members = append(out.Members, one)
	}
	slices.SortFunc(out.Members, func(x, y api.ClusterMember) int { return strings.Compare(x.Name, y.Name) })
	out.CanLose = max(cluster.CanLose(st.Members, alive), 0)
	out.Schedules = a.schedules()
	if r, ok := health[st.LeaderID]; ok && r.Leads != nil {
		addLeading(&out, r.Leads)
	}
	return out, health
}

// memberOf puts together what the record, the member itself and the leader say.
func memberOf(m cluster.Member, rec fsm.NodeRecord, r, leader heard, leads bool) api.ClusterMember {
	out := api.ClusterMember{Self: m.Self, State: "unreachable", Member: api.Member{ID: m.ID, Address: m.Addr,
		Voter: m.Voter, Leader: leads, Version: rec.Version, ConfigDigest: rec.Files}}
	if m.Addr == m.ID { // a node that is alone is reached by nobody
		out.Address = ""
	}
	if !r.ok {
		return out
	}
	out.State, out.Version, out.Applied = r.Role, r.Version, r.Applied
	if !leads && r.Contact >= 0 {
		out.ContactMillis = &r.Contact
	}
	if !leads && leader.ok {
		lag := max(int64(leader.Applied)-int64(r.Applied), 0)
		clock := (r.offset - leader.offset).Milliseconds()
		out.Lag, out.ClockMillis = &lag, &clock
	}
	return out
}

// addGossip adds what gossip says, where the member itself did not answer.
func addGossip(out *api.ClusterMember, p gossip.Peer) {
	out.Seen, out.SeenAddress = p.State, cmp.Or(p.About.Node, p.Gossip)
	if out.State != "unreachable" {
		return
	}
	out.Version = cmp.Or(p.About.Version, out.Version)
	out.ConfigDigest = cmp.Or(p.About.Files, out.ConfigDigest)
	out.ClockMillis = aheadMillis(p)
}

// Init makes this node the first of a cluster.
func (c members) Init(ctx context.Context, by saltpeter.Actor) (api.ClusterBegun, error) {
	id, err := c.a.initCluster(ctx)
	if err != nil {
		return api.ClusterBegun{}, err
	}
	c.a.log.Info("cluster begun", "cluster", id, "actor", by.Name)
	out := api.ClusterBegun{ID: id, Node: c.a.opts.Node.Name}
	if addr, err := c.a.opts.Node.AdvertiseNode(noLookup); err == nil {
		out.Address = addr
	}
	return out, nil
}

func noLookup(string) ([]string, error) { return []string{"0.0.0.0"}, nil }

// memberRequest is what a person asks of the leader about a member.
type memberRequest struct {
	_     struct{} `cbor:",toarray"`
	By    saltpeter.Actor
	Node  string // name or id; may be empty for a transfer
	Force bool
}

// memberAnswer tells what was done.
type memberAnswer struct {
	_        struct{} `cbor:",toarray"`
	ID, Name string
	Left     int // voters, after a removal
	Term     uint64
}

// find gives the member that a person means.
func (a *App) find(node string) (cluster.Member, error) {
	var names []string
	list := a.node.Members()
	for _, m := range list {
		if m.ID == node || a.nameOf(m.ID) == node {
			return m, nil
		}
		names = append(names, a.nameOf(m.ID))
	}
	return cluster.Member{}, saltpeter.Errorf(saltpeter.CodeNotFound, "there is no member %q", node).WithHint("members: %s", strings.Join(names, ", "))
}

// removeMember is the leader's part of Remove.
func (a *App) removeMember(ctx context.Context, req memberRequest) (memberAnswer, error) {
	m, err := a.find(req.Node)
	if err != nil {
		return memberAnswer{}, err
	}
	name := a.nameOf(m.ID)
	if err := a.node.Remove(ctx, m.ID, req.Force); err != nil {
		return memberAnswer{}, refusal(err)
	}
	a.log.Info("member removed", "node", name, "actor", req.By.Name)
	out := memberAnswer{ID: m.ID, Name: name, Term: a.node.Status().Term}
	if err := a.forgetNodes(ctx, record{a, out.Term}); err != nil { // the leader's housekeeping tries again
		a.log.Debug("removed node not forgotten yet", "node", name, "err", err)
	}
	for _, m := range a.node.Members() {
		if m.Voter {
			out.Left++
		}
	}
	return out, nil
}

// transferLeader is the leader's part of Transfer.
func (a *App) transferLeader(ctx context.Context, req memberRequest) (memberAnswer, error) {
	var m cluster.Member
	if req.Node != "" {
		var err error
		if m, err = a.find(req.Node); err != nil {
			return memberAnswer{}, err
		}
		if m.Self {
			return memberAnswer{ID: m.ID, Name: a.opts.Node.Name, Term: a.node.Status().Term}, nil
		}
		if !m.Voter {
			return memberAnswer{}, saltpeter.Errorf(saltpeter.CodeConflict, "%s has no vote yet", req.Node)
		}
	}
	if err := a.node.TransferTo(ctx, m.ID); err != nil {
		return memberAnswer{}, refusal(err)
	}
	a.log.Info("leadership handed on by request", "actor", req.By.Name)
	return memberAnswer{}, nil
}

// refusal makes an error for people out of those of the cluster that say no.
func refusal(err error) error {
	if r, ok := errors.AsType[*cluster.RefusedError](err); ok {
		return &saltpeter.Error{Code: saltpeter.CodeConflict, Message: r.Reason, Hint: r.Hint}
	}
	if errors.Is(err, cluster.ErrNoSuccessor) {
		return saltpeter.Errorf(saltpeter.CodeConflict, "no follower can take leadership over").WithHint("see: spctl cluster status")
	}
	return err
}

// Remove has the leader take a member out.
func (c members) Remove(ctx context.Context, by saltpeter.Actor, node string, force bool) (api.Removed, error) {
	req := memberRequest{By: by, Node: node, Force: force}
	for repeated := false; ; repeated = true {
		got, err := ask[memberAnswer](ctx, c.a, cluster.High, askRemove, req)
		switch {
		case err == nil:
			return api.Removed{ID: got.ID, Name: got.Name, Voters: got.Left}, nil
		case repeated && saltpeter.CodeOf(err) == saltpeter.CodeNotFound:
			return api.Removed{Name: node}, nil
		case errors.Is(err, cluster.ErrNotLeader):
			return api.Removed{}, noLeader(err)
		case !errors.Is(err, cluster.ErrUnknown):
			return api.Removed{}, err
		}
		if !sleep(ctx, retryUnknown) {
			return api.Removed{}, noLeader(err)
		}
	}
}

// Leave takes this node out.
func (c members) Leave(ctx context.Context, by saltpeter.Actor, force bool) (api.Removed, error) {
	if s := c.a.ident.standing(); s == waiting || s == removed {
		return api.Removed{}, saltpeter.Errorf(saltpeter.CodeConflict, "this node is not a member of a cluster")
	}
	return c.Remove(ctx, by, c.a.ident.NodeID, force)
}

// Transfer hands leadership on, and waits until the next leader is known.
func (c members) Transfer(ctx context.Context, by saltpeter.Actor, node string) (api.Transferred, error) {
	a := c.a
	began := time.Now()
	from := a.node.Status()
	if from.LeaderID == "" {
		return api.Transferred{}, noLeader(errors.New("no leader is known"))
	}
	got, err := ask[memberAnswer](ctx, a, cluster.High, askTransfer, memberRequest{By: by, Node: node})
	if err != nil && !errors.Is(err, cluster.ErrUnknown) {
		if errors.Is(err, cluster.ErrNotLeader) {
			err = noLeader(err)
		}
		return api.Transferred{}, err
	}
	out := api.Transferred{From: a.nameOf(from.LeaderID)}
	if got.ID != "" { // it leads already
		out.To, out.Term = got.Name, got.Term
		return out, nil
	}
	for {
		if st := a.node.Status(); st.LeaderID != "" && st.LeaderID != from.LeaderID {
			out.To, out.Term, out.Millis = a.nameOf(st.LeaderID), st.Term, time.Since(began).Milliseconds()
			return out, nil
		}
		if !sleep(ctx, 5*time.Millisecond) {
			return out, noLeader(ctx.Err())
		}
	}
}
