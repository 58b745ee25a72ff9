// Package client speaks the HTTP API of a cluster's nodes. It owns no goroutine of its own: each call runs in its
// caller's and ends with its context.
//
// A call goes to the node that answered last, and over the others when that one does not answer or can't serve. What
// may be done twice without harm is repeated; anything else only when it certainly was not sent.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
)

// How often and how fast a call is repeated.
const (
	rounds      = 3 // over all addresses
	firstPause  = 100 * time.Millisecond
	dialTimeout = 3 * time.Second
	maxAnswer   = 256 << 20 // bytes of one JSON answer
	// patience is how long a node may be silent before another one is asked: one that is stopped accepts connections.
	patience = 10 * time.Second
)

// Config says where the nodes are.
type Config struct {
	Addrs     []Addr // at least one
	UserAgent string
	// Token is the secret of a token, empty for none.
	Token string
	// Dial opens connections; nil uses the network of this host. Of a unix socket it gets the path.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client is a client of one cluster. It is safe for concurrent use.
type Client struct {
	nodes []*node
	agent string
	token string
	last  atomic.Int64 // the node that answered last
	open  atomic.Bool  // a node said that it asks nobody for a token
}

type node struct {
	addr Addr
	http *http.Client
}

// New gives a client; it does not connect yet.
func New(cfg Config) (*Client, error) {
	if len(cfg.Addrs) == 0 {
		return nil, saltpeter.Errorf(saltpeter.CodeInvalid, "no address of a node is given")
	}
	c := &Client{agent: cfg.UserAgent, token: cfg.Token}
	for _, a := range cfg.Addrs {
		c.nodes = append(c.nodes, &node{addr: a, http: &http.Client{Transport: transport(a, cfg.Dial), CheckRedirect: noRedirect}})
	}
	return c, nil
}

// Unguarded reports whether a node that was asked lets everybody do everything: auth: none is set.
func (c *Client) Unguarded() bool { return c.open.Load() }

// Close closes idle connections.
func (c *Client) Close() {
	for _, n := range c.nodes {
		n.http.CloseIdleConnections()
	}
}

func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func transport(a Addr, dial func(context.Context, string, string) (net.Conn, error)) *http.Transport {
	if dial == nil {
		dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	t := &http.Transport{
		DialContext:         dial,
		TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     time.Minute,
		DisableCompression:  true,
	}
	if a.Socket != "" {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dial(ctx, "unix", a.Socket)
		}
	}
	return t
}

// request is one call of the API.
type request struct {
	method string
	path   string // escaped, under /api/v1/
	query  url.Values
	body   any
	stream io.Reader // instead of body: read once, so only one node is asked
	header http.Header
	once   bool          // must not be repeated when it may have been done
	idle   bool          // with once: who answers that there is no leader, or that it can't serve, has done nothing
	wait   time.Duration // that the node takes on purpose
}

// send gives the answer of the first node that serves the request; the caller closes its body. Other answers than
// 2xx and 304 come as errors.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	var body []byte
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
	}
	var last error
	start := int(c.last.Load())
	for try := range rounds * len(c.nodes) {
		if try > 0 && try%len(c.nodes) == 0 {
			if err := pause(ctx, firstPause<<(try/len(c.nodes)-1)); err != nil {
				break
			}
		}
		at := (start + try) % len(c.nodes)
		resp, again, err := c.try(ctx, c.nodes[at], r, body)
		if err == nil {
			c.last.Store(int64(at))
			return resp, nil
		}
		last = err
		if !again || ctx.Err() != nil {
			break
		}
	}
	return nil, c.explain(ctx, last)
}

