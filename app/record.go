package app

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/scheduler"
)

// Proposer is what the leader's work needs of the cluster.
type Proposer interface {
	Propose(ctx context.Context, prio cluster.Priority, cmd []byte) (cluster.Result, error)
}

// maxPart bounds the variable part of one command, in bytes: an entry holds 256 KiB.
const maxPart = 200 << 10

// retryUnknown is how long to wait before a command whose outcome is unknown is proposed again.
const retryUnknown = 50 * time.Millisecond

// propose commits one command. When its outcome is unknown, the very same bytes are proposed again until ctx ends: every
// command is idempotent. A refusal comes back as an error.
func (a *App) propose(ctx context.Context, prio cluster.Priority, env fsm.Envelope, c fsm.Command) (any, error) {
	if c.Code() > fsm.BaseCode && c.Code() > a.machine.View().Used() {
		return a.proposeFirst(ctx, prio, env, c)
	}
	return a.commit(ctx, prio, env, c)
}

// commit proposes a command that every member knows.
func (a *App) commit(ctx context.Context, prio cluster.Priority, env fsm.Envelope, c fsm.Command) (any, error) {
	b, err := fsm.Encode(env, c)
	if err != nil {
		return nil, err
	}
	for {
		res, err := a.proposer.Propose(ctx, prio, b)
		if err == nil {
			if r, refused := res.Value.(*fsm.Refusal); refused {
				return nil, r.AsError()
			}
			return res.Value, nil
		}
		if !errors.Is(err, cluster.ErrUnknown) || ctx.Err() != nil {
			return nil, fmt.Errorf("propose command %d: %w", c.Code(), err)
		}
		select {
		case <-time.After(retryUnknown):
		case <-ctx.Done():
		}
	}
}

// record is the replicated record as one leadership of the scheduler sees it: every command is fenced by the term.
type record struct {
	a    *App
	term uint64
}

func (a *App) recordOf(term uint64) scheduler.Record { return record{a, term} }

func (r record) env() fsm.Envelope {
	return fsm.Envelope{Millis: r.a.wall().UnixMilli(), Term: r.term, Actor: "schedule", Origin: "node " + r.a.opts.Node.Name}
}

// do proposes a command of this leadership. That it is over is said in the scheduler's words.
func (r record) do(ctx context.Context, prio cluster.Priority, c fsm.Command) (any, error) {
	got, err := r.a.propose(ctx, prio, r.env(), c)
	if errors.Is(err, cluster.ErrNotLeader) {
		return nil, scheduler.ErrNotLeading
	}
	return got, err
}

func (r record) View() scheduler.View { return r.a.machine.View() }

