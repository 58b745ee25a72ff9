package keys

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"testing"

	"github.com/syscollective/saltpeter/internal/vnet"
)

// shake runs a handshake and returns both sides' states and errors.
func shake(t testing.TB, server, client *tls.Config) (s, c tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	a, b := pipe(t)
	near, far := tls.Server(a, server), tls.Client(b, client)
	done := make(chan error, 1)
	go func() {
		err := near.Handshake()
		if err != nil {
			a.Close()
		}
		done <- err
	}()
	clientErr = far.Handshake()
	if clientErr == nil {
		// TLS 1.3 tells the client of a refused certificate after its handshake.
		go near.Write([]byte("x"))
		_, clientErr = far.Read(make([]byte, 1))
	}
	b.Close()
	serverErr = <-done
	s, c = near.ConnectionState(), far.ConnectionState()
	a.Close()
	return s, c, serverErr, clientErr
}

// pipe is a buffered connection: with net.Pipe two sides that send alerts at once wait for each other for ever.
func pipe(t testing.TB) (a, b net.Conn) {
	t.Helper()
	network := vnet.New(1)
	l, err := network.Host("a").Listen(1)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if b, err = network.Host("b").Dial(t.Context(), "a:1"); err == nil {
		a, err = l.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

func nodeTLS(t testing.TB, r *Ring, id string) *NodeTLS {
	t.Helper()
	n, err := r.NodeTLS(id)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNodesKnowEachOther(t *testing.T) {
	r := mustRing(t, fixed(1))
	a, b := nodeTLS(t, r, "a"), nodeTLS(t, r, "b")
	s, c, serverErr, clientErr := shake(t, a.Server(), b.Client("a"))
	if serverErr != nil || clientErr != nil {
		t.Fatal(serverErr, clientErr)
	}
	if id, err := a.PeerID(s); err != nil || id != "b" {
		t.Errorf("the server sees %q, %v", id, err)
	}
	if id, err := b.PeerID(c); err != nil || id != "a" {
		t.Errorf("the client sees %q, %v", id, err)
	}
}

func TestNodeHandshakeRefuses(t *testing.T) {
	r := mustRing(t, fixed(1))
	a, b := nodeTLS(t, r, "a"), nodeTLS(t, r, "b")
	stranger := nodeTLS(t, mustRing(t, fixed(2)), "b")
	d := r.sets[0]
	wrapper := func(a authority, role string) *tls.Config {
		cert, err := a.mint(role, "b", nil)
		if err != nil {
			t.Fatal(err)
		}
		cfg := b.Client("a")
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		return cfg
	}
	none := b.Client("a")
	none.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	authorityItself := b.Client("a")
	authorityItself.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: [][]byte{d.nodes.cert.Raw}, PrivateKey: d.nodes.key}, nil
	}
	tests := map[string]*tls.Config{
		"another key":              stranger.Client("a"),
		"no certificate":           none,
		"a gateway's certificate":  wrapper(d.gateway, roleGateway),
		"server role, wrapper CA":  wrapper(d.gateway, roleServer),
		"node CA, another role":    wrapper(d.nodes, "agent"),
		"the authority itself":     authorityItself,
		"the client wants another": b.Client("c"),
	}
	for name, client := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, serverErr, clientErr := shake(t, a.Server(), client)
			if serverErr == nil && clientErr == nil {
				t.Fatal("both sides took it")
			}
			if name == "the client wants another" && !errors.Is(clientErr, ErrPeer) {
				t.Fatalf("client: %v, want ErrPeer", clientErr)
			}
		})
	}
}

func TestNodesRotateKeysOneByOne(t *testing.T) {
	old, both, next := mustRing(t, fixed(1)), mustRing(t, fixed(2), fixed(1)), mustRing(t, fixed(2))
	tests := map[string]struct {
		server, client *Ring
		ok             bool
	}{
		"old to both":  {both, old, true},
		"both to old":  {old, both, true},
		"both to both": {both, both, true},
		"both to new":  {next, both, true},
		"new to both":  {both, next, true},
		"old to new":   {next, old, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, _, serverErr, clientErr := shake(t, nodeTLS(t, tt.server, "a").Server(), nodeTLS(t, tt.client, "b").Client("a"))
			if ok := serverErr == nil && clientErr == nil; ok != tt.ok {
				t.Fatalf("server: %v, client: %v", serverErr, clientErr)
			}
		})
	}
}

