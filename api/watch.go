package api

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A read can wait for something new: with wait, and If-None-Match, until the answer differs from what the client has; with
// wait and index, until the record is newer than that. Nothing new in that time is the same answer again, or 304.

// waitPause is the least time between two looks of a request that waits for a change.
const waitPause = 50 * time.Millisecond

// maxWait is the longest that a request may wait for a change.
const maxWait = time.Minute

// waitParams are the query parameters of what can be waited for.
var waitParams = []string{"wait", "index"}

// wait gives a time from 0 to a minute: seconds, or like 30s.
func (p params) wait() (time.Duration, error) {
	text, given := p["wait"]
	if !given {
		return 0, nil
	}
	if n, err := strconv.ParseUint(text, 10, 16); err == nil {
		text = strconv.FormatUint(n, 10) + "s"
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > maxWait {
		return 0, badParam("wait", text, "a time of 0 to "+strconv.Itoa(int(maxWait/time.Second))+" seconds, like 30s")
	}
	return d, nil
}

// tagged is an answer that says itself by what it is recognized: a list is the same though the record's index has grown.
type tagged interface {
	encode() (body []byte, tag string, err error)
}

func encodeTagged(answer any) (body []byte, tag string, err error) {
	if t, ok := answer.(tagged); ok {
		return t.encode()
	}
	body, err = encode(answer)
	return body, etag(body), err
}

// watch answers with what build makes of the record, at once or, where the request asks for it, once it is new to the
// client. Everything that build was to check of the request is checked before.
func (c *call) watch(build func(View) (any, error)) error {
	wait, err := c.params.wait()
	if err != nil {
		return err
	}
	newer, err := c.params.number("index", -1, 0, 1<<62)
	if err != nil {
		return err
	}
	v, err := c.view()
	if err != nil {
		return err
	}
	known := c.r.Header.Get("If-None-Match")
	body, tag, err := buildTagged(v, build)
	if err != nil {
		return err
	}
	if news := tag != known && int64(v.Index()) > newer; !news && wait > 0 {
		release, err := c.stream()
		if err != nil {
			return err
		}
		defer release()
		if body, tag, err = c.await(build, known, newer, wait); err != nil {
			return err
		}
		c.lastWrite()
	}
	c.w.Header().Set("Etag", tag)
	if tag == known {
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	c.sendJSON(http.StatusOK, body)
	return nil
}

func buildTagged(v View, build func(View) (any, error)) (body []byte, tag string, err error) {
	answer, err := build(v)
	if err != nil {
		return nil, "", err
	}
	return encodeTagged(answer)
}

// await looks again after every change, until there is news or the time is over.
func (c *call) await(build func(View) (any, error), known string, newer int64, wait time.Duration) (body []byte, tag string, err error) {
	timeout := time.NewTimer(wait)
	defer timeout.Stop()
	for {
		changed := c.s.node.Changed()
		v, err := c.local()
		if err != nil {
			return nil, "", err
		}
		if err := c.stillGood(v); err != nil {
			return nil, "", err
		}
		if body, tag, err = buildTagged(v, build); err != nil {
			return nil, "", err
		}
		if tag != known && int64(v.Index()) > newer || !c.pause(changed, timeout.C) {
			return body, tag, nil
		}
	}
}

// pause waits for a change, and a little longer so that a busy record costs one look for many changes. It reports
// whether there is time for another look.
func (c *call) pause(changed <-chan struct{}, timeout <-chan time.Time) bool {
	select {
	case <-changed:
	case <-timeout:
		return false
	case <-c.r.Context().Done():
		return false
	case <-c.stopping():
		return false
	}
	short := time.NewTimer(waitPause)
	defer short.Stop()
	select {
	case <-short.C:
		return true
	case <-c.r.Context().Done():
		return false
	}
}

// minIndexHeader is how a client that goes from node to node says which write its read must show: the X-Saltpeter-Index
// of the write's answer.
const minIndexHeader = "X-Saltpeter-Min-Index"

// minIndexWait is how long a stale read waits for this node to come to a client's index, before the leader is asked.
const minIndexWait = 2 * time.Second

// minIndex gives the index that the answer must have at least.
func (c *call) minIndex() (uint64, error) {
	text := c.r.Header.Get(minIndexHeader)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 63)
	if err != nil {
		return 0, badParam("header "+minIndexHeader, text, "an index, as X-Saltpeter-Index of an answer gives it")
	}
	return n, nil
}

// reach waits until this node's record has come to an index, and reports whether it has.
func (c *call) reach(index uint64) bool {
	timeout := time.NewTimer(minIndexWait)
	defer timeout.Stop()
	for {
		changed := c.s.node.Changed()
		v, err := c.s.node.Read(c.r.Context(), true)
		if err != nil {
			return false
		}
		if v.Index() >= index {
			return true
		}
		select {
		case <-changed:
		case <-timeout.C:
			return false
		case <-c.r.Context().Done():
			return false
		}
	}
}
