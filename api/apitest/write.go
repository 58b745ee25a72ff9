package apitest

import (
	"context"
	"slices"
	"strconv"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
)

// wrote notes who writes, or gives the error that writes fail with.
func (n *Node) wrote(by saltpeter.Actor) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.actors = append(n.actors, by)
	return n.failure
}

// Read implements api.Node.
func (n *Node) Read(_ context.Context, stale bool) (api.View, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.failure != nil && !stale {
		return nil, n.failure
	}
	return n.rec.view(), nil
}

// Start implements api.Node. The run has its machines at once if the request names them.
func (n *Node) Start(_ context.Context, by saltpeter.Actor, req saltpeter.StartRequest) (*saltpeter.Run, error) {
	if err := n.wrote(by); err != nil {
		return nil, err
	}
	var run *saltpeter.Run
	var err error
	n.change(func(r *record) {
		if _, ok := r.jobs[req.Job]; !ok {
			err = saltpeter.Errorf(saltpeter.CodeNotFound, "job %q not found", req.Job)
			return
		}
		if id := n.keys[req.Key]; req.Key != "" && id != "" {
			run, _ = r.view().RunByID(id)
			if run.Job != req.Job || run.Note != req.Note {
				err = saltpeter.Errorf(saltpeter.CodeMismatch, "idempotency key %q belongs to run %s", req.Key, id).WithHint("draw a new key")
			}
			return
		}
		second := start.Unix()
		for ; ; second++ {
			if _, taken := r.view().RunByID(req.Job + "_" + strconv.FormatInt(second, 10)); !taken {
				break
			}
		}
		run = r.claim(req.Job, second)
		run.Actor, run.Origin, run.Cause, run.Note, run.Key, run.Machines = by.Name, by.Origin, "manual", req.Note, req.Key, req.Machines
		run.ClaimedMillis = start.UnixMilli()
		n.keys[req.Key] = run.ID
		r.draw(run, req.Machines)
	})
	return run, err
}

// Kill implements api.Node: machines that wait end at once, the others are marked.
func (n *Node) Kill(_ context.Context, by saltpeter.Actor, num uint64, machines []string) (int, error) {
	if err := n.wrote(by); err != nil {
		return 0, err
	}
	view, err := n.Read(context.Background(), true)
	if err != nil {
		return 0, err
	}
	var at []int
	for i, t := range view.(*snapshot).targets[num] {
		if !t.State.Final() && (len(machines) == 0 || slices.Contains(machines, t.Machine)) {
			at = append(at, i)
		}
	}
	if len(at) == 0 {
		return 0, saltpeter.Errorf(saltpeter.CodeConflict, "the run is finished").WithHint("there is nothing left to kill")
	}
	n.changeRun(num, func(_ *record, run *saltpeter.Run) { run.KilledBy, run.KilledMillis = by.Name, start.UnixMilli() })
	for _, i := range at {
		n.Target(num, i, func(t *saltpeter.Target) {
			t.Killing = true
			if t.State == saltpeter.Waiting {
				t.State, t.Code, t.EndedMillis = saltpeter.Killed, 143, start.UnixMilli()
			}
		})
	}
	return len(at), nil
}

// SetWindow implements api.Node.
func (n *Node) SetWindow(_ context.Context, by saltpeter.Actor, w saltpeter.Window) (saltpeter.Window, error) {
	if err := n.wrote(by); err != nil {
		return w, err
	}
	n.change(func(r *record) {
		r.windows = slices.DeleteFunc(slices.Clone(r.windows), func(o saltpeter.Window) bool {
			return !o.File && o.Scope == w.Scope && o.Name == w.Name && o.Pause == w.Pause
		})
		r.windows = append(r.windows, w)
		r.pause(w.Name, w.Pause, &w)
	})
	return w, nil
}

// pause keeps a job's status in step with its pause.
func (r *record) pause(job string, is bool, w *saltpeter.Window) {
	if s, ok := r.jobs[job]; ok && is {
		s.Paused = w
		r.jobs[job] = s
	}
}

// LiftWindow implements api.Node.
func (n *Node) LiftWindow(_ context.Context, by saltpeter.Actor, scope saltpeter.Scope, name string, pause bool) (int, error) {
	if err := n.wrote(by); err != nil {
		return 0, err
	}
	lifted := 0
	n.change(func(r *record) {
		r.windows = slices.Clone(r.windows)
		for i := range r.windows {
			w := &r.windows[i]
			if w.Scope == scope && w.Name == name && w.Pause == pause && !w.File && w.ActiveAt(start.UnixMilli()) {
				w.OffMillis = start.UnixMilli()
				lifted++
			}
		}
		r.pause(name, pause, nil)
	})
	return lifted, nil
}

// PutToken implements api.Node.
func (n *Node) PutToken(_ context.Context, by saltpeter.Actor, t saltpeter.Token) (saltpeter.Token, error) {
	if err := n.wrote(by); err != nil {
		return t, err
	}
	var err error
	n.change(func(r *record) {
		if slices.ContainsFunc(r.tokens, func(o saltpeter.Token) bool { return o.Name == t.Name && o.RevokedMillis == 0 }) {
			err = saltpeter.Errorf(saltpeter.CodeConflict, "there is a token %q already", t.Name)
			return
		}
		t.Actor, t.Origin, t.CreatedMillis = by.Name, by.Origin, start.UnixMilli()
		r.tokens = append(slices.Clone(r.tokens), t)
	})
	return t, err
}

// RevokeToken implements api.Node.
func (n *Node) RevokeToken(_ context.Context, by saltpeter.Actor, hash saltpeter.Digest) (saltpeter.Token, error) {
	if err := n.wrote(by); err != nil {
		return saltpeter.Token{}, err
	}
	var out saltpeter.Token
	n.change(func(r *record) {
		r.tokens = slices.Clone(r.tokens)
		for i := range r.tokens {
			if t := &r.tokens[i]; t.Hash == hash {
				t.RevokedMillis, t.RevokedBy = start.UnixMilli(), by.Name
				out = *t
			}
		}
	})
	return out, nil
}
