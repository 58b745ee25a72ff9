package wsgateway

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/syscollective/saltpeter/internal/wire"
)

// FileKeys verifies proofs of kind wire.ProofFileKey by Ed25519 public keys that lie in a directory of this host, one PEM file ("PUBLIC KEY", PKIX)
// per machine named by KeyFileName. It is for the machines that this host plays itself.
type FileKeys struct{ dir string }

// NewFileKeys gives an Identity over the keys in dir. Files are read when they are asked for.
func NewFileKeys(dir string) FileKeys { return FileKeys{dir: dir} }

// KeyFileName is the name of a machine's file: escaped, so that no machine's name leads out of the directory.
func KeyFileName(machine string) string { return url.PathEscape(machine) + ".pub.pem" }

// Verify checks the machine's signature. A key that can't be read is ErrIdentityUnavailable: another node may have it.
func (k FileKeys) Verify(_ context.Context, machine string, proof *wire.Proof, transcript []byte) error {
	if proof == nil || proof.Kind != wire.ProofFileKey {
		return fmt.Errorf("verify %q: %w: want a proof of kind %s", machine, ErrIdentityRefused, wire.ProofFileKey)
	}
	key, err := k.read(machine)
	if err != nil {
		return fmt.Errorf("verify %q: %w: %w", machine, ErrIdentityUnavailable, err)
	}
	if !ed25519.Verify(key, transcript, proof.Signature) {
		return fmt.Errorf("verify %q: %w: bad signature", machine, ErrIdentityRefused)
	}
	return nil
}

var errKeyFile = errors.New("not an Ed25519 public key in PEM")

func (k FileKeys) read(machine string) (ed25519.PublicKey, error) {
	b, err := os.ReadFile(filepath.Join(k.dir, KeyFileName(machine)))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, errKeyFile
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKeyFile, err)
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, errKeyFile
	}
	return key, nil
}

// AnyMachine takes every machine's word for who it is: for clusters whose settings say "wrapper_identity: token", where the
// start token alone decides.
type AnyMachine struct{}

// Verify accepts.
func (AnyMachine) Verify(context.Context, string, *wire.Proof, []byte) error { return nil }
