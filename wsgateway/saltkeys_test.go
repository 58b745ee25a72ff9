package wsgateway

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/syscollective/saltpeter/internal/wire"
)

// minionKeys are two minions' keys, made once.
var minionKeys = sync.OnceValue(func() (keys [2]*rsa.PrivateKey) {
	for i := range keys {
		var err error
		if keys[i], err = rsa.GenerateKey(rand.Reader, wire.MinSaltKeyBits); err != nil {
			panic(err) // of a test binary
		}
	}
	return keys
})

// master is a Salt master's accepted keys.
type master struct {
	mu    sync.Mutex
	keys  map[string][]byte
	down  error
	reads int
}

func (m *master) read(_ context.Context, machine string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	if m.down != nil {
		return nil, m.down
	}
	text, ok := m.keys[machine]
	if !ok {
		return nil, errors.New("no accepted key")
	}
	return text, nil
}

func (m *master) accept(machine string, text []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys[machine] = text
}

func publicPEM(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func newMaster(t testing.TB) *master {
	keys := minionKeys()
	return &master{keys: map[string][]byte{"web-1": publicPEM(t, keys[0].Public()), "web-2": publicPEM(t, keys[1].Public())}}
}

// parts are what a transcript is made of.
type parts struct {
	cluster, launch, machine   string
	nonce, challenge, exporter []byte
}

func (p parts) transcript() []byte {
	return wire.Transcript(p.cluster, p.launch, p.machine, p.nonce, p.challenge, p.exporter)
}

func helloParts() parts {
	return parts{clusterID, testLaunch.String(), "web-1", []byte("nonce"), []byte("challenge"), []byte("exporter")}
}

func proofOf(t testing.TB, key *rsa.PrivateKey, transcript []byte) *wire.Proof {
	t.Helper()
	p, err := wire.ProveBySalt(key, transcript)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSaltKeys(t *testing.T) {
	m, keys := newMaster(t), minionKeys()
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edward, edwardPrivate, _ := ed25519.GenerateKey(nil)
	m.keys["small"], m.keys["curve"], m.keys["edward"] = publicPEM(t, small.Public()), publicPEM(t, curve.Public()), publicPEM(t, edward)
	m.keys["pkcs1"] = pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&keys[0].PublicKey)})
	m.keys["torn"], m.keys["empty"] = m.keys["web-1"][:200], nil
	m.keys["private"] = pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(keys[0])})
	m.keys["huge"] = bytes.Repeat([]byte("x"), maxKeyText+1)

	said := helloParts().transcript()
	mine := proofOf(t, keys[0], said)
	changed := func(change func(p *wire.Proof)) *wire.Proof {
		p := *mine
		p.Signature = bytes.Clone(p.Signature)
		change(&p)
		return &p
	}
	type row struct {
		machine string
		proof   *wire.Proof
		want    error
	}
	table := map[string]row{
		"right":                  {"web-1", mine, nil},
		"right, PKCS 1":          {"pkcs1", mine, nil},
		"another's id":           {"web-2", mine, ErrIdentityRefused},
		"another's key":          {"web-1", proofOf(t, keys[1], said), ErrIdentityRefused},
		"no proof":               {"web-1", nil, ErrIdentityRefused},
		"no signature":           {"web-1", changed(func(p *wire.Proof) { p.Signature = nil }), ErrIdentityRefused},
		"a bit":                  {"web-1", changed(func(p *wire.Proof) { p.Signature[7] ^= 1 }), ErrIdentityRefused},
		"cut":                    {"web-1", changed(func(p *wire.Proof) { p.Signature = p.Signature[:255] }), ErrIdentityRefused},
		"longer":                 {"web-1", changed(func(p *wire.Proof) { p.Signature = append(p.Signature, 0) }), ErrIdentityRefused},
		"another kind":           {"web-1", changed(func(p *wire.Proof) { p.Kind = wire.ProofFileKey }), ErrIdentityRefused},
		"unknown kind":           {"web-1", changed(func(p *wire.Proof) { p.Kind = "" }), ErrIdentityRefused},
		"a key of its own":       {"web-1", wire.ProveByFile(edwardPrivate, said), ErrIdentityRefused},
		"small key":              {"small", proofOf(t, small, said), ErrIdentityRefused},
		"a curve":                {"curve", mine, ErrIdentityRefused},
		"Ed25519":                {"edward", mine, ErrIdentityRefused},
		"key not accepted":       {"ghost", mine, ErrIdentityUnavailable},
		"key torn":               {"torn", mine, ErrIdentityUnavailable},
		"key empty":              {"empty", mine, ErrIdentityUnavailable},
		"no public key":          {"private", mine, ErrIdentityUnavailable},
		"more than a key can be": {"huge", mine, ErrIdentityUnavailable},
	}
	for name, change := range map[string]func(*parts){
		"another cluster":    func(p *parts) { p.cluster = "c" },
		"another launch":     func(p *parts) { p.launch = (testLaunch + 1).String() },
		"another machine":    func(p *parts) { p.machine = "web-2" },
		"another nonce":      func(p *parts) { p.nonce = []byte("noncf") },
		"another challenge":  func(p *parts) { p.challenge = []byte("challengf") },
		"another connection": func(p *parts) { p.exporter = []byte("another connection") },
		"a moved border":     func(p *parts) { p.nonce, p.challenge = []byte("noncec"), []byte("hallenge") },
	} {
		p := helloParts()
		change(&p)
		table[name] = row{"web-1", proofOf(t, keys[0], p.transcript()), ErrIdentityRefused}
	}
	for name, tc := range table {
		for _, keep := range []time.Duration{0, time.Hour} {
			s := NewSaltKeys(m.read, keep)
			for range 2 { // the second time with what is kept
				if err := s.Verify(t.Context(), tc.machine, tc.proof, said); !errors.Is(err, tc.want) {
					t.Errorf("%s, keeping keys for %v: got %v, want %v", name, keep, err, tc.want)
				}
			}
		}
	}
}

