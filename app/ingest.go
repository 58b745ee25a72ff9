package app

import (
	"context"
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/wsgateway"
)

// Kinds of requests to the leader. The numbers are on the link between nodes: append only.
const (
	askHello byte = iota + 1
	askStart
	askResume
	askReport
	askLock
	askHeard
	askChange   // a change that a person or a node asks for: see control.go
	askRemove   // a member
	askTransfer // leadership
	askDoctor   // see doctor.go
)

// answer is what comes back from the leader: a body, or an error for people.
type answer struct {
	_       struct{} `cbor:",toarray"`
	Body    cbor.RawMessage
	Code    saltpeter.ErrorCode
	Message string
	Hint    string
}

// serveLeader answers requests that reached this node because it leads.
func (a *App) serveLeader(ctx context.Context, kind byte, payload []byte) ([]byte, error) {
	switch kind {
	case askHello:
		return serve(ctx, payload, a.hello)
	case askStart:
		return serve(ctx, payload, a.start)
	case askResume:
		return serve(ctx, payload, a.resume)
	case askReport:
		return serve(ctx, payload, a.report)
	case askLock:
		return serve(ctx, payload, a.refuseLock)
	case askHeard:
		return serve(ctx, payload, a.heard)
	case askChange:
		return serve(ctx, payload, a.change)
	case askRemove:
		return serve(ctx, payload, a.removeMember)
	case askTransfer:
		return serve(ctx, payload, a.transferLeader)
	case askDoctor:
		return serve(ctx, payload, a.diagnoseMachines)
	default:
		return nil, fmt.Errorf("request kind %d", kind)
	}
}

// serve decodes a request, answers it and encodes the answer. Errors for people travel in the answer; any other error
// means that the request may be made again.
func serve[Req, Ans any](ctx context.Context, payload []byte, f func(context.Context, Req) (Ans, error)) ([]byte, error) {
	var req Req
	if err := cbor.Unmarshal(payload, &req); err != nil {
		return nil, fmt.Errorf("decode request: %w", err)
	}
	var out answer
	ans, err := f(ctx, req)
	if err != nil {
		e, ok := asError(err)
		if !ok {
			return nil, err
		}
		out.Code, out.Message, out.Hint = e.Code, e.Message, e.Hint
	} else if out.Body, err = cbor.Marshal(ans); err != nil {
		return nil, fmt.Errorf("encode answer: %w", err)
	}
	return cbor.Marshal(out)
}

// ask makes a request of the leader, wherever it is.
func ask[Ans any](ctx context.Context, a *App, prio cluster.Priority, kind byte, req any) (ans Ans, err error) {
	payload, err := cbor.Marshal(req)
	if err != nil {
		return ans, fmt.Errorf("encode request: %w", err)
	}
	b, err := a.node.Call(ctx, prio, kind, payload)
	if err != nil {
		return ans, err
	}
	var out answer
	if err := cbor.Unmarshal(b, &out); err != nil {
		return ans, fmt.Errorf("decode answer: %w", err)
	}
	if out.Code != "" {
		return ans, &saltpeter.Error{Code: out.Code, Message: out.Message, Hint: out.Hint}
	}
	if err := cbor.Unmarshal(out.Body, &ans); err != nil {
		return ans, fmt.Errorf("decode answer: %w", err)
	}
	return ans, nil
}

// leaderLink is the leader as the gateway sees it.
type leaderLink struct{ a *App }

func (l leaderLink) Hello(ctx context.Context, s saltpeter.LaunchSight) ([]saltpeter.LaunchedRun, error) {
	return ask[[]saltpeter.LaunchedRun](ctx, l.a, cluster.High, askHello, s)
}

func (l leaderLink) Start(ctx context.Context, s saltpeter.StartAsk) (saltpeter.StartAnswer, error) {
	return ask[saltpeter.StartAnswer](ctx, l.a, cluster.High, askStart, s)
}

