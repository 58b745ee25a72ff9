// Package keys derives everything that secures a cluster from one key of 32 bytes.
//
// From each key come, by HKDF with labels of their own, the nodes' CA, a separate CA for the port that wrappers dial, the
// key that signs start tokens and the gossip key. Nothing derived is stored: every node that has the key computes the
// same authorities, byte for byte, and mints its own leaf certificates when it starts.
//
// A key file lists one or more keys, newest first. A node signs and gossips with the first and accepts all, so keys rotate by
// listing the new one beside the old one on every node, then dropping the old one.
//
// Validity dates are ignored by everything here: the clocks of machines are wrong more often than keys are old, and a key
// is taken out of force by dropping it from the list. The package starts no goroutines; a Ring does not change.
package keys

import (
	"bufio"
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Size is the length of a key in bytes; in a key file it is written as twice as many hex digits.
const Size = 32

// maxListed bounds the keys of one file: rotation needs two.
const maxListed = 8

// Errors that callers tell apart.
var (
	// ErrKeyFile is what Load and Parse return, wrapped, for a file that lists no usable keys.
	ErrKeyFile = errors.New("unusable key file")
	// ErrExposed is what Load returns, wrapped, for a key file that others than its owner may read.
	ErrExposed = errors.New("key file is readable by others")
)

// Key is one cluster key.
type Key [Size]byte

// Generate returns a new random key.
func Generate() Key {
	var k Key
	rand.Read(k[:]) // never fails: crypto/rand ends the process instead
	return k
}

// Hex is the key as it is written in a key file.
func (k Key) Hex() string { return hex.EncodeToString(k[:]) }

// String hides the key, so that it does not get into a log by accident.
func (k Key) String() string { return "key " + k.id() }

// id names the key without giving it away: 16 hex digits.
func (k Key) id() string {
	mac := hmac.New(sha256.New, k[:])
	mac.Write([]byte("saltpeter key id v1"))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

// derive returns n bytes that depend on the key and the label alone.
func (k Key) derive(label string, n int) ([]byte, error) {
	out, err := hkdf.Key(sha256.New, k[:], nil, label, n)
	if err != nil {
		return nil, fmt.Errorf("derive %q: %w", label, err)
	}
	return out, nil
}

// Parse reads the text of a key file: one key per line as 64 hex digits, newest first; empty lines and lines that begin
// with # are skipped.
func Parse(text []byte) ([]Key, error) {
	var keys []Key
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		var k Key
		if len(line) != hex.EncodedLen(Size) {
			return nil, fmt.Errorf("%w: line %d has %d characters, a key has %d hex digits", ErrKeyFile, n, len(line), hex.EncodedLen(Size))
		}
		if _, err := hex.Decode(k[:], line); err != nil {
			return nil, fmt.Errorf("%w: line %d is not hex", ErrKeyFile, n)
		}
		keys = append(keys, k)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	return keys, checkList(keys)
}

// checkList says whether the keys may form a ring.
func checkList(keys []Key) error {
	if len(keys) == 0 || len(keys) > maxListed {
		return fmt.Errorf("%w: %d keys listed (allowed: 1 to %d)", ErrKeyFile, len(keys), maxListed)
	}
	seen := make(map[Key]bool, len(keys))
	for _, k := range keys {
		if seen[k] {
			return fmt.Errorf("%w: a key is listed twice", ErrKeyFile)
		}
		seen[k] = true
	}
	return nil
}

// Load reads a key file. The file must not be readable by others (ErrExposed); a missing one wraps fs.ErrNotExist.
func Load(path string) (*Ring, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("load keys: %w: %s has mode %04o (allowed: 0600, or 0640 for a group of its own)", ErrExposed, path, info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load keys: %w", err)
	}
	keys, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("load keys: %s: %w", path, err)
	}
	return NewRing(keys...)
}

// LoadOrCreate reads the key file at path, or writes one with a new key (mode 0600) if there is none: what the first node
// of a cluster does. A key file is never overwritten.
func LoadOrCreate(path string) (*Ring, error) {
	ring, err := Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return ring, err
	}
	key := Generate()
	if err := writeNew(path, []byte(key.Hex()+"\n")); err != nil {
		return nil, fmt.Errorf("create key file: %w", err)
	}
	return NewRing(key)
}

// writeNew makes path whole or not at all: a key that was cut short by a crash would lock the node out of its cluster.
func writeNew(path string, text []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, ".key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil { // fails if path exists
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
