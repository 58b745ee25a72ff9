package app

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/syscollective/saltpeter"
)

// identity is who a node is, for as long as its data directory lives: a lost directory means a new id.
type identity struct {
	NodeID    string `json:"node_id"`    // UUID
	ClusterID string `json:"cluster_id"` // UUID; empty = it waits to be admitted to a cluster

	Several bool   `json:"several,omitempty"` // part of a cluster that may have several nodes: its node port is open
	Found   bool   `json:"found,omitempty"`   // it is to write the first entry of its cluster's log
	Log     bool   `json:"log,omitempty"`     // it has a log; if that is gone the node may not go on under its id
	Removed string `json:"removed,omitempty"` // why it is no member any more

	Recovered bool   `json:"recovered,omitempty"` // it was made the only member by hand and begins a new epoch when it leads
	Epoch     uint64 `json:"epoch,omitempty"`     // that one, once it is known
}

// standing is what a node is to a cluster. Only a restart of the node changes it.
type standing int

const (
	alone   standing = iota // a cluster by itself, whose node port is closed
	waiting                 // asks to be admitted; it never becomes a cluster by itself
	several                 // a member of a cluster with an open node port
	removed                 // was a member
)

func (id *identity) standing() standing {
	switch {
	case id.Removed != "":
		return removed
	case id.ClusterID == "":
		return waiting
	case id.Several:
		return several
	default:
		return alone
	}
}

func nodeFile(dir string) string { return filepath.Join(dir, "node.json") }

// save writes node.json.
func (id *identity) save(dir string) error {
	text, err := json.MarshalIndent(id, "", "  ")
	if err != nil {
		return fmt.Errorf("encode node identity: %w", err)
	}
	return writeSynced(nodeFile(dir), append(text, '\n'))
}

// loadIdentity reads node.json of the data directory, or writes it: with the ids that are given, else with new ones. A
// node that is to join others has no cluster at first.
func loadIdentity(dir, nodeID, clusterID string, join bool) (identity, error) {
	id, known, err := readIdentity(dir)
	if err != nil {
		return id, err
	}
	if known {
		if nodeID != "" && id.NodeID != nodeID || clusterID != "" && id.ClusterID != clusterID {
			return id, fmt.Errorf("data directory %s belongs to node %s of cluster %s", dir, id.NodeID, id.ClusterID)
		}
		if id.ClusterID != "" || join {
			return id, nil
		}
	} else {
		id.NodeID = orUUID(nodeID)
	}
	if !join {
		id.ClusterID = orUUID(clusterID)
	}
	return id, id.save(dir)
}

// readIdentity reads node.json; known is false where there is none.
func readIdentity(dir string) (id identity, known bool, err error) {
	path := nodeFile(dir)
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return id, false, nil
	case err != nil:
		return id, false, fmt.Errorf("read node identity: %w", err)
	}
	if err := json.Unmarshal(text, &id); err != nil || id.NodeID == "" {
		return id, false, fmt.Errorf("read %s: it does not name a node and a cluster", path)
	}
	return id, true, nil
}

func orUUID(id string) string {
	if id != "" {
		return id
	}
	return newUUID()
}

// newUUID gives a random UUID (version 4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6] = b[6]&0x0f | 0x40
	b[8] = b[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// writeSynced writes a file so that it is there whole, or not at all, after a power loss.
func writeSynced(path string, text []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// socketGroup is the group whose members are admin over the unix socket, where the host has it.
const socketGroup = "saltpeter"

// groupID gives the id of socketGroup, 0 where there is none.
func groupID() int {
	g, err := user.LookupGroup(socketGroup)
	if err != nil {
		return 0
	}
	id, err := strconv.Atoi(g.Gid)
	if err != nil || id < 0 {
		return 0
	}
	return id
}

// listenSocket opens the unix socket: for this user alone, and for the members of the group if there is one that this
// process may give it to. One that a process which is gone has left behind is replaced; one that answers is another node's.
func listenSocket(path string, group int) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the socket's directory: %w", err)
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = c.Close()
		return nil, saltpeter.Errorf(saltpeter.CodeConflict, "another node serves the socket %s", path).WithHint("give this one another --socket")
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove a left-over socket: %w", err)
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open socket: %w", err)
	}
	mode := os.FileMode(0o600)
	if group > 0 && os.Chown(path, -1, group) == nil {
		mode = 0o660
	}
	if err := os.Chmod(path, mode); err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return ln, nil
}
