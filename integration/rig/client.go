package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// page is a list's answer.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next_cursor"`
}

// Run is what the API tells of a run.
type Run struct {
	ID        string     `json:"id"`
	Job       string     `json:"job"`
	State     string     `json:"state"`
	Scheduled *time.Time `json:"scheduled"`
	Claimed   *time.Time `json:"claimed"`
	Ended     *time.Time `json:"ended"`
	Cause     string     `json:"cause"`
	Key       string     `json:"idempotency_key"`
	Text      string     `json:"text"`
	KilledBy  string     `json:"killed_by"`
}

// Target is what it tells of one of its machines.
type Target struct {
	Machine  string `json:"machine"`
	State    string `json:"state"`
	Code     *int   `json:"code"`
	Presumed bool   `json:"presumed"`
	Back     bool   `json:"back"`
	Launch   string `json:"launch"`
	Stored   int    `json:"output_bytes"`
	LeftOut  int    `json:"output_left_out"`
	Text     string `json:"text"`
	TwoHosts bool   `json:"two_hosts"`
}

// skip is what it tells of a series of ticks without a run.
type skip struct {
	Reason string    `json:"reason"`
	First  time.Time `json:"first"`
	Last   time.Time `json:"last"`
	Count  int       `json:"count"`
}

type status struct {
	Node struct {
		Name string `json:"name"`
		Role string `json:"role"`
	} `json:"node"`
	Cluster struct {
		Leader string `json:"leader"`
	} `json:"cluster"`
}

// statusError is an answer that is no success.
type statusError struct {
	code int
	body string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %s", e.code, e.body) }

// final tells a refusal, which another try will not change, from trouble.
func final(err error) bool {
	var s *statusError
	return errors.As(err, &s) && s.code >= 400 && s.code < 500 && s.code != http.StatusTooManyRequests && s.code != http.StatusRequestTimeout
}

// call makes one request of one node. A body of bytes goes as it is, any other as JSON.
func (n *Node) call(ctx context.Context, method, path string, body any, header http.Header) ([]byte, error) {
	var in io.Reader
	raw, binary := body.([]byte)
	switch {
	case binary:
		in = bytes.NewReader(raw)
	case body != nil:
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://node/api/v1"+path, in)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	switch {
	case binary:
		req.Header.Set("Content-Type", "application/octet-stream")
	case body != nil:
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := n.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return nil, &statusError{resp.StatusCode, string(b)}
	}
	return b, nil
}

// do makes a request of any node that answers: each is asked once, with little patience, and every request begins with another.
func (c *Cluster) do(ctx context.Context, method, path string, body any, header http.Header) ([]byte, error) {
	var errs []error
	from := int(c.turn.Add(1))
	for i := range c.Nodes {
		n := c.Nodes[(from+i)%len(c.Nodes)]
		if !n.Alive() {
			continue
		}
		one, cancel := context.WithTimeout(ctx, 6*time.Second)
		b, err := n.call(one, method, path, body, header)
		cancel()
		if err == nil || final(err) {
			return b, err
		}
		errs = append(errs, fmt.Errorf("%s: %w", n.Name, err))
	}
	return nil, errors.Join(append(errs, ctx.Err(), errNobody)...)
}

var errNobody = errors.New("no node answered")

// insist repeats a request until it succeeds, is refused, or a time is over.
func (c *Cluster) insist(ctx context.Context, method, path string, body any, header http.Header) (b []byte, err error) {
	for deadline := time.Now().Add(40 * time.Second); ; {
		b, err = c.do(ctx, method, path, body, header)
		if err == nil || final(err) || ctx.Err() != nil || time.Now().After(deadline) {
			return b, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Get reads an answer of whichever node serves.
func (c *Cluster) Get(ctx context.Context, path string, out any) error {
	b, err := c.do(ctx, http.MethodGet, path, nil, nil)
	if err != nil {
		return err
	}
	return json.Unmarshal(b, out)
}

// List reads a whole list.
func List[T any](ctx context.Context, c *Cluster, path string) ([]T, error) {
	var all []T
	for cursor := ""; ; {
		b, err := c.insist(ctx, http.MethodGet, path+"?limit=1000&cursor="+url.QueryEscape(cursor), nil, nil)
		if err != nil {
			return nil, err
		}
		var p page[T]
		if err := json.Unmarshal(b, &p); err != nil {
			return nil, err
		}
		all = append(all, p.Items...)
		if cursor = p.Next; cursor == "" {
			return all, nil
		}
	}
}

// Leader gives the node that leads, by its own word.
func (c *Cluster) Leader(ctx context.Context) (*Node, error) {
	for _, n := range c.Nodes {
		if n.Leads(ctx) {
			return n, nil
		}
	}
	return nil, errors.New("no leader")
}

// Leads asks a node whether it leads; one that doesn't answer in two seconds doesn't.
func (n *Node) Leads(ctx context.Context) bool {
	if !n.Alive() {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var st status
	b, err := n.call(ctx, http.MethodGet, "/status", nil, nil)
	return err == nil && json.Unmarshal(b, &st) == nil && st.Node.Role == "leader" && st.Cluster.Leader == n.Name
}

// Knows says why a node does not know who leads.
func (n *Node) Knows(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	var st status
	b, err := n.call(ctx, http.MethodGet, "/status", nil, nil)
	if err == nil {
		err = json.Unmarshal(b, &st)
	}
	if err == nil && st.Cluster.Leader == "" {
		err = errors.New("it knows none")
	}
	return err
}

// Init begins the cluster on this node.
func (n *Node) Init(ctx context.Context) error {
	return WaitFor(ctx, 20*time.Second, "the cluster to begin", func() error {
		_, err := n.call(ctx, http.MethodPost, "/cluster/init", nil, nil)
		return err
	})
}

// Healthy says which node does not yet see all nodes working.
func (c *Cluster) Healthy(ctx context.Context) error {
	for _, n := range c.Nodes {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		b, err := n.call(ctx, http.MethodGet, "/cluster", nil, nil)
		cancel()
		if err != nil {
			return fmt.Errorf("ask %s: %w", n.Name, err)
		}
		var st struct {
			Leader  string `json:"leader"`
			Voters  int    `json:"voters"`
			Healthy bool   `json:"healthy"`
		}
		if err := json.Unmarshal(b, &st); err != nil {
			return err
		}
		if !st.Healthy || st.Leader == "" || st.Voters != len(c.Nodes) {
			return fmt.Errorf("%s sees %s", n.Name, b)
		}
	}
	return nil
}
