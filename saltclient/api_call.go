package saltclient

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"os"
	"sync/atomic"
	"time"
)

const (
	// maxAnswer bounds an answer, in bytes: 10,000 minions with all their grains are less.
	maxAnswer = 64 << 20
	// idleLimit is how long a connection that nobody uses is kept.
	idleLimit = time.Minute
)

// web is the HTTP client of one endpoint.
type web struct{ client *http.Client }

// http makes the client at the first use.
func (a *API) http() (*http.Client, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.web != nil {
		return a.web.client, nil
	}
	pool, err := readPool(a.o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	a.web = &web{&http.Client{
		// A redirect would take password or token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: a.o.Dial, IdleConnTimeout: idleLimit, MaxIdleConnsPerHost: 8, TLSHandshakeTimeout: a.o.Limit,
			TLSClientConfig: &tls.Config{RootCAs: pool, InsecureSkipVerify: a.o.Insecure, MinVersion: tls.VersionTLS12}, //nolint:gosec // only where it is written down
		},
	}}
	return a.web.client, nil
}

// readPool gives the certificates of a file; nil, the system's, without one.
func readPool(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read ca_file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("ca_file %s holds no certificate", file)
	}
	return pool, nil
}

// lowstate is one call of a function, as salt-api calls it.
type lowstate struct {
	fields map[string]any
	into   any
	lost   error     // class where it is not known what became of it
	until  time.Time // when it is too late to begin; zero = never
}

// call has salt-api call a function. A session that has ended is renewed once.
func (a *API) call(ctx context.Context, low *lowstate) error {
	ctx, cancel := context.WithTimeout(ctx, a.o.Limit)
	defer cancel()
	spent := ""
	for {
		token, err := a.session.get(ctx, spent, a.login)
		if err != nil {
			return err
		}
		if !low.until.IsZero() && time.Now().After(low.until) {
			return fmt.Errorf("%w: the login took until it was too late to begin", ErrUnreachable)
		}
		err = a.post(ctx, "/", token, []any{low.fields}, low.into, low.lost)
		if !isStatus(err, http.StatusUnauthorized) {
			return err
		}
		if spent != "" || !sessionEnded(err) {
			return fmt.Errorf("%w: %v for user %q: %w", ErrDenied, low.fields["fun"], a.o.User, err)
		}
		spent = token
	}
}

// post sends one request and takes the first element of what salt-api returns. lost is the class of errors that leave open
// whether it was done.
func (a *API) post(ctx context.Context, path, token string, body, into any, lost error) error {
	client, err := a.http()
	if err != nil {
		return err
	}
	text, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("%w: encode request: %w", ErrUnreachable, err)
	}
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodPost, a.o.URL+path, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("X-Requested-With", "XMLHttpRequest")
	if token != "" {
		req.Header.Set("X-Auth-Token", token)
	}
	resp, err := client.Do(req)
	if err != nil {
		return lostRequest(err, connected.Load(), lost)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case resp.StatusCode != http.StatusOK:
		return statusErrorOf(resp, b, lost)
	case err != nil:
		return fmt.Errorf("%w: read answer: %w", lost, err)
	case len(b) > maxAnswer:
		return fmt.Errorf("%w: the answer is longer than %d bytes", lost, maxAnswer)
	}
	return decodeReturn(b, into, lost)
}

// lostRequest classifies a request without an answer: it can't have arrived if there was no connection.
func lostRequest(err error, connected bool, lost error) error {
	if !connected {
		lost = ErrUnreachable
	}
	return fmt.Errorf("%w: %w", lost, err)
}

// decodeReturn takes the one element of {"return":[...]}.
func decodeReturn(body []byte, into any, lost error) error {
	var got struct{ Return []json.RawMessage }
	if err := json.Unmarshal(body, &got); err != nil || len(got.Return) != 1 {
		return fmt.Errorf("%w: the answer is not salt-api's", lost)
	}
	return decodeAnswer(got.Return[0], into, lost)
}

// decodeAnswer takes one answer. Salt puts text, or true or false, into the place of what it could not do.
func decodeAnswer(raw json.RawMessage, into any, lost error) error {
	var text string
	if json.Unmarshal(raw, &text) == nil && len(raw) > 0 && raw[0] == '"' {
		if _, wanted := into.(*string); !wanted {
			return fmt.Errorf("%w: salt says: %s", lost, oneLine(text))
		}
	}
	err := json.Unmarshal(raw, into)
	var wrong *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrong):
		return fmt.Errorf("%w: salt answers with %s in the place of %s", lost, wrong.Value, wrong.Type)
	case err != nil:
		return fmt.Errorf("%w: the answer is empty", lost)
	}
	return nil
}
