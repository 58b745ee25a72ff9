package keys

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// Certificates are dated so that any clock finds them valid, for software that looks; nothing here does.
var (
	notBefore = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	notAfter  = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// Ring is the listed keys of a cluster with what is derived from them, newest first. It is safe for concurrent use.
type Ring struct {
	sets []derived
}

// derived is what one key gives.
type derived struct {
	id      string
	nodes   authority
	gateway authority
	tokens  []byte
	gossip  []byte
}

// authority is a CA whose key and certificate depend on the cluster key alone.
type authority struct {
	key  ed25519.PrivateKey
	cert *x509.Certificate
}

// NewRing derives from the keys, newest first. Its error wraps ErrKeyFile if there are none, too many, or doubles.
func NewRing(keys ...Key) (*Ring, error) {
	if err := checkList(keys); err != nil {
		return nil, err
	}
	r := &Ring{}
	for _, k := range keys {
		d, err := derive(k)
		if err != nil {
			return nil, fmt.Errorf("derive from %v: %w", k, err)
		}
		r.sets = append(r.sets, d)
	}
	return r, nil
}

func derive(k Key) (derived, error) {
	var errs []error
	secret := func(label string) []byte {
		out, err := k.derive(label, Size)
		errs = append(errs, err)
		return out
	}
	d := derived{
		id:     k.id(),
		tokens: secret("saltpeter start token v1"),
		gossip: secret("saltpeter gossip v1"),
	}
	nodeSeed, gatewaySeed := secret("saltpeter node ca v1"), secret("saltpeter wrapper ca v1")
	if err := errors.Join(errs...); err != nil {
		return d, err
	}
	var err error
	if d.nodes, err = newAuthority(nodeSeed, "saltpeter nodes "+d.id); err != nil {
		return d, err
	}
	d.gateway, err = newAuthority(gatewaySeed, "saltpeter wrappers "+d.id)
	return d, err
}

// newAuthority makes the same CA certificate from the same seed every time: fixed serial and dates, and Ed25519
// signatures have no randomness.
func newAuthority(seed []byte, name string) (authority, error) {
	key := ed25519.NewKeyFromSeed(seed)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             notBefore,
		NotAfter:              notAfter,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		return authority{}, fmt.Errorf("sign certificate of %q: %w", name, err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, fmt.Errorf("parse certificate of %q: %w", name, err)
	}
	return authority{key: key, cert: cert}, nil
}

// issue signs a leaf certificate over a fresh key.
func (a authority) issue(template *x509.Certificate) ([][]byte, ed25519.PrivateKey, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generate key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, nil, fmt.Errorf("draw serial number: %w", err)
	}
	template.SerialNumber = serial
	template.NotBefore, template.NotAfter = notBefore, notAfter
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	leaf, err := x509.CreateCertificate(rand.Reader, template, a.cert, public, a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign certificate: %w", err)
	}
	return [][]byte{leaf, a.cert.Raw}, private, nil
}

// spki is the SHA-256 of the authority's public key as certificates carry it.
func (a authority) spki() [sha256.Size]byte {
	return sha256.Sum256(a.cert.RawSubjectPublicKeyInfo)
}

// GossipKeys are the keys that encrypt gossip, newest first, of 32 bytes each.
func (r *Ring) GossipKeys() [][]byte {
	var keys [][]byte
	for _, d := range r.sets {
		keys = append(keys, append([]byte(nil), d.gossip...))
	}
	return keys
}

// Newest is the id of the key that this node uses: 16 hex digits, which don't give it away.
func (r *Ring) Newest() string { return r.sets[0].id }

// Lists reports whether the key with an id is listed.
func (r *Ring) Lists(id string) bool {
	_, ok := r.set(id)
	return ok
}

// set finds what a listed key gives; an empty id stands for the newest.
func (r *Ring) set(id string) (derived, bool) {
	for _, d := range r.sets {
		if d.id == id || id == "" {
			return d, true
		}
	}
	return derived{}, false
}

// Launch gives what a launch carries that is made under the key with an id, empty for the newest: a start token for it, and
// the pin of that key's wrapper CA. ok is false if the key is not listed.
func (r *Ring) Launch(id string, epoch uint64, cluster, launch string) (token string, pin Pin, ok bool) {
	d, ok := r.set(id)
	if !ok {
		return "", Pin{}, false
	}
	return d.token(epoch, cluster, launch), Pin(d.gateway.spki()), true
}

// Pin is the pin of the newest key's wrapper CA, which launches carry: the SHA-256 of its public key (SPKI).
func (r *Ring) Pin() Pin { return Pin(r.sets[0].gateway.spki()) }

// Pin is the SHA-256 of the public key (SPKI) of the CA that a gateway's certificate must come from.
type Pin [sha256.Size]byte

// String is the pin as a launch carries it: 64 hex digits.
func (p Pin) String() string { return hex.EncodeToString(p[:]) }

// ParsePin reads what String wrote.
func ParsePin(s string) (Pin, error) {
	var p Pin
	if len(s) != hex.EncodedLen(len(p)) {
		return p, fmt.Errorf("parse pin: %d characters, a pin has %d", len(s), hex.EncodedLen(len(p)))
	}
	if _, err := hex.Decode(p[:], []byte(s)); err != nil {
		return p, fmt.Errorf("parse pin: %w", err)
	}
	return p, nil
}

// ServerName is the name (SNI) by which a client asks a gateway for a certificate of the pinned CA: a label of 40 hex
// digits, the hash of the pin, under a suffix that no name server knows.
func (p Pin) ServerName() string {
	sum := sha256.Sum256(append([]byte("saltpeter sni v1 "), p[:]...))
	return hex.EncodeToString(sum[:20]) + wrapperSuffix
}
