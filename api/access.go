package api

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
)

// Banner is what everybody sees while the API asks nobody for a token.
const Banner = "auth: none is set: whoever reaches this port may start and kill everything"

// confirmWait is how long a read waits for the leader's word that a token was not revoked.
const confirmWait = 2 * time.Second

// access says what a route does to the record, which decides who may use it.
type access int

const (
	accessCluster access = iota // default: what a route says nothing about needs the most
	accessRead
	accessStart
	accessKill
	accessMaintenance
	accessDiagnose
	accessTokens
	accessOpen // health and the like: tells nothing
)

// Right is a line of the table of who may do what.
type Right struct {
	What string
	Role saltpeter.Role // the least that may; RoleViewer also where everybody may read
}

// rights is that table. docs/security.md shows it.
var rights = [...]Right{
	accessRead:        {"read everything: jobs, runs, output, status, members, metrics", saltpeter.RoleViewer},
	accessStart:       {"start runs", saltpeter.RoleOperator},
	accessKill:        {"kill runs", saltpeter.RoleOperator},
	accessMaintenance: {"begin and end maintenance, pause and resume jobs", saltpeter.RoleOperator},
	accessDiagnose:    {"ask machines who is up, and have them checked by doctor", saltpeter.RoleOperator},
	accessTokens:      {"list, create and revoke tokens", saltpeter.RoleAdmin},
	accessCluster:     {"change the cluster: members, leadership, configuration, snapshots, and all else", saltpeter.RoleAdmin},
}

// Rights gives the table of who may do what over the API.
func Rights() []Right { return rights[:] }

// principal is who asks, as far as it is known.
type principal struct {
	role  saltpeter.Role // 0 = nobody in particular
	name  string         // of the token, the user, or "anonymous"
	how   string         // "token", "socket", "auth: none", "api_read: open"
	key   string         // for the limits
	hash  saltpeter.Digest
	token bool // it came with a token, which hash finds
}

// whence says who asks and from where as long as no credential was looked at, for the record and the log.
func whence(r *http.Request, origin Origin) (name, from string) {
	if origin == OriginSocket {
		return callerOf(r).name, "unix socket"
	}
	return "anonymous", r.RemoteAddr
}

// admit lets a request pass or says what it lacks.
func (c *call) admit(rt route, origin Origin) error {
	err := c.check(rt, origin)
	switch saltpeter.CodeOf(err) {
	case saltpeter.CodeUnauthenticated, saltpeter.CodeForbidden, saltpeter.CodeTooMany:
		c.s.refused.note(c.r.Context(), c, err)
	}
	return err
}

// check is admit without the log. The settings that decide are those in force, as this node knows them: access must not
// depend on there being a leader.
func (c *call) check(rt route, origin Origin) error {
	v, err := c.s.node.Read(c.r.Context(), true)
	if err == nil && v.Settings().Auth == "none" {
		c.w.Header().Set("X-Saltpeter-Auth", "none")
	}
	if rt.access == accessOpen {
		return nil
	}
	if err != nil {
		return err
	}
	need := rights[rt.access]
	who, err := c.authenticate(v, origin)
	if err != nil {
		return err
	}
	if c.who = who; who.role == 0 && need.Role == saltpeter.RoleViewer && v.Settings().APIRead == "open" {
		c.who.role, c.who.how = saltpeter.RoleViewer, "api_read: open"
	}
	c.by.Name = c.who.name
	if err := c.sameHost(origin); err != nil {
		return err
	}
	if c.who.role < need.Role {
		return c.lacks(v, need)
	}
	if need.Role > saltpeter.RoleViewer {
		if wait := c.s.writes.take(c.who.key); wait > 0 {
			return tooFast(wait, "%s makes more than %d changes a second", c.who.name, writeRate)
		}
	}
	return c.confirm(need)
}

// authenticate finds out who asks, as far as this node knows.
func (c *call) authenticate(v View, origin Origin) (principal, error) {
	who := principal{name: "anonymous", key: "addr " + neighbourhood(c.r.RemoteAddr)}
	if origin == OriginSocket {
		at := callerOf(c.r)
		who.name, who.key = at.name, at.key
		if at.admin {
			who.role, who.how = saltpeter.RoleAdmin, "socket"
			return who, nil
		}
	}
	hash, given, err := bearer(c.r.Header)
	if v.Settings().Auth == "none" { // a token only says in whose name
		who.role, who.how = saltpeter.RoleAdmin, "auth: none"
		if t, ok := tokenOf(v, hash); ok && err == nil && t.Good(c.s.now().UnixMilli()) {
			who.name = t.Name
		}
		return who, nil
	}
	if !given {
		return who, nil
	}
	t, err := c.token(v, hash, who.key, err)
	if err != nil {
		if wait := c.s.failures.take(who.key); wait > 0 && saltpeter.CodeOf(err) == saltpeter.CodeUnauthenticated {
			return who, tooFast(wait, "too many tokens from this address were refused; the last one: %w", err)
		}
		return who, err
	}
	return principal{role: t.Role, name: t.Name, how: "token", key: "token " + string(hash[:]), hash: hash, token: true}, nil
}

// token finds a token that is good. One that this node doesn't know may be new: the leader is asked, but not for those who
// only try what they draw.
func (c *call) token(v View, hash saltpeter.Digest, key string, malformed error) (saltpeter.Token, error) {
	if malformed != nil {
		return saltpeter.Token{}, malformed
	}
	t, ok := tokenOf(v, hash)
	if !ok && c.s.failures.wait(key) == 0 {
		fresh, err := c.ask()
		if err != nil {
			return t, saltpeter.Errorf(saltpeter.CodeUnavailable, "this node does not know the token, and no leader answers that would: %w", err).
				WithHint("try again, or use the unix socket on the node itself: see spctl status there")
		}
		t, ok = tokenOf(fresh, hash)
	}
	if !ok {
		return t, saltpeter.Errorf(saltpeter.CodeUnauthenticated, "the token is not one of this cluster's").WithHint("%s", c.howToken())
	}
	return t, c.spent(&t)
}

