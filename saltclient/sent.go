package saltclient

import (
	"sync"

	"github.com/syscollective/saltpeter"
)

const (
	// sentLaunches is of how many launches it is remembered how they went out.
	sentLaunches = 4096
	// homesLimit bounds the machines whose master is remembered.
	homesLimit = 100_000
)

// sent remembers through which masters launches went out, and which machines only another master than the preferred one
// reaches: with failover between masters, a minion listens to one of those that have its key, and Salt doesn't tell to which.
type sent struct {
	mu       sync.Mutex // guards the following
	launches map[saltpeter.LaunchID]*outgoing
	ring     []saltpeter.LaunchID
	next     int
	homes    map[string]string // machine → master
}

// outgoing is how one launch went out.
type outgoing struct {
	masters []string          // that published it
	again   map[string]string // machine → master that was tried after another one
}

func newSent() sent {
	return sent{launches: make(map[saltpeter.LaunchID]*outgoing), homes: make(map[string]string)}
}

// masters gives through which ones a launch went out.
func (s *sent) masters(id saltpeter.LaunchID) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.launches[id]; o != nil {
		return append([]string(nil), o.masters...)
	}
	return nil
}

// add says that a master has published a launch for machines.
func (s *sent) add(id saltpeter.LaunchID, master string, machines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.launches[id]
	if o == nil {
		o = new(outgoing)
		s.keep(id, o)
	}
	known := false
	for _, m := range o.masters {
		known = known || m == master
	}
	if !known {
		o.masters = append(o.masters, master)
	}
	if len(o.masters) < 2 {
		return
	}
	if o.again == nil {
		o.again = make(map[string]string)
	}
	for _, machine := range machines {
		o.again[machine] = master
	}
}

func (s *sent) keep(id saltpeter.LaunchID, o *outgoing) {
	if len(s.ring) < sentLaunches {
		s.ring = append(s.ring, id)
	} else {
		delete(s.launches, s.ring[s.next])
		s.ring[s.next] = id
		s.next = (s.next + 1) % sentLaunches
	}
	s.launches[id] = o
}

// heard says that a launch's wrapper came on a machine. If it did only after a second master was tried, that one is
// where the machine listens.
func (s *sent) heard(id saltpeter.LaunchID, machine string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.launches[id]
	if o == nil || o.again[machine] == "" {
		return
	}
	if len(s.homes) >= homesLimit {
		clear(s.homes)
	}
	s.homes[machine] = o.again[machine]
	delete(o.again, machine)
}

// home gives the master at which a machine is known to listen; empty where it isn't known.
func (s *sent) home(machine string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.homes[machine]
}
