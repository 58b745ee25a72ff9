package saltclient

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/syscollective/saltpeter"
)

// Remote is the master of another node, reached over the nodes' own link.
type Remote struct {
	Node string // its name
	// Ask brings a request (see Serve) to that node and its answer back. An error wraps ErrDoubtful if the request may have
	// arrived.
	Ask func(ctx context.Context, request []byte) ([]byte, error)
	// Term gives the term in which this node leads, 0 if it doesn't: only a leader publishes, and a node that knows of a newer
	// one refuses.
	Term func() uint64
}

// verb is what a request is for. The numbers are on the link: append only.
type verb byte

const (
	verbResolve verb = iota + 1
	verbPublish
	verbPing
	verbReturns
	verbKey
	verbHealth
)

type request struct {
	Verb    verb               `cbor:"1,keyasint"`
	Patient time.Duration      `cbor:"2,keyasint,omitempty"` // how long the asking node waits; 0 = for ever
	Term    uint64             `cbor:"3,keyasint,omitempty"`
	Target  Expression         `cbor:"4,keyasint,omitzero"`
	Publish *Publication       `cbor:"5,keyasint,omitempty"`
	Minions []string           `cbor:"6,keyasint,omitempty"`
	ID      saltpeter.LaunchID `cbor:"7,keyasint,omitempty"`
}

type answer struct {
	Class   byte     `cbor:"1,keyasint,omitempty"` // index of classes + 1; 0 = no error
	Error   string   `cbor:"2,keyasint,omitempty"`
	Minions []string `cbor:"3,keyasint,omitempty"`
	Missing []string `cbor:"4,keyasint,omitempty"`
	Returns []Return `cbor:"5,keyasint,omitempty"`
	Key     []byte   `cbor:"6,keyasint,omitempty"`
	Health  *Health  `cbor:"7,keyasint,omitempty"`
}

// classes are on the link by their place: append only.
var classes = []error{ErrDoubtful, ErrUnreachable, ErrDenied, ErrExpression, ErrNoKey}

// encoding keeps nested maps usable as JSON, and times exact.
var encoding = sync.OnceValues(func() (codec, error) {
	enc, err := cbor.EncOptions{Time: cbor.TimeRFC3339Nano}.EncMode()
	if err != nil {
		return codec{}, err
	}
	dec, err := cbor.DecOptions{DefaultMapType: reflect.TypeFor[map[string]any]()}.DecMode()
	return codec{enc, dec}, err
})

type codec struct {
	enc cbor.EncMode
	dec cbor.DecMode
}

func encode(v any) ([]byte, error) {
	c, err := encoding()
	if err != nil {
		return nil, err
	}
	return c.enc.Marshal(v)
}

func decode(b []byte, v any) error {
	c, err := encoding()
	if err != nil {
		return err
	}
	return c.dec.Unmarshal(b, v)
}

// travel is what an answer's way takes at most: so much earlier than the asking node's deadline the other one stops.
const travel = 200 * time.Millisecond

// remoteError is another node's error under its class.
type remoteError struct {
	class error
	text  string
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.class }

// Name gives the node's name.
func (r *Remote) Name() string { return r.Node }

// Resolve implements Master.
func (r *Remote) Resolve(ctx context.Context, e Expression) (Matched, error) {
	a, err := r.do(ctx, &request{Verb: verbResolve, Target: e})
	return Matched{Minions: a.Minions, Missing: a.Missing}, err
}

// Publish implements Master.
func (r *Remote) Publish(ctx context.Context, p *Publication) ([]string, error) {
	term := r.Term()
	if term == 0 {
		return nil, fmt.Errorf("%w: this node does not lead any more", ErrUnreachable)
	}
	a, err := r.do(ctx, &request{Verb: verbPublish, Term: term, Publish: p})
	return a.Minions, err
}

