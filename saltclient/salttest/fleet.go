// Package salttest has a fake of Salt for tests, with the faults that real Salt showed, and the contract that every way to a
// Salt master keeps: the fake, the bridge, the api.
//
// A Fleet is minions; its masters are Fakes, which share them as hot-hot masters do. Nothing runs by itself: what a minion
// does is done when it is published, and what is due later is there when somebody looks. So a test in a bubble of
// testing/synctest always sees the same.
package salttest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/saltclient"
)

// remembered is how many jobs a minion remembers (minion_jid_queue_hwm); an older id is a new one to it.
const remembered = 100

// Minion is how one minion behaves.
type Minion struct {
	Down    bool          // does and answers nothing; masters list it all the same
	Silent  bool          // does what it is told and says nothing
	Delay   time.Duration // until its answers come
	Doubled bool          // sends each answer twice
	Masters []string      // those that it is connected to; nil: all
	NoKey   bool          // its key is not accepted: masters don't know it
	Grains  map[string]string
	Pillar  map[string]string

	key    []byte
	recent []string // ids of jobs, oldest first
}

// Fleet is minions and what they have done.
type Fleet struct {
	mu       sync.Mutex // guards all below
	minions  map[string]*Minion
	groups   map[string][]string
	do       func(minion string, p *saltclient.Publication) saltclient.Return
	done     map[saltpeter.LaunchID]map[string]int
	returned map[string]map[saltpeter.LaunchID][]due // by master: a return goes to the one whose publish was first
}

// due is a return and when it is there.
type due struct {
	at time.Time
	saltclient.Return
}

// NewFleet makes minions that are up and return success.
func NewFleet(ids ...string) *Fleet {
	f := &Fleet{
		minions: make(map[string]*Minion), groups: make(map[string][]string), done: make(map[saltpeter.LaunchID]map[string]int),
		returned: make(map[string]map[saltpeter.LaunchID][]due),
		do: func(minion string, _ *saltclient.Publication) saltclient.Return {
			return saltclient.Return{Minion: minion, Success: true}
		},
	}
	for _, id := range ids {
		f.minions[id] = &Minion{key: publicKey(id)}
	}
	return f
}

// publicKey gives a key that depends on the id alone.
func publicKey(id string) []byte {
	seed := sha256.Sum256([]byte(id))
	public, _, err := ed25519.GenerateKey(bytes.NewReader(seed[:]))
	if err != nil {
		return nil // never: the reader has enough
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil // never: it knows the type
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// Change changes a minion's behaviour; one that isn't there is made.
func (f *Fleet) Change(id string, change func(*Minion)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.minions[id] == nil {
		f.minions[id] = &Minion{key: publicKey(id)}
	}
	change(f.minions[id])
}

// Restart has a minion forget which jobs it has done.
func (f *Fleet) Restart(id string) { f.Change(id, func(m *Minion) { m.recent = nil }) }

// SetKey gives a minion another accepted key (PEM).
func (f *Fleet) SetKey(id string, key []byte) { f.Change(id, func(m *Minion) { m.key = key }) }

// Group defines a nodegroup.
func (f *Fleet) Group(name string, ids ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.groups[name] = slices.Clone(ids)
}

// Does says what minions do when they are told something, and return. It is called once per execution, and must not call the
// fleet.
func (f *Fleet) Does(do func(minion string, p *saltclient.Publication) saltclient.Return) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.do = do
}

// Executions gives how often each minion has done a publication.
func (f *Fleet) Executions(id saltpeter.LaunchID) map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.done[id])
}

// accepted gives the ids that masters know, sorted.
func (f *Fleet) accepted() []string {
	var out []string
	for id, m := range f.minions {
		if !m.NoKey {
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return out
}

// reached gives a minion that takes what a master publishes.
func (f *Fleet) reached(id, master string) *Minion {
	m := f.minions[id]
	if m == nil || m.Down || m.NoKey || m.Masters != nil && !slices.Contains(m.Masters, master) {
		return nil
	}
	return m
}

// hears notes a job's id and reports whether it is new to the minion.
func (m *Minion) hears(jid string) bool {
	if slices.Contains(m.recent, jid) {
		return false
	}
	m.recent = append(m.recent, jid)
	if len(m.recent) > remembered {
		m.recent = slices.Delete(m.recent, 0, 1)
	}
	return true
}

// deliver has minions do a publication, each that doesn't remember it.
func (f *Fleet) deliver(master string, minions []string, p *saltclient.Publication) {
	for _, id := range minions {
		m := f.reached(id, master)
		if m == nil || !m.hears(p.ID.String()) {
			continue
		}
		if f.done[p.ID] == nil {
			f.done[p.ID] = make(map[string]int)
		}
		f.done[p.ID][id]++
		ret := f.do(id, p)
		ret.Minion = id
		if m.Silent {
			continue
		}
		if f.returned[master] == nil {
			f.returned[master] = make(map[saltpeter.LaunchID][]due)
		}
		got := []due{{time.Now().Add(m.Delay), ret}}
		if m.Doubled {
			got = append(got, got[0])
		}
		f.returned[master][p.ID] = append(f.returned[master][p.ID], got...)
	}
}
