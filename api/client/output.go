package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/syscollective/saltpeter"
)

// How long a stream that breaks off is tried again without a byte before the call fails: a node that restarts, or a
// cluster without a leader, comes back.
const (
	patienceFollow = 2 * time.Minute
	patienceOnce   = 10 * time.Second
)

// quiet is how long a stream may bring nothing before it is asked for again: the node may have stopped.
const quiet = 30 * time.Second

// errQuiet says that a stream was given up because it brought nothing.
var errQuiet = errors.New("nothing came for a while")

// errSink is under the errors of the writer that a stream goes to.
var errSink = errors.New("write output")

// Output writes the exact output of a machine, from offset, to w: what is stored by now, or, with follow, until the
// machine has its outcome. A stream that breaks off goes on from where it was, on another node if there is one.
func (c *Client) Output(ctx context.Context, run, machine string, offset int64, follow bool, w io.Writer) error {
	limit := patienceOnce
	if follow {
		limit = patienceFollow
	}
	alive, breaks := time.Now(), 0
	for {
		n, done, err := c.outputOnce(ctx, run, machine, offset, follow, w)
		offset += n
		if n > 0 || errors.Is(err, errQuiet) {
			alive, breaks = time.Now(), 0
		}
		switch {
		case done || err != nil && !broken(err):
			return err
		case ctx.Err() != nil:
			return c.explain(ctx, err)
		case time.Since(alive) > limit:
			return saltpeter.Errorf(saltpeter.CodeUnavailable, "the output of %s broke off at byte %d: %w", machine, offset, err)
		}
		if err := pause(ctx, min(firstPause<<breaks, 5*time.Second)); err != nil {
			return c.explain(ctx, err)
		}
		breaks = min(breaks+1, 10)
	}
}

// errBroken says that a stream ended before its end.
var errBroken = errors.New("the connection broke off")

func broken(err error) bool {
	return errors.Is(err, errBroken) || saltpeter.CodeOf(err) == saltpeter.CodeUnavailable || saltpeter.CodeOf(err) == saltpeter.CodeNoLeader
}

func (c *Client) outputOnce(ctx context.Context, run, machine string, offset int64, follow bool, w io.Writer) (n int64, done bool, err error) {
	query := url.Values{"format": {"raw"}}
	if offset > 0 {
		query.Set("offset", strconv.FormatInt(offset, 10))
	}
	if follow {
		query.Set("follow", "true")
	}
	resp, err := c.send(ctx, request{method: http.MethodGet, path: "runs/" + seg(run) + "/machines/" + seg(machine) + "/output", query: query})
	if err != nil {
		return 0, false, err
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	alarm := time.AfterFunc(quiet, func() { resp.Body.(*answerBody).cancel(errQuiet) })
	defer alarm.Stop()
	n, err = io.Copy(sink{w}, &lively{resp.Body, alarm})
	switch {
	case errors.Is(err, errSink):
		return n, false, err
	case !alarm.Stop():
		return n, false, fmt.Errorf("%w: %w", errBroken, errQuiet)
	case err != nil:
		return n, false, fmt.Errorf("%w: %w", errBroken, err)
	case follow && resp.Trailer.Get("X-Saltpeter-Output-Final") != "true":
		return n, false, errBroken
	}
	return n, true, nil
}

// lively puts an alarm off at each byte that comes.
type lively struct {
	r     io.Reader
	alarm *time.Timer
}

func (l *lively) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if n > 0 {
		l.alarm.Reset(quiet)
	}
	return n, err
}

// sink marks the errors of a writer, so that they are told from those of the connection.
type sink struct{ w io.Writer }

func (s sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil {
		return n, fmt.Errorf("%w: %w", errSink, err)
	}
	return n, nil
}