// Ping implements Master. The answers come together, at the end.
func (r *Remote) Ping(ctx context.Context, minions []string, answered func(string)) error {
	a, err := r.do(ctx, &request{Verb: verbPing, Minions: minions})
	for _, m := range a.Minions {
		answered(m)
	}
	if ctx.Err() != nil {
		return nil //nolint:nilerr // not all have answered
	}
	return err
}

// Returns implements Master.
func (r *Remote) Returns(ctx context.Context, id saltpeter.LaunchID) ([]Return, error) {
	a, err := r.do(ctx, &request{Verb: verbReturns, ID: id})
	return a.Returns, err
}

// Key implements Master.
func (r *Remote) Key(ctx context.Context, minion string) ([]byte, error) {
	a, err := r.do(ctx, &request{Verb: verbKey, Minions: []string{minion}})
	return a.Key, err
}

// Health implements Master.
func (r *Remote) Health(ctx context.Context) (Health, error) {
	a, err := r.do(ctx, &request{Verb: verbHealth})
	if err != nil || a.Health == nil {
		return Health{}, err
	}
	return *a.Health, nil
}

func (r *Remote) do(ctx context.Context, q *request) (answer, error) {
	if until, ok := ctx.Deadline(); ok {
		q.Patient = max(time.Until(until)-travel, time.Millisecond)
	}
	b, err := encode(q)
	if err != nil {
		return answer{}, fmt.Errorf("encode request: %w", err)
	}
	b, err = r.Ask(ctx, b)
	switch {
	case err != nil && ctx.Err() != nil:
		return answer{}, ctx.Err()
	case err != nil && errors.Is(err, ErrDoubtful):
		return answer{}, err
	case err != nil:
		return answer{}, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	var a answer
	if err := decode(b, &a); err != nil {
		return answer{}, fmt.Errorf("%w: decode answer: %w", ErrDoubtful, err)
	}
	if a.Class == 0 {
		return a, nil
	}
	e := &remoteError{class: ErrDoubtful, text: a.Error}
	if i := int(a.Class) - 1; i < len(classes) {
		e.class = classes[i]
	}
	return a, e
}

// Serve has a master answer another node's request. newest is the newest term that this node knows: what an older leader
// wants published is refused.
func Serve(ctx context.Context, m Master, newest uint64, payload []byte) ([]byte, error) {
	var q request
	if err := decode(payload, &q); err != nil {
		return nil, fmt.Errorf("decode request: %w", err)
	}
	if q.Patient > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, q.Patient)
		defer cancel()
	}
	a := new(answer)
	if err := q.put(ctx, m, newest, a); err != nil {
		a.Error = err.Error()
		a.Class = 1 // what has no class is doubtful
		if i := slices.IndexFunc(classes, func(class error) bool { return errors.Is(err, class) }); i >= 0 {
			a.Class = byte(i) + 1
		}
	}
	return encode(a)
}

// put has the master answer.
func (q *request) put(ctx context.Context, m Master, newest uint64, a *answer) (err error) {
	switch q.Verb {
	case verbResolve:
		var got Matched
		got, err = m.Resolve(ctx, q.Target)
		a.Minions, a.Missing = got.Minions, got.Missing
	case verbPublish:
		if q.Term < newest || q.Publish == nil {
			return fmt.Errorf("%w: refused: published by the leader of term %d, and this node knows of term %d", ErrUnreachable, q.Term, newest)
		}
		a.Minions, err = m.Publish(ctx, q.Publish)
	case verbPing:
		a.Minions, err = collectPing(ctx, m, q.Minions)
	case verbReturns:
		a.Returns, err = m.Returns(ctx, q.ID)
	case verbKey:
		if len(q.Minions) != 1 {
			return fmt.Errorf("%w: a key of %d minions", ErrNoKey, len(q.Minions))
		}
		a.Key, err = m.Key(ctx, q.Minions[0])
	case verbHealth:
		var h Health
		h, err = m.Health(ctx)
		a.Health = &h
	default:
		err = fmt.Errorf("%w: this node's version does not know request %d", ErrUnreachable, q.Verb)
	}
	return err
}
