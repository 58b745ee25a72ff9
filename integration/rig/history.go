package rig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Span is a maintenance as the one who set it saw it. A request's effect lies between its sending and its answer.
type Span struct {
	scope, name       string
	onSent, onAcked   time.Time
	offSent, offAcked time.Time // zero = not lifted
	onUnknown         bool
}

// mayCover and mustCover say whether a maintenance may have been, or was for sure, on at an instant.
func (s *Span) mayCover(at time.Time) bool {
	return !at.Before(s.onSent) && (s.offAcked.IsZero() || at.Before(s.offAcked))
}

func (s *Span) mustCover(at time.Time) bool {
	return !s.onUnknown && !at.Before(s.onAcked) && (s.offSent.IsZero() || at.Before(s.offSent))
}

// History is what the harness did and was told: what the record must agree with.
type History struct {
	mu      sync.Mutex
	Seen    time.Time         // all jobs were in force
	spans   []*Span           // maintenances
	Started map[string]string // run id by idempotency key: acked starts by hand
	refused map[string]bool   // keys of starts that were refused
	killed  map[string]bool   // runs for which a kill was sent
	downs   []outage
	stale   []stale
	reads   int // of runs whose start had been acknowledged, on any node
	clocks  []wrongClock
	epochs  []*Epoch

	removals  []*removal
	robberies []*robbery

	startedAt map[string]time.Time // by key: when the start was acknowledged
}

// outage is a time in which a node was not working.
type outage struct{ from, to time.Time }

// stale is a write that was acknowledged and that a node did not show when it was asked for it after that.
type stale struct {
	at        time.Time
	run, node string
}

// NewHistory makes an empty one.
func NewHistory() *History {
	return &History{Started: map[string]string{}, refused: map[string]bool{}, killed: map[string]bool{}, startedAt: map[string]time.Time{}}
}

// Down notes a time in which a node was not working.
func (h *History) Down(from, to time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.downs = append(h.downs, outage{from, to})
}

// Operator is the person who uses the cluster while it is being hurt.
type Operator struct {
	C *Cluster
	H *History
	n int // of keys
	P string

	NoMaintenance bool

	acting sync.Mutex // held for each turn of Use
}

// StartByHand starts a job, gives the run's id, which is empty if the start was refused, and reads it on another node.
func (o *Operator) StartByHand(ctx context.Context, job string) (string, error) {
	id, err := o.start(ctx, job)
	if id != "" {
		o.readBack(ctx, id)
	}
	return id, err
}

// readBack asks one of the nodes for a run whose start was acknowledged. It may not answer; if it does it must know it.
func (o *Operator) readBack(ctx context.Context, id string) {
	n := o.C.Nodes[int(o.C.turn.Add(1))%len(o.C.Nodes)]
	if !n.Alive() {
		return
	}
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, err := n.call(ctx, http.MethodGet, "/runs/"+url.PathEscape(id), nil, nil)
	o.H.mu.Lock()
	defer o.H.mu.Unlock()
	var s *statusError
	switch {
	case err == nil:
		o.H.reads++
	case errors.As(err, &s) && s.code == http.StatusNotFound:
		o.H.stale = append(o.H.stale, stale{asked, id, n.Name})
	}
}

