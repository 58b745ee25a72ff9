package gossip

import (
	"encoding/binary"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/memberlist"
)

// About is what a node says of itself. Longer texts are cut.
type About struct {
	Name    string `cbor:"1,keyasint,omitempty"`
	Node    string `cbor:"2,keyasint,omitempty"` // host:port of its node port
	Version string `cbor:"3,keyasint,omitempty"`
	Files   string `cbor:"4,keyasint,omitempty"` // digest of its configuration files
}

// aboutLimits are the longest texts of an About, in bytes: together they fit into what memberlist carries, 512 bytes.
const (
	nameLimit    = 128
	nodeLimit    = 128
	versionLimit = 64
	filesLimit   = 96
)

func (a About) cut() About {
	clip := func(s string, n int) string { return s[:min(len(s), n)] }
	return About{clip(a.Name, nameLimit), clip(a.Node, nodeLimit), clip(a.Version, versionLimit), clip(a.Files, filesLimit)}
}

func (a About) encode() []byte {
	b, _ := cbor.Marshal(a.cut()) // four texts: that always works
	return b
}

var decoder = func() cbor.DecMode {
	mode, _ := cbor.DecOptions{MaxMapPairs: 16, MaxArrayElements: 16, MaxNestedLevels: 4, UTF8: cbor.UTF8DecodeInvalid}.DecMode() // constant and valid
	return mode
}()

// decodeAbout reads what another node says; nothing of it is trusted, and what can't be read is empty.
func decodeAbout(b []byte) About {
	var a About
	if len(b) > memberlist.MetaMaxSize || decoder.Unmarshal(b, &a) != nil {
		return About{}
	}
	return a.cut()
}

var errNoMember = errors.New("not a member")

// hooks is what memberlist calls: it tells of this node, lets in nobody but members, and keeps what they say.
type hooks struct {
	cfg *Config

	mu   sync.Mutex // guards seen
	seen map[string]Peer
}

func newHooks(cfg *Config) *hooks { return &hooks{cfg: cfg, seen: map[string]Peer{}} }

// NodeMeta gives what this node says of itself.
func (h *hooks) NodeMeta(int) []byte { return h.cfg.About().encode() }

// NotifyAlive refuses nodes that are no members: else anybody with the key could fill this node's memory with names.
func (h *hooks) NotifyAlive(n *memberlist.Node) error {
	if n.Name == h.cfg.ID {
		return nil
	}
	if _, member := h.cfg.Members()[n.Name]; !member {
		return errNoMember
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.seen[n.Name]
	p.ID, p.State, p.About, p.Gossip = n.Name, Gone, decodeAbout(n.Meta), net.JoinHostPort(n.Addr.String(), strconv.Itoa(int(n.Port)))
	h.seen[n.Name] = p
	return nil
}

// peers gives what was heard of the present members, sorted by id and all as gone, and forgets the others.
func (h *hooks) peers() []Peer {
	members := h.cfg.Members()
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]Peer, 0, len(h.seen))
	for id, p := range h.seen {
		if _, member := members[id]; !member {
			delete(h.seen, id)
			continue
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Peer) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// AckPayload answers a ping with this node's wall clock.
func (h *hooks) AckPayload() []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(h.cfg.Wall().UnixNano()))
}

// NotifyPingComplete compares clocks in the middle between ping and answer.
func (h *hooks) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, payload []byte) {
	if len(payload) != 8 {
		return
	}
	theirs := time.Unix(0, int64(binary.BigEndian.Uint64(payload)))
	ahead := theirs.Sub(h.cfg.Wall().Round(0).Add(-rtt / 2))
	h.mu.Lock()
	defer h.mu.Unlock()
	if p, known := h.seen[n.Name]; known {
		p.Ahead, p.AheadKnown = ahead, true
		h.seen[n.Name] = p
	}
}

// The rest of memberlist's delegate carries messages and states of the user; there are none, and what comes is dropped.

// NotifyMsg drops a message.
func (h *hooks) NotifyMsg([]byte) {}

// GetBroadcasts has nothing to send.
func (h *hooks) GetBroadcasts(_, _ int) [][]byte { return nil }

// LocalState has nothing to add.
func (h *hooks) LocalState(bool) []byte { return nil }

// MergeRemoteState drops what came.
func (h *hooks) MergeRemoteState([]byte, bool) {}
