package main

import (
	"math/rand/v2"
	"time"
)

// kind is what can be done to a node.
type kind string

const (
	killed     kind = "kill -9"
	stopped    kind = "SIGSTOP"
	ended      kind = "SIGTERM"
	cutOff     kind = "cut off"
	deaf       kind = "cut, nothing in"
	dumb       kind = "cut, nothing out"
	frozen     kind = "disk frozen"
	frozenLong kind = "disk frozen for long"
	full       kind = "disk full"
	failing    kind = "sync fails"
)

var kinds = []kind{killed, stopped, ended, cutOff, deaf, dumb, frozen, frozenLong, full, failing}

// fault is one thing to do.
type fault struct {
	kind   kind
	leader bool // or else a follower
	which  int  // of the two followers
	length time.Duration
}

func (f fault) victim() string {
	if f.leader {
		return "leader"
	}
	return "follower"
}

// plan draws faults without end: every kind once in each round, and in the next round to the other role.
type plan struct {
	rand   *rand.Rand
	round  int
	leader map[kind]bool // who is hurt in the odd rounds
	queue  []fault
}

func newPlan(seed uint64) *plan {
	p := &plan{rand: rand.New(rand.NewPCG(seed, 3)), leader: make(map[kind]bool)}
	for _, k := range kinds {
		p.leader[k] = p.rand.IntN(3) > 0
	}
	return p
}

func (p *plan) next() fault {
	if len(p.queue) == 0 {
		for _, k := range kinds {
			f := fault{kind: k, leader: p.leader[k] == (p.round%2 == 0), which: p.rand.IntN(2)}
			f.length = p.length(k)
			p.queue = append(p.queue, f)
		}
		p.rand.Shuffle(len(p.queue), func(i, j int) { p.queue[i], p.queue[j] = p.queue[j], p.queue[i] })
		p.round++
	}
	f := p.queue[0]
	p.queue = p.queue[1:]
	return f
}

// length draws for how long it lasts; the first round is short.
func (p *plan) length(k kind) time.Duration {
	span := func(from, to float64) time.Duration {
		if p.round == 0 {
			to = from + (to-from)/4
		}
		return time.Duration((from + p.rand.Float64()*(to-from)) * float64(time.Second)).Round(100 * time.Millisecond)
	}
	switch k {
	case killed, ended: // before it is started again
		return span(0.1, 3)
	case stopped:
		return 4 * time.Second
	case cutOff, deaf, dumb:
		return span(4, 14)
	case frozen: // shorter than the watchdog waits
		return span(3, 8)
	case frozenLong:
		return span(13, 16)
	case full:
		return span(3, 8)
	default: // until the node has ended
		return 0
	}
}
