package wsgateway

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"testing"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/keys"
	"github.com/syscollective/saltpeter/internal/wire"
)

// ringTokens verifies start tokens as a node does.
type ringTokens struct{ ring *keys.Ring }

func (r ringTokens) Verify(_ context.Context, launch saltpeter.LaunchID, token string) error {
	return r.ring.VerifyStart(token, 1, clusterID, launch.String())
}

// tlsNode is a gateway on loopback as a node runs it: wrapper CA from the cluster's key, tokens, file keys.
type tlsNode struct {
	g    *Gateway
	ring *keys.Ring
	addr string
	dir  string
}

func serveTLS(t testing.TB, leader Leader, change func(*Config)) *tlsNode {
	t.Helper()
	ring, err := keys.NewRing(keys.Generate())
	if err != nil {
		t.Fatal(err)
	}
	conf, err := ring.WrapperTLS()
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &tlsNode{ring: ring, addr: ln.Addr().String(), dir: t.TempDir()}
	cfg := Config{
		Cluster: clusterID, Node: "n1", TLS: conf, Leader: leader, Tokens: ringTokens{ring}, Identity: NewFileKeys(n.dir), Contact: noContact,
	}
	if change != nil {
		change(&cfg)
	}
	n.g = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- n.g.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return n
}

// tlsClient is a client with what binds a proof to its connection.
type tlsClient struct {
	*client
	exporter []byte
}

func dialTLS(t testing.TB, addr string, conf *tls.Config) (*tlsClient, error) {
	t.Helper()
	var exporter []byte
	hc := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			c, err := (&tls.Dialer{Config: conf}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			state := c.(*tls.Conn).ConnectionState()
			exporter, err = state.ExportKeyingMaterial(wire.ExporterLabel, nil, 32)
			return c, err
		},
	}}
	ws, err := dialWS(t.Context(), "wss://"+addr, hc)
	if err != nil {
		return nil, err
	}
	c := &client{t: t, ws: ws, in: make(chan *wire.Message, 4096)}
	t.Cleanup(c.hangUp)
	go c.read()
	c.challenge = c.want(wire.TypeChallenge)
	return &tlsClient{client: c, exporter: exporter}, nil
}

// hello signs the challenge of this connection with key.
func (n *tlsNode) hello(c *tlsClient, key ed25519.PrivateKey, exporter []byte) *wire.Message {
	m := helloOf(testLaunch, "web-1", "a")
	m.Token = n.ring.StartToken(1, clusterID, m.Launch)
	transcript := wire.Transcript(clusterID, m.Launch, m.Machine, m.Nonce, c.challenge.Challenge, exporter)
	m.Proof = &wire.Proof{Kind: wire.ProofFileKey, Signature: ed25519.Sign(key, transcript)}
	return m
}

func TestTLS(t *testing.T) {
	n := serveTLS(t, oneTarget(t), nil)
	key := writeKey(t, n.dir, "web-1")
	dial := func() *tlsClient {
		t.Helper()
		c, err := dialTLS(t, n.addr, keys.PinnedClientTLS(n.ring.Pin()))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := dial()
	other := dial()
	c.send(n.hello(c, key, other.exporter)) // relayed from another connection
	if m := c.want(wire.TypeRefused); !m.Final {
		t.Fatalf("refusal %+v", m)
	}
	other.send(n.hello(other, key, other.exporter))
	other.want(wire.TypeRuns)
	other.send(&wire.Message{Type: wire.TypeStart, Ask: 1})
	other.want(wire.TypeGrant)
	other.output(1, "over TLS")
	other.wantAck(2)

	forged := dial()
	m := n.hello(forged, key, forged.exporter)
	m.Token = n.ring.StartToken(2, clusterID, m.Launch) // of another epoch
	forged.send(m)
	forged.want(wire.TypeRefused)

	stranger, err := keys.NewRing(keys.Generate())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := dialTLS(t, n.addr, keys.PinnedClientTLS(stranger.Pin())); !errors.Is(err, keys.ErrPeer) {
		t.Fatalf("another cluster's pin: %v", err)
	}
}
