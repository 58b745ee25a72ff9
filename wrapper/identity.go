package wrapper

import (
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"

	"github.com/syscollective/saltpeter"
	"github.com/syscollective/saltpeter/internal/wire"
)

// The kinds of identity that --identity names.
const (
	identitySalt  = saltpeter.IdentitySaltKey // the minion's own Salt key, <pki_dir>/minion.pem
	identityToken = saltpeter.IdentityToken   // no proof: the launch's token is all
	identityFile  = wire.ProofFileKey         // a key that a launcher made for a machine that its host plays
)

// maxKeyFile bounds what is read of a key file; a key of 16,384 bits takes 13 KB.
const maxKeyFile = 64 << 10

// prover proves to a gateway which machine this is; a nil one proves nothing.
type prover func(transcript []byte) (*wire.Proof, error)

// loadIdentity gives the machine's prover, nil where the token alone is the identity.
func loadIdentity(kind, path string) (prover, error) {
	load := loadFileKey
	switch kind {
	case identityToken:
		return nil, nil
	case identityFile:
	case identitySalt:
		load = loadSaltKey
	default:
		return nil, fmt.Errorf("--identity: %q (allowed: %s, %s, %s)", kind, identitySalt, identityFile, identityToken)
	}
	if path == "" {
		return nil, fmt.Errorf("--key: --identity %s needs the path of a private key", kind)
	}
	block, err := readKeyFile(path)
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	prove, err := load(block)
	if err != nil {
		return nil, fmt.Errorf("--key: %s: %w", path, err)
	}
	return prove, nil
}

// readKeyFile reads the first PEM block of a file. Its error names the user, since keys are often another's.
func readKeyFile(path string) (*pem.Block, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxKeyFile {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", path, maxKeyFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, unreadable(path, err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block", path)
	}
	return block, nil
}

// unreadable says who can't read a file, and why.
func unreadable(path string, err error) error {
	name := "uid " + strconv.Itoa(os.Geteuid())
	if u, lookup := user.LookupId(strconv.Itoa(os.Geteuid())); lookup == nil {
		name = u.Username + " (" + name + ")"
	}
	if inner, ok := errors.AsType[*os.PathError](err); ok {
		err = inner.Err
	}
	return fmt.Errorf("%s can't be read by user %s: %w", path, name, err)
}

func loadFileKey(block *pem.Block) (prover, error) {
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("holds a %T (allowed: Ed25519)", key)
	}
	return func(transcript []byte) (*wire.Proof, error) { return wire.ProveByFile(private, transcript), nil }, nil
}

func loadSaltKey(block *pem.Block) (prover, error) {
	private, err := parseSaltKey(block)
	if err != nil {
		return nil, err
	}
	return func(transcript []byte) (*wire.Proof, error) { return wire.ProveBySalt(private, transcript) }, nil
}

// parseSaltKey reads a minion's key as Salt's versions write it: PKCS 1, or PKCS 8.
func parseSaltKey(block *pem.Block) (*rsa.PrivateKey, error) {
	var key any
	var err error
	switch {
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
		return nil, errors.New("is encrypted with a passphrase, which is not supported")
	case block.Type == "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case block.Type == "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("holds a %q (allowed: RSA PRIVATE KEY, PRIVATE KEY)", block.Type)
	}
	if err != nil {
		return nil, err
	}
	private, ok := key.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("holds a %T (allowed: RSA)", key)
	}
	if bits := private.N.BitLen(); bits < wire.MinSaltKeyBits {
		return nil, fmt.Errorf("is an RSA key of %d bits (allowed: %d and more)", bits, wire.MinSaltKeyBits)
	}
	return private, nil
}
