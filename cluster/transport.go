package cluster

import (
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// transport is Raft's own, with one thing added: it notes when this node last accepted a leader's heartbeat. Raft's
// LastContact won't do for that: it is also set when a leader steps down, however long it was stopped before, and when
// a vote is granted.
type transport struct {
	*raft.NetworkTransport
	contact *contact
}

// SetHeartbeatHandler implements raft.Transport.
func (t *transport) SetHeartbeatHandler(handle func(raft.RPC)) {
	t.NetworkTransport.SetHeartbeatHandler(func(rpc raft.RPC) {
		caller := rpc.RespChan
		answer := make(chan raft.RPCResponse, 1)
		rpc.RespChan = answer
		handle(rpc)
		select {
		case out := <-answer:
			if resp, ok := out.Response.(*raft.AppendEntriesResponse); ok && resp.Success && out.Error == nil {
				t.contact.note(time.Now())
			}
			caller <- out
		default: // Raft is shutting down and does not answer
		}
	})
}

// contact is when this node last knew that a leader was there: a follower at a heartbeat, a leader when it sent what a
// majority then committed.
type contact struct {
	mu sync.Mutex // guards at
	at time.Time
}

func (c *contact) note(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at.After(c.at) {
		c.at = at
	}
}

// age is the time since; ok is false if there was never a contact since the node was opened.
func (c *contact) age() (age time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.IsZero() {
		return 0, false
	}
	return time.Since(c.at), true
}
