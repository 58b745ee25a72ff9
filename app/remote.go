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
	piece.Data = piece.Data[:n]
	return piece, nil
}

// lacksOutput reports whether this node waits for segments, or for the index of those that it has just got.
func (a *App) lacksOutput() bool {
	store := a.machine.Output()
	return store != nil && !store.Complete()
}

// remote is a target's output as other nodes have it.
type remote struct {
	output
	ctx  context.Context //nolint:containedctx // of the request that it was made for; io.ReaderAt takes none
	from string          // who answered last
	seen outputPiece
}

// remoteOutput finds a node that has what this one lacks.
func (a *App) remoteOutput(ctx context.Context, ref saltpeter.TargetRef) (api.Output, error) {
	r := &remote{output: output{a, ref}, ctx: ctx}
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
		piece, err := askPeer[outputPiece](r.ctx, r.a, id, peerOutput, outputAsk{Ref: r.ref, Off: off, Size: size})
		if err == nil {
			r.from = id
			return piece, nil
		}
		errs = append(errs, err)
	}
	return outputPiece{}, &saltpeter.Error{Code: saltpeter.CodeNoLeader, Message: "this node has not fetched the output yet, and no other answers", Err: errors.Join(errs...),
		Hint: "try again, or ask another node"}
}

func (r *remote) ReadAt(p []byte, off int64) (int, error) {
	if r.a.lacksOutput() {
		return r.readThere(p, off)
	}
	return r.output.ReadAt(p, off)
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
		return r.output.Size()
	}
	if seen, err := r.ask(0, 0); err == nil {
		r.seen = seen
	}
	return r.seen.Total
}

func (r *remote) Gaps() []api.Gap {
	if !r.a.lacksOutput() {
		return r.output.Gaps()
	}
	return r.seen.Gaps
}
