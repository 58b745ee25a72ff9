package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"github.com/syscollective/saltpeter/api"
)

// Whoami tells as whom the caller is taken.
func (c *Client) Whoami(ctx context.Context) (Answer[api.Whoami], error) {
	return call[api.Whoami](ctx, c, request{method: http.MethodGet, path: "auth/me"})
}

// Tokens lists the tokens, with all also those that were revoked not long ago.
func (c *Client) Tokens(ctx context.Context, all bool) (Answer[api.Page[api.Token]], error) {
	r := request{method: http.MethodGet, path: "tokens"}
	if all {
		r.query = url.Values{"all": {"true"}}
	}
	return call[api.Page[api.Token]](ctx, c, r)
}

// CreateToken makes a token that is good for a time, 0 for ever. The answer holds its secret, which nobody can read again.
func (c *Client) CreateToken(ctx context.Context, name, role string, expires time.Duration) (Answer[api.Token], error) {
	body := map[string]any{"name": name, "role": role}
	if expires > 0 {
		body["expires"] = expires.Seconds()
	}
	return call[api.Token](ctx, c, request{method: http.MethodPost, path: "tokens", body: body, once: true})
}

// RevokeToken ends a token.
func (c *Client) RevokeToken(ctx context.Context, name string) (Answer[api.Token], error) {
	return call[api.Token](ctx, c, request{method: http.MethodDelete, path: "tokens/" + seg(name), once: true})
}
