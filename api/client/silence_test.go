package client_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/api"
	"github.com/syscollective/saltpeter/api/apitest"
	"github.com/syscollective/saltpeter/api/client"
)

// network joins clients and servers by pipes, so that both may live in a bubble. A node that is frozen takes
// connections and says nothing.
type network struct {
	mu     sync.Mutex
	nodes  map[string]chan net.Conn
	frozen map[string]bool
}

func (w *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	w.mu.Lock()
	accept, frozen := w.nodes[address], w.frozen[address]
	w.mu.Unlock()
	here, there := net.Pipe()
	if frozen {
		context.AfterFunc(ctx, func() { there.Close() })
		go func() { // swallow what is sent, as a kernel does for a stopped process
			for b := make([]byte, 4096); ; {
				if _, err := there.Read(b); err != nil {
					return
				}
			}
		}()
		return here, nil
	}
	select {
	case accept <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type listener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *listener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// bubble runs a test with nodes a:1 and b:1 that both serve n.
func bubble(t *testing.T, n func() *apitest.Node, test func(*testing.T, *network, *apitest.Node, *client.Client)) {
	synctest.Test(t, func(t *testing.T) {
		node := n()
		w := &network{nodes: map[string]chan net.Conn{}, frozen: map[string]bool{}}
		ctx, stop := context.WithCancel(t.Context())
		var served sync.WaitGroup
		for _, addr := range []string{"a:1", "b:1"} {
			s, err := api.New(api.Config{Node: node})
			if err != nil {
				t.Fatal(err)
			}
			ln := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
			w.nodes[addr] = ln.conns
			served.Go(func() {
				if err := s.Serve(ctx, ln, api.OriginNetwork); err != nil {
					t.Errorf("serve: %v", err)
				}
			})
		}
		addrs, err := client.ParseAddrs("a:1,b:1")
		if err != nil {
			t.Fatal(err)
		}
		c, err := client.New(client.Config{Addrs: addrs, Dial: w.dial})
		if err != nil {
			t.Fatal(err)
		}
		test(t, w, node, c)
		c.Close()
		stop()
		served.Wait()
	})
}

func oneRun() *apitest.Node {
	n := apitest.New()
	n.AddJob("j", nil)
	n.AddRun("j", n.Now(), "m")
	n.Begin(1, 0)
	return n
}

const runID = "j_1795417500"

// TestFollowThroughSilence: a command that is quiet for hours is followed to its end; deadlines of the server that are
// made for short answers don't cut it, and asking again loses and doubles nothing.
func TestFollowThroughSilence(t *testing.T) {
	bubble(t, oneRun, func(t *testing.T, _ *network, n *apitest.Node, c *client.Client) {
		var got bytes.Buffer
		done := make(chan error, 1)
		go func() { done <- c.Output(t.Context(), runID, "m", 0, true, &got) }()
		var want bytes.Buffer
		for _, silence := range []time.Duration{time.Second, 29 * time.Second, 31 * time.Second, 3 * time.Hour, 0, time.Minute} {
			time.Sleep(silence)
			n.Print(1, 0, []byte(silence.String()+"\n"))
			want.WriteString(silence.String() + "\n")
		}
		time.Sleep(25 * time.Minute)
		n.Finish(1, 0, saltpeter.OK, 0)
		if err := <-done; err != nil || got.String() != want.String() {
			t.Errorf("got %q, want %q, error %v", &got, &want, err)
		}
	})
}

// TestServerKeepsSilentStreams: the server's deadlines are for short answers; a stream may be silent for hours and still
// end as it should, for clients that do not ask again.
func TestServerKeepsSilentStreams(t *testing.T) {
	bubble(t, oneRun, func(t *testing.T, w *network, n *apitest.Node, _ *client.Client) {
		tr := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) { return w.dial(ctx, network, "a:1") }}
		defer tr.CloseIdleConnections()
		resp, err := (&http.Client{Transport: tr}).Get("http://a:1/api/v1/runs/" + runID + "/machines/m/output?format=raw&follow=true")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		n.Print(1, 0, []byte("a"))
		time.AfterFunc(3*time.Hour, func() { n.Finish(1, 0, saltpeter.OK, 0) })
		got, err := io.ReadAll(resp.Body)
		if err != nil || string(got) != "a" || resp.Trailer.Get("X-Saltpeter-Output-Final") != "true" {
			t.Errorf("got %q, trailer %v, %v", got, resp.Trailer, err)
		}
	})
}

