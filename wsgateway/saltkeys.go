package wsgateway

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/syscollective/saltpeter/internal/wire"
)

const (
	maxKeptKeys = 4096     // of SaltKeys, about 2 KB each
	maxKeyText  = 64 << 10 // bytes of one PEM text
	maxKeyBits  = 16384    // more would only cost us time
)

// ReadKey gives the public key (PEM) that a Salt master has accepted for a minion, read anew at each call. Every error means
// that it can't be had here and now, which another node may do better: no such key, not accepted yet, no answer.
type ReadKey func(ctx context.Context, machine string) ([]byte, error)

// SaltKeys verifies proofs of kind wire.ProofSaltKey by the keys that a Salt master has accepted.
//
// A key is never kept for longer than it was made with, and a kept one never refuses anybody: a minion may have got another
// since. What deletes a key at the master is thus in force after that time at the latest.
type SaltKeys struct {
	read ReadKey
	keep time.Duration

	keptMu sync.Mutex
	kept   map[string]keptKey
}

type keptKey struct {
	key   *rsa.PublicKey
	until time.Time
}

// NewSaltKeys gives an Identity over the keys that read gives. It keeps each for as long as keep says: 0, not at all, where
// reading is cheap.
func NewSaltKeys(read ReadKey, keep time.Duration) *SaltKeys {
	return &SaltKeys{read: read, keep: keep, kept: make(map[string]keptKey)}
}

// Verify implements Identity.
func (k *SaltKeys) Verify(ctx context.Context, machine string, proof *wire.Proof, transcript []byte) error {
	if proof == nil || proof.Kind != wire.ProofSaltKey {
		return fmt.Errorf("verify %q: %w: want a proof of kind %s", machine, ErrIdentityRefused, wire.ProofSaltKey)
	}
	if key := k.recall(machine); key != nil && wire.VerifyBySalt(key, transcript, proof.Signature) {
		return nil
	}
	key, err := k.fetch(ctx, machine)
	if err != nil {
		return fmt.Errorf("verify %q: %w", machine, err)
	}
	if !wire.VerifyBySalt(key, transcript, proof.Signature) {
		return fmt.Errorf("verify %q: %w: the signature is not by the key that the master has accepted", machine, ErrIdentityRefused)
	}
	return nil
}

// recall gives the key that is kept for a machine, nil if there is none.
func (k *SaltKeys) recall(machine string) *rsa.PublicKey {
	k.keptMu.Lock()
	defer k.keptMu.Unlock()
	kept, ok := k.kept[machine]
	if !ok || !time.Now().Before(kept.until) {
		return nil
	}
	return kept.key
}

// fetch reads a machine's key and keeps it. What can't be had, or read as a key, is unavailable; a key that may prove nothing is
// refused.
func (k *SaltKeys) fetch(ctx context.Context, machine string) (*rsa.PublicKey, error) {
	asked := time.Now()
	text, err := k.read(ctx, machine)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrIdentityUnavailable, err)
	}
	key, err := parseSaltKey(text)
	if err != nil {
		k.forget(machine)
		return nil, err
	}
	if k.keep > 0 {
		k.remember(machine, keptKey{key, asked.Add(k.keep)})
	}
	return key, nil
}

func (k *SaltKeys) remember(machine string, kept keptKey) {
	k.keptMu.Lock()
	defer k.keptMu.Unlock()
	if _, there := k.kept[machine]; !there && len(k.kept) >= maxKeptKeys {
		k.makeRoom()
	}
	k.kept[machine] = kept
}

// makeRoom drops what is kept for too long already, and one more if that is none. keptMu must be held.
func (k *SaltKeys) makeRoom() {
	now := time.Now()
	for m, kept := range k.kept {
		if !now.Before(kept.until) {
			delete(k.kept, m)
		}
	}
	for m := range k.kept {
		if len(k.kept) < maxKeptKeys {
			return
		}
		delete(k.kept, m)
	}
}

func (k *SaltKeys) forget(machine string) {
	k.keptMu.Lock()
	defer k.keptMu.Unlock()
	delete(k.kept, machine)
}

// errSaltKey says that a text is no key.
var errSaltKey = errors.New("not a public key in PEM")

// parseSaltKey reads a public key as Salt's versions write it: PKIX, or PKCS 1.
func parseSaltKey(text []byte) (*rsa.PublicKey, error) {
	if len(text) > maxKeyText {
		return nil, fmt.Errorf("%w: %w: %d bytes", ErrIdentityUnavailable, errSaltKey, len(text))
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%w: %w", ErrIdentityUnavailable, errSaltKey)
	}
	var parsed any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		parsed, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		parsed, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		return nil, fmt.Errorf("%w: %w but %q", ErrIdentityUnavailable, errSaltKey, block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w: %w", ErrIdentityUnavailable, errSaltKey, err)
	}
	key, ok := parsed.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: the accepted key is a %T (allowed: RSA)", ErrIdentityRefused, parsed)
	}
	if bits := key.N.BitLen(); bits < wire.MinSaltKeyBits || bits > maxKeyBits {
		return nil, fmt.Errorf("%w: the accepted key has %d bits (allowed: %d to %d)", ErrIdentityRefused, bits, wire.MinSaltKeyBits, maxKeyBits)
	}
	return key, nil
}