// try sends the request to one node; again says whether another try can do no harm and may help.
func (c *Client) try(ctx context.Context, n *node, r request, body []byte) (resp *http.Response, again bool, err error) {
	target := n.addr.base() + "/api/v1/" + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var from io.Reader = bytes.NewReader(body)
	if r.stream != nil {
		from = io.NopCloser(r.stream)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, from)
	if err != nil {
		cancel(nil)
		return nil, false, fmt.Errorf("make request: %w", err)
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	switch {
	case r.stream != nil:
		req.Header.Set("Content-Type", "application/octet-stream")
	case r.body != nil:
		req.Header.Set("Content-Type", "application/json")
	}
	if c.agent != "" {
		req.Header.Set("User-Agent", c.agent)
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	silence := time.AfterFunc(patience+r.wait, func() { cancel(errSilent) })
	resp, err = n.http.Do(req)
	silence.Stop()
	if err != nil {
		if errors.Is(context.Cause(ctx), errSilent) {
			err = errSilent
		}
		cancel(nil)
		return nil, r.stream == nil && (!r.once || unsent(err)), &unreachable{n.addr.String(), err}
	}
	if resp.Header.Get("X-Saltpeter-Auth") == "none" {
		c.open.Store(true)
	}
	resp.Body = &answerBody{resp.Body, cancel}
	if resp.StatusCode < 300 || resp.StatusCode == http.StatusNotModified {
		return resp, false, nil
	}
	err = problem(n.addr, resp)
	return nil, r.again(saltpeter.CodeOf(err)), err
}

// again reports whether a request that was answered by an error may be made again, and that may help.
func (r *request) again(code saltpeter.ErrorCode) bool {
	if r.once {
		return r.idle && (code == saltpeter.CodeNoLeader || code == saltpeter.CodeUnavailable)
	}
	return api.Retryable(code)
}

// errSilent says that a node took a connection and said nothing.
var errSilent = errors.New("no answer in time")

// answerBody is a body that frees its request's context when it is closed, and can be given up before.
type answerBody struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (b *answerBody) Close() error {
	b.cancel(nil)
	return b.ReadCloser.Close()
}

// unsent reports whether a request certainly did not reach a node.
func unsent(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// unreachable says which node did not answer.
type unreachable struct {
	addr string
	err  error
}

func (e *unreachable) Error() string {
	err := e.err
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // without the URL, which says nothing to people
	}
	return fmt.Sprintf("%s does not answer: %v", e.addr, err)
}
func (e *unreachable) Unwrap() error { return e.err }

// explain makes an error for people out of the last failure.
func (c *Client) explain(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil {
		if errors.Is(cause, context.DeadlineExceeded) {
			return saltpeter.Errorf(saltpeter.CodeTimeout, "gave up waiting").WithHint("%s", "the last failure: "+text(err))
		}
		return cause
	}
	if errors.Is(err, fs.ErrPermission) {
		return saltpeter.Errorf(saltpeter.CodeForbidden, "may not open the socket: %w", err).
			WithHint("root and the group saltpeter may")
	}
	if _, ok := errors.AsType[*unreachable](err); ok {
		names := make([]string, len(c.nodes))
		for i, n := range c.nodes {
			names[i] = n.addr.String()
		}
		return saltpeter.Errorf(saltpeter.CodeUnavailable, "%w", err).
			WithHint("is saltpeter running there? tried: %s; other addresses: SPCTL_ADDR or --addr", strings.Join(names, ", "))
	}
	return err
}

func text(err error) string {
	if err == nil {
		return "none"
	}
	return err.Error()
}

// pause waits for a time around d.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d/2 + rand.N(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// problem reads an error answer.
func problem(a Addr, resp *http.Response) error {
	defer discard(resp.Body)
	var p api.Problem
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if media == "application/problem+json" && json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&p) == nil && p.Code != "" {
		return p.Err()
	}
	e := saltpeter.Errorf(saltpeter.CodeInternal, "%s answers %s, not as a saltpeter node does", a, resp.Status).
		WithHint("is this the address of the HTTP API?")
	if resp.StatusCode == http.StatusBadGateway || resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusGatewayTimeout {
		e.Code = saltpeter.CodeUnavailable
	}
	return e
}

// discard reads the rest of a small answer, so that its connection can be used again.
func discard(body io.ReadCloser) {
	io.Copy(io.Discard, io.LimitReader(body, 64<<10)) //nolint:errcheck // the answer is not needed
	body.Close()                                      //nolint:errcheck // as above
}

// read decodes a JSON answer; the caller closes its body.
func read[T any](resp *http.Response) (Answer[T], error) {
	var a Answer[T]
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return a, saltpeter.Errorf(saltpeter.CodeUnavailable, "the answer broke off: %w", err)
	}
	if err := json.Unmarshal(raw, &a.Value); err != nil {
		return a, saltpeter.Errorf(saltpeter.CodeInternal, "the answer is not what a saltpeter node gives: %w", err).
			WithHint("is this the address of the HTTP API?")
	}
	a.Raw = bytes.TrimSpace(raw)
	return a, nil
}

// Answer is what a node said, decoded and as it was.
type Answer[T any] struct {
	Value T
	Raw   json.RawMessage
}

// call sends a request and decodes its answer.
func call[T any](ctx context.Context, c *Client, r request) (Answer[T], error) {
	resp, err := c.send(ctx, r)
	if err != nil {
		return Answer[T]{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	return read[T](resp)
}
