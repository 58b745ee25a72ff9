package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"

	"github.com/syscollective/saltpeter"
)

// call is one request on its way through the API.
type call struct {
	s      *Server
	w      http.ResponseWriter
	r      *http.Request
	by     saltpeter.Actor
	params params
}

// handler serves one endpoint; what it returns becomes a problem.
type handler func(*call) error

// view reads the record in the consistency that the request asks for.
func (c *call) view() (View, error) {
	word, err := c.params.word("consistency", "strong", "stale")
	if err != nil {
		return nil, err
	}
	return c.read(c.r.Context(), word == "stale")
}

func (c *call) read(ctx context.Context, stale bool) (View, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	v, err := c.s.node.Read(ctx, stale)
	if err != nil {
		if saltpeter.CodeOf(err) == saltpeter.CodeNoLeader {
			c.w.Header().Set("X-Saltpeter-Known-Leader", "false")
		}
		return nil, err
	}
	c.w.Header().Set("X-Saltpeter-Index", strconv.FormatUint(v.Index(), 10))
	return v, nil
}

// local reads the record as it is on this node, after a write that has been answered here.
func (c *call) local() (View, error) { return c.read(c.r.Context(), true) }

// reply answers with JSON.
func (c *call) reply(status int, v any) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(status)
	c.write(body)
	return nil
}

// write sends bytes; a client that has gone is no error of ours.
func (c *call) write(p []byte) {
	if _, err := c.w.Write(p); err != nil {
		c.s.log.Debug("client is gone", "request", c.by.Request, "err", err)
	}
}

// tagged answers with JSON and its ETag, or with 304 if the client has it already.
func (c *call) tagged(v any) error {
	body, err := encode(v)
	if err != nil {
		return err
	}
	c.w.Header().Set("Etag", etag(body))
	if c.r.Header.Get("If-None-Match") == etag(body) {
		c.w.WriteHeader(http.StatusNotModified)
		return nil
	}
	return c.reply(http.StatusOK, v)
}

func etag(body []byte) string {
	sum := sha256.Sum256(body)
	return `"` + hex.EncodeToString(sum[:12]) + `"`
}

// requestID takes the client's id for the logs if it is a sensible one, else draws one.
func requestID(r *http.Request) string {
	given := r.Header.Get("X-Request-Id")
	clean := strings.Trim(given, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.")
	if given != "" && len(given) <= 64 && clean == "" {
		return given
	}
	var b [8]byte
	rand.Read(b[:]) // never fails: documented
	return hex.EncodeToString(b[:])
}