// A minion that got another key is not refused by the one that is kept, and the old key is none any more.
func TestSaltKeysSeeANewKeyBeforeTheyRefuse(t *testing.T) {
	m, keys := newMaster(t), minionKeys()
	s := NewSaltKeys(m.read, time.Hour)
	said := helloParts().transcript()
	old, new := proofOf(t, keys[0], said), proofOf(t, keys[1], said)
	want := func(what string, proof *wire.Proof, reads int, want error) {
		t.Helper()
		if err := s.Verify(t.Context(), "web-1", proof, said); !errors.Is(err, want) || m.reads != reads {
			t.Fatalf("%s: got %v after %d reads, want %v after %d", what, err, m.reads, want, reads)
		}
	}
	want("first", old, 1, nil)
	want("kept", old, 1, nil)
	m.accept("web-1", publicPEM(t, keys[1].Public()))
	want("re-keyed", new, 2, nil)
	want("the old key", old, 3, ErrIdentityRefused)
	want("kept again", new, 3, nil)
	m.down = errors.New("master is away")
	want("a bad one while the master is away", old, 4, ErrIdentityUnavailable)
	want("a good one while the master is away", new, 4, nil)
	m.down = nil
	delete(m.keys, "web-1")
	m.accept("web-1", []byte("torn"))
	want("a key that became none", old, 5, ErrIdentityUnavailable)
	want("and stays none", new, 6, ErrIdentityUnavailable)
}

func TestSaltKeysKeepFewAndNotForLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, keys := newMaster(t), minionKeys()
		s := NewSaltKeys(m.read, time.Minute)
		said := helloParts().transcript()
		proof := proofOf(t, keys[0], said)
		verify := func(machine string) {
			t.Helper()
			if err := s.Verify(t.Context(), machine, proof, said); err != nil {
				t.Fatal(err)
			}
		}
		verify("web-1")
		time.Sleep(time.Minute)
		verify("web-1")
		if m.reads != 2 {
			t.Fatalf("%d reads, one a minute later", m.reads)
		}
		for i := range maxKeptKeys + 10 {
			name := "m" + strconv.Itoa(i)
			m.keys[name] = m.keys["web-1"]
			verify(name)
		}
		if len(s.kept) > maxKeptKeys {
			t.Fatalf("%d keys are kept", len(s.kept))
		}
	})
}

// FuzzSaltKeys gives any text for a key and any bytes for a signature: nothing falls, and nothing passes but the proof.
func FuzzSaltKeys(f *testing.F) {
	keys := minionKeys()
	said := helloParts().transcript()
	right := proofOf(f, keys[0], said)
	text := publicPEM(f, keys[0].Public())
	f.Add(text, []byte(right.Signature))
	f.Add(text, []byte{})
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&keys[1].PublicKey)}), []byte(right.Signature))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"), []byte("x"))
	f.Fuzz(func(t *testing.T, text, signature []byte) {
		s := NewSaltKeys(func(context.Context, string) ([]byte, error) { return text, nil }, 0)
		err := s.Verify(t.Context(), "web-1", &wire.Proof{Kind: wire.ProofSaltKey, Signature: signature}, said)
		key, bad := parseSaltKey(text)
		switch {
		case bad == nil && key.N.BitLen() < wire.MinSaltKeyBits:
			t.Fatalf("a key of %d bits is taken", key.N.BitLen())
		case err == nil && key.Equal(&keys[0].PublicKey) && !wire.VerifyBySalt(&keys[0].PublicKey, said, signature):
			t.Fatal("a signature of no key is taken")
		case err != nil && !errors.Is(err, ErrIdentityRefused) && !errors.Is(err, ErrIdentityUnavailable):
			t.Fatal(err)
		}
	})
}

// BenchmarkSaltKeys measures the check of one hello's proof.
func BenchmarkSaltKeys(b *testing.B) {
	m, keys := newMaster(b), minionKeys()
	said := helloParts().transcript()
	proof := proofOf(b, keys[0], said)
	for _, keep := range []time.Duration{0, time.Hour} {
		b.Run(fmt.Sprintf("keep=%v", keep), func(b *testing.B) {
			s := NewSaltKeys(m.read, keep)
			for b.Loop() {
				if err := s.Verify(b.Context(), "web-1", proof, said); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