func (l leaderLink) Resume(ctx context.Context, r saltpeter.ResumeAsk) (saltpeter.ResumeAnswer, error) {
	return ask[saltpeter.ResumeAnswer](ctx, l.a, cluster.High, askResume, r)
}

func (l leaderLink) Report(ctx context.Context, r []saltpeter.Report) ([]saltpeter.ReportAnswer, error) {
	return ask[[]saltpeter.ReportAnswer](ctx, l.a, cluster.Low, askReport, r)
}

func (l leaderLink) Lock(ctx context.Context, r saltpeter.LockRefusal) error {
	_, err := ask[struct{}](ctx, l.a, cluster.Normal, askLock, r)
	return err
}

func (l leaderLink) Heard(ctx context.Context, refs []saltpeter.TargetRef) error {
	_, err := ask[struct{}](ctx, l.a, cluster.Normal, askHeard, refs)
	return err
}

// ingestEnv is the envelope of what wrappers say. It is not fenced by a term: words stay true whoever commits them.
func (a *App) ingestEnv() fsm.Envelope {
	return fsm.Envelope{Millis: a.wall().UnixMilli(), Origin: "node " + a.opts.Node.Name}
}

// hello tells a wrapper its runs of a launch. That there is none is said only after a barrier; to name one needs none,
// since only a committed grant executes anything.
func (a *App) hello(ctx context.Context, s saltpeter.LaunchSight) ([]saltpeter.LaunchedRun, error) {
	a.heardLaunch(s)
	v := a.machine.View()
	targets := v.LaunchedOn(s.Launch, s.Machine)
	if len(targets) == 0 {
		if _, err := a.node.Barrier(ctx); err != nil {
			return nil, err
		}
		v = a.machine.View()
		if targets = v.LaunchedOn(s.Launch, s.Machine); len(targets) == 0 {
			return nil, saltpeter.Errorf(saltpeter.CodeNotFound, "there is no launch %s for machine %q", s.Launch, s.Machine)
		}
	}
	out := make([]saltpeter.LaunchedRun, 0, len(targets))
	for _, t := range targets {
		r, ok := v.Run(t.Ref.Run)
		if !ok {
			continue
		}
		def, ok := v.Definition(r.Digest)
		if !ok {
			continue
		}
		set := v.Settings()
		out = append(out, saltpeter.LaunchedRun{Ref: t.Ref, Run: r.ID, Job: r.Job, Lockfile: def.Lockfile, AllowOverlap: def.AllowOverlap,
			State: t.State, Heartbeat: set.Heartbeat, StartWindow: set.StartWindow})
	}
	return out, nil
}

// start commits a start claim; the grant brings the spec.
func (a *App) start(ctx context.Context, s saltpeter.StartAsk) (saltpeter.StartAnswer, error) {
	a.heardLaunch(s.Sight)
	a.scheduler.Heard(s.Ref)
	got, err := a.propose(ctx, cluster.High, a.ingestEnv(), &fsm.StartTarget{Ask: s})
	if err != nil {
		return saltpeter.StartAnswer{}, err
	}
	asked := got.(fsm.TargetAsked)
	ans := saltpeter.StartAnswer{Granted: asked.Granted, Refusal: asked.Refusal, Kill: asked.Kill}
	if asked.Granted {
		if ans.Spec = a.spec(s.Ref); ans.Spec == nil {
			return ans, fmt.Errorf("spec of granted target %+v is gone", s.Ref)
		}
	}
	return ans, nil
}

