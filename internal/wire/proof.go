package wire

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
)

// The kinds of proof. Which one a node takes is its settings' choice, never the wrapper's.
const (
	ProofFileKey = "ed25519-file"        // Ed25519, by a key file of a machine that a node's host plays
	ProofSaltKey = "salt-rsa-pss-sha256" // RSA-PSS with SHA-256, its salt as long as the hash, by the minion's own Salt key
)

// MinSaltKeyBits is the size below which an RSA key proves nothing.
const MinSaltKeyBits = 2048

// Proof is a machine's proof of identity over Transcript. Key is for people who look at a connection; nobody verifies by it.
type Proof struct {
	Kind      string `json:"kind"`
	Key       Bytes  `json:"key,omitempty"`
	Signature Bytes  `json:"signature"`
}

// ProveByFile signs a transcript with the key of a machine that a node's host plays.
func ProveByFile(key ed25519.PrivateKey, transcript []byte) *Proof {
	return &Proof{Kind: ProofFileKey, Key: Bytes(key.Public().(ed25519.PublicKey)), Signature: ed25519.Sign(key, transcript)}
}

// ProveBySalt signs a transcript with a minion's Salt key. Salt's own protocol signs with PKCS #1 v1.5, so that neither signature is
// ever taken for the other; from whatever else the key is made to sign the transcript's label tells it apart.
func ProveBySalt(key *rsa.PrivateKey, transcript []byte) (*Proof, error) {
	digest := sha256.Sum256(transcript)
	signature, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], saltOptions())
	if err != nil {
		return nil, fmt.Errorf("sign transcript: %w", err)
	}
	return &Proof{Kind: ProofSaltKey, Signature: signature}, nil
}

// VerifyBySalt reports whether signature is that of a minion's Salt key over a transcript.
func VerifyBySalt(key *rsa.PublicKey, transcript, signature []byte) bool {
	digest := sha256.Sum256(transcript)
	return rsa.VerifyPSS(key, crypto.SHA256, digest[:], signature, saltOptions()) == nil
}

func saltOptions() *rsa.PSSOptions {
	return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
}
