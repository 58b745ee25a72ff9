package app

import (
	"context"
	"errors"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/cluster"
	"github.com/syscollective/saltpeter/fsm"
	"github.com/syscollective/saltpeter/internal/buildinfo"
)

// control is the node as the API sees it.
type control struct{ a *App }

// changeRequest is a command that somebody else than the leader's own work asks for. The leader gives it its time.
type changeRequest struct {
	_    struct{} `cbor:",toarray"`
	By   saltpeter.Actor
	Code fsm.Code
	Body cbor.RawMessage
}

// change commits what a person or another node asks for.
func (a *App) change(ctx context.Context, req changeRequest) (cbor.RawMessage, error) {
	cmd, err := fsm.DecodeBody(req.Code, req.Body)
	if errors.Is(err, fsm.ErrUnknownCommand) {
		return nil, tooOld(a.opts.Node.Name, buildinfo.Version(), req.Code)
	}
	if err != nil {
		return nil, err
	}
	env := fsm.Envelope{Millis: a.wall().UnixMilli(), Actor: req.By.Name, Origin: req.By.Origin, Request: req.By.Request}
	got, err := a.propose(ctx, cluster.High, env, cmd)
	if err != nil {
		return nil, err
	}
	return cbor.Marshal(got)
}

// asked has the leader commit a command and gives its result. An outcome that is unknown is asked for again until ctx
// ends: the command is idempotent.
func asked[Result any](ctx context.Context, a *App, by saltpeter.Actor, c fsm.Command) (res Result, err error) {
	body, err := cbor.Marshal(c)
	if err != nil {
		return res, err
	}
	req := changeRequest{By: by, Code: c.Code(), Body: body}
	for {
		raw, err := ask[cbor.RawMessage](ctx, a, cluster.High, askChange, req)
		switch {
		case err == nil:
			return res, cbor.Unmarshal(raw, &res)
		case ctx.Err() != nil:
			return res, noLeader(err)
		case !errors.Is(err, cluster.ErrUnknown):
			return res, err
		}
		select {
		case <-time.After(retryUnknown):
		case <-ctx.Done():
		}
	}
}

func noLeader(err error) error {
	return &saltpeter.Error{Code: saltpeter.CodeNoLeader, Message: "no leader answered in time", Err: err,
		Hint: "runs in progress continue; nothing new starts until a majority of the nodes is up"}
}

// asError gives the error for people in err's chain.
func asError(err error) (*saltpeter.Error, bool) { return errors.AsType[*saltpeter.Error](err) }

func (c control) Read(ctx context.Context, stale bool) (api.View, error) {
	if !stale {
		if _, err := c.a.node.Barrier(ctx); err != nil {
			return nil, noLeader(err)
		}
	}
	return c.a.machine.View(), nil
}

func (c control) Start(ctx context.Context, by saltpeter.Actor, req saltpeter.StartRequest) (*saltpeter.Run, error) {
	if req.Key == "" {
		req.Key = newUUID()
	}
	got, err := asked[fsm.RunStarted](ctx, c.a, by, &fsm.StartRun{Request: req})
	if err != nil {
		return nil, err
	}
	v, err := c.Read(ctx, false)
	if err != nil {
		return nil, err
	}
	if r, ok := v.RunByID(got.RunID); ok {
		return r, nil
	}
	return nil, saltpeter.Errorf(saltpeter.CodeNotFound, "run %s is not in the record any more", got.RunID)
}

func (c control) Kill(ctx context.Context, by saltpeter.Actor, run uint64, machines []string) (int, error) {
	got, err := asked[fsm.KillTaken](ctx, c.a, by, &fsm.Kill{Run: run, Machines: machines})
	return got.Ended + got.Pending, err
}

func (c control) SetWindow(ctx context.Context, by saltpeter.Actor, w saltpeter.Window) (saltpeter.Window, error) {
	got, err := asked[fsm.WindowTaken](ctx, c.a, by, &fsm.SetWindow{Window: w})
	return got.Window, err
}

func (c control) LiftWindow(ctx context.Context, by saltpeter.Actor, scope saltpeter.Scope, name string, pause bool) (int, error) {
	got, err := asked[fsm.Lifted](ctx, c.a, by, &fsm.LiftWindow{Scope: scope, Name: name, Pause: pause})
	return got.Count, err
}

func (c control) PutToken(ctx context.Context, by saltpeter.Actor, t saltpeter.Token) (saltpeter.Token, error) {
	got, err := asked[fsm.TokenTaken](ctx, c.a, by, &fsm.PutToken{Token: t})
	return got.Token, err
}

// RevokeToken needs no more than the commit: every node asks the leader before it takes a token's word for a change, and so
// it does for a read as long as it hears of a leader.
func (c control) RevokeToken(ctx context.Context, by saltpeter.Actor, hash saltpeter.Digest) (saltpeter.Token, error) {
	got, err := asked[fsm.TokenTaken](ctx, c.a, by, &fsm.RevokeToken{Hash: hash})
	return got.Token, err
}

func (c control) Changed() <-chan struct{} { return c.a.changes.next() }

func (c control) Events() api.Feed { return feed(c) }

func (c control) Contact() api.Contact {
	out := api.Contact{Name: c.a.opts.Node.Name, Leader: c.a.nameOf(c.a.node.LeaderID()), Working: c.a.forming.text() == ""}
	out.Age, out.Known = c.a.node.LeaderContact()
	return out
}

func (c control) Status(context.Context) api.NodeStatus {
	a := c.a
	st := a.node.Status()
	v := a.machine.View()
	out := api.NodeStatus{
		Name: a.opts.Node.Name, ID: st.ID, Version: buildinfo.Version(), Role: st.State, Term: st.Term, Commit: st.CommitIndex,
		Applied: st.AppliedIndex, Started: a.started, Problems: a.files.problems(), Launcher: a.launcherState(v.Settings()),
	}
	if v.Settings().Launcher == saltpeter.LauncherSalt {
		out.Salt = a.saltReport()
	}
	names := make(map[string]fsm.NodeRecord)
	for _, n := range v.Nodes() {
		names[n.ID] = n
	}
	out.Leader = names[st.LeaderID].Name
	for _, m := range st.Members {
		out.Members = append(out.Members, api.Member{Name: names[m.ID].Name, ID: m.ID, Address: m.Addr, Voter: m.Voter, Leader: m.ID == st.LeaderID,
			Version: names[m.ID].Version, ConfigDigest: names[m.ID].Files})
	}
	if out.Forming = a.forming.text(); out.Forming != "" {
		out.Unready = append(out.Unready, out.Forming)
	}
	if store := a.machine.Feed(); store != nil {
		b := store.Bounds()
		out.Feed = api.FeedInfo{First: b.First, Next: b.Next, Dropped: b.Dropped}
	}
	if st.Err != nil {
		out.Faults = append(out.Faults, st.Err.Error())
	}
	if why := a.clockAlarm.Load(); why != nil {
		out.Faults = append(out.Faults, *why)
	}
	if s := a.scheduler.Status(); s.Alarm != "" {
		out.Faults = append(out.Faults, s.Alarm)
	}
	return out
}