// spec gives what a wrapper needs to execute a target, nil if the record has lost it.
func (a *App) spec(ref saltpeter.TargetRef) *saltpeter.Spec {
	v := a.machine.View()
	r, ok := v.Run(ref.Run)
	if !ok {
		return nil
	}
	t, ok := v.Target(ref)
	if !ok {
		return nil
	}
	def, ok := v.Definition(r.Digest)
	if !ok {
		return nil
	}
	return &saltpeter.Spec{
		Ref: ref, Run: r.ID, Job: r.Job, Machine: t.Machine, Command: def.Command, User: def.User, Cwd: def.Cwd, Env: def.Env,
		Timeout: def.Timeout, SoftTimeout: def.SoftTimeout, KillGrace: def.KillGrace, OutputLimit: def.OutputLimit,
		WaitForChildren: def.WaitForChildren, LogDir: def.WrapperLogDir, LogLevel: def.WrapperLogLevel,
		Heartbeat: v.Settings().Heartbeat, ExecWithin: saltpeter.GrantLimit(v.Settings().LostAfter),
	}
}

// resume tells a wrapper that comes back where it stands, after a barrier.
func (a *App) resume(ctx context.Context, r saltpeter.ResumeAsk) (saltpeter.ResumeAnswer, error) {
	if _, err := a.node.Barrier(ctx); err != nil {
		return saltpeter.ResumeAnswer{}, err
	}
	a.scheduler.Heard(r.Ref)
	t, ok := a.machine.View().Target(r.Ref)
	if !ok {
		return saltpeter.ResumeAnswer{Unknown: true}, nil
	}
	ans := saltpeter.ResumeAnswer{State: t.State, Winner: t.Won && t.Nonce == r.Nonce, Done: t.Done, Next: t.NextSeq, Kill: t.Killing}
	if ans.Winner && t.State == saltpeter.Granted {
		ans.Spec = a.spec(r.Ref)
	}
	return ans, nil
}

func (a *App) report(ctx context.Context, reports []saltpeter.Report) ([]saltpeter.ReportAnswer, error) {
	for i := range reports {
		a.scheduler.Heard(reports[i].Ref)
	}
	got, err := a.propose(ctx, cluster.Low, a.ingestEnv(), &fsm.Report{Reports: reports})
	if err != nil {
		return nil, err
	}
	return got.(fsm.Reported).Answers, nil
}

func (a *App) refuseLock(ctx context.Context, r saltpeter.LockRefusal) (struct{}, error) {
	a.heardLaunch(r.Sight)
	_, err := a.propose(ctx, cluster.Normal, a.ingestEnv(), &fsm.RefuseLock{Refusal: r})
	return struct{}{}, err
}

// heard takes winners' heartbeats. Nobody who has said "started" says it again: of one that was taken for lost meanwhile the
// heartbeat is the word that it is back, and counts for overlap.
func (a *App) heard(ctx context.Context, refs []saltpeter.TargetRef) (struct{}, error) {
	v := a.machine.View()
	var back []saltpeter.Report
	for _, ref := range refs {
		a.scheduler.Heard(ref)
		if t, ok := v.Target(ref); ok && t.Presumed && t.Won && !t.Back && t.StartedMillis != 0 {
			back = append(back, saltpeter.Report{Ref: ref, Nonce: t.Nonce, Words: []saltpeter.Word{{Kind: saltpeter.WordStarted}}})
		}
	}
	for _, part := range splitBy(back, func(saltpeter.Report) int { return 80 }) {
		if _, err := a.report(ctx, part); err != nil {
			return struct{}{}, err
		}
	}
	return struct{}{}, nil
}

// tokens verifies start tokens against the epoch of this node's record. A record that is behind, as after a start, may have
// another epoch: nothing is refused without a barrier.
type tokens struct{ a *App }

func (t tokens) Verify(ctx context.Context, launch saltpeter.LaunchID, token string) error {
	if t.verify(launch, token) == nil {
		return nil
	}
	if _, err := t.a.node.Barrier(ctx); err != nil {
		return fmt.Errorf("%w: %w", wsgateway.ErrTokenUnchecked, err)
	}
	return t.verify(launch, token)
}

func (t tokens) verify(launch saltpeter.LaunchID, token string) error {
	return t.a.ring.VerifyStart(token, t.a.machine.View().Epoch(), t.a.ident.ClusterID, launch.String())
}
