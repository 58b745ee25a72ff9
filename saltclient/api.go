package saltclient

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/syscollective/saltpeter"
)

// apiCallLimit is how long an endpoint is waited for where the caller sets no deadline. Salt's own limits are minutes.
const apiCallLimit = 10 * time.Second

// APIOptions say where an endpoint is and who we are there. URL, EAuth, User and Password are required.
type APIOptions struct {
	URL   string // "https://10.0.0.5:8000"
	EAuth string // of external_auth in Salt's configuration: "sharedsecret", "pam", "ldap", "file", ...
	User  string
	// Password gives the password. It is asked for at each login; what it gives is in no error and no log.
	Password func() (string, error)
	CAFile   string // PEM; the certificates that vouch for the endpoint's; empty = the system's
	Insecure bool   // take any certificate
	// Limit bounds one request; 0 = 10 s.
	Limit time.Duration
	// Dial makes connections; nil = the system's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// API is a Master reached through salt-api (rest_cherrypy). It keeps one session: salt-api forgets them when it is
// restarted, and has its own for each endpoint.
//
// It starts no goroutine that outlives a call.
type API struct {
	o       APIOptions
	session session

	mu     sync.Mutex // guards the following
	web    *web
	master masterFacts
}

// NewAPI makes the way to an endpoint. It connects at its first use; files are read then, and again where that failed.
func NewAPI(o APIOptions) *API {
	o.URL = strings.TrimSuffix(o.URL, "/")
	if o.Limit == 0 {
		o.Limit = apiCallLimit
	}
	return &API{o: o, session: newSession()}
}

// Name gives the endpoint's address.
func (a *API) Name() string { return a.o.URL }

// Close gives up the connections that nobody uses.
func (a *API) Close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.web != nil {
		a.web.client.CloseIdleConnections()
	}
}

// Publish publishes by local_async under our id. An empty answer is believed only where the master does not know any of
// the target: an overloaded one gives it, too. A general failure is what an unknown nodegroup gets, too.
func (a *API) Publish(ctx context.Context, p *Publication) ([]string, error) {
	if err := p.Target.evaluable(); err != nil {
		return nil, err
	}
	got, err := a.publish(ctx, p, p.ID.String())
	if len(got.Minions) > 0 || err != nil && !isStatus(err, http.StatusInternalServerError) {
		return got.Minions, err
	}
	m, wrong := a.Resolve(ctx, p.Target)
	switch {
	case errors.Is(wrong, ErrExpression):
		return nil, wrong
	case err != nil:
		return nil, err
	case wrong == nil && len(m.Minions) == 0:
		return nil, nil
	default:
		return nil, fmt.Errorf("%w: salt-api named no minion for a target that has some, as it does when it is overloaded", ErrDoubtful)
	}
}

// published is the answer to local_async.
type published struct {
	JID     string   `json:"jid"`
	Minions []string `json:"minions"`
}

// publish sends one job; without a jid Salt chooses one.
func (a *API) publish(ctx context.Context, p *Publication, jid string) (published, error) {
	low := target(p.Target, map[string]any{"client": "local_async", "fun": p.Function})
	if len(p.Kwargs) > 0 {
		low["kwarg"] = p.Kwargs // never arg: a text such as X=5 in it would be taken for a keyword
	}
	if jid != "" {
		low["jid"] = jid
	}
	var got published
	err := a.call(ctx, &lowstate{fields: low, into: &got, lost: ErrDoubtful, until: p.Deadline})
	return got, err
}

func target(e Expression, low map[string]any) map[string]any {
	low["tgt_type"] = e.Type
	if e.Type == "list" {
		low["tgt"] = e.Text
	} else {
		low["tgt"] = e.Text[0]
	}
	return low
}

// pingPause is between two looks at who has answered a ping: at first, and at last.
const (
	pingPauseFirst = 300 * time.Millisecond
	pingPauseLast  = 2 * time.Second
)

