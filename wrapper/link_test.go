package wrapper

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"

	"github.com/syscollective/saltpeter/internal/keys"
	"github.com/syscollective/saltpeter/internal/wire"
)

// gateway serves a fake node over real TLS and WebSockets.
type gateway struct {
	url       string
	ring      *keys.Ring
	nd        *node
	exporters chan []byte
	wg        sync.WaitGroup
}

func newGateway(t testing.TB, rec *record) *gateway {
	t.Helper()
	ring, err := keys.NewRing(keys.Generate())
	if err != nil {
		t.Fatal(err)
	}
	config, err := ring.WrapperTLS()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{url: "wss://" + ln.Addr().String(), ring: ring, nd: &node{rec: rec}, exporters: make(chan []byte, 100)}
	srv := &http.Server{Handler: http.HandlerFunc(g.serve)}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close(); g.nd.cutAll(); g.wg.Wait() })
	return g
}

func (g *gateway) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != wire.Path {
		http.NotFound(w, r)
		return
	}
	exporter, err := r.TLS.ExportKeyingMaterial(wire.ExporterLabel, nil, exporterSize)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	g.exporters <- exporter
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	conn.SetReadLimit(wire.MaxToGateway)
	g.wg.Add(1)
	defer g.wg.Done()
	defer conn.CloseNow()
	l, err := fakeNet{"": g.nd}.Dial(context.Background(), "")
	if err != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer l.Close()
	go func() {
		defer conn.CloseNow()
		for {
			m, err := l.Recv(ctx)
			if err != nil {
				return
			}
			b, err := wire.Encode(m)
			if err != nil || conn.Write(ctx, websocket.MessageText, b) != nil {
				return
			}
		}
	}()
	for {
		kind, b, err := conn.Read(ctx)
		if err != nil {
			return
		}
		var v any = b
		if kind == websocket.MessageText {
			if v, err = wire.Decode(b); err != nil {
				return
			}
		}
		if l.(*fakeLink).put(ctx, v) != nil {
			return
		}
	}
}

func TestWebSocketLink(t *testing.T) {
	g := newGateway(t, newRecord(spec1()))
	l, err := newDialer(g.ring.Pin()).Dial(t.Context(), g.url+wire.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got, want := string(l.Exporter()), string(<-g.exporters); got != want || len(got) != exporterSize {
		t.Errorf("both ends export different bytes: %x, %x", got, want)
	}
	m, err := l.Recv(t.Context())
	if err != nil || m.Type != wire.TypeChallenge {
		t.Fatalf("first message %+v, %v", m, err)
	}
	if err := l.Send(t.Context(), &wire.Message{Type: wire.TypeHello, Nonce: make([]byte, 32)}); err != nil {
		t.Fatal(err)
	}
	if m, err = l.Recv(t.Context()); err != nil || m.Type != wire.TypeRuns {
		t.Fatalf("answer %+v, %v", m, err)
	}
}

func TestOnlyThePinnedAuthorityIsTaken(t *testing.T) {
	g := newGateway(t, newRecord(spec1()))
	if _, err := newDialer(keys.Pin{1}).Dial(t.Context(), g.url+wire.Path); !errors.Is(err, keys.ErrPeer) {
		t.Errorf("got %v, want ErrPeer", err)
	}
}

// The dial's context bounds the dial alone: the race ends it as soon as it has a winner.
func TestLinkOutlivesItsDial(t *testing.T) {
	g := newGateway(t, newRecord(spec1()))
	ctx, cancel := context.WithCancel(t.Context())
	d, err := race(ctx, newDialer(g.ring.Pin()), []string{g.url + wire.Path}, func(m *wire.Message) error { return wantChallenge(m, testCluster) })
	if err != nil {
		t.Fatal(err)
	}
	defer d.link.Close()
	cancel()
	if err := d.link.Send(t.Context(), &wire.Message{Type: wire.TypeBeat, N: 1}); err != nil {
		t.Fatal(err)
	}
	if m, err := d.link.Recv(t.Context()); err != nil || m.N != 1 {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := newRecord(spec1())
		net := fakeNet{
			"silent": {rec: rec, silent: true}, "down": {rec: rec, down: true},
			"old": {rec: rec, leaderAge: 20 * time.Second}, "good": {rec: rec, leaderAge: time.Second}, "never": {rec: rec, leaderAge: -time.Second},
		}
		defer func() {
			for _, nd := range net {
				nd.cutAll()
			}
		}()
		first := func(m *wire.Message) error { return wantChallenge(m, testCluster) }
		fresh := func(m *wire.Message) error { return wantFresh(m, testCluster) }
		tests := []struct {
			urls  string
			want  func(*wire.Message) error
			win   string
			after time.Duration
		}{
			{"good", first, "good", 0},
			{"silent good", first, "good", raceStagger},
			{"silent silent good", first, "good", 2 * raceStagger},
			{"down good", first, "good", 0},
			{"old good", first, "old", 0},
			{"old never good", fresh, "good", 0},
			{"old never", fresh, "", 0},
			{"silent", first, "", raceLimit},
			{"silent down", first, "", raceLimit},
		}
		for _, tt := range tests {
			began := time.Now()
			d, err := race(t.Context(), net, strings.Fields(tt.urls), tt.want)
			if d.url != tt.win || (err != nil) != (tt.win == "") || (err != nil && !errors.Is(err, errNoWinner)) {
				t.Errorf("%s: %q won, %v", tt.urls, d.url, err)
			}
			if took := time.Since(began); took != tt.after {
				t.Errorf("%s: took %v, want %v", tt.urls, took, tt.after)
			}
			if d.link != nil {
				d.link.Close()
			}
		}
	})
}