// Claim splits the claims so that each command fits into an entry. The commands go out together: one after the other each
// would wait behind the work for the runs that those before it have begun. Only where a job has several claims do they go in
// order, since the later tick's claim decides the earlier one too.
func (r record) Claim(ctx context.Context, claims []saltpeter.Claim) ([]saltpeter.ClaimResult, error) {
	parts := splitBy(claims, func(c saltpeter.Claim) int { return len(c.Job) + 80 }) // digest, ticks and CBOR's overhead
	results := make([][]saltpeter.ClaimResult, len(parts))
	claim := func(ctx context.Context, i int) error {
		got, err := r.do(ctx, cluster.High, &fsm.ClaimRuns{Claims: parts[i]})
		if err == nil {
			results[i] = got.(fsm.Claimed).Results
			r.a.firing.note(r.a.wall().UnixMilli(), parts[i], results[i])
		}
		return err
	}
	if !eachJobOnce(claims) {
		for i := range parts {
			if err := claim(ctx, i); err != nil {
				return nil, err
			}
		}
		return slices.Concat(results...), nil
	}
	g, ctx := errgroup.WithContext(ctx)
	for i := range parts {
		g.Go(func() error { return claim(ctx, i) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.Concat(results...), nil
}

func eachJobOnce(claims []saltpeter.Claim) bool {
	seen := make(map[string]bool, len(claims))
	for i := range claims {
		if seen[claims[i].Job] {
			return false
		}
		seen[claims[i].Job] = true
	}
	return true
}

// ApplyConfig puts definitions first, then the revision in parts.
func (r record) ApplyConfig(ctx context.Context, c scheduler.Candidate) error {
	cand, ok := c.(*candidate)
	if !ok {
		return fmt.Errorf("apply configuration of type %T", c)
	}
	env := r.env()
	env.Millis, env.Actor = cand.at.UnixMilli(), r.a.opts.Node.Name
	names, err := r.putDefinitions(ctx, env, cand.result.Jobs)
	if err != nil {
		return err
	}
	settings, err := json.Marshal(cand.result.Settings)
	if err != nil {
		return fmt.Errorf("encode settings: %w", err)
	}
	parts := splitBy(names, func(jd saltpeter.JobDigest) int { return len(jd.Name) + 40 })
	if len(parts) == 0 {
		parts = [][]saltpeter.JobDigest{nil}
	}
	for i, part := range parts {
		cmd := &fsm.ApplyConfig{ID: cand.id, Part: i, Jobs: part}
		if i == len(parts)-1 {
			cmd.Last, cmd.FilesDigest, cmd.Settings, cmd.Maintenance = true, cand.result.Digest, settings, cand.result.Maintenance
		}
		if _, err := r.a.propose(ctx, cluster.Normal, env, cmd); err != nil {
			return err
		}
	}
	return nil
}

func (r record) putDefinitions(ctx context.Context, env fsm.Envelope, jobs []*saltpeter.Job) ([]saltpeter.JobDigest, error) {
	v := r.a.machine.View()
	names := make([]saltpeter.JobDigest, len(jobs))
	var missing [][]byte
	for i, j := range jobs {
		enc, err := j.Encode()
		if err != nil {
			return nil, err
		}
		names[i] = saltpeter.JobDigest{Name: j.Name, Digest: saltpeter.DigestOf(enc)}
		if _, known := v.Definition(names[i].Digest); !known {
			missing = append(missing, enc)
		}
	}
	for _, part := range splitBy(missing, func(b []byte) int { return len(b) + 8 }) {
		if _, err := r.a.propose(ctx, cluster.Normal, env, &fsm.PutDefinitions{Encoded: part}); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// splitBy cuts a list so that the sizes of each part's elements stay below maxPart.
func splitBy[T any](list []T, size func(T) int) [][]T {
	var parts [][]T
	from, sum := 0, 0
	for i, v := range list {
		if n := size(v); i > from && sum+n > maxPart {
			parts = append(parts, list[from:i])
			from, sum = i, n
		} else {
			sum += n
		}
	}
	if from < len(list) {
		parts = append(parts, list[from:])
	}
	return parts
}

func (r record) SetTargets(ctx context.Context, run uint64, machines []saltpeter.Resolved) error {
	attempt := newUUID()
	parts := splitBy(machines, func(m saltpeter.Resolved) int { return len(m.Machine) + 8 })
	for i, part := range parts {
		cmd := &fsm.SetTargets{Run: run, Attempt: attempt, Part: i, Last: i == len(parts)-1}
		for k, m := range part {
			cmd.Machines = append(cmd.Machines, m.Machine)
			if !m.Up {
				cmd.Down = append(cmd.Down, k)
			}
		}
		if _, err := r.do(ctx, cluster.Normal, cmd); err != nil {
			return err
		}
	}
	return nil
}

func (r record) LaunchBatch(ctx context.Context, run uint64, batch int) (*saltpeter.Launch, error) {
	got, err := r.do(ctx, cluster.Normal, &fsm.LaunchBatch{Run: run, Batch: batch})
	if err != nil {
		return nil, err
	}
	return got.(fsm.BatchLaunched).Launch, nil
}

func (r record) EndTargets(ctx context.Context, run uint64, ends []saltpeter.TargetEnd) error {
	for _, part := range splitBy(ends, func(e saltpeter.TargetEnd) int { return len(e.Text) + 24 }) {
		if _, err := r.do(ctx, cluster.Normal, &fsm.EndTargets{Run: run, Ends: part}); err != nil {
			return err
		}
	}
	return nil
}

func (r record) EndRun(ctx context.Context, run uint64, state saltpeter.RunState, text string) error {
	_, err := r.do(ctx, cluster.Normal, &fsm.EndRun{Run: run, State: state, Text: text})
	return err
}

func (r record) PullMarks(ctx context.Context, tick int64) error {
	_, err := r.do(ctx, cluster.Normal, &fsm.PullMarks{To: tick})
	return err
}
