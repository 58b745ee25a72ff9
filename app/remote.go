package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/internal/outlog"
)

// outputAsk asks for a target's stored bytes from Off on.
type outputAsk struct {
	_    struct{} `cbor:",toarray"`
	Ref  saltpeter.TargetRef
	Off  int64
	Size int
}

type outputPiece struct {
	_     struct{} `cbor:",toarray"`
	Data  []byte
	Total int64 // bytes that are stored by now
	Gaps  []api.Gap
}

// outputPiece answers another node that lacks the output.
func (a *App) outputPiece(ask outputAsk) (outputPiece, error) {
	if a.lacksOutput() {
		return outputPiece{}, outlog.ErrNotHere
	}
	here := output{a, ask.Ref}
	piece := outputPiece{Total: here.Size(), Gaps: here.Gaps(), Data: make([]byte, max(0, min(ask.Size, pieceSize)))}
	n, err := here.ReadAt(piece.Data, ask.Off)
	if err != nil && !errors.Is(err, io.EOF) {
		return outputPiece{}, fmt.Errorf("read output: %w", err)
	}
	if a.lacksOutput() { // a snapshot came between
		return outputPiece{}, outlog.ErrNotHere
	}
	piece.Data = piece.Data[:n]
	return piece, nil
}

// lacksOutput reports whether this node waits for segments, or for the index of those that it has just got.
func (a *App) lacksOutput() bool {
	store := a.machine.Output()
	return store != nil && !store.Complete()
}

// remote is a target's output as other nodes have it, until this one has it itself.
type remote struct {
	output
	ctx  context.Context //nolint:containedctx // of the request that it was made for; io.ReaderAt takes none
	from string          // who answered last
	seen outputPiece
}

// remoteOutput finds a node that has what this one lacks.
func (a *App) remoteOutput(ctx context.Context, ref saltpeter.TargetRef) (api.Output, error) {
	r := &remote{output: output{a, ref}, ctx: ctx}
	if !a.lacksOutput() {
		return r, nil
	}
	seen, err := r.ask(0, 0)
	if err != nil {
		return nil, err
	}
	r.seen = seen
	return r, nil
}

// ask asks the node that answered last, and the others if it answers no more.
func (r *remote) ask(off int64, size int) (outputPiece, error) {
	ids := r.a.others()
	if i := slices.Index(ids, r.from); i > 0 {
		ids[0], ids[i] = ids[i], ids[0]
	}
	var errs []error
	for _, id := range ids {
		piece, err := r.askOne(id, off, size)
		if err == nil {
			r.from = id
			return piece, nil
		}
		errs = append(errs, err)
	}
	return outputPiece{}, &saltpeter.Error{Code: saltpeter.CodeNoLeader, Message: "this node has not fetched the output yet, and no other answers", Err: errors.Join(errs...),
		Hint: "try again, or ask another node"}
}

// errBehind says that a node has not applied yet what this one has.
var errBehind = errors.New("it is behind this node")

// askOne asks one node. If it has less than this node's record counts, it may be behind: then a reader would miss what was
// acknowledged before, and its answer counts only once it has applied as much as this node.
func (r *remote) askOne(id string, off int64, size int) (outputPiece, error) {
	v := r.a.machine.View()
	ask := outputAsk{Ref: r.ref, Off: off, Size: size}
	piece, err := askPeer[outputPiece](r.ctx, r.a, id, peerOutput, ask)
	if t, ok := v.Target(r.ref); err != nil || !ok || piece.Total >= int64(t.Stored) {
		return piece, err
	}
	at, err := askPeer[nodeReport](r.ctx, r.a, id, peerReport, nil)
	switch {
	case err != nil:
		return outputPiece{}, err
	case at.Applied < v.Index():
		return outputPiece{}, fmt.Errorf("ask %s: %w", id, errBehind)
	}
	return askPeer[outputPiece](r.ctx, r.a, id, peerOutput, ask) // the record counts what is nowhere: restored without output
}

func (r *remote) ReadAt(p []byte, off int64) (int, error) {
	if !r.a.lacksOutput() {
		// A snapshot may come between, and this node lack it again.
		if n, err := r.output.ReadAt(p, off); !errors.Is(err, outlog.ErrNotHere) {
			return n, err
		}
	}
	return r.readThere(p, off)
}

func (r *remote) readThere(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		piece, err := r.ask(off+int64(n), len(p)-n)
		if err != nil {
			return n, err
		}
		if len(piece.Data) == 0 {
			return n, io.EOF
		}
		n += copy(p[n:], piece.Data)
	}
	return n, nil
}

func (r *remote) Size() int64 {
	if !r.a.lacksOutput() {
		if size := r.output.Size(); !r.a.lacksOutput() {
			return size
		}
	}
	if seen, err := r.ask(0, 0); err == nil {
		r.seen = seen
	} else if t, ok := r.a.machine.View().Target(r.ref); ok { // what is there is announced: reading it tells the error
		r.seen.Total = max(r.seen.Total, int64(t.Stored))
	}
	return r.seen.Total
}

func (r *remote) Gaps() []api.Gap {
	if !r.a.lacksOutput() {
		return r.output.Gaps()
	}
	return r.seen.Gaps
}
