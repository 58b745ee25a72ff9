package main

import (
	"context"
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
	bare, err := b.bareWords(ctx)
	if err != nil {
		return err
	}
	profiled := n.profiled("words")
	var we, they []float64
	var last [2]rig.Pushed
	for range wordsRounds {
		for i, f := range []*rig.Proc{bare, ours} {
			if err := f.Ask("push", rig.Push{For: wordsFor, Size: wordsSize, Window: wordsWindow}, &last[i]); err != nil {
				return n.explain(err)
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

func (b *bench) ourWords(ctx context.Context) (*aNode, *rig.Proc, error) {
	files := settings(wordsSessions, patient...) + "job: {schedule: '0 0 0 1 1 * 2099', targets: '*', command: 'true', output_limit: 256MiB}\n"
	n, err := b.node(ctx, "words", files, 1, rig.PublishTell, 0)
	if err != nil {
		return nil, nil, err
	}
	l, err := n.launch(ctx, "job")
	if err != nil {
		return nil, nil, err
	}
	f, err := n.fleet(ctx, wordsSessions, 0)
	if err != nil {
		return nil, nil, err
	}
	return n, f, n.explain(f.Ask("win", rig.Win{LaunchTold: l, Parallel: dialers}, nil))
}

func (b *bench) bareWords(ctx context.Context) (*rig.Proc, error) {
	dir := filepath.Join(b.dir, "bare")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	var ready rig.BareReady
	if _, err := b.proc(ctx, "bare-raft", dir, &ready, nil, nil); err != nil {
		return nil, err
	}
	f, err := b.bareFleet(ctx, ready)
	if err != nil {
		return nil, err
	}
	return f, f.Ask("win", rig.Win{LaunchTold: rig.LaunchTold{Machines: machines(wordsSessions)}, Parallel: dialers}, nil)
}
