package api

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/syscollective/saltpeter"
)

// maxExpiry is the longest life of a token that ends at all.
const maxExpiry = 10 * 365 * 24 * time.Hour

// Token is an API token. Its secret is told once, by the answer that made it.
type Token struct {
	Name    string `json:"name"`
	Role    string `json:"role"`
	State   string `json:"state"` // "active", "expired", "revoked"
	Created Time   `json:"created"`
	Actor   string `json:"actor"` // who made it
	Origin  string `json:"origin"`
	Expires Time   `json:"expires"` // null = never
	Revoked Time   `json:"revoked"`
	Secret  string `json:"token,omitempty"`
}

// Whoami tells who asks and what they may do.
type Whoami struct {
	Name string `json:"name"`
	Role string `json:"role"`
	How  string `json:"how"` // "token", "socket", "auth: none", "api_read: open"
	From string `json:"from"`
}

func tokenShape(t *saltpeter.Token, now time.Time) Token {
	out := Token{Name: t.Name, Role: t.Role.String(), State: "active", Created: Time(t.CreatedMillis), Actor: t.Actor,
		Origin: t.Origin, Expires: Time(t.ExpiresMillis), Revoked: Time(t.RevokedMillis)}
	switch {
	case t.RevokedMillis != 0:
		out.State = "revoked"
	case !t.Good(now.UnixMilli()):
		out.State = "expired"
	}
	return out
}

// accessRoutes lists the resources about who may do what.
func (s *Server) accessRoutes() map[string]map[string]route {
	return map[string]map[string]route{
		"auth/me": {http.MethodGet: {handle: (*call).whoami, access: accessRead}},
		"tokens": {
			http.MethodGet:  {handle: (*call).listTokens, params: []string{"all"}, access: accessTokens},
			http.MethodPost: {handle: (*call).createToken, access: accessTokens},
		},
		"tokens/{token}": {http.MethodDelete: {handle: (*call).revokeToken, access: accessTokens}},
	}
}

func (c *call) whoami() error {
	return c.reply(http.StatusOK, Whoami{Name: c.by.Name, Role: c.who.role.String(), How: c.who.how, From: c.by.Origin})
}

// listTokens lists the tokens by name, with all=1 also those that were revoked not long ago.
func (c *call) listTokens() error {
	all, err := c.params.flag("all")
	if err != nil {
		return err
	}
	v, err := c.view()
	if err != nil {
		return err
	}
	page := Page[Token]{Items: []Token{}, Index: v.Index()}
	for _, t := range v.Tokens() {
		if all || t.RevokedMillis == 0 {
			page.Items = append(page.Items, tokenShape(&t, c.s.now()))
		}
	}
	slices.SortFunc(page.Items, func(a, b Token) int {
		if a.Name != b.Name {
			return strings.Compare(a.Name, b.Name)
		}
		return int(a.Created - b.Created)
	})
	return c.reply(http.StatusOK, page)
}

func (c *call) createToken() error {
	var name, role string
	var expires Duration
	if err := c.body(fields{"name": &name, "role": &role, "expires": &expires}); err != nil {
		return err
	}
	if err := saltpeter.CheckTokenName(name); err != nil {
		return fieldError("name", err.Error(), "")
	}
	t := saltpeter.Token{Name: name}
	var ok bool
	if t.Role, ok = saltpeter.ParseRole(role); !ok {
		return fieldError("role", "is none of viewer, operator, admin", "")
	}
	if life := time.Duration(expires); life > maxExpiry {
		return fieldError("expires", "is more than ten years", "leave it out for a token that does not expire")
	} else if life > 0 {
		t.ExpiresMillis = c.s.now().Add(max(life, time.Millisecond)).UnixMilli()
	}
	secret := newSecret()
	t.Hash = saltpeter.DigestOf([]byte(secret))
	made, err := c.s.node.PutToken(c.r.Context(), c.by, t)
	if err != nil {
		return err
	}
	shape := tokenShape(&made, c.s.now())
	shape.Secret = secret
	return c.reply(http.StatusCreated, shape)
}

func (c *call) revokeToken() error {
	if err := c.body(fields{}); err != nil {
		return err
	}
	v, err := c.view()
	if err != nil {
		return err
	}
	name := c.r.PathValue("token")
	var names []string
	for _, t := range v.Tokens() {
		if t.RevokedMillis != 0 {
			continue
		}
		if names = append(names, t.Name); t.Name != name {
			continue
		}
		revoked, err := c.s.node.RevokeToken(c.r.Context(), c.by, t.Hash)
		if err != nil {
			return err
		}
		return c.reply(http.StatusOK, tokenShape(&revoked, c.s.now()))
	}
	slices.Sort(names)
	return saltpeter.Errorf(saltpeter.CodeNotFound, "there is no token %q", name).
		WithHint("tokens: %s", strings.Join(names[:min(len(names), 20)], ", "))
}
