package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/keys"
)

const (
	applyEvery = time.Second
	// doubtAfter is how long a member hears of no leader before it asks the others whether it still is one.
	doubtAfter = 5 * time.Second
)

var errRemoved = errors.New("this node was removed from its cluster")

// forming is what a node that is not, or not any more, a working member says of itself.
type forming struct {
	mu  sync.Mutex // guards why
	why string
}

func (f *forming) text() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.why
}

// set says whether the text is a new one.
func (f *forming) set(why string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	changed := f.why != why
	f.why = why
	return changed
}

// serves says whether this node works as a member: only then are there wrappers, logs and a record to speak of.
func (a *App) serves() bool {
	s := a.ident.standing()
	return s == alone || s == several
}

// noteLog notes that this node has a log, and refuses to go on under its id if the log that it had is gone: it would vote
// without knowing what it has acknowledged.
func (a *App) noteLog() error {
	if a.ident.standing() != several {
		return nil
	}
	has := a.node.Status().LastIndex > 0
	switch {
	case has == a.ident.Log:
		return nil
	case !has:
		return saltpeter.Errorf(saltpeter.CodeConflict, "the raft log of this node is gone from %s", a.opts.Node.DataDir).
			WithHint("on another node: spctl cluster remove %s; then empty this data directory and start with --join", a.opts.Node.Name)
	}
	a.ident.Log, a.ident.Found = true, false
	return a.ident.save(a.opts.Node.DataDir)
}

// form looks after this node's standing.
func (a *App) form(ctx context.Context) error {
	if len(a.opts.Peers) > 0 {
		return nil
	}
	switch a.ident.standing() {
	case waiting:
		return a.seekAdmission(ctx)
	case several:
		return a.watchMembership(ctx)
	case removed:
		a.forming.set(errRemoved.Error() + ": " + a.ident.Removed)
		a.log.Error("this node does nothing", "err", a.forming.text())
	case alone:
		if len(a.opts.Node.Join) > 0 {
			a.log.Warn("join settings are not in force: this node has a record of its own; spctl cluster init makes it the first of several, an empty data directory lets it join")
		}
	}
	return nil
}

// peers lists where other nodes may be asked: members, then join addresses.
func (a *App) peers() []string {
	var out []string
	self, _ := a.opts.Node.AdvertiseNode(net.LookupHost)
	for _, m := range a.node.Members() {
		if !m.Self {
			out = append(out, m.Addr)
		}
	}
	for _, addr := range a.opts.Node.JoinAddresses() {
		if addr != self && !slices.Contains(out, addr) {
			out = append(out, addr)
		}
	}
	return out
}

// seekAdmission asks the join addresses until a cluster admits this node.
func (a *App) seekAdmission(ctx context.Context) error {
	for {
		v, why := a.apply(ctx)
		if v.Outcome == cluster.Admitted {
			a.log.Info("admitted", "cluster", v.ClusterID)
			id := a.ident
			id.ClusterID, id.Several = v.ClusterID, true
			return a.become(id)
		}
		if ctx.Err() == nil && a.forming.set(why) {
			a.log.Warn("not part of a cluster yet", "reason", why)
		}
		if !sleep(ctx, applyEvery) {
			return nil
		}
	}
}

// apply asks every other node once, until one decides. why tells what they said.
func (a *App) apply(ctx context.Context) (v cluster.Verdict, why string) {
	var said []string
	for _, addr := range a.peers() {
		v, err := a.node.Apply(ctx, addr)
		switch {
		case errors.Is(err, keys.ErrPeer):
			said = append(said, fmt.Sprintf("%s has another key than this node", addr))
		case err != nil:
			said = append(said, fmt.Sprintf("%s does not answer: %v", addr, err))
		case v.Outcome == cluster.Refused:
			return v, fmt.Sprintf("refused by %s: %s", addr, v.Reason)
		case v.Outcome != cluster.Later:
			return v, v.Reason
		default:
			said = append(said, fmt.Sprintf("%s: %s", addr, v.Reason))
		}
	}
	why = "not part of a cluster yet: run spctl cluster init on one node"
	if len(said) > 0 {
		why = "waiting to be admitted: " + strings.Join(said, "; ") + " (once, on one node: spctl cluster init)"
	}
	return cluster.Verdict{Outcome: cluster.Later}, why
}

