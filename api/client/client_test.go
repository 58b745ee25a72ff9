package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/apitest"
	"github.com/syscollective/saltpeter/api/client"
)

// serve gives the address of a node; wrap may come between.
func serve(t *testing.T, n *apitest.Node, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	s, err := api.New(api.Config{Node: n, Now: n.Now})
	if err != nil {
		t.Fatal(err)
	}
	h := s.Handler(api.OriginNetwork)
	if wrap != nil {
		h = wrap(h)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

// dead gives an address where nothing listens.
func dead(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return "http://" + ln.Addr().String()
}

func connect(t *testing.T, addrs ...string) *client.Client {
	t.Helper()
	parsed, err := client.ParseAddrs(strings.Join(addrs, ","))
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(client.Config{Addrs: parsed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestGoesOnToTheNextAddress(t *testing.T) {
	n := apitest.Scene()
	c := connect(t, dead(t), serve(t, n, nil))
	status, err := c.Status(t.Context())
	if err != nil || status.Value.Node.Name != "sp-1" {
		t.Fatalf("status = %+v, %v", status.Value.Node, err)
	}
	if _, err := c.Start(t.Context(), client.Start{Job: "backup_databases"}); err != nil {
		t.Errorf("start without a key, the first address dead: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	addr := dead(t)
	_, err := connect(t, addr).Status(t.Context())
	e, ok := errors.AsType[*saltpeter.Error](err)
	if !ok || e.Code != saltpeter.CodeUnavailable || !strings.Contains(e.Hint, addr) {
		t.Errorf("error = %#v", err)
	}
}

func TestSocketThatMayNotBeOpened(t *testing.T) {
	if os.Geteuid() == 0 {
		// root may open anything: the error is made by hand, from what the kernel would say.
		t.Skip("root may open every socket")
	}
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := connect(t, "unix://"+path).Status(t.Context()); saltpeter.CodeOf(err) != saltpeter.CodeForbidden {
		t.Errorf("error = %v", err)
	}
}

// count counts requests, and answers the first few itself.
func count(calls *atomic.Int64, first int64, answer http.HandlerFunc) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if calls.Add(1) <= first {
				answer(w, r)
				return
			}
			h.ServeHTTP(w, r)
		})
	}
}

func noLeader(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(http.StatusServiceUnavailable)
	io.WriteString(w, `{"status":503,"code":"no-leader","detail":"no leader","retryable":true}`)
}

func hangUp(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		conn.Close()
	}
}

// TestRepeats pins what is asked again after which failure, and how often a node is asked for it.
func TestRepeats(t *testing.T) {
	get := func(c *client.Client) error { _, err := c.Status(context.Background()); return err }
	startOnce := func(c *client.Client) error {
		_, err := c.Start(context.Background(), client.Start{Job: "backup_databases"})
		return err
	}
	startKey := func(c *client.Client) error {
		_, err := c.Start(context.Background(), client.Start{Job: "backup_databases", Key: "k"})
		return err
	}
	transfer := func(c *client.Client) error {
		_, err := c.TransferLeader(context.Background(), "")
		return err
	}
	unknown := func(c *client.Client) error { _, err := c.Job(context.Background(), "nothing"); return err }
	tests := []struct {
		name   string
		call   func(*client.Client) error
		first  int64
		answer http.HandlerFunc
		code   saltpeter.ErrorCode // "" = success
		calls  int64
	}{
		{"read, no leader for a moment", get, 1, noLeader, "", 2},
		{"read, no leader", get, 100, noLeader, saltpeter.CodeNoLeader, 3},
		{"read, cut off", get, 2, hangUp, "", 3},
		{"start with a key, cut off", startKey, 1, hangUp, "", 2},
		{"start without a key, cut off", startOnce, 1, hangUp, saltpeter.CodeUnavailable, 1},
		{"start without a key, no leader", startOnce, 1, noLeader, saltpeter.CodeNoLeader, 1},
		{"transfer, no leader for a moment", transfer, 2, noLeader, saltpeter.CodeNotFound, 3}, // the scene's node has no cluster
		{"transfer, cut off", transfer, 1, hangUp, saltpeter.CodeUnavailable, 1},
		{"not found", unknown, 0, nil, saltpeter.CodeNotFound, 1},
		{"something else answers", get, 100, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusNotFound) }, saltpeter.CodeInternal, 1},
		{"a proxy without a node", get, 100, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadGateway) }, saltpeter.CodeUnavailable, 3},
		{"not JSON", get, 100, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }, saltpeter.CodeInternal, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			err := test.call(connect(t, serve(t, apitest.Scene(), count(&calls, test.first, test.answer))))
			if test.code == "" && err != nil || test.code != "" && (err == nil || saltpeter.CodeOf(err) != test.code) {
				t.Errorf("error = %v, want %s", err, test.code)
			}
			if calls.Load() != test.calls {
				t.Errorf("asked %d times, want %d", calls.Load(), test.calls)
			}
		})
	}
}

