package saltclient

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/syscollective/saltpeter"
)

const (
	// returnsJobs and returnsBytes bound what is remembered of returns; what was dropped is looked up.
	returnsJobs  = 4096
	returnsBytes = 64 << 20
	// lookupEvery is the shortest time between two lookups of one id; slow lookups are rarer, up to lookupRarest.
	lookupEvery, lookupRarest = 5 * time.Second, 20 * time.Second
)

// minionReturn is a minion's return as Salt has it.
type minionReturn struct {
	Minion  string          `json:"minion"`
	Return  json.RawMessage `json:"return"`
	Code    *int            `json:"retcode"`
	Success *bool           `json:"success"`
}

// decode says what it means. Salt puts an error of its own into the place of the return, as text, with a code; a command
// that timed out has its code only inside.
func (r minionReturn) decode() Return {
	out := Return{Minion: r.Minion, Success: r.Success == nil || *r.Success}
	if r.Code != nil {
		out.Code = *r.Code
	}
	var text string
	var run struct {
		Code   *int `json:"retcode"`
		Stdout *string
		Stderr string
	}
	switch {
	case json.Unmarshal(r.Return, &text) == nil && len(r.Return) > 0 && r.Return[0] == '"':
		if out.Code != 0 || !out.Success {
			out.Refused = text
		} else {
			out.Stdout = text
		}
	case json.Unmarshal(r.Return, &run) == nil && run.Stdout != nil:
		out.Stdout, out.Stderr = *run.Stdout, run.Stderr
		if run.Code != nil {
			out.Code = *run.Code
		}
	case string(r.Return) != "null":
		out.Stdout = string(r.Return)
	}
	return out
}

// returns remembers what minions returned, for a while.
type returns struct {
	mu        sync.Mutex // guards all below
	jobs      map[string]*returned
	order     []string // of jobs, oldest first
	bytes     int
	listeners map[string]chan string
	pings     int
}

// returned is what is known of one jid.
type returned struct {
	expected []string
	minions  map[string]Return
	bytes    int
	next     time.Time // when it may be looked up again
}

func newReturns() *returns {
	return &returns{jobs: make(map[string]*returned), listeners: make(map[string]chan string)}
}

// job gives an id's entry, made where it isn't there.
func (r *returns) job(jid string) *returned {
	j := r.jobs[jid]
	if j == nil {
		j = &returned{minions: make(map[string]Return)}
		r.jobs[jid] = j
		r.order = append(r.order, jid)
		r.shrink()
	}
	return j
}

// shrink forgets the oldest, but not the last.
func (r *returns) shrink() {
	for len(r.order) > 1 && (len(r.order) > returnsJobs || r.bytes > returnsBytes) {
		r.bytes -= r.jobs[r.order[0]].bytes
		delete(r.jobs, r.order[0])
		r.order = slices.Delete(r.order, 0, 1)
	}
}

// add takes one; a minion's first counts, since it sends its return again where it heard no thanks.
func (r *returns) add(jid string, m minionReturn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.listeners[jid]; ok {
		select {
		case c <- m.Minion:
		default: // more than were asked
		}
		return
	}
	j := r.job(jid)
	if _, ok := j.minions[m.Minion]; ok {
		return
	}
	j.minions[m.Minion] = m.decode()
	size := len(m.Minion) + len(m.Return)
	j.bytes, r.bytes = j.bytes+size, r.bytes+size
	r.shrink()
}

// expect notes who will return.
func (r *returns) expect(jid string, minions []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.job(jid)
	for _, m := range minions {
		if !slices.Contains(j.expected, m) {
			j.expected = append(j.expected, m)
		}
	}
}

// ask reports whether a lookup is due: not all are there and the last one was long enough ago.
func (r *returns) ask(jid string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.job(jid)
	if len(j.expected) > 0 && !slices.ContainsFunc(j.expected, func(m string) bool { _, ok := j.minions[m]; return !ok }) || now.Before(j.next) {
		return false
	}
	j.next = now.Add(lookupEvery)
	return true
}

func (r *returns) unasked(jid string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.job(jid).next = time.Time{}
}

func (r *returns) asked(jid string, took time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	j := r.job(jid)
	j.next = j.next.Add(min(20*took, lookupRarest-lookupEvery))
}

// list gives what there is, by minion.
func (r *returns) list(jid string) []Return {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Return
	for _, m := range r.job(jid).minions {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b Return) int { return strings.Compare(a.Minion, b.Minion) })
	return out
}

// pingID gives an id of the form that Salt makes with unique_jid: no launch has it.
func (r *returns) pingID(now time.Time) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pings++
	return fmt.Sprintf("%s_%d.%d", saltpeter.LaunchIDAt(now), os.Getpid(), r.pings)
}

// listen has the minions that return for an id named instead of remembered, each once or more.
func (r *returns) listen(jid string, most int) (<-chan string, func()) {
	c := make(chan string, most)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listeners[jid] = c
	return c, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.listeners, jid)
	}
}
