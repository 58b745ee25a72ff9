package api_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/apitest"
)

// get asks a real server, as strangers do.
func get(t *testing.T, url string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// TestFollow reads output while it comes: each piece arrives before the next is written, any bytes as they are, and
// the stream ends with the machine's outcome.
func TestFollow(t *testing.T) {
	n := apitest.New()
	n.AddJob("j", nil)
	run := n.AddRun("j", n.Now(), "m")
	srv := httptest.NewServer(newServer(t, n).Handler(api.OriginNetwork))
	defer srv.Close()
	n.Begin(run.Num, 0)
	resp := get(t, srv.URL+"/api/v1/runs/"+run.ID+"/machines/m/output?format=raw&follow&offset=2")
	if got := resp.Header.Get("Content-Type"); got != "application/octet-stream" {
		t.Errorf("content type = %q", got)
	}
	var want, got []byte
	for i := range 20 {
		piece := bytes.Repeat([]byte{byte(i), 0xff, '\n'}, 1+i*5000)
		n.Print(run.Num, 0, piece)
		want = append(want, piece...)
		buf := make([]byte, len(want)-2-len(got))
		if _, err := io.ReadFull(resp.Body, buf); err != nil {
			t.Fatalf("piece %d: %v", i, err)
		}
		got = append(got, buf...)
	}
	n.Print(run.Num, 0, []byte("end"))
	n.Finish(run.Num, 0, saltpeter.OK, 0)
	rest, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got = append(got, rest...); !bytes.Equal(got, append(want, "end"...)[2:]) {
		t.Errorf("got %d bytes that differ from the %d written", len(got), len(want))
	}
	if final := resp.Trailer.Get("X-Saltpeter-Output-Final"); final != "true" {
		t.Errorf("trailer = %q, want true", final)
	}
}

func TestRawOutput(t *testing.T) {
	n := apitest.New()
	n.AddJob("j", nil)
	run := n.AddRun("j", n.Now(), "m")
	all := bytes.Repeat([]byte("0123456789abcdef\x00\xfe"), 20_000)
	n.Print(run.Num, 0, all)
	h := newServer(t, n).Handler(api.OriginNetwork)
	for _, test := range []struct {
		query    string
		from, to int
	}{
		{"", 0, len(all)}, {"&offset=7", 7, len(all)}, {"&offset=7&limit=3", 7, 10}, {"&offset=70000&limit=100000", 70000, 170000},
		{"&offset=999999999", len(all), len(all)}, {"&follow=0&limit=5", 0, 5},
	} {
		resp := ask(h, "GET", "/api/v1/runs/"+run.ID+"/machines/m/output?format=raw"+test.query, "")
		if got := bodyOf(t, resp); !bytes.Equal(got, all[test.from:test.to]) {
			t.Errorf("%q: %d bytes, want [%d:%d]", test.query, len(got), test.from, test.to)
		}
		if got := resp.Header.Get("Content-Length"); got != fmt.Sprint(test.to-test.from) {
			t.Errorf("%q: announces %s bytes", test.query, got)
		}
		if resp.Header.Get("X-Saltpeter-Output-Final") != "false" {
			t.Errorf("%q: says it is final", test.query)
		}
	}
}

// TestStreamsAreBounded fills the places for streams; one more is refused, and a place that is given back is free.
func TestStreamsAreBounded(t *testing.T) {
	n := apitest.New()
	n.AddJob("j", nil)
	run := n.AddRun("j", n.Now(), "m")
	s, err := api.New(api.Config{Node: n, MaxStreams: 1})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(s.Handler(api.OriginNetwork))
	defer srv.Close()
	url := srv.URL + "/api/v1/runs/" + run.ID + "/machines/m/output?format=raw&follow=true"
	first := get(t, url)
	if p := problemOf(t, get(t, url)); p.Code != saltpeter.CodeTooMany {
		t.Errorf("second stream: %+v", p)
	}
	n.Finish(run.Num, 0, saltpeter.OK, 0)
	if _, err := io.ReadAll(first.Body); err != nil {
		t.Fatal(err)
	}
	if resp := get(t, url); resp.StatusCode != 200 {
		t.Errorf("after the first ended: %d", resp.StatusCode)
	}
}

// TestWaitRun asks for changes of a run in a bubble, where time is exact.
func TestWaitRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := apitest.New()
		n.AddJob("j", nil)
		run := n.AddRun("j", n.Now(), "m")
		s, err := api.New(api.Config{Node: n})
		if err != nil {
			t.Fatal(err)
		}
		h := s.Handler(api.OriginNetwork)
		tag := ask(h, "GET", "/api/v1/runs/"+run.ID, "").Header.Get("Etag")
		if tag == "" {
			t.Fatal("no ETag")
		}
		wait := func() (*http.Response, time.Duration) {
			before := time.Now()
			resp := ask(h, "GET", "/api/v1/runs/"+run.ID+"?wait=45", "", "If-None-Match: "+tag)
			return resp, time.Since(before)
		}
		if resp, took := wait(); resp.StatusCode != 304 || took != 45*time.Second {
			t.Errorf("nothing changed: %d after %v", resp.StatusCode, took)
		}
		go func() {
			time.Sleep(5 * time.Second)
			n.AddJob("other", nil) // no change of the run
			time.Sleep(5 * time.Second)
			n.Begin(run.Num, 0)
		}()
		if resp, took := wait(); resp.StatusCode != 200 || took < 10*time.Second || took > 11*time.Second {
			t.Errorf("changed after 10 s: %d after %v", resp.StatusCode, took)
		}
	})
}