func TestGivesUp(t *testing.T) {
	var calls atomic.Int64
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	c := connect(t, serve(t, apitest.Scene(), count(&calls, 100, hang)))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.Status(ctx); saltpeter.CodeOf(err) != saltpeter.CodeTimeout {
		t.Errorf("error = %v, want %s", err, saltpeter.CodeTimeout)
	}
	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	if _, err := c.Status(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want canceled", err)
	}
}

// cutter ends the connection after so many bytes of an answer.
type cutter struct {
	http.ResponseWriter
	left int
}

func (c *cutter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *cutter) Write(p []byte) (int, error) {
	if len(p) <= c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	n, _ := c.ResponseWriter.Write(p[:c.left])
	rc := http.NewResponseController(c.ResponseWriter)
	rc.Flush()
	hangUp(c.ResponseWriter, nil)
	return n, io.ErrClosedPipe
}

// TestOutputGoesOn cuts streams at many places; what arrives must be the whole output, each byte once.
func TestOutputGoesOn(t *testing.T) {
	for _, follow := range []bool{false, true} {
		n := apitest.New()
		n.AddJob("j", nil)
		run := n.AddRun("j", n.Now(), "m/☃")
		want := bytes.Repeat([]byte("0123456789\x00\xff"), 30_000)
		n.Print(run.Num, 0, want)
		n.Finish(run.Num, 0, saltpeter.OK, 0)
		cuts := []int{0, 1, 7, 70_000, 3, 200_000}
		var calls atomic.Int64
		addr := serve(t, n, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if i := int(calls.Add(1)) - 1; i < len(cuts) {
					w = &cutter{w, cuts[i]}
				}
				h.ServeHTTP(w, r)
			})
		})
		var got bytes.Buffer
		if err := connect(t, addr).Output(t.Context(), run.ID, "m/☃", 0, follow, &got); err != nil {
			t.Fatalf("follow %v: %v", follow, err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("follow %v: %d bytes that differ from the %d written", follow, got.Len(), len(want))
		}
		if calls.Load() < 4 {
			t.Errorf("follow %v: only %d streams: nothing was cut", follow, calls.Load())
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestOutputStopsWhereItCanNotWrite(t *testing.T) {
	n := apitest.Scene()
	var calls atomic.Int64
	c := connect(t, serve(t, n, count(&calls, 0, nil)))
	err := c.Output(t.Context(), "backup_databases_1795399500", "db07", 0, true, full{})
	if err == nil || !strings.Contains(err.Error(), "no space left") || calls.Load() != 1 {
		t.Errorf("error %v after %d requests", err, calls.Load())
	}
}

func TestListsHaveAllPages(t *testing.T) {
	n := apitest.New()
	n.AddJob("j", nil)
	for range 2500 {
		n.AddRun("j", n.Now())
	}
	c := connect(t, serve(t, n, nil))
	all, err := c.Runs(t.Context(), url.Values{"job": {"j"}}, 0)
	if err != nil || len(all.Items) != 2500 || len(all.Raw) != 2500 || all.Next != "" {
		t.Errorf("%d items, next %q, %v", len(all.Items), all.Next, err)
	}
	some, err := c.Runs(t.Context(), nil, 1200)
	if err != nil || len(some.Items) != 1200 || some.Next == "" || some.Items[1199].Num != 1301 {
		t.Errorf("%d items, next %q, %v", len(some.Items), some.Next, err)
	}
}

func TestParseAddrs(t *testing.T) {
	good := map[string]string{
		"http://127.0.0.1:8888":               "http://127.0.0.1:8888",
		"http://127.0.0.1:8888/":              "http://127.0.0.1:8888",
		"127.0.0.1:8888":                      "http://127.0.0.1:8888",
		"http://[::1]:8888":                   "http://[::1]:8888",
		"https://sp.example/sub":              "https://sp.example/sub",
		"unix:///run/saltpeter/admin.sock":    "unix:///run/saltpeter/admin.sock",
		" http://a:1 , unix:///s ,,http://b ": "http://a:1 unix:///s http://b",
	}
	for list, want := range good {
		addrs, err := client.ParseAddrs(list)
		var texts []string
		for _, a := range addrs {
			texts = append(texts, a.String())
		}
		if got := strings.Join(texts, " "); err != nil || got != want {
			t.Errorf("ParseAddrs(%q) = %q, %v, want %q", list, got, err, want)
		}
	}
	for _, list := range []string{"", ",", "unix://relative", "unix://", "ftp://a", "http://", "http://a:b:c", "http://u:p@a", "http://a?x=1", "http://a#x", ":8888"} {
		if addrs, err := client.ParseAddrs(list); saltpeter.CodeOf(err) != saltpeter.CodeInvalid || err == nil {
			t.Errorf("ParseAddrs(%q) = %v, %v, want an error", list, addrs, err)
		}
	}
}