// TestFrozenNode: a node that takes connections and says nothing costs ten seconds, not the call.
func TestFrozenNode(t *testing.T) {
	bubble(t, oneRun, func(t *testing.T, w *network, n *apitest.Node, c *client.Client) {
		w.frozen["a:1"] = true
		before := time.Now()
		if _, err := c.Status(t.Context()); err != nil {
			t.Errorf("status: %v", err)
		}
		if took := time.Since(before); took < 9*time.Second || took > 12*time.Second {
			t.Errorf("the other node was asked after %v", took)
		}
		before = time.Now()
		if _, err := c.Status(t.Context()); err != nil || time.Since(before) > time.Second {
			t.Errorf("the node that answered was not asked first: %v, %v", time.Since(before), err)
		}
		w.frozen["b:1"] = true
		c.Close()
		_, err := c.Start(t.Context(), client.Start{Job: "j"})
		if saltpeter.CodeOf(err) != saltpeter.CodeUnavailable || len(n.Actors()) != 0 {
			t.Errorf("start on frozen nodes: %v", err)
		}
	})
}

// TestWaitRunAcrossNodes waits longer for a change than for an answer.
func TestWaitRunAcrossNodes(t *testing.T) {
	bubble(t, oneRun, func(t *testing.T, _ *network, n *apitest.Node, c *client.Client) {
		_, tag, err := c.WaitRun(t.Context(), runID, "", 30*time.Second)
		if err != nil || tag == "" {
			t.Fatal(tag, err)
		}
		before := time.Now()
		if _, same, err := c.WaitRun(t.Context(), runID, tag, 30*time.Second); err != nil || same != tag || time.Since(before) != 30*time.Second {
			t.Errorf("nothing changed: %v after %v", err, time.Since(before))
		}
		time.AfterFunc(20*time.Second, func() { n.Finish(1, 0, saltpeter.OK, 0) })
		a, changed, err := c.WaitRun(t.Context(), runID, tag, 30*time.Second)
		if err != nil || changed == tag || a.Value.State != "ok" {
			t.Errorf("changed: %+v, %v", a.Value, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, _, err := c.WaitRun(ctx, runID, changed, 30*time.Second); !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
	})
}

// TestShutdownLetsRequestsFinish: a request in progress is answered though the server has been told to stop.
func TestShutdownLetsRequestsFinish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &slow{Node: oneRun()}
		s, err := api.New(api.Config{Node: n})
		if err != nil {
			t.Fatal(err)
		}
		ln := &listener{conns: make(chan net.Conn), closed: make(chan struct{})}
		w := &network{nodes: map[string]chan net.Conn{"a:80": ln.conns}}
		ctx, stop := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- s.Serve(ctx, ln, api.OriginNetwork) }()
		tr := &http.Transport{DialContext: w.dial}
		time.AfterFunc(time.Second, stop)
		resp, err := (&http.Client{Transport: tr}).Get("http://a/api/v1/jobs")
		if err != nil || resp.StatusCode != 200 {
			t.Errorf("request in progress: %v, %v", resp, err)
		} else {
			resp.Body.Close()
		}
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		tr.CloseIdleConnections()
	})
}

// slow answers strong reads after three seconds.
type slow struct{ *apitest.Node }

func (s *slow) Read(ctx context.Context, stale bool) (api.View, error) {
	if !stale {
		time.Sleep(3 * time.Second)
	}
	return s.Node.Read(ctx, stale)
}
