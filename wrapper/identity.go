package wrapper

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"

	"github.com/syscollective/saltpeter/internal/wire"
)

// loadIdentity gives the machine's key, nil where the token alone is the identity.
func loadIdentity(kind, path string) (ed25519.PrivateKey, error) {
	switch kind {
	case identityToken:
		return nil, nil
	case identityFile:
	default:
		return nil, fmt.Errorf("--identity: %q (allowed: %s, %s)", kind, identityFile, identityToken)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("--key: %s holds no PEM block", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("--key: %s: %w", path, err)
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("--key: %s holds a %T (allowed: Ed25519)", path, key)
	}
	return private, nil
}

// prove signs the transcript of one connection's hello; nil without a key.
func prove(key ed25519.PrivateKey, transcript []byte) *wire.Proof {
	if key == nil {
		return nil
	}
	return &wire.Proof{
		Kind:      identityFile,
		Key:       wire.Bytes(key.Public().(ed25519.PublicKey)),
		Signature: ed25519.Sign(key, transcript),
	}
}