func (o *Operator) start(ctx context.Context, job string) (string, error) {
	o.n++
	key := fmt.Sprintf("%s-%d", o.P, o.n)
	b, err := o.C.insist(ctx, http.MethodPost, "/jobs/"+job+"/runs", map[string]string{"note": "by hand"}, http.Header{"Idempotency-Key": {key}})
	o.H.mu.Lock()
	defer o.H.mu.Unlock()
	if final(err) {
		o.H.refused[key] = true
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var r Run
	if err := json.Unmarshal(b, &r); err != nil {
		return "", err
	}
	o.H.Started[key], o.H.startedAt[key] = r.ID, time.Now()
	return r.ID, nil
}

// Kill kills a run, which may have ended.
func (o *Operator) Kill(ctx context.Context, id string) error {
	o.H.mu.Lock()
	o.H.killed[id] = true
	o.H.mu.Unlock()
	_, err := o.C.insist(ctx, http.MethodPost, "/runs/"+url.PathEscape(id)+"/kill", nil, nil)
	if final(err) {
		return nil // it had ended
	}
	return err
}

func windowPath(scope, name string) string {
	if scope == "all" {
		return "/maintenance/all"
	}
	return "/maintenance/" + scope + "/" + name
}

// Maintain sets a maintenance without end; scope is all, job, or machine.
func (o *Operator) Maintain(ctx context.Context, scope, name string) (*Span, error) {
	s := &Span{scope: scope, name: name, onSent: time.Now()}
	o.H.mu.Lock()
	o.H.spans = append(o.H.spans, s)
	o.H.mu.Unlock()
	_, err := o.C.insist(ctx, http.MethodPut, windowPath(scope, name), map[string]any{"forever": true, "reason": "test"}, nil)
	s.onAcked, s.onUnknown = time.Now(), err != nil
	return s, err
}

func (o *Operator) lift(ctx context.Context, s *Span) error {
	s.offSent = time.Now()
	_, err := o.C.insist(ctx, http.MethodDelete, windowPath(s.scope, s.name), nil, nil)
	if err == nil {
		s.offAcked = time.Now()
	}
	return err
}

// Finish lets nothing start any more, kills what would take minutes, and waits until all has come to rest. It gives the
// maintenance that ended it all.
func (o *Operator) Finish(ctx context.Context, limit time.Duration) (*Span, error) {
	end, err := o.Maintain(ctx, "all", "")
	if err != nil {
		return nil, err
	}
	runs, err := List[Run](ctx, o.C, "/jobs/"+JobLong+"/runs")
	for _, r := range runs {
		if r.State == "claimed" || r.State == "running" {
			err = errors.Join(err, o.Kill(ctx, r.ID))
		}
	}
	if err == nil {
		err = errors.Join(o.C.Rest(ctx, limit), o.C.AllUp())
	}
	if err != nil {
		return nil, err
	}
	// A command whose wrapper was killed is at most eight seconds long.
	return end, WaitFor(ctx, 20*time.Second, "commands and wrappers to end", o.C.OnlyNodes)
}

// Use does in turns what people do, until ctx ends; what it could not do is its error.
func (o *Operator) Use(ctx context.Context) error {
	var errs []error
	note := func(err error) {
		if err != nil && ctx.Err() == nil {
			errs = append(errs, err)
		}
	}
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			return errors.Join(errs...)
		case <-time.After(1500 * time.Millisecond):
		}
		note(o.act(ctx, turn))
	}
}

// act does what people do in one turn.
func (o *Operator) act(ctx context.Context, turn int) error {
	o.acting.Lock()
	defer o.acting.Unlock()
	switch turn % 4 {
	case 1:
		id, err := o.StartByHand(ctx, JobLong)
		if err != nil || id == "" {
			return err
		}
		time.Sleep(time.Second)
		return o.Kill(ctx, id)
	case 3:
		if o.NoMaintenance {
			return nil
		}
		return o.MaintainFor(ctx, turn)
	default:
		_, err := o.StartByHand(ctx, JobHand)
		return err
	}
}

// Hold lets people do nothing until it is released; what they are at is over when it returns.
func (o *Operator) Hold() (release func()) {
	o.acting.Lock()
	return o.acting.Unlock
}

// MaintainFor sets a short maintenance. It is lifted even when ctx ends meanwhile.
func (o *Operator) MaintainFor(ctx context.Context, turn int) error {
	scope, name := "job", "tick"
	if turn%8 == 7 {
		scope, name = "machine", "m3"
	}
	s, err := o.Maintain(ctx, scope, name)
	if err != nil {
		return err
	}
	time.Sleep(1200 * time.Millisecond)
	return o.lift(context.WithoutCancel(ctx), s)
}

// PassToken makes a token and revokes it.
func (o *Operator) PassToken(ctx context.Context) error {
	name := fmt.Sprintf("%s-%d", o.P, time.Now().UnixNano())
	_, err := o.C.insist(ctx, http.MethodPost, "/tokens", map[string]string{"name": name, "role": "viewer"}, nil)
	if err == nil || final(err) { // another try may have made it
		_, err = o.C.insist(ctx, http.MethodDelete, "/tokens/"+name, nil, nil)
	}
	return err
}
