package keys

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

const (
	wrapperSuffix = ".wrappers.saltpeter"
	nodeSuffix    = ".nodes.saltpeter"
	// uriScheme, role and id form the URI that a certificate carries: saltpeter://server/<node id>.
	uriScheme   = "saltpeter"
	roleServer  = "server"
	roleGateway = "gateway"
)

// ErrPeer is what a handshake fails with, wrapped, when the other side's certificate is not one that this side takes.
var ErrPeer = errors.New("certificate refused")

// NodeTLS is one node's side of mutual TLS between nodes: it proves its id and takes only certificates of the cluster's
// node CA with the role of a server. Whether the id is a member is for the caller to check.
type NodeTLS struct {
	ring  *Ring
	certs []tls.Certificate // one per listed key, in the ring's order
}

// NodeTLS mints the node's certificates, one for each listed key.
func (r *Ring) NodeTLS(nodeID string) (*NodeTLS, error) {
	if nodeID == "" || strings.ContainsAny(nodeID, "/?#%") {
		return nil, fmt.Errorf("mint node certificate: id %q is empty or has one of / ? # %%", nodeID)
	}
	n := &NodeTLS{ring: r}
	for _, d := range r.sets {
		cert, err := d.nodes.mint(roleServer, nodeID, nil)
		if err != nil {
			return nil, fmt.Errorf("mint node certificate: %w", err)
		}
		n.certs = append(n.certs, cert)
	}
	return n, nil
}

// mint issues a leaf for the role and id, with the CA's certificate behind it so that a client with only a pin can check.
func (a authority) mint(role, id string, names []string) (tls.Certificate, error) {
	chain, key, err := a.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: id},
		DNSNames:    names,
		URIs:        []*url.URL{{Scheme: uriScheme, Host: role, Path: "/" + id}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(chain[0])
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("parse certificate: %w", err)
	}
	return tls.Certificate{Certificate: chain, PrivateKey: key, Leaf: leaf}, nil
}

// Server is the configuration for accepted connections: it requires a server's certificate from the other side.
func (n *NodeTLS) Server() *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		ClientAuth:             tls.RequireAnyClientCert, // checked by VerifyConnection, without dates
		ClientCAs:              n.ring.nodePool(),        // only to tell the client which authorities are known
		SessionTicketsDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return n.forNames(hello.ServerName), nil
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			_, err := n.ring.peerID(cs)
			return err
		},
	}
}

// Client is the configuration for dialing; a non-empty wantID is the only node id that it accepts.
func (n *NodeTLS) Client(wantID string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         n.ring.nodeNames(),
		InsecureSkipVerify: true, // VerifyConnection checks role, id and authority, without dates
		GetClientCertificate: func(req *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return n.forAuthorities(req.AcceptableCAs), nil
		},
		VerifyConnection: func(cs tls.ConnectionState) error {
			id, err := n.ring.peerID(cs)
			if err == nil && wantID != "" && id != wantID {
				err = fmt.Errorf("%w: node %q answered, %q was dialed", ErrPeer, id, wantID)
			}
			return err
		},
	}
}

// PeerID is the node id of the other side of a connection whose handshake is done.
func (n *NodeTLS) PeerID(cs tls.ConnectionState) (string, error) { return n.ring.peerID(cs) }

// forNames picks the certificate of the newest key that the client says it lists, else our newest.
func (n *NodeTLS) forNames(serverName string) *tls.Certificate {
	listed := strings.Split(strings.TrimSuffix(serverName, nodeSuffix), ".")
	for i, d := range n.ring.sets {
		if slices.Contains(listed, d.id) {
			return &n.certs[i]
		}
	}
	return &n.certs[0]
}

// forAuthorities picks the certificate of the newest key that the server says it lists, else our newest.
func (n *NodeTLS) forAuthorities(subjects [][]byte) *tls.Certificate {
	for i, d := range n.ring.sets {
		if slices.ContainsFunc(subjects, func(s []byte) bool { return string(s) == string(d.nodes.cert.RawSubject) }) {
			return &n.certs[i]
		}
	}
	return &n.certs[0]
}