// TestSocket serves on a unix socket: who asks is known and needs no token, and a stream ends when the server stops.
func TestSocket(t *testing.T) {
	n := apitest.New()
	n.Configure(func(s *saltpeter.Settings) { s.Auth = "token" })
	n.AddJob("j", nil)
	run := n.AddRun("j", n.Now(), "m")
	path := filepath.Join(t.TempDir(), "admin.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	served := make(chan error, 1)
	go func() { served <- newServer(t, n).Serve(ctx, ln, api.OriginSocket) }()
	cl := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	resp, err := cl.Post("http://node/api/v1/jobs/j/runs", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body.Close(); resp.StatusCode != 201 {
		t.Errorf("start over the socket: %d", resp.StatusCode)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	by := n.Actors()[0]
	if by.Name != me.Username || by.Origin != "unix socket" || by.Request == "" {
		t.Errorf("actor = %+v, want %s", by, me.Username)
	}
	stream, err := cl.Get("http://node/api/v1/runs/" + run.ID + "/machines/m/output?format=raw&follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	stop()
	if err := <-served; err != nil {
		t.Errorf("Serve ended with %v", err)
	}
	_, err = io.ReadAll(stream.Body)
	if final := stream.Trailer.Get("X-Saltpeter-Output-Final"); err == nil && final == "true" {
		t.Error("a stream that was cut off looks complete")
	}
}

func TestServeTellsListenerErrors(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	if err := newServer(t, apitest.New()).Serve(t.Context(), ln, api.OriginNetwork); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve on a closed listener = %v", err)
	}
}

func TestAccess(t *testing.T) {
	const read, write = "GET /api/v1/status", "POST /api/v1/runs/x/kill"
	metrics := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "up 1\n") })
	tests := []struct {
		auth, apiRead string
		origin        api.Origin
		request       string
		status        int
	}{
		{"token", "token", api.OriginNetwork, read, 401},
		{"token", "token", api.OriginNetwork, write, 401},
		{"token", "token", api.OriginNetwork, "GET /metrics", 401},
		{"token", "token", api.OriginNetwork, "GET /healthz", 200},
		{"token", "token", api.OriginNetwork, "GET /readyz", 200},
		{"token", "token", api.OriginNetwork, "GET /leader", 200},
		{"token", "token", api.OriginSocket, read, 200},
		{"token", "token", api.OriginSocket, write, 404},
		{"token", "open", api.OriginNetwork, read, 200},
		{"token", "open", api.OriginNetwork, "GET /metrics", 200},
		{"token", "open", api.OriginNetwork, write, 401},
		{"none", "token", api.OriginNetwork, read, 200},
		{"none", "token", api.OriginNetwork, write, 404},
	}
	for _, test := range tests {
		n := apitest.New()
		n.Configure(func(s *saltpeter.Settings) { s.Auth, s.APIRead = test.auth, test.apiRead })
		s, err := api.New(api.Config{Node: n, Metrics: metrics, Socket: "/tmp/x.sock"})
		if err != nil {
			t.Fatal(err)
		}
		method, path, _ := strings.Cut(test.request, " ")
		resp := ask(s.Handler(test.origin), method, path, "")
		if resp.StatusCode != test.status {
			t.Errorf("%+v: status %d", test, resp.StatusCode)
		}
		if got := resp.Header.Get("X-Saltpeter-Auth"); (got == "none") != (test.auth == "none") {
			t.Errorf("%+v: X-Saltpeter-Auth = %q", test, got)
		}
		if resp.StatusCode != 401 {
			continue
		}
		if p := problemOf(t, resp); p.Code != saltpeter.CodeUnauthenticated || !strings.Contains(p.Hint, "unix:///tmp/x.sock") {
			t.Errorf("%+v: problem %+v", test, p)
		}
		if len(n.Actors()) > 0 {
			t.Errorf("%+v: wrote something", test)
		}
	}
}

// TestAccessBeforeConfiguration: a node that has just started does not know who may do what.
func TestAccessBeforeConfiguration(t *testing.T) {
	n := apitest.New()
	n.Forget()
	s := newServer(t, n)
	if p := problemOf(t, ask(s.Handler(api.OriginNetwork), "GET", "/api/v1/jobs", "")); p.Code != saltpeter.CodeUnavailable || !p.Retryable {
		t.Errorf("network: %+v", p)
	}
	if resp := ask(s.Handler(api.OriginSocket), "GET", "/api/v1/jobs", ""); resp.StatusCode != 200 {
		t.Errorf("socket: %d", resp.StatusCode)
	}
	if resp := ask(s.Handler(api.OriginNetwork), "GET", "/readyz?verbose", ""); resp.StatusCode != 503 {
		t.Errorf("readyz: %d", resp.StatusCode)
	}
}