// Ping publishes test.ping and looks into the master's job cache for who has returned. The event stream would be faster,
// but brings everything that happens on the master.
func (a *API) Ping(ctx context.Context, minions []string, answered func(minion string)) error {
	if len(minions) == 0 {
		return nil
	}
	e := Expression{Type: "list", Text: minions}
	p, err := a.publish(ctx, &Publication{Target: e, Function: "test.ping"}, "")
	if err != nil {
		return err
	}
	if len(p.Minions) == 0 {
		if m, err := a.Resolve(ctx, e); err != nil || len(m.Minions) > 0 {
			return fmt.Errorf("%w: salt-api named no minion for a ping", ErrDoubtful)
		}
		return nil
	}
	left := make(map[string]bool, len(minions))
	for _, m := range p.Minions {
		left[m] = slices.Contains(minions, m)
	}
	maps.DeleteFunc(left, func(_ string, asked bool) bool { return !asked })
	return a.awaitPing(ctx, p.JID, left, answered)
}

// awaitPing looks until nobody is left. An error counts only if no look succeeded.
func (a *API) awaitPing(ctx context.Context, jid string, left map[string]bool, answered func(string)) error {
	var failed error
	looked := false
	for wait := pingPauseFirst; len(left) > 0 && pause(ctx, wait); wait = min(2*wait, pingPauseLast) {
		got, err := a.lookup(ctx, jid)
		if err != nil {
			if ctx.Err() == nil {
				failed = err
			}
			continue
		}
		looked = true
		for _, r := range got {
			if left[r.Minion] {
				delete(left, r.Minion)
				answered(r.Minion)
			}
		}
	}
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case looked:
		return nil
	default:
		return failed
	}
}

// Returns gives what the master's job cache has of a publication.
func (a *API) Returns(ctx context.Context, id saltpeter.LaunchID) ([]Return, error) {
	return a.lookup(ctx, id.String())
}

func (a *API) lookup(ctx context.Context, jid string) ([]Return, error) {
	var got struct{ Result map[string]json.RawMessage }
	err := a.call(ctx, &lowstate{fields: runner("jobs.list_job", map[string]any{"jid": jid}), into: &got, lost: ErrUnreachable})
	if err != nil {
		return nil, err
	}
	out := make([]Return, 0, len(got.Result))
	for _, minion := range slices.Sorted(maps.Keys(got.Result)) {
		out = append(out, decodeResult(minion, got.Result[minion]))
	}
	return out, nil
}

// decodeResult takes one minion's entry of a job. What is no object with a return is the return itself.
func decodeResult(minion string, raw json.RawMessage) Return {
	var r minionReturn
	if json.Unmarshal(raw, &r) != nil || r.Return == nil {
		r = minionReturn{Return: raw}
	}
	r.Minion = minion
	return r.decode()
}

func runner(fun string, fields map[string]any) map[string]any {
	fields["client"], fields["fun"] = "runner", fun
	return fields
}

// globOf escapes what means something in a pattern, by which keys are asked for. A comma parts two of them and can't be
// escaped, so any character is allowed there.
var globOf = strings.NewReplacer("[", "[[]", "*", "[*]", "?", "[?]", ",", "?")

// Key gives the key that the master has accepted for a minion. It needs the right to the wheel function key.print.
func (a *API) Key(ctx context.Context, minion string) ([]byte, error) {
	if minion == "" || strings.HasPrefix(minion, ".") || strings.ContainsAny(minion, "/\\\x00") {
		return nil, fmt.Errorf("%w: %q can't be a minion's id", ErrNoKey, minion)
	}
	var got struct{ Minions map[string]string }
	if err := a.wheel(ctx, "key.print", map[string]any{"match": globOf.Replace(minion)}, &got); err != nil {
		return nil, err
	}
	text, ok := got.Minions[minion]
	if !ok {
		return nil, fmt.Errorf("%w for %q", ErrNoKey, minion)
	}
	if block, _ := pem.Decode([]byte(text)); block == nil {
		return nil, fmt.Errorf("%w: what the master has of %q is no PEM", ErrNoKey, minion)
	}
	return []byte(text), nil
}

// wheel calls a function of the master itself. What fails in it is told as text in the place of the answer.
func (a *API) wheel(ctx context.Context, fun string, fields map[string]any, into any) error {
	fields["client"], fields["fun"] = "wheel", fun
	var got struct {
		Data struct{ Return json.RawMessage }
	}
	if err := a.call(ctx, &lowstate{fields: fields, into: &got, lost: ErrUnreachable}); err != nil {
		return err
	}
	return decodeAnswer(got.Data.Return, into, ErrUnreachable)
}
