package sim

import (
	"slices"
	"sync"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/fsm"
)

// proposals is who proposed what was committed, and since when.
type proposals struct {
	mu   sync.Mutex // guards list
	list []proposal
}

type proposal struct {
	by    string
	begun time.Time
	index uint64
}

func (p *proposals) add(by string, begun time.Time, res cluster.Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, proposal{by, begun, res.Index})
}

// checkTerms holds the commands of a deposed leader to having been refused (G7): a command that a leadership planned is applied
// in its own term or not at all, one term has one proposer, and nothing that was proposed after a later term's first entry is
// committed in an older one.
func (w *world) checkTerms(log []*commit) {
	first := map[uint64]time.Time{} // by term
	term := map[uint64]uint64{}     // by index
	last := uint64(0)
	for _, k := range log {
		if k.term < last {
			w.hist.broken("G7", "entry %d is of term %d and follows one of term %d", k.index, k.term, last)
		}
		last = k.term
		if first[k.term].IsZero() {
			first[k.term] = k.at
		}
		term[k.index] = k.term
		for i, env := range k.envs {
			if _, refused := k.results[i].(*fsm.Refusal); env.Term != 0 && env.Term != k.term && !refused {
				w.hist.broken("G7", "%T of term %d was applied in term %d at %d: %+v", k.cmds[i], env.Term, k.term, k.index, k.results[i])
			}
		}
	}
	w.checkProposers(first, term)
}

func (w *world) checkProposers(first map[uint64]time.Time, term map[uint64]uint64) {
	terms := sortedNumbers(first)
	w.proposals.mu.Lock()
	defer w.proposals.mu.Unlock()
	by := map[uint64]string{}
	for _, p := range w.proposals.list {
		t, known := term[p.index]
		if !known { // nobody has applied it before the end
			continue
		}
		if was := by[t]; was != "" && was != p.by {
			w.hist.broken("G7", "%s and %s both proposed in term %d", was, p.by, t)
		}
		by[t] = p.by
		for _, later := range terms {
			if later > t && p.begun.After(first[later]) {
				w.hist.broken("G7", "%s proposed entry %d of term %d at %s, after term %d had begun at %s", p.by, p.index, t, w.hist.clock(p.begun), later,
					w.hist.clock(first[later]))
				break
			}
		}
	}
}

func sortedNumbers[V any](m map[uint64]V) []uint64 {
	out := make([]uint64, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// clockLog is how the nodes' wall clocks were set over time.
type clockLog struct {
	mu   sync.Mutex // guards list
	list []setting
}

type setting struct {
	at   time.Time
	node string
	off  time.Duration
}

// move sets a node's wall clock ahead, or back.
func (c *clockLog) move(n *node, by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.list = append(c.list, setting{time.Now(), n.name, time.Duration(n.offset.Add(int64(by)))})
}

// at gives how far each clock was off at an instant, and when the last of them was set before it.
func (c *clockLog) at(t time.Time) (off map[string]time.Duration, last time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	off = map[string]time.Duration{}
	for _, s := range c.list {
		if !s.at.After(t) {
			off[s.node], last = s.off, s.at
		}
	}
	return off, last
}

// trouble is when something was done to nodes, or to what is between them.
type trouble struct {
	mu   sync.Mutex // guards list
	list []*span
}

type span struct{ from, to time.Time } // to is zero while it lasts

// begin begins a trouble and gives what ends it.
func (t *trouble) begin() (over func()) {
	s := &span{from: time.Now()}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = append(t.list, s)
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		s.to = time.Now().Add(5 * time.Second)
	}
}

// around is trouble now, with some time before and after.
func (t *trouble) around(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = append(t.list, &span{time.Now().Add(-d), time.Now().Add(d)})
}

// in says whether there was any.
func (t *trouble) in(from, to time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.ContainsFunc(t.list, func(s *span) bool { return s.from.Before(to) && (s.to.IsZero() || s.to.After(from)) })
}

// checkClocks: a node whose clock is more than 5 s from both others', which agree, claims nothing when it comes to lead, and nothing any
// more 25 s later where it led before; if nothing else was wrong in that time.
func (w *world) checkClocks(log []*commit) {
	const (
		farOff = 6 * time.Second
		looks  = 25 * time.Second // two looks, 10 s apart, and the handing over
	)
	if len(w.nodes) < 3 || !w.plan.jumps {
		return
	}
	by := w.proposals.byIndex()
	began := map[uint64]time.Time{} // by term
	for _, k := range log {
		if began[k.term].IsZero() {
			began[k.term] = k.at
		}
		leader, known := by[k.index]
		if !known || !slices.ContainsFunc(k.results, someRun) {
			continue
		}
		from := k.at.Add(-looks)
		if b := began[k.term].Add(-time.Second); b.After(from) {
			from = b
		}
		off, since := w.clocks.at(k.at)
		var others []time.Duration
		for name, o := range off {
			if name != leader {
				others = append(others, o)
			}
		}
		if (others[0]-others[1]).Abs() >= time.Second || (off[leader]-others[0]).Abs() <= farOff {
			continue
		}
		w.hist.count("claim-far-off")
		if since.Before(from) && !w.trouble.in(from, k.at) {
			w.hist.broken("clock", "%s claims at %d in term %d, its clock is %s off since %s", leader, k.index, k.term, off[leader]-others[0], w.hist.clock(since))
		}
	}
}

func someRun(result any) bool {
	res, _ := result.(fsm.Claimed)
	return slices.ContainsFunc(res.Results, func(r saltpeter.ClaimResult) bool { return r.Outcome == saltpeter.ClaimRun })
}

// byIndex gives who proposed what is in each entry.
func (p *proposals) byIndex() map[uint64]string {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := map[uint64]string{}
	for _, x := range p.list {
		out[x.index] = x.by
	}
	return out
}
