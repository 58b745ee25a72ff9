package wsgateway

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/syscollective/saltpeter"
)

// heardAtOnce bounds one Heard call; 4,096 refs are about 64 KiB.
const heardAtOnce = 4096

// heard gathers heartbeats and passes them on together. What the leader does not take is dropped: a sign must not be told
// later than it was given, and the next one comes within seconds.
type heard struct {
	leader Leader
	lim    Limits
	log    *slog.Logger

	mu   sync.Mutex
	refs map[saltpeter.TargetRef]struct{}
}

func newHeard(leader Leader, lim Limits, log *slog.Logger) *heard {
	return &heard{leader: leader, lim: lim, log: log, refs: map[saltpeter.TargetRef]struct{}{}}
}

func (h *heard) add(ref saltpeter.TargetRef) {
	h.mu.Lock()
	h.refs[ref] = struct{}{}
	h.mu.Unlock()
}

func (h *heard) run(ctx context.Context) {
	t := time.NewTicker(h.lim.HeardEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := h.tell(ctx); err != nil && ctx.Err() == nil {
			h.log.Debug("heartbeats not taken", "err", err)
		}
	}
}

func (h *heard) tell(ctx context.Context) error {
	h.mu.Lock()
	refs := make([]saltpeter.TargetRef, 0, len(h.refs))
	for ref := range h.refs {
		refs = append(refs, ref)
	}
	clear(h.refs)
	h.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, h.lim.Ask)
	defer cancel()
	for len(refs) > 0 {
		n := min(len(refs), heardAtOnce)
		if err := h.leader.Heard(ctx, refs[:n]); err != nil {
			return err
		}
		refs = refs[n:]
	}
	return nil
}
