package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/internal/outlog"
)

// A node that was fed by a snapshot has the record but not the output, which lies in segments. It fetches what it lacks from
// the other nodes, and has them answer reads until then.

// Kinds of questions between nodes, whoever leads. The numbers are on the link: append only.
const (
	peerSegment byte = iota + 1
	peerOutput
	peerReport  // how it is: see members.go
	peerHealth  // what may be wrong with it: see health.go
	peerLacking // which segments it lacks: see giveup.go
	peerSalt    // something of the Salt master on its host: see salt.go
)

const (
	// fetchEvery is how often a node looks whether it lacks segments.
	fetchEvery = 500 * time.Millisecond
	// pieceSize is how much of a segment or an output travels at once, in bytes.
	pieceSize = 256 << 10
	// peerPatience is how long one node is waited for before another is asked.
	peerPatience = 5 * time.Second
)

// segmentAsk asks for the bytes of a segment from Off on.
type segmentAsk struct {
	_    struct{} `cbor:",toarray"`
	Feed bool
	No   uint64
	Off  int64
}

type segmentPiece struct {
	_    struct{} `cbor:",toarray"`
	Info outlog.SegmentInfo
	Data []byte
}

// servePeer answers other nodes.
func (a *App) servePeer(ctx context.Context, kind byte, payload []byte) ([]byte, error) {
	switch kind {
	case peerSegment:
		return answerPeer(payload, a.segmentPiece)
	case peerOutput:
		return answerPeer(payload, a.outputPiece)
	case peerReport:
		return answerPeer(payload, a.tell)
	case peerHealth:
		return answerPeer(payload, a.tellHealth)
	case peerLacking:
		return answerPeer(payload, a.tellLacking)
	case peerSalt:
		return a.serveSalt(ctx, payload)
	default:
		return nil, fmt.Errorf("question of kind %d", kind)
	}
}

func answerPeer[Req, Ans any](payload []byte, f func(Req) (Ans, error)) ([]byte, error) {
	var req Req
	if err := cbor.Unmarshal(payload, &req); err != nil {
		return nil, fmt.Errorf("decode question: %w", err)
	}
	ans, err := f(req)
	if err != nil {
		return nil, err
	}
	return cbor.Marshal(ans)
}

// askPeer asks one node.
func askPeer[Ans any](ctx context.Context, a *App, id string, kind byte, req any) (ans Ans, err error) {
	ctx, cancel := context.WithTimeout(ctx, peerPatience)
	defer cancel()
	payload, err := cbor.Marshal(req)
	if err != nil {
		return ans, fmt.Errorf("encode question: %w", err)
	}
	b, err := a.node.Ask(ctx, id, cluster.Low, kind, payload)
	if err != nil {
		return ans, fmt.Errorf("ask %s: %w", id, err)
	}
	if err := cbor.Unmarshal(b, &ans); err != nil {
		return ans, fmt.Errorf("decode answer of %s: %w", id, err)
	}
	return ans, nil
}

// others gives the ids of the other nodes, the leader's first: it is the least likely to lack something.
func (a *App) others() []string {
	var ids []string
	for _, m := range a.node.Members() {
		switch {
		case m.Self:
		case m.Leader:
			ids = append([]string{m.ID}, ids...)
		default:
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// segments gives the store of output, or that of the change feed; nil before the first entry.
func (a *App) segments(feed bool) outlog.Segments {
	if feed {
		if f := a.machine.Feed(); f != nil {
			return f.Segments()
		}
	} else if s := a.machine.Output(); s != nil {
		return s
	}
	return nil
}

func (a *App) segmentPiece(ask segmentAsk) (segmentPiece, error) {
	store := a.segments(ask.Feed)
	if store == nil {
		return segmentPiece{}, outlog.ErrNotHere
	}
	r, err := store.Segment(ask.No)
	if err != nil {
		return segmentPiece{}, err
	}
	defer r.Close()
	piece := segmentPiece{Info: r.Info, Data: make([]byte, max(0, min(pieceSize, r.Info.Bytes-ask.Off)))}
	if ask.Off < 0 || len(piece.Data) == 0 {
		piece.Data = nil
		return piece, nil
	}
	n, err := r.ReadAt(piece.Data, ask.Off)
	if err != nil && (!errors.Is(err, io.EOF) || n < len(piece.Data)) {
		return segmentPiece{}, fmt.Errorf("read segment %d: %w", ask.No, err)
	}
	return piece, nil
}

// fetchSegments fetches what this node lacks, as long as it runs.
func (a *App) fetchSegments(ctx context.Context) error {
	tick := time.NewTicker(fetchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, feed := range []bool{false, true} {
			a.fetchMissing(ctx, feed)
		}
	}
}

// fetchMissing tries once to fetch every segment that is missing, from each node in turn.
func (a *App) fetchMissing(ctx context.Context, feed bool) {
	store := a.segments(feed)
	if store == nil {
		return
	}
	missing := store.Missing()
	if len(missing) == 0 {
		return
	}
	for _, want := range missing {
		if err := a.fetchSegment(ctx, store, feed, want); err != nil && ctx.Err() == nil {
			a.log.Warn("segment not fetched yet", "component", "outlog", "segment", want.No, "feed", feed, "err", err)
			return // the next round begins with this one
		}
	}
	if left := len(store.Missing()); left == 0 {
		a.log.Info("segments fetched", "component", "outlog", "count", len(missing), "feed", feed)
	}
}

func (a *App) fetchSegment(ctx context.Context, store outlog.Segments, feed bool, want outlog.SegmentInfo) error {
	errs := []error{}
	for _, id := range a.others() {
		r := &segmentStream{ctx: ctx, a: a, from: id, ask: segmentAsk{Feed: feed, No: want.No}}
		err := r.next()
		if err == nil {
			err = store.Supply(r.info, r)
		}
		if err == nil || errors.Is(err, outlog.ErrStale) { // stale: it is wanted no more
			return nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// segmentStream reads another node's segment, piece by piece. It lives as long as the call that ctx is of.
type segmentStream struct {
	ctx  context.Context //nolint:containedctx // an io.Reader's Read takes none
	a    *App
	from string
	ask  segmentAsk
	info outlog.SegmentInfo
	data []byte // not read yet
}

// next asks for the next piece. One of another generation belongs to another file.
func (r *segmentStream) next() error {
	piece, err := askPeer[segmentPiece](r.ctx, r.a, r.from, peerSegment, r.ask)
	if err != nil {
		return err
	}
	if r.ask.Off > 0 && (piece.Info.Gen != r.info.Gen || piece.Info.Last != r.info.Last) {
		return fmt.Errorf("read segment %d of %s: %w", r.ask.No, r.from, outlog.ErrMismatch)
	}
	if r.ask.Off == 0 {
		r.info = piece.Info
	}
	r.data = piece.Data
	r.ask.Off += int64(len(piece.Data))
	return nil
}

// Read implements io.Reader.
func (r *segmentStream) Read(p []byte) (int, error) {
	if len(r.data) == 0 {
		if r.ask.Off >= r.info.Bytes {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
		if len(r.data) == 0 {
			return 0, io.ErrUnexpectedEOF
		}
	}
	n := copy(p, r.data)
	r.data = r.data[n:]
	return n, nil
}
