package wsgateway

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/syscollective/saltpeter/internal/wire"
)

// writeKey makes a machine's key pair and puts the public half into dir.
func writeKey(t testing.TB, dir, machine string) ed25519.PrivateKey {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if err := os.WriteFile(filepath.Join(dir, KeyFileName(machine)), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return private
}

func TestFileKeys(t *testing.T) {
	dir := t.TempDir()
	keys := NewFileKeys(dir)
	transcript := wire.Transcript(clusterID, testLaunch.String(), "web/1", []byte("nonce"), []byte("challenge"), nil)
	mine, others := writeKey(t, dir, "web/1"), writeKey(t, dir, "..")
	if err := os.WriteFile(filepath.Join(dir, KeyFileName("broken")), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	proof := func(k ed25519.PrivateKey, over []byte) *wire.Proof {
		return &wire.Proof{Kind: wire.ProofFileKey, Signature: ed25519.Sign(k, over)}
	}
	for name, tc := range map[string]struct {
		machine string
		proof   *wire.Proof
		want    error
	}{
		"right":             {"web/1", proof(mine, transcript), nil},
		"another's key":     {"web/1", proof(others, transcript), ErrIdentityRefused},
		"another machine":   {"..", proof(mine, transcript), ErrIdentityRefused},
		"another challenge": {"web/1", proof(mine, append([]byte("x"), transcript...)), ErrIdentityRefused},
		"no proof":          {"web/1", nil, ErrIdentityRefused},
		"another kind":      {"web/1", &wire.Proof{Kind: "salt-key", Signature: ed25519.Sign(mine, transcript)}, ErrIdentityRefused},
		"empty signature":   {"web/1", &wire.Proof{Kind: wire.ProofFileKey}, ErrIdentityRefused},
		"key is not here":   {"web-2", proof(mine, transcript), ErrIdentityUnavailable},
		"key file broken":   {"broken", proof(mine, transcript), ErrIdentityUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			if err := keys.Verify(t.Context(), tc.machine, tc.proof, transcript); !errors.Is(err, tc.want) {
				t.Fatalf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestKeyFileNameStaysInTheDirectory(t *testing.T) {
	for _, machine := range []string{"", ".", "..", "../../etc/passwd", "a/b", "a\x00b", `a\b`} {
		name := KeyFileName(machine)
		if filepath.Base(name) != name || filepath.Dir(filepath.Join("d", name)) != "d" {
			t.Errorf("%q gives %q", machine, name)
		}
	}
}
