package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/apitest"
)

// guarded gives a node that asks for tokens, and a token of each role: viewer, operator, admin, one that has expired and one
// that was revoked.
func guarded(t *testing.T) (*apitest.Node, map[string]string) {
	t.Helper()
	n := apitest.Scene()
	n.Configure(func(s *saltpeter.Settings) { s.Auth = "token" })
	tokens := map[string]string{"": "", "unknown": "sp_" + strings.Repeat("a", 48)}
	h := newServer(t, n).Handler(api.OriginSocket)
	for name, role := range map[string]string{"viewer": "viewer", "operator": "operator", "admin": "admin", "revoked": "admin"} {
		resp := ask(h, "POST", "/api/v1/tokens", fmt.Sprintf(`{"name":%q,"role":%q}`, name, role))
		var made api.Token
		if err := json.Unmarshal(bodyOf(t, resp), &made); err != nil || resp.StatusCode != 201 || !api.IsSecret(made.Secret) {
			t.Fatalf("%d %+v %v", resp.StatusCode, made, err)
		}
		tokens[name] = made.Secret
	}
	if resp := ask(h, "DELETE", "/api/v1/tokens/revoked", ""); resp.StatusCode != 200 {
		t.Fatalf("revoke: %d", resp.StatusCode)
	}
	tokens["expired"] = "sp_" + strings.Repeat("b", 48)
	if _, err := n.PutToken(t.Context(), saltpeter.Actor{}, saltpeter.Token{Name: "expired", Role: saltpeter.RoleAdmin,
		Hash: saltpeter.DigestOf([]byte(tokens["expired"])), ExpiresMillis: n.Now().UnixMilli()}); err != nil {
		t.Fatal(err)
	}
	return n, tokens
}

// members stands for a cluster of which only access is looked at.
type members struct{ api.Membership }

func (members) Cluster(context.Context) (api.Cluster, error) { return api.Cluster{}, nil }
func (members) Transfer(context.Context, saltpeter.Actor, string) (api.Transferred, error) {
	return api.Transferred{}, nil
}

// TestWhoMayDoWhat: listener × credential × route → status.
func TestWhoMayDoWhat(t *testing.T) {
	routes := []struct {
		request, body    string
		ok               int
		viewer, operator bool
	}{
		{"GET /api/v1/jobs", "", 200, true, true},
		{"GET /api/v1/status", "", 200, true, true},
		{"GET /api/v1/cluster", "", 200, true, true},
		{"GET /api/v1/auth/me", "", 200, true, true},
		{"POST /api/v1/schedule/explain", `{"expr":"* * * * *"}`, 200, true, true},
		{"GET /api/v1/runs/backup_databases_1795399500/machines/db07/output?format=raw", "", 200, true, true},
		{"POST /api/v1/jobs/backup_databases/runs", "{}", 201, false, true},
		{"POST /api/v1/runs/nothing/kill", "", 404, false, true},
		{"POST /api/v1/runs/nothing/machines/m/kill", "", 404, false, true},
		{"PUT /api/v1/maintenance/all", `{"forever":true}`, 200, false, true},
		{"DELETE /api/v1/maintenance/all", "", 200, false, true},
		{"POST /api/v1/jobs/backup_databases/pause", "", 200, false, true},
		{"POST /api/v1/jobs/backup_databases/resume", "", 200, false, true},
		{"POST /api/v1/cluster/transfer-leader", "{}", 200, false, false},
		{"GET /api/v1/tokens", "", 200, false, false},
		{"POST /api/v1/tokens", `{"name":"x","role":"viewer"}`, 201, false, false},
		{"DELETE /api/v1/tokens/nothing", "", 404, false, false},
	}
	modes := []struct {
		name, auth, read string
		origin           api.Origin
	}{
		{"socket", "token", "token", api.OriginSocket},
		{"network", "token", "token", api.OriginNetwork},
		{"network, api_read: open", "token", "open", api.OriginNetwork},
		{"network, auth: none", "none", "token", api.OriginNetwork},
	}
	for _, mode := range modes {
		for _, r := range routes {
			for _, cred := range []string{"", "viewer", "operator", "admin", "unknown", "revoked", "expired"} {
				n, tokens := guarded(t)
				n.Configure(func(s *saltpeter.Settings) { s.Auth, s.APIRead = mode.auth, mode.read })
				s, err := api.New(api.Config{Node: n, Cluster: members{}, Now: n.Now})
				if err != nil {
					t.Fatal(err)
				}
				want := 401
				switch {
				case mode.origin == api.OriginSocket, mode.auth == "none", cred == "admin":
					want = r.ok
				case cred == "viewer" && r.viewer, cred == "operator" && r.operator, cred == "" && mode.read == "open" && r.viewer:
					want = r.ok
				case cred == "viewer", cred == "operator":
					want = 403
				}
				before := len(n.Actors())
				method, path, _ := strings.Cut(r.request, " ")
				var header []string
				if cred != "" {
					header = append(header, "Authorization: Bearer "+tokens[cred])
				}
				resp := ask(s.Handler(mode.origin), method, path, r.body, header...)
				if resp.StatusCode != want {
					t.Errorf("%s, %q, %s: %d %s, want %d", mode.name, cred, r.request, resp.StatusCode, bodyOf(t, resp), want)
					continue
				}
				refused(t, resp, want, cred, len(n.Actors()) > before)
				if by := n.Actors(); len(by) > before && mode.name == "network" && (by[before].Name != cred || by[before].Origin == "" || by[before].Request != "req-1") {
					t.Errorf("%q, %s: written by %+v", cred, r.request, by[before])
				}
			}
		}
	}
}

