package local

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
)

// machine is where one machine keeps its things.
type machine struct {
	state string
	key   string // private, PEM, PKCS 8
}

// KeysDir gives the directory with the public keys of the machines that this host plays for a cluster, one file each,
// named as package wsgateway's KeyFileName says.
func KeysDir(base, cluster string) string { return filepath.Join(base, cluster, "accepted") }

// prepare makes the machine's directory and key where they are not there yet.
func (l *Launcher) prepare(name string) (machine, error) {
	escaped := url.PathEscape(name)
	m := machine{state: filepath.Join(l.o.Base, l.o.Cluster, "machines", escaped)}
	m.key = filepath.Join(m.state, "key.pem")
	public := filepath.Join(KeysDir(l.o.Base, l.o.Cluster), escaped+".pub.pem")
	if _, err := os.Stat(public); err == nil {
		return m, nil
	}
	for _, dir := range []string{m.state, filepath.Dir(public)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return m, err
		}
	}
	key, err := machineKey(m.key)
	if err != nil {
		return m, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return m, fmt.Errorf("encode public key: %w", err)
	}
	return m, writeFile(public, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), true)
}

// machineKey reads the machine's key, or makes it. Several nodes of one host may try at once: the first one's stays.
func machineKey(path string) (ed25519.PrivateKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	if err := writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), false); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("read %s: not an Ed25519 key", path)
	}
	return key, nil
}

// writeFile puts a whole file in place at once; without replace an existing one stays.
func writeFile(path string, data []byte, replace bool) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if replace {
		return os.Rename(tmp.Name(), path)
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
