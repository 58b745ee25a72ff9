package crash

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

// span is a maintenance as the one who set it saw it. A request's effect lies between its sending and its answer.
type span struct {
	scope, name       string
	onSent, onAcked   time.Time
	offSent, offAcked time.Time // zero = not lifted
	onUnknown         bool
}

// mayCover and mustCover say whether a maintenance may have been, or was for sure, on at an instant.
func (s *span) mayCover(at time.Time) bool {
	return !at.Before(s.onSent) && (s.offAcked.IsZero() || at.Before(s.offAcked))
}

func (s *span) mustCover(at time.Time) bool {
	return !s.onUnknown && !at.Before(s.onAcked) && (s.offSent.IsZero() || at.Before(s.offSent))
}

// history is what the harness did and was told: what the record must agree with.
type history struct {
	mu      sync.Mutex
	seen    time.Time         // all jobs were in force
	spans   []*span           // maintenances
	started map[string]string // run id by idempotency key: acked starts by hand
	refused map[string]bool   // keys of starts that were refused
	killed  map[string]bool   // runs for which a kill was sent
	downs   []outage
}

// outage is a time in which a node was not working.
type outage struct{ from, to time.Time }

func newHistory() *history {
	return &history{started: map[string]string{}, refused: map[string]bool{}, killed: map[string]bool{}}
}

func (h *history) down(from, to time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.downs = append(h.downs, outage{from, to})
}

// operator is the person who uses the cluster while it is being hurt.
type operator struct {
	c *Cluster
	h *history
	n int // of keys
	p string
}

// startByHand starts a job and gives the run's id.
func (o *operator) startByHand(ctx context.Context, job string) (string, error) {
	o.n++
	key := fmt.Sprintf("%s-%d", o.p, o.n)
	b, err := o.c.insist(ctx, http.MethodPost, "/jobs/"+job+"/runs", map[string]string{"note": "by hand"}, http.Header{"Idempotency-Key": {key}})
	o.h.mu.Lock()
	defer o.h.mu.Unlock()
	if final(err) {
		o.h.refused[key] = true
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var r run
	if err := json.Unmarshal(b, &r); err != nil {
		return "", err
	}
	o.h.started[key] = r.ID
	return r.ID, nil
}

func (o *operator) kill(ctx context.Context, id string) error {
	o.h.mu.Lock()
	o.h.killed[id] = true
	o.h.mu.Unlock()
	_, err := o.c.insist(ctx, http.MethodPost, "/runs/"+url.PathEscape(id)+"/kill", nil, nil)
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

func (o *operator) maintain(ctx context.Context, scope, name string) (*span, error) {
	s := &span{scope: scope, name: name, onSent: time.Now()}
	o.h.mu.Lock()
	o.h.spans = append(o.h.spans, s)
	o.h.mu.Unlock()
	_, err := o.c.insist(ctx, http.MethodPut, windowPath(scope, name), map[string]any{"forever": true, "reason": "test"}, nil)
	s.onAcked, s.onUnknown = time.Now(), err != nil
	return s, err
}

func (o *operator) lift(ctx context.Context, s *span) error {
	s.offSent = time.Now()
	_, err := o.c.insist(ctx, http.MethodDelete, windowPath(s.scope, s.name), nil, nil)
	if err == nil {
		s.offAcked = time.Now()
	}
	return err
}

// use does in turns what people do, until ctx ends; what it could not do is its error.
func (o *operator) use(ctx context.Context) error {
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
		switch turn % 4 {
		case 0, 2:
			_, err := o.startByHand(ctx, jobHand)
			note(err)
		case 1:
			id, err := o.startByHand(ctx, jobLong)
			note(err)
			if err == nil && id != "" {
				time.Sleep(time.Second)
				note(o.kill(ctx, id))
			}
		case 3:
			note(o.maintainFor(ctx, turn))
		}
	}
}

// maintainFor sets a short maintenance. It is lifted even when ctx ends meanwhile.
func (o *operator) maintainFor(ctx context.Context, turn int) error {
	scope, name := "job", "tick"
	if turn%8 == 7 {
		scope, name = "machine", "m3"
	}
	s, err := o.maintain(ctx, scope, name)
	if err != nil {
		return err
	}
	time.Sleep(1200 * time.Millisecond)
	return o.lift(context.WithoutCancel(ctx), s)
}
