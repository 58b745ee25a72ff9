package saltclient

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter"
)

// whole is a master that notes what it is asked and answers everything.
type whole struct {
	stub
	published *Publication
}

func (w *whole) Publish(ctx context.Context, p *Publication) ([]string, error) {
	w.published = p
	return w.stub.Publish(ctx, p)
}

func (w *whole) Returns(_ context.Context, id saltpeter.LaunchID) ([]Return, error) {
	return []Return{{Minion: "m1", Code: 3, Stdout: id.String()}}, nil
}

func (w *whole) Health(context.Context) (Health, error) {
	return Health{Version: "3008.5", Took: time.Second, Filtered: true, Minions: 7, Notes: "slow"}, w.err
}

// remoteOf gives w as another node sees it.
func remoteOf(w *whole, newest uint64) *Remote {
	return &Remote{Node: "n2", Term: func() uint64 { return 5 }, Ask: func(ctx context.Context, request []byte) ([]byte, error) {
		return Serve(ctx, w, newest, request)
	}}
}

func TestRemoteSaysWhatTheMasterSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &whole{stub: stub{name: "m", keys: []string{"m1", "m2"}, connected: []string{"m1"}}}
		r := remoteOf(w, 5)
		ctx := t.Context()
		matched, err := r.Resolve(ctx, Expression{Type: "list", Text: []string{"m2", "m9"}})
		if err != nil || !reflect.DeepEqual(matched, Matched{Minions: []string{"m2"}, Missing: []string{"m9"}}) {
			t.Errorf("resolve: %+v, %v", matched, err)
		}
		p := &Publication{ID: 20, Target: Expression{Type: "glob", Text: []string{"*"}}, Function: "cmd.run_all", Deadline: time.Unix(1, 5000).UTC(),
			Kwargs: map[string]any{"cmd": "x", "python_shell": false, "env": map[string]any{"A": "1"}, "list": []any{"a"}}}
		if got, err := r.Publish(ctx, p); err != nil || len(got) != 2 || !reflect.DeepEqual(w.published, p) {
			t.Errorf("publish: %v, %v; it came as %+v", got, err, w.published)
		}
		var up []string
		short, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		if err := r.Ping(short, []string{"m1", "m2"}, func(m string) { up = append(up, m) }); err != nil {
			t.Error(err)
		}
		expect(t, "ping", up, "m1")
		if got, err := r.Returns(ctx, 77); err != nil || len(got) != 1 || got[0].Code != 3 {
			t.Errorf("returns: %+v, %v", got, err)
		}
		if key, err := r.Key(ctx, "m1"); err != nil || string(key) != "key of m1" {
			t.Errorf("key %q, %v", key, err)
		}
		if _, err := r.Key(ctx, "m9"); !errors.Is(err, ErrNoKey) {
			t.Errorf("no key: %v", err)
		}
		if h, err := r.Health(ctx); err != nil || h != (Health{"3008.5", time.Second, true, 7, "slow"}) {
			t.Errorf("health %+v, %v", h, err)
		}
		for _, class := range classes {
			w.fails(fmt.Errorf("%w: because", class))
			if _, err := r.Resolve(ctx, Expression{}); !errors.Is(err, class) || err.Error() != class.Error()+": because" {
				t.Errorf("%v came as %v", class, err)
			}
		}
		w.fails(errors.New("something else"))
		if _, err := r.Health(ctx); !errors.Is(err, ErrDoubtful) {
			t.Errorf("an error without a class: %v", err)
		}
	})
}

func TestRemoteHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &whole{stub: stub{name: "m", hangs: true}}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		began := time.Now()
		_, err := remoteOf(w, 5).Resolve(ctx, Expression{})
		if !errors.Is(err, ErrDoubtful) || time.Since(began) != 2*time.Second-travel {
			t.Errorf("%v after %s", err, time.Since(began))
		}
	})
}

func TestRemoteRefusesAnOlderTerm(t *testing.T) {
	w := &whole{stub: stub{name: "m", keys: []string{"m1"}}}
	_, err := remoteOf(w, 6).Publish(t.Context(), &Publication{Target: Expression{Type: "glob"}})
	if !errors.Is(err, ErrUnreachable) || w.published != nil {
		t.Errorf("published for a deposed leader: %v", err)
	}
	deposed := remoteOf(w, 5)
	deposed.Term = func() uint64 { return 0 }
	if _, err := deposed.Publish(t.Context(), &Publication{}); !errors.Is(err, ErrUnreachable) || w.published != nil {
		t.Errorf("a node that does not lead published: %v", err)
	}
}

func TestRemoteThatCantBeAsked(t *testing.T) {
	ask := func(b []byte, err error) *Remote {
		return &Remote{Node: "n2", Term: func() uint64 { return 1 }, Ask: func(context.Context, []byte) ([]byte, error) { return b, err }}
	}
	for _, c := range []struct {
		r    *Remote
		want error
	}{
		{ask(nil, errors.New("no link")), ErrUnreachable},
		{ask(nil, fmt.Errorf("%w: link lost", ErrDoubtful)), ErrDoubtful},
		{ask([]byte{0xff}, nil), ErrDoubtful},
		{ask([]byte{0xa1, 0x01, 0x63}, nil), ErrDoubtful}, // a class that this version doesn't know comes cut
	} {
		if _, err := c.r.Publish(t.Context(), &Publication{}); !errors.Is(err, c.want) {
			t.Errorf("got %v, want %v", err, c.want)
		}
	}
	for _, b := range [][]byte{nil, {0xff}, []byte("{}")} {
		if _, err := Serve(t.Context(), &whole{}, 1, b); err == nil {
			t.Errorf("served %x", b)
		}
	}
}