// refused checks the words of a refusal.
func refused(t *testing.T, resp *http.Response, status int, cred string, wrote bool) {
	t.Helper()
	if status != 401 && status != 403 {
		return
	}
	p, challenge := problemOf(t, resp), resp.Header.Get("WWW-Authenticate")
	if wrote || p.Hint == "" {
		t.Errorf("%q: wrote %t, %+v", cred, wrote, p)
	}
	says := map[string]string{
		"": "none was given", "viewer": "viewer has the role viewer, and this needs ", "operator": "operator has the role operator, and this needs admin",
		"unknown": "not one of this cluster's", "revoked": "token revoked was revoked at 2026", "expired": "token expired expired at 2026",
	}[cred]
	if !strings.Contains(p.Detail, says) {
		t.Errorf("%q: %q", cred, p.Detail)
	}
	wantChallenge := map[bool]string{true: `Bearer realm="saltpeter"`, false: `Bearer realm="saltpeter", error="invalid_token"`}[cred == ""]
	if status == 403 {
		wantChallenge = ""
	}
	if challenge != wantChallenge {
		t.Errorf("%q: WWW-Authenticate %q", cred, challenge)
	}
}

func TestAuthorizationHeaders(t *testing.T) {
	n, tokens := guarded(t)
	h := newServer(t, n).Handler(api.OriginNetwork)
	good := tokens["viewer"]
	for _, test := range []struct {
		header string
		status int
	}{
		{"Bearer " + good, 200}, {"bearer " + good, 200}, {"Bearer   " + good + " ", 200},
		{"Basic " + good, 401}, {good, 401}, {"Bearer", 401}, {"Bearer ", 401}, {"Bearer " + good + "a", 401},
		{"Bearer " + good[:50], 401}, {"Bearer " + strings.ToUpper(good), 401}, {"Bearer " + good + " " + good, 401},
		{"Bearer sp_" + strings.Repeat("\xff", 48), 401}, {"Bearer " + strings.Repeat("a", 60_000), 401},
	} {
		if resp := ask(h, "GET", "/api/v1/jobs", "", "Authorization: "+test.header); resp.StatusCode != test.status {
			t.Errorf("%.80q: %d", test.header, resp.StatusCode)
		}
	}
	r := httptest.NewRequest("GET", "/api/v1/jobs", nil)
	r.Header["Authorization"] = []string{"Bearer " + good, "Bearer " + good}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 401 {
		t.Errorf("two headers: %d", w.Code)
	}
}