func TestNodeIDsThatCertificatesCanNotCarry(t *testing.T) {
	r := mustRing(t, fixed(1))
	for _, id := range []string{"", "a/b", "a?b", "a#b", "a%62"} {
		if _, err := r.NodeTLS(id); err == nil {
			t.Errorf("id %q was taken", id)
		}
	}
}

func TestWrapperPinsTheAuthority(t *testing.T) {
	old, both, next := mustRing(t, fixed(1)), mustRing(t, fixed(2), fixed(1)), mustRing(t, fixed(2))
	tests := map[string]struct {
		gateway *Ring
		pin     Pin
		ok      bool
	}{
		"own key":              {old, old.Pin(), true},
		"older of two":         {both, old.Pin(), true},
		"newer of two":         {both, next.Pin(), true},
		"key that is not here": {next, old.Pin(), false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			server, err := tt.gateway.WrapperTLS()
			if err != nil {
				t.Fatal(err)
			}
			_, _, _, clientErr := shake(t, server, PinnedClientTLS(tt.pin))
			if tt.ok && clientErr != nil || !tt.ok && !errors.Is(clientErr, ErrPeer) {
				t.Fatalf("client: %v, want ok = %v", clientErr, tt.ok)
			}
		})
	}
}

// Whoever knows the pinned certificate can send it; only a leaf that it signed, for a gateway, may be taken.
func TestWrapperRefusesAChainThatOnlyShowsTheAuthority(t *testing.T) {
	mine, theirs := mustRing(t, fixed(1)), mustRing(t, fixed(2))
	forge := func(chain [][]byte, cert tls.Certificate) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: cert.PrivateKey}}}
	}
	foreign, err := theirs.sets[0].gateway.mint(roleGateway, "gateway", nil)
	if err != nil {
		t.Fatal(err)
	}
	agent, err := mine.sets[0].gateway.mint("agent", "x", nil)
	if err != nil {
		t.Fatal(err)
	}
	ca := mine.sets[0].gateway.cert
	if sha256.Sum256(ca.RawSubjectPublicKeyInfo) != mine.Pin() {
		t.Fatal("the pin is not the authority's")
	}
	for name, server := range map[string]*tls.Config{
		"foreign leaf":    forge([][]byte{foreign.Certificate[0], ca.Raw}, foreign),
		"another role":    forge([][]byte{agent.Certificate[0], ca.Raw}, agent),
		"leaf alone":      forge([][]byte{agent.Certificate[0]}, agent),
		"authority first": forge([][]byte{ca.Raw, ca.Raw}, tls.Certificate{PrivateKey: mine.sets[0].gateway.key}),
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, _, clientErr := shake(t, server, PinnedClientTLS(mine.Pin())); !errors.Is(clientErr, ErrPeer) {
				t.Fatalf("client: %v, want ErrPeer", clientErr)
			}
		})
	}
}

// TLS elsewhere looks at the dates: they must suit any clock.
func TestCertificatesSuitAnyClock(t *testing.T) {
	n := nodeTLS(t, mustRing(t, fixed(1)), "a")
	leaf, err := x509.ParseCertificate(n.certs[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if leaf.NotBefore.Year() > 2000 || leaf.NotAfter.Year() < 9999 {
		t.Fatalf("valid from %v to %v", leaf.NotBefore, leaf.NotAfter)
	}
}

func BenchmarkWrapperHandshake(b *testing.B) {
	r, err := NewRing(fixed(1))
	if err != nil {
		b.Fatal(err)
	}
	server, err := r.WrapperTLS()
	if err != nil {
		b.Fatal(err)
	}
	client := PinnedClientTLS(r.Pin())
	for b.Loop() {
		if _, _, serverErr, clientErr := shake(b, server, client); serverErr != nil || clientErr != nil {
			b.Fatal(serverErr, clientErr)
		}
	}
}