// watchMembership notes the first entry of the log, and finds out whether this node was removed.
func (a *App) watchMembership(ctx context.Context) error {
	for sleep(ctx, applyEvery) {
		if !a.ident.Log {
			if err := a.noteLog(); err != nil {
				return err
			}
		}
		if !a.doubtful() {
			a.forming.set("")
			continue
		}
		v, why := a.apply(ctx)
		switch v.Outcome {
		case cluster.Removed:
			id := a.ident
			id.Removed = v.Reason
			return a.become(id)
		case cluster.Refused:
			if a.forming.set(why) {
				a.log.Error("not taken for a member", "reason", why)
			}
		}
	}
	return nil
}

// doubtful says whether something speaks for this node being no member any more.
func (a *App) doubtful() bool {
	st := a.node.Status()
	if len(st.Members) > 0 && !slices.ContainsFunc(st.Members, func(m cluster.Member) bool { return m.Self }) {
		return true
	}
	return time.Since(a.started) > doubtAfter && (!st.ContactKnown || st.ContactAge > doubtAfter)
}

// vet looks at what the cluster itself does not know of an applicant, its name and its program, and notes both: so the name is
// reserved, and what the program knows counts from the moment in which it is a member.
func (a *App) vet(ctx context.Context, who cluster.Applicant) (reason string, err error) {
	for _, m := range a.node.Members() {
		if m.ID != who.ID && a.nameOf(m.ID) == who.Name {
			return fmt.Sprintf("the name %s is that of the member at %s: give this node another --name", who.Name, m.Addr), nil
		}
	}
	about := programOf(who.Program)
	if reason := a.vetProgram(about); reason != "" {
		return reason, nil
	}
	env := fsm.Envelope{Millis: a.wall().UnixMilli(), Actor: who.Name, Origin: "node " + who.Name}
	_, err = a.propose(ctx, cluster.High, env, &fsm.SetNode{Node: about.record(who.ID, who.Name)})
	return "", err
}

// nameOf gives the name under which a node has introduced itself.
func (a *App) nameOf(id string) string {
	if id == a.ident.NodeID {
		return a.opts.Node.Name
	}
	for _, n := range a.machine.View().Nodes() {
		if n.ID == id {
			return n.Name
		}
	}
	return ""
}

// initCluster makes this node the first of a cluster. It begins again after the call.
func (a *App) initCluster(ctx context.Context) (clusterID string, err error) {
	switch s := a.ident.standing(); {
	case s == removed:
		return "", saltpeter.Errorf(saltpeter.CodeConflict, "%w", errRemoved).WithHint("empty its data directory to use it anew")
	case s == several || len(a.opts.Peers) > 0:
		return a.ident.ClusterID, a.onlyMember()
	}
	id := a.ident // of a node that waits or is alone nothing writes it meanwhile
	if id.standing() == waiting {
		if v, why := a.apply(ctx); v.Outcome != cluster.Later {
			return "", saltpeter.Errorf(saltpeter.CodeConflict, "there is a cluster at the join addresses already (%s: %s)", v.Outcome, why)
		}
		id.ClusterID, id.Found = newUUID(), true
	} else if err := a.tryNodePort(); err != nil {
		return "", err
	}
	id.Several = true
	return id.ClusterID, a.become(id)
}

// onlyMember refuses to begin a cluster on a node whose cluster has others. One that was just admitted does not know them yet.
func (a *App) onlyMember() error {
	members := a.node.Members()
	if len(members) == 1 && members[0].Self {
		return nil
	}
	return saltpeter.Errorf(saltpeter.CodeConflict, "this node is a member of cluster %s already", a.ident.ClusterID).
		WithHint("start a new node with --join to add it; see: spctl cluster members")
}

// tryNodePort finds out whether the node port can be opened, before anything depends on it.
func (a *App) tryNodePort() error {
	if _, err := a.opts.Node.AdvertiseNode(net.LookupHost); err != nil {
		return err
	}
	ln, err := a.listenTCP("node", a.listen.Node)
	if err != nil {
		return saltpeter.Errorf(saltpeter.CodeConflict, "can't open the node port: %w", err).WithHint("give --bind or --node-port")
	}
	return ln.Close()
}