func TestHealth(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*api.NodeStatus)
		path    string
		status  int
		content string
	}{
		{"well", func(*api.NodeStatus) {}, "/healthz", 200, "ok\n"},
		{"leads", func(*api.NodeStatus) {}, "/leader", 200, "ok\n"},
		{"fault", func(s *api.NodeStatus) { s.Faults = []string{"the log store fails"} }, "/healthz", 503, "not ok\n"},
		{"fault is not ready", func(s *api.NodeStatus) { s.Faults = []string{"the log store fails"} }, "/readyz?verbose", 503, "not ok: the log store fails\n"},
		{"no leader is healthy", func(s *api.NodeStatus) { s.Leader = "" }, "/healthz", 200, "ok\n"},
		{"no leader", func(s *api.NodeStatus) { s.Leader = "" }, "/readyz?verbose", 503, "not ok: no leader is known\n"},
		{"reasons are not told unasked", func(s *api.NodeStatus) { s.Leader = "" }, "/readyz", 503, "not ok\n"},
		{"lags", func(s *api.NodeStatus) { s.Unready = []string{"900 entries behind"} }, "/readyz?verbose=1", 503, "not ok: 900 entries behind\n"},
		{"follows", func(s *api.NodeStatus) { s.Role, s.Leader = "follower", "sp-2" }, "/leader", 503, "not ok\n"},
		{"follows, and says so", func(s *api.NodeStatus) { s.Role, s.Leader = "follower", "sp-2" }, "/leader?verbose", 503, "not ok: this node does not lead\n"},
		{"behind", func(s *api.NodeStatus) { s.Commit, s.Applied = 2000, 999 }, "/readyz?verbose", 503, "not ok: 1001 entries are to be applied yet (max_lag 1000)\n"},
		{"as far behind as may be", func(s *api.NodeStatus) { s.Commit, s.Applied = 2000, 1000 }, "/readyz", 200, "ok\n"},
		{"behind what was asked for", func(s *api.NodeStatus) { s.Commit, s.Applied = 12, 10 }, "/readyz?max_lag=1&verbose", 503, "not ok: 2 entries are to be applied yet (max_lag 1)\n"},
		{"not behind what was asked for", func(s *api.NodeStatus) { s.Commit, s.Applied = 12, 10 }, "/readyz?max_lag=2", 200, "ok\n"},
	}
	for _, test := range tests {
		n := apitest.New()
		n.SetStatus(test.change)
		resp := ask(newServer(t, n).Handler(api.OriginNetwork), "GET", test.path, "")
		if got := string(bodyOf(t, resp)); resp.StatusCode != test.status || got != test.content {
			t.Errorf("%s: %d %q, want %d %q", test.name, resp.StatusCode, got, test.status, test.content)
		}
	}
}

// Load balancers ask with HEAD, GET or OPTIONS, and with nothing to prove who they are.
func TestHealthMethods(t *testing.T) {
	n := apitest.New()
	h := newServer(t, n).Handler(api.OriginNetwork)
	for _, path := range []string{"/healthz", "/readyz", "/leader"} {
		for method, want := range map[string]int{"GET": 200, "HEAD": 200, "OPTIONS": 204, "POST": 405} {
			if resp := ask(h, method, path, ""); resp.StatusCode != want {
				t.Errorf("%s %s: %d, want %d", method, path, resp.StatusCode, want)
			}
		}
	}
	for _, path := range []string{"/readyz?max_lag=-1", "/readyz?max_lag=much", "/readyz?lag=3"} {
		if resp := ask(h, "GET", path, ""); resp.StatusCode != 400 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}

// TestNames sends names of every kind through a real server and client: jobs, runs and machines may be called
// anything without control characters.
func TestNames(t *testing.T) {
	names := []string{
		"a/b", "/", "//", ".", "..", "../..", "a%2Fb", "%", "%zz", "a b", "a+b", "ünïcödé ☃", "a?b=c", "a#b", "a;b", "a:b", "a&b", `a"b'c\d`, "runs", "日本語", "+", "~",
	}
	n := apitest.New()
	srv := httptest.NewServer(newServer(t, n).Handler(api.OriginNetwork))
	defer srv.Close()
	for _, name := range names {
		n.AddJob(name, nil)
		run := n.AddRun(name, n.Now(), name)
		n.Print(run.Num, 0, []byte(name))
		base := srv.URL + "/api/v1/runs/" + api.PathEscape(run.ID) + "/machines/" + api.PathEscape(name)
		if resp := get(t, base+"/output?format=raw"); resp.StatusCode != 200 || string(bodyOf(t, resp)) != name {
			t.Errorf("output of machine %q: %d", name, resp.StatusCode)
		}
		if resp := get(t, srv.URL+"/api/v1/jobs/"+api.PathEscape(name)+"/skips"); resp.StatusCode != 200 {
			t.Errorf("skips of job %q: %d", name, resp.StatusCode)
		}
	}
}