func FuzzAuthorization(f *testing.F) {
	good := "sp_" + strings.Repeat("c", 48)
	for _, seed := range []string{"Bearer " + good, "Bearer sp_", "Basic x", "", " ", "Bearer\t" + good, good} {
		f.Add(seed)
	}
	n := apitest.Scene()
	n.Configure(func(s *saltpeter.Settings) { s.Auth = "token" })
	if _, err := n.PutToken(context.Background(), saltpeter.Actor{}, saltpeter.Token{Name: "ci", Role: saltpeter.RoleAdmin, Hash: saltpeter.DigestOf([]byte(good))}); err != nil {
		f.Fatal(err)
	}
	s, err := api.New(api.Config{Node: n, Now: n.Now})
	if err != nil {
		f.Fatal(err)
	}
	h := s.Handler(api.OriginNetwork)
	f.Fuzz(func(t *testing.T, header string) {
		r := httptest.NewRequest("GET", "/api/v1/jobs", nil)
		r.Header["Authorization"] = []string{header}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		fields := strings.Fields(header)
		want := len(fields) == 2 && strings.EqualFold(fields[0], "bearer") && fields[1] == good
		if got := w.Code == 200; got != want && (got || !strings.ContainsAny(header, "\t\n\v\f\r\u0085\u00a0")) {
			t.Fatalf("%q: %d", header, w.Code)
		}
	})
}

// TestAccessWithoutALeader: who was known before the cluster was lost may read what there is, and nobody may change anything.
func TestAccessWithoutALeader(t *testing.T) {
	n, tokens := guarded(t)
	n.SetStatus(func(s *api.NodeStatus) { s.Leader = "" })
	n.Fail(saltpeter.Errorf(saltpeter.CodeNoLeader, "no leader answered in time"))
	h := newServer(t, n).Handler(api.OriginNetwork)
	for _, test := range []struct {
		cred, request string
		status        int
	}{
		{"viewer", "GET /api/v1/jobs?consistency=stale", 200}, {"viewer", "GET /api/v1/status", 200},
		{"viewer", "GET /api/v1/jobs", 503}, {"operator", "POST /api/v1/runs/x/kill", 503},
		{"revoked", "GET /api/v1/jobs?consistency=stale", 401}, {"unknown", "GET /api/v1/jobs?consistency=stale", 503},
	} {
		method, path, _ := strings.Cut(test.request, " ")
		resp := ask(h, method, path, "", "Authorization: Bearer "+tokens[test.cred])
		if resp.StatusCode != test.status {
			t.Errorf("%+v: %d %s", test, resp.StatusCode, bodyOf(t, resp))
		}
	}
}

