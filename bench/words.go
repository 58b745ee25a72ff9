package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/syscollective/saltpeter/bench/rig"
)

const (
	wordsSessions = 1000
	wordsFor      = 8 * time.Second
	wordsRounds   = 3
	wordsSize     = 200
	wordsWindow   = 16
)

// words measures acked words per second of 1,000 sessions, beside a bare prototype: WebSocket, raft and acks without a state
// machine. The two take turns, so that what else the machine does meets both.
func words(ctx context.Context, b *bench) error {
	n, ours, err := b.ourWords(ctx)
	if err != nil {
		return err
	}
	bare, err := b.bareWords(ctx, 1)
	if err != nil {
		return err
	}
	return b.wordsBeside(n, ours, bare)
}

// clusterWords does it with three nodes, whose gateways the sessions go to in turn, beside a bare prototype of three voters,
// whose leader all sessions go to.
func clusterWords(ctx context.Context, b *bench) error {
	c, err := b.cluster(ctx, "words", clusterNodes, wordsFiles(), 1, rig.NodeSpec{Publish: rig.PublishTell})
	if err != nil {
		return err
	}
	ours, err := b.winAll(ctx, c)
	if err != nil {
		return err
	}
	bare, err := b.bareWords(ctx, clusterNodes)
	if err != nil {
		return err
	}
	var paced rig.Pushed
	if err := ours.Ask("pace", rig.Pace{For: wordsFor, Every: time.Second / 5, Size: wordsSize}, &paced); err != nil {
		return err
	}
	b.table.add(row{what: fmt.Sprintf("5 words a second of each session (%.0f/s): from word to ack, p99", float64(paced.Words)/wordsFor.Seconds()),
		figure: ms(paced.P99), budget: "< 25 ms", ok: paced.P99 < 25*time.Millisecond})
	b.table.add(row{what: "  p50", figure: ms(paced.P50)})
	return b.wordsBeside(c, ours, bare)
}

// wordsBeside has ours and the bare one take turns.
func (b *bench) wordsBeside(n pushed, ours, bare *rig.Proc) error {
	profiled := n.profiled("words")
	var we, they []float64
	var last [2]rig.Pushed
	for range wordsRounds {
		for i, f := range []*rig.Proc{bare, ours} {
			if err := f.Ask("push", rig.Push{For: wordsFor, Size: wordsSize, Window: wordsWindow}, &last[i]); err != nil {
				return err
			}
		}
		they, we = append(they, float64(last[0].Words)/wordsFor.Seconds()), append(we, float64(last[1].Words)/wordsFor.Seconds())
	}
	if err := profiled(); err != nil {
		return err
	}
	w, t := median(we), median(they)
	b.table.add(row{what: "acked words per second, median of 3", figure: perSecond(w), limit: perSecond(t), ratio: w / t, budget: "≥ 0.5 ×", ok: w >= t/2})
	b.table.add(row{what: "  from word to ack, p50", figure: ms(last[1].P50), limit: ms(last[0].P50)})
	b.table.add(row{what: "  from word to ack, p99", figure: ms(last[1].P99), limit: ms(last[0].P99)})
	if err := ours.Stop(); err != nil {
		return err
	}
	return n.stop()
}

func wordsFiles() string {
	return settings(wordsSessions, patient...) + "job: {schedule: '0 0 0 1 1 * 2099', targets: '*', command: 'true', output_limit: 256MiB}\n"
}

func (b *bench) ourWords(ctx context.Context) (*aNode, *rig.Proc, error) {
	n, err := b.node(ctx, "words", wordsFiles(), 1, rig.PublishTell, 0)
	if err != nil {
		return nil, nil, err
	}
	f, err := b.winAll(ctx, n)
	return n, f, n.explain(err)
}

// winAll opens the sessions, each of which wins a claim.
func (b *bench) winAll(ctx context.Context, n pushed) (*rig.Proc, error) {
	l, err := n.launch(ctx, "job")
	if err != nil {
		return nil, err
	}
	f, err := n.fleet(ctx, wordsSessions, 0)
	if err != nil {
		return nil, err
	}
	return f, f.Ask("win", rig.Win{LaunchTold: l, Parallel: dialers}, nil)
}

// bareWords opens sessions of a bare prototype of so many voters.
func (b *bench) bareWords(ctx context.Context, voters int) (*rig.Proc, error) {
	var specs []rig.BareSpec
	for i := range voters {
		spec := rig.BareSpec{Dir: filepath.Join(b.dir, fmt.Sprintf("bare-%d", i))}
		if err := os.Mkdir(spec.Dir, 0o700); err != nil {
			return nil, err
		}
		if voters > 1 {
			spec.Self = fmt.Sprintf("%s:8892", bindOf(i))
		}
		specs = append(specs, spec)
	}
	ready := make([]rig.BareReady, voters)
	procs := make([]*rig.Proc, voters)
	for i, spec := range specs {
		for k := range specs {
			if voters > 1 {
				spec.Voters = append(spec.Voters, specs[k].Self)
			}
		}
		var err error
		if procs[i], err = b.proc(ctx, "bare-raft", spec, &ready[i], nil, os.Stderr); err != nil {
			return nil, err
		}
	}
	for i := 0; ; i = (i + 1) % voters {
		var leads bool
		if err := procs[i].Ask("leads", nil, &leads); err != nil {
			return nil, err
		}
		if leads {
			f, err := b.bareFleet(ctx, ready[i])
			if err != nil {
				return nil, err
			}
			return f, f.Ask("win", rig.Win{LaunchTold: rig.LaunchTold{Machines: machines(wordsSessions)}, Parallel: dialers}, nil)
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, err
		}
	}
}
