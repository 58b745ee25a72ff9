package api

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
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
	who    principal
	// fresh is the record after a barrier that was waited for on the way in; the first strong read takes it.
	fresh View
}

// handler serves one endpoint; what it returns becomes a problem.
type handler func(*call) error

// view reads the record in the consistency that the request asks for.
func (c *call) view() (View, error) {
	word, err := c.params.word("consistency", "strong", "stale")
	if err != nil {
		return nil, err
	}
	least, err := c.minIndex()
	if err != nil {
		return nil, err
	}
	stale := word == "stale" && (least == 0 || c.reach(least))
	v, err := c.read(c.r.Context(), stale)
	if err == nil && v.Index() < least {
		return nil, saltpeter.Errorf(saltpeter.CodeConflict, "this cluster has not come to index %d: it is at %d", least, v.Index()).
			WithHint("give the X-Saltpeter-Index of an answer of this cluster")
	}
	return v, err
}

func (c *call) read(ctx context.Context, stale bool) (View, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var err error
	v := c.fresh
	if c.fresh = nil; v == nil || stale {
		v, err = c.s.node.Read(ctx, stale)
	}
	if err != nil {
		if saltpeter.CodeOf(err) == saltpeter.CodeNoLeader {
			c.sayContact()
			c.w.Header().Set("X-Saltpeter-Known-Leader", "false")
		}
		return nil, err
	}
	c.w.Header().Set("X-Saltpeter-Index", strconv.FormatUint(v.Index(), 10))
	c.sayContact()
	return v, nil
}

// sayContact tells in the header who answers, who leads, and how long ago this node heard of the leader: what a stale read is
// worth.
func (c *call) sayContact() {
	h, n := c.w.Header(), c.s.node.Contact()
	h.Set("X-Saltpeter-Served-By", url.PathEscape(n.Name))
	h.Set("X-Saltpeter-Known-Leader", strconv.FormatBool(n.Leader != ""))
	if n.Leader != "" {
		h.Set("X-Saltpeter-Leader", url.PathEscape(n.Leader))
	}
	if n.Known {
		h.Set("X-Saltpeter-Last-Contact", strconv.FormatInt(n.Age.Milliseconds(), 10))
	}
}

// local reads the record as it is on this node, after a write that has been answered here.
func (c *call) local() (View, error) { return c.read(c.r.Context(), true) }

// reply answers with JSON.
func (c *call) reply(status int, v any) error {
	body, err := encode(v)
	if err == nil {
		c.sendJSON(status, body)
	}
	return err
}

func (c *call) sendJSON(status int, body []byte) {
	h := c.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	c.w.WriteHeader(status)
	c.write(body)
}

// write sends bytes; a client that has gone is no error of ours.
func (c *call) write(p []byte) {
	if _, err := c.w.Write(p); err != nil {
		c.s.log.Debug("client is gone", "request", c.by.Request, "err", err)
	}
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
