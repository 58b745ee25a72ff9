package app

import (
	"context"
	"errors"
	"fmt"
	"io"

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

// lacksOutput reports whether this node waits for segments.
func (a *App) lacksOutput() bool {
	store := a.machine.Output()
	return store != nil && len(store.Missing()) > 0
}

// remote is a target's output as another node has it.
type remote struct {
	output
	ctx  context.Context //nolint:containedctx // of the request that it was made for; io.ReaderAt takes none
	from string
	seen outputPiece
}

// remoteOutput finds a node that has what this one lacks.
func (a *App) remoteOutput(ctx context.Context, ref saltpeter.TargetRef) (api.Output, error) {
	var errs []error
	for _, id := range a.others() {
		seen, err := askPeer[outputPiece](ctx, a, id, peerOutput, outputAsk{Ref: ref})
		if err == nil {
			return &remote{output: output{a, ref}, ctx: ctx, from: id, seen: seen}, nil
		}
		errs = append(errs, err)
	}
	return nil, &saltpeter.Error{Code: saltpeter.CodeNoLeader, Message: "this node has not fetched the output yet, and no other answers", Err: errors.Join(errs...),
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
		piece, err := askPeer[outputPiece](r.ctx, r.a, r.from, peerOutput, outputAsk{Ref: r.ref, Off: off + int64(n), Size: len(p) - n})
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
	if seen, err := askPeer[outputPiece](r.ctx, r.a, r.from, peerOutput, outputAsk{Ref: r.ref}); err == nil {
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