func TestWantChallenge(t *testing.T) {
	good := wire.Message{Type: wire.TypeChallenge, Versions: []int{2, 1}, Cluster: testCluster}
	other, old, beat := good, good, good
	other.Cluster, old.Versions, beat.Type = "x", []int{2}, wire.TypeBeat
	if err := wantChallenge(&good, testCluster); err != nil {
		t.Error(err)
	}
	for _, m := range []*wire.Message{&other, &old, &beat} {
		if wantChallenge(m, testCluster) == nil {
			t.Errorf("%+v is taken", m)
		}
	}
}

func TestBackoff(t *testing.T) {
	for n := range 2 * longAway {
		low, high := time.Duration(0), 200*time.Millisecond
		if n > 0 {
			high = min(250*time.Millisecond<<min(n, 10), 5*time.Second)
			low = high / 2
		}
		if n > longAway {
			low, high = 15*time.Second, 30*time.Second
		}
		if d := backoff(n); d < low || d >= high {
			t.Errorf("try %d after %v, want %v to %v", n, d, low, high)
		}
	}
}

func writeKey(t testing.TB, dir string) (path string, public ed25519.PublicKey) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "machine.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path, public
}

func TestOptions(t *testing.T) {
	pin := strings.Repeat("ab", 32)
	good := []string{"--id", "20261123000000000000", "--machine", "m1", "--cluster", testCluster, "--urls", "wss://a:8889, wss://b:8889/x", "--token", "-t", "--pin", pin}
	o, err := ParseOptions(append(good, "--state", "rel"))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(o.URLs, " ") != "wss://a:8889/v1/wrapper wss://b:8889/x" || o.Token != "-t" || !filepath.IsAbs(o.State) || o.LockDir != o.State || o.Window != time.Minute {
		t.Errorf("options %+v", o)
	}
	if o, err = ParseOptions(good); err != nil || o.LockDir != "/tmp" || !strings.HasSuffix(o.State, "/sp_wrapper/"+testCluster+"/m1") {
		t.Errorf("defaults %+v, %v", o, err)
	}
	for _, bad := range [][]string{
		{"--id", "1"}, {"--machine", ""}, {"--urls", "ws://a"}, {"--urls", ""}, {"--pin", "ab"}, {"--window", "0s"},
		{"--identity", "magic"}, {"--identity", "ed25519-file", "--key", "/no/such"}, {"--identity", "salt-key"}, {"--nonsense"}, {"surplus"},
	} {
		if _, err := ParseOptions(append(append([]string{}, good...), bad...)); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Skip(err)
	}
	f.Add(b)
	f.Add([]byte("1 (a) b) S 0 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 7 0 0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseStat(b)
		if err == nil && s.state == 0 {
			t.Errorf("no state in %q", b)
		}
	})
}