// TestLimits: who fails too often is told to wait, and who changes too much; a token that is good passes from the same address.
func TestLimits(t *testing.T) {
	n, tokens := guarded(t)
	h := newServer(t, n).Handler(api.OriginNetwork)
	code, tries := 401, 0
	var resp *http.Response
	for ; code == 401 && tries < 1000; tries++ {
		resp = ask(h, "GET", "/api/v1/jobs", "", "Authorization: Bearer "+tokens["unknown"])
		code = resp.StatusCode
	}
	if p := problemOf(t, resp); code != 429 || tries < 10 || p.Code != saltpeter.CodeTooMany || !strings.Contains(p.Detail, "too many tokens from this address were refused") || resp.Header.Get("Retry-After") == "0" {
		t.Errorf("%d after %d tries, %+v", code, tries, p)
	}
	if resp := ask(h, "GET", "/api/v1/jobs", "", "Authorization: Bearer "+tokens["viewer"]); resp.StatusCode != 200 {
		t.Errorf("a good token from that address: %d", resp.StatusCode)
	}
	post := func(cred string) *http.Response {
		return ask(h, "POST", "/api/v1/runs/nothing/kill", "", "Authorization: Bearer "+tokens[cred])
	}
	code = 404
	for tries = 0; code == 404 && tries < 100_000; tries++ {
		resp = post("operator")
		code = resp.StatusCode
	}
	if p := problemOf(t, resp); code != 429 || tries < 2500 || !strings.Contains(p.Detail, "operator makes more than 500 changes a second") {
		t.Errorf("%d after %d changes, %+v", code, tries, p)
	}
	if resp := post("admin"); resp.StatusCode != 404 {
		t.Errorf("another token: %d", resp.StatusCode)
	}
	if resp := ask(h, "GET", "/api/v1/jobs", "", "Authorization: Bearer "+tokens["operator"]); resp.StatusCode != 200 {
		t.Errorf("a read by the busy token: %d", resp.StatusCode)
	}
}

// TestRevocationEndsStreams: whoever follows something is cut off with his token.
func TestRevocationEndsStreams(t *testing.T) {
	n, tokens := guarded(t)
	srv := httptest.NewServer(newServer(t, n).Handler(api.OriginNetwork))
	defer srv.Close()
	req, err := http.NewRequest("GET", srv.URL+"/api/v1/runs/cache%2Fwarm%20%E2%98%83%20100%25_1795417495/machines/web2/output?follow=1", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+tokens["viewer"])
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != 200 {
		t.Fatal(resp, err)
	}
	defer resp.Body.Close()
	if _, err := n.RevokeToken(t.Context(), saltpeter.Actor{Name: "root"}, saltpeter.DigestOf([]byte(tokens["viewer"]))); err != nil {
		t.Fatal(err)
	}
	bodyOf(t, resp) // until its end: the test's time limit is the judge
	if got := resp.Trailer.Get("X-Saltpeter-Output-Final"); got != "false" {
		t.Errorf("trailer %q", got)
	}
}

// TestHostOnLoopback: without a token a page of another site must not get in by a name that points to 127.0.0.1.
func TestHostOnLoopback(t *testing.T) {
	n, tokens := guarded(t)
	loop := func(host, header string) int {
		r := httptest.NewRequest("GET", "http://"+host+"/api/v1/jobs", nil)
		if header != "" {
			r.Header.Set("Authorization", "Bearer "+header)
		}
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8888}))
		w := httptest.NewRecorder()
		newServer(t, n).Handler(api.OriginNetwork).ServeHTTP(w, r)
		return w.Code
	}
	if got := loop("evil.example:8888", tokens["viewer"]); got != 200 {
		t.Errorf("with a token: %d", got)
	}
	if got := loop("evil.example:8888", ""); got != 401 {
		t.Errorf("without a token: %d", got)
	}
	for _, open := range []func(s *saltpeter.Settings){
		func(s *saltpeter.Settings) { s.APIRead = "open" }, func(s *saltpeter.Settings) { s.Auth = "none" },
	} {
		n.Configure(open)
		for host, want := range map[string]int{
			"127.0.0.1:8888": 200, "127.0.0.2": 200, "localhost:8888": 200, "LOCALHOST.": 200, "[::1]:8888": 200, "sp-1:8888": 200,
			"evil.example": 403, "evil.example:8888": 403, "127.0.0.1.evil.example": 403, "localhost.evil.example:8888": 403,
		} {
			if got := loop(host, ""); got != want {
				t.Errorf("%s: %d, want %d", host, got, want)
			}
		}
	}
}