// spent says why a token that is known opens nothing any more, or nil.
func (c *call) spent(t *saltpeter.Token) error {
	switch {
	case t.RevokedMillis != 0:
		return saltpeter.Errorf(saltpeter.CodeUnauthenticated, "token %s was revoked at %s", t.Name, stampOf(t.RevokedMillis)).WithHint("%s", c.howToken())
	case !t.Good(c.s.now().UnixMilli()):
		return saltpeter.Errorf(saltpeter.CodeUnauthenticated, "token %s expired at %s", t.Name, stampOf(t.ExpiresMillis)).WithHint("%s", c.howToken())
	default:
		return nil
	}
}

func stampOf(millis int64) string { return Time(millis).Time().Format(time.RFC3339) }

// ask reads the record after a barrier, within the time that a client has for a credential.
func (c *call) ask() (View, error) {
	ctx, cancel := context.WithTimeout(c.r.Context(), confirmWait)
	defer cancel()
	v, err := c.s.node.Read(ctx, false)
	if err == nil {
		c.fresh = v
	}
	return v, err
}

// confirm makes sure that a token was not revoked meanwhile, on whatever node. A change needs the leader's word. A read is
// answered without it when there is none: a node that is cut off shows what it knows to whom it knew.
func (c *call) confirm(need Right) error {
	if !c.who.token {
		return nil
	}
	v := c.fresh
	if n := c.s.node.Contact(); v == nil && (need.Role > saltpeter.RoleViewer || n.Leader != "" && n.Working) {
		var err error
		if v, err = c.ask(); err != nil && need.Role > saltpeter.RoleViewer {
			return err
		} else if err != nil {
			return nil //nolint:nilerr // there is no leader to ask
		}
	}
	if v == nil {
		return nil
	}
	return c.stillGood(v)
}

// stillGood says whether the token that let the request in is good yet. Streams ask from time to time.
func (c *call) stillGood(v View) error {
	if !c.who.token {
		return nil
	}
	t, ok := tokenOf(v, c.who.hash)
	if !ok { // it was revoked so long ago that it is forgotten
		return saltpeter.Errorf(saltpeter.CodeUnauthenticated, "the token is not one of this cluster's any more").WithHint("%s", c.howToken())
	}
	return c.spent(&t)
}

// ended reports whether a stream has to end because its token did.
func (c *call) ended() bool {
	v, err := c.s.node.Read(c.r.Context(), true)
	return err == nil && c.stillGood(v) != nil
}

// lacks says what is missing.
func (c *call) lacks(v View, need Right) error {
	if c.who.role > 0 {
		return saltpeter.Errorf(saltpeter.CodeForbidden, "%s has the role %s, and this needs %s", c.who.name, c.who.role, need.Role).
			WithHint("to %s takes %s; an admin makes tokens: spctl token create NAME --role %s", need.What, need.Role, need.Role)
	}
	if v.Revision().Number == 0 {
		// A node that has just started does not know yet what the settings say: nobody is let in, nobody is sent away.
		return saltpeter.Errorf(saltpeter.CodeUnavailable, "no configuration is in force on this node yet").
			WithHint("it is starting, or its files have errors: see spctl status and spctl config check on the node itself")
	}
	return saltpeter.Errorf(saltpeter.CodeUnauthenticated, "this needs a token of the role %s or higher, and none was given", need.Role).
		WithHint("%s", c.howToken())
}

// howToken tells how to come by a token.
func (c *call) howToken() string {
	socket := cmp.Or(c.s.socket, "/run/saltpeter/admin.sock")
	return "send Authorization: Bearer sp_… (spctl: SPCTL_TOKEN, SPCTL_TOKEN_FILE or --token-file); to make a token, on a node as root or in the group saltpeter:\n" +
		"SPCTL_ADDR=unix://" + socket + " spctl token create NAME --role operator"
}

// tooFast refuses for a while.
func tooFast(wait time.Duration, format string, args ...any) error {
	e := saltpeter.Errorf(saltpeter.CodeTooMany, format, args...)
	return &slowDown{wait: wait, err: e.WithHint("wait %s and try again", wait.Round(time.Second)+time.Second)}
}

// slowDown is an error that says when to come back.
type slowDown struct {
	wait time.Duration
	err  *saltpeter.Error
}

func (e *slowDown) Error() string { return e.err.Error() }
func (e *slowDown) Unwrap() error { return e.err }

// sameHost refuses names that this host does not have, where loopback is all that protects what needs no token: a page of
// another site, whose name was pointed at 127.0.0.1, would be of the same origin as this API.
func (c *call) sameHost(origin Origin) error {
	if origin == OriginSocket || c.who.token || c.who.role == 0 || !overLoopback(c.r) {
		return nil
	}
	host := c.r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return nil
	}
	switch strings.ToLower(strings.TrimSuffix(host, ".")) {
	case "", "localhost", strings.ToLower(c.s.node.Contact().Name):
		return nil
	}
	return saltpeter.Errorf(saltpeter.CodeForbidden, "the Host header names %q, and without a token this node answers on loopback only to its own name", host).
		WithHint("use http://127.0.0.1, http://localhost or a token")
}

func overLoopback(r *http.Request) bool {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	return ok && addr.IP.IsLoopback()
}