// nodeNames is the server name by which a client tells which keys it lists, so that two nodes find a common one while
// keys rotate.
func (r *Ring) nodeNames() string {
	var ids []string
	for _, d := range r.sets {
		ids = append(ids, d.id)
	}
	return strings.Join(ids, ".") + nodeSuffix
}

func (r *Ring) nodePool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, d := range r.sets {
		pool.AddCert(d.nodes.cert)
	}
	return pool
}

// peerID checks the other side's certificate against the node CAs of all listed keys.
func (r *Ring) peerID(cs tls.ConnectionState) (string, error) {
	if len(cs.PeerCertificates) == 0 {
		return "", fmt.Errorf("%w: none was sent", ErrPeer)
	}
	leaf := cs.PeerCertificates[0]
	for _, d := range r.sets {
		if leaf.CheckSignatureFrom(d.nodes.cert) == nil {
			return identity(leaf, roleServer)
		}
	}
	return "", fmt.Errorf("%w: not from a key that is listed here", ErrPeer)
}

// identity reads role and id from the certificate's URI.
func identity(leaf *x509.Certificate, role string) (string, error) {
	if leaf.IsCA || len(leaf.URIs) != 1 {
		return "", fmt.Errorf("%w: it names no node", ErrPeer)
	}
	uri := leaf.URIs[0]
	id := strings.TrimPrefix(uri.Path, "/")
	if uri.Scheme != uriScheme || uri.Host != role || id == "" {
		return "", fmt.Errorf("%w: %s does not have the role %q", ErrPeer, uri, role)
	}
	return id, nil
}

// WrapperTLS is the configuration of the port that wrappers dial: GetCertificate picks the certificate of the listed key
// whose pin's hash the client names (SNI), else the newest key's. Certificates are minted in this call.
func (r *Ring) WrapperTLS() (*tls.Config, error) {
	certs := make(map[string]*tls.Certificate, len(r.sets))
	var newest *tls.Certificate
	for _, d := range r.sets {
		name := Pin(d.gateway.spki()).ServerName()
		cert, err := d.gateway.mint(roleGateway, "gateway", []string{name})
		if err != nil {
			return nil, fmt.Errorf("mint gateway certificate: %w", err)
		}
		certs[name] = &cert
		if newest == nil {
			newest = &cert
		}
	}
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		CurvePreferences: wrapperCurves(),
		NextProtos:       []string{"http/1.1"}, // WebSockets are upgraded from it
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if cert, ok := certs[strings.ToLower(hello.ServerName)]; ok {
				return cert, nil
			}
			return newest, nil
		},
	}, nil
}

// wrapperCurves leaves out the hybrid with ML-KEM, which makes a handshake half as dear again (BenchmarkWrapperHandshake):
// after a failover thousands of wrappers connect at once, and each handshake delays a start.
func wrapperCurves() []tls.CurveID { return []tls.CurveID{tls.X25519, tls.CurveP256} }

// PinnedClientTLS is the configuration by which a wrapper dials a gateway: it accepts a chain to the CA whose public key
// has the pin, whatever the host's name and the clock, and nothing else.
func PinnedClientTLS(pin Pin) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         pin.ServerName(),
		CurvePreferences:   wrapperCurves(),
		NextProtos:         []string{"http/1.1"},
		InsecureSkipVerify: true, // VerifyConnection checks the pin; there is no name or date to check
		VerifyConnection:   func(cs tls.ConnectionState) error { return verifyPinned(cs, pin) },
	}
}

func verifyPinned(cs tls.ConnectionState, pin Pin) error {
	if len(cs.PeerCertificates) < 2 {
		return fmt.Errorf("%w: the authority's certificate was not sent", ErrPeer)
	}
	leaf := cs.PeerCertificates[0]
	for _, ca := range cs.PeerCertificates[1:] {
		if sha256.Sum256(ca.RawSubjectPublicKeyInfo) != pin {
			continue
		}
		if err := leaf.CheckSignatureFrom(ca); err != nil {
			return fmt.Errorf("%w: %w", ErrPeer, err)
		}
		_, err := identity(leaf, roleGateway)
		return err
	}
	return fmt.Errorf("%w: no authority has the pin %s", ErrPeer, pin)
}
