package app

import (
	"context"
	"errors"

	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/outlog"
)

// A survivor of a lost majority may name segments that only lost nodes had. Nothing brings those back, and as long as they are
// waited for no output can be read at all: the leader asks every member, and has them given up once all of them lack them.

// giveUpLooks is how many looks in a row must find a segment nowhere. One look is not one instant.
const giveUpLooks = 2

// lackAsk asks a node what it lacks.
type lackAsk struct {
	Feed bool `cbor:"1,keyasint,omitempty"`
}

// lacking is what a node lacks.
type lacking struct {
	Segments []fsm.LostSegment `cbor:"1,keyasint,omitempty"`
}

// tellLacking says what this node lacks. What it has not heard of yet it does not lack: it comes with the log.
func (a *App) tellLacking(ask lackAsk) (lacking, error) {
	var out lacking
	store := a.segments(ask.Feed)
	if store == nil {
		return out, outlog.ErrNotHere
	}
	for _, g := range store.Missing() {
		out.Segments = append(out.Segments, lostSegment(g))
	}
	return out, nil
}

func lostSegment(g outlog.SegmentInfo) fsm.LostSegment {
	return fsm.LostSegment{No: g.No, Last: g.Last, Gen: g.Gen}
}

// losses is what a leader has found nowhere so far: how often in a row.
type losses map[bool]map[fsm.LostSegment]int

// giveUp proposes to give up what every member lacks. One that doesn't answer, or whose program can't say, may have it.
func (a *App) giveUp(ctx context.Context, rec record, seen losses) error {
	for _, feed := range []bool{false, true} {
		nowhere := a.foundNowhere(ctx, feed)
		counts := map[fsm.LostSegment]int{}
		var lost []fsm.LostSegment
		for _, g := range nowhere {
			counts[g] = seen[feed][g] + 1
			if counts[g] >= giveUpLooks || len(a.node.Members()) == 1 {
				lost = append(lost, g)
			}
		}
		seen[feed] = counts
		if len(lost) == 0 {
			continue
		}
		c := &fsm.LoseSegments{Round: a.machine.View().NextLoss(), Feed: feed, Segments: lost[:min(len(lost), maxLost)]}
		_, err := rec.do(ctx, cluster.Normal, c)
		if errors.Is(err, errTooOld) {
			a.log.Debug("lost segments are not given up yet", "err", err)
			continue
		}
		if err != nil {
			return err
		}
		a.log.Error("segments that no member has are given up", "component", "outlog", "count", len(c.Segments), "feed", feed)
	}
	return nil
}

// maxLost bounds one command: it must fit into an entry.
const maxLost = 5000

// foundNowhere gives the segments that this node and every other member lack.
func (a *App) foundNowhere(ctx context.Context, feed bool) []fsm.LostSegment {
	own, err := a.tellLacking(lackAsk{feed})
	if err != nil || len(own.Segments) == 0 {
		return nil
	}
	nowhere := own.Segments
	for _, id := range a.others() {
		there, err := askPeer[lacking](ctx, a, id, peerLacking, lackAsk{feed})
		if err != nil {
			return nil
		}
		nowhere = both(nowhere, there.Segments)
	}
	return nowhere
}

// both gives what is in x and in y, in the order of x.
func both(x, y []fsm.LostSegment) (out []fsm.LostSegment) {
	in := make(map[fsm.LostSegment]bool, len(y))
	for _, g := range y {
		in[g] = true
	}
	for _, g := range x {
		if in[g] {
			out = append(out, g)
		}
	}
	return out
}
