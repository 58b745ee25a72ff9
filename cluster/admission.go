package cluster

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// Applicant is what a node says of itself when it asks to be admitted, or whether it still is a member.
type Applicant struct {
	ID, Name  string
	Addr      string // of its node port
	ClusterID string // of its data directory; empty = it belongs to none yet
	LastIndex uint64 // of its log
	Program   []byte // what its program says of itself: see Config.Program
}

// Outcome is what became of an application.
type Outcome string

// The outcomes.
const (
	Admitted Outcome = "admitted" // the applicant is a member now, or was one
	Refused  Outcome = "refused"  // for a reason that does not go away by itself
	Removed  Outcome = "removed"  // it holds a log of this cluster and is no member: it was one
	Later    Outcome = "later"    // nobody could decide: ask again
)

// Verdict is the answer to an application.
type Verdict struct {
	Outcome   Outcome
	ClusterID string // of whoever answered; empty if it belongs to none
	Reason    string // for people; empty when admitted
}

// applyLimit bounds one question of an applicant, forwarding included.
const applyLimit = 10 * time.Second

// Apply asks the node at an address, and through it the leader, to admit this node. It is how a node without a
// configuration becomes a member, and how one that hears of no leader learns that it was removed. An error means that
// nobody answered; keys.ErrPeer is in its chain if the other side has another key.
func (n *Node) Apply(ctx context.Context, addr string) (Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	conn, err := n.port.connect(ctx, speakJoin, "", addr)
	if err != nil {
		return Verdict{}, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	question, err := json.Marshal(Applicant{ID: n.cfg.ID, Name: n.cfg.Name, Addr: n.cfg.Advertise, ClusterID: n.cfg.ClusterID,
		LastIndex: n.raft.LastIndex(), Program: n.cfg.Program})
	if err != nil {
		return Verdict{}, fmt.Errorf("encode application: %w", err)
	}
	f := frame{typ: frameApply, payload: question}
	if _, err := conn.Write(f.append(nil)); err != nil {
		return Verdict{}, fmt.Errorf("apply at %s: %w", addr, err)
	}
	answer, err := readFrame(bufio.NewReader(conn))
	if err != nil {
		return Verdict{}, fmt.Errorf("apply at %s: %w", addr, err)
	}
	body, err := decodeAnswer(answer.payload)
	if err != nil {
		return Verdict{}, fmt.Errorf("apply at %s: %w", addr, err)
	}
	var v Verdict
	if err := json.Unmarshal(body, &v); err != nil {
		return Verdict{}, fmt.Errorf("decode verdict of %s: %w", addr, err)
	}
	return v, nil
}

// answerApplicant serves one connection of an applicant, which has proved its id.
func (n *Node) answerApplicant(ctx context.Context, conn net.Conn, id string) error {
	ctx, cancel := context.WithTimeout(ctx, applyLimit)
	defer cancel()
	if err := conn.SetDeadline(time.Now().Add(applyLimit)); err != nil {
		return err
	}
	f, err := readFrame(bufio.NewReader(conn))
	if err != nil {
		return err
	}
	if f.typ != frameApply {
		return fmt.Errorf("%w: type %d from an applicant", errFrame, f.typ)
	}
	var a Applicant
	if err := json.Unmarshal(f.payload, &a); err != nil || a.ID != id || a.Addr == "" {
		return fmt.Errorf("%w: application of node %q", errFrame, id)
	}
	verdict, err := n.decide(ctx, f)
	out := frame{typ: frameAnswer, payload: encodeAnswer(verdict, err)}
	_, err = conn.Write(out.append(nil))
	return err
}

// decide has the leader decide, over one hop at most. That there is none is a verdict too.
func (n *Node) decide(ctx context.Context, f *frame) ([]byte, error) {
	later := func(reason string) ([]byte, error) {
		return json.Marshal(Verdict{Outcome: Later, ClusterID: n.cfg.ClusterID, Reason: reason})
	}
	if len(n.Members()) == 0 {
		return later(n.cfg.Name + " is not part of a cluster itself")
	}
	verdict, err := n.callLeader(ctx, f)
	switch {
	case errors.Is(err, ErrNotLeader), errors.Is(err, errUnsent):
		return later("no leader is known to " + n.cfg.Name)
	case err != nil:
		return later("the leader gave no answer: " + err.Error())
	}
	return verdict, nil
}

// answerApplication decides, if this node leads.
func (n *Node) answerApplication(ctx context.Context, payload []byte) ([]byte, error) {
	var a Applicant
	if err := json.Unmarshal(payload, &a); err != nil {
		return nil, fmt.Errorf("%w: application: %w", errFrame, err)
	}
	unlock, err := n.lockMembership(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := n.proposeBarrier(ctx); err != nil { // an answer is the cluster's, not that of a leader of yesterday
		return nil, err
	}
	v, err := n.admit(ctx, a)
	if err != nil {
		return nil, err
	}
	v.ClusterID = n.cfg.ClusterID
	return json.Marshal(v)
}

// admit judges an applicant and makes it a member that does not vote yet.
func (n *Node) admit(ctx context.Context, a Applicant) (Verdict, error) {
	v := n.judge(a)
	if v.Outcome == "" && n.cfg.Vet != nil {
		switch reason, err := n.cfg.Vet(ctx, a); {
		case err != nil:
			return Verdict{}, err
		case reason != "":
			v = Verdict{Outcome: Refused, Reason: reason}
		}
	}
	if v.Outcome == "" {
		err := n.raft.AddNonvoter(raft.ServerID(a.ID), raft.ServerAddress(a.Addr), 0, n.cfg.Timings.RPC).Error()
		if err != nil {
			return Verdict{}, n.changeErr(err)
		}
		n.log.Info("node admitted", "node", a.Name, "id", a.ID, "addr", a.Addr)
		return Verdict{Outcome: Admitted}, nil
	}
	if v.Outcome == Refused {
		n.log.Warn("node refused", "node", a.Name, "id", a.ID, "addr", a.Addr, "reason", v.Reason)
	}
	return v, nil
}

// judge compares an applicant with the members. No outcome means that nothing speaks against it.
func (n *Node) judge(a Applicant) Verdict {
	refuse := func(format string, args ...any) Verdict {
		return Verdict{Outcome: Refused, Reason: fmt.Sprintf(format, args...)}
	}
	if a.ClusterID != "" && a.ClusterID != n.cfg.ClusterID {
		return refuse("its data directory is of cluster %s, this is cluster %s: empty the directory if the node is to join this one", a.ClusterID, n.cfg.ClusterID)
	}
	for _, m := range n.Members() {
		switch {
		case m.ID == a.ID && m.Addr == a.Addr && m.Voter && a.LastIndex == 0:
			return refuse("it is a voter whose log is gone: remove it (%s), empty its data directory and let it join as a new node", n.name(m.ID))
		case m.ID == a.ID && m.Addr == a.Addr:
			return Verdict{Outcome: Admitted}
		case m.ID == a.ID:
			return refuse("node id %s is that of %s at %s: this data directory is a copy of that node's, or its address has changed; "+
				"remove the old member first: spctl cluster remove %s", a.ID, n.name(m.ID), m.Addr, n.name(m.ID))
		case m.Addr == a.Addr:
			return refuse("address %s is that of the member %s under another node id: if its data directory was lost, "+
				"remove the old member first: spctl cluster remove %s", a.Addr, n.name(m.ID), n.name(m.ID))
		}
	}
	if a.LastIndex > 0 {
		return Verdict{Outcome: Removed, Reason: "it was removed from the cluster: to let it join again as a new node, empty its data directory"}
	}
	return Verdict{}
}

// name is a member's name for people.
func (n *Node) name(id string) string {
	if n.cfg.NameOf != nil {
		if name := n.cfg.NameOf(id); name != "" {
			return name
		}
	}
	return id
}