// TestOriginOfPages: a page of another origin changes nothing, and reads nothing that a browser would show it.
func TestOriginOfPages(t *testing.T) {
	h := newServer(t, apitest.Scene()).Handler(api.OriginNetwork) // auth: none, the worst case
	for _, test := range []struct {
		header string
		status int
	}{
		{"Origin: https://evil.example", 403}, {"Origin: null", 403}, {"Sec-Fetch-Site: cross-site", 403}, {"Sec-Fetch-Site: same-site", 403},
		{"Origin: http://example.com", 201}, {"Sec-Fetch-Site: same-origin", 201}, {"Sec-Fetch-Site: none", 201}, {"X-Nothing: x", 201},
	} {
		resp := ask(h, "POST", "/api/v1/jobs/backup_databases/runs", "{}", test.header)
		if resp.StatusCode != test.status {
			t.Errorf("%s: %d", test.header, resp.StatusCode)
		}
	}
	for _, method := range []string{"GET", "OPTIONS"} {
		resp := ask(h, method, "/api/v1/jobs", "", "Origin: https://evil.example", "Access-Control-Request-Method: DELETE")
		for name := range resp.Header {
			if strings.HasPrefix(name, "Access-Control-") || name == "Set-Cookie" {
				t.Errorf("%s answers %s", method, name)
			}
		}
	}
}

// TestPeersOfTheSocket: this very process is admin; the socket tells its name.
func TestPeersOfTheSocket(t *testing.T) {
	n, _ := guarded(t)
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- newServer(t, n).Serve(ctx, ln, api.OriginSocket) }()
	hc := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	resp, err := hc.Get("http://saltpeter/api/v1/auth/me")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var who api.Whoami
	if err := json.Unmarshal(bodyOf(t, resp), &who); err != nil || who.Role != "admin" || who.How != "socket" || who.Name == "unknown user" {
		t.Errorf("%+v, %v", who, err)
	}
	hc.CloseIdleConnections()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestRightsAreDocumented: the document shows the table that decides.
func TestRightsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range api.Rights() {
		if line := fmt.Sprintf("\n| %s | %s |\n", r.What, r.Role); !strings.Contains(string(doc), line) {
			t.Errorf("docs/security.md lacks the line%s", line)
		}
	}
}

// lagging is a node whose own record is older than the leader's.
type lagging struct {
	*apitest.Node
	old api.View
}

func (l lagging) Read(ctx context.Context, stale bool) (api.View, error) {
	if stale {
		return l.old, nil
	}
	return l.Node.Read(ctx, false)
}

// TestTokensAreConfirmedByTheLeader: a node that lags lets in who was given a token, and nobody whose token was revoked.
func TestTokensAreConfirmedByTheLeader(t *testing.T) {
	n, tokens := guarded(t)
	old, err := n.Read(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	fresh := "sp_" + strings.Repeat("d", 48)
	if _, err := n.PutToken(t.Context(), saltpeter.Actor{}, saltpeter.Token{Name: "fresh", Role: saltpeter.RoleOperator, Hash: saltpeter.DigestOf([]byte(fresh))}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.RevokeToken(t.Context(), saltpeter.Actor{}, saltpeter.DigestOf([]byte(tokens["operator"]))); err != nil {
		t.Fatal(err)
	}
	s, err := api.New(api.Config{Node: lagging{n, old}, Now: n.Now})
	if err != nil {
		t.Fatal(err)
	}
	h := s.Handler(api.OriginNetwork)
	for _, request := range []string{"GET /api/v1/jobs", "GET /api/v1/jobs?consistency=stale", "GET /api/v1/auth/me", "PUT /api/v1/maintenance/all"} {
		method, path, _ := strings.Cut(request, " ")
		body := map[string]string{"PUT": `{"forever":true}`}[method]
		for token, want := range map[string]int{fresh: 200, tokens["operator"]: 401} {
			if resp := ask(h, method, path, body, "Authorization: Bearer "+token); resp.StatusCode != want {
				t.Errorf("%s: %d, want %d", request, resp.StatusCode, want)
			}
		}
	}
}
